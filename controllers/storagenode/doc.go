// Package storagenode reconciles the StorageNodes of a network together: what they are, who is guarded, who is dead.
//
//	gather   the network, its StorageNodes, the Kubernetes nodes and guard pods  (reconcile.go)
//	Compute  the new status of each, the guards and their budget, taints         (plan.go, report.go)
//	apply    guards and budget, taints, finalizers, and a status patch for each StorageNode that changed
//
// # Invariants
//
//  1. Agents' reports (status.agent) are never written here. (TestAgentsReportIsLeft)
//  2. A StorageNode goes only when its agent says that no copy is left, the layout has taken all data from it, and with that layout every
//     open volume was in place and no other node lacks a copy; or its network is going, or it never held any. Until then it says what it
//     waits for. (TestDeletion, TestDrained; of a node that is lost for good: TestDeadLeaves)
//  3. A reconcile at rest writes nothing. (TestSecondReconcileWritesNothing)
//  4. One store is granted formatting for a node that never had one; any other needs a person's approval. A Missing store is
//     never granted: the disk may only not be mounted. (TestFormatGrant)
//  5. The taint is set before anything else is done about a dead node, and taken back when it is there again. (TestTaint)
//
// What becomes of the pods and volumes of the dead is package takeover's.
package storagenode
