// Package takeover carries out what package failover decides about the dead: it fences their volumes and frees their pods.
//
//	gather   the network's nodes; of the dead: their pods, the pods' claims, the claims' volumes and records
//	Judge    of package failover
//	fence    each volume that a pod depends on, by an agent that lives, and note it in the record's status
//	delete   the pods that depend on nothing else, with the uid that was judged
//	tell     events on pods, claims and records; for pods that are kept, the command to run
//
// Package storagenode sets the taint, which comes before anything else: no pod comes to a node whose pods are being freed. Its change
// is also what starts a round here, beside the agents' reports.
//
// # Invariants
//
//  1. Nothing is done before the node has our taint. (TestTaintFirst)
//  2. A pod is deleted only when each of its volumes is fenced, and the fence is noted; it is deleted by uid, so that the pod that
//     replaced it is not. (TestTakeover, TestNewPodIsLeft)
//  3. A fence that fails keeps the pod, and is tried again; other pods do not wait for it. (TestFenceFails)
//  4. Interrupted after any write, a round is finished by the next one. (TestInterruptedAnywhere)
//  5. While no node is dead, no pod and no claim is read. (TestNobodyDead)
package takeover
