// Package failover judges the death of nodes, and decides what is done about their pods. It is pure, but for Kubelets, which
// reads: a State in, a Plan out.
//
// A node is suspected when a majority of its storage peers can not reach its agent; NodeReady of the kubelet decides nothing, it
// comes 40 seconds too late. It is dead when its kubelet has not renewed its Lease either, which it does every 10 seconds: an agent that
// is only restarted or upgraded must not cost a pod. The order is: taint the node, fence its volumes (another writer takes the next epoch, and a majority
// of replicas promises it), delete the pods that depend on nothing but fenced volumes, and take the taint back when it returns.
//
// # Invariants
//
//  1. A node is dead only by the word of a majority of all storage nodes that should watch it, itself included: an even split
//     decides nothing. The dead have no word. (TestDead)
//     While its kubelet lives, an agent is waited for. (TestKubelet)
//  2. When more than one zone, or more than 30 % of the nodes, look dead at once, nothing is deleted. (TestTooManyDead)
//  3. A pod is deleted by force only if each persistent volume that it mounts read-write is ours and fenced, it has no writable
//     hostPath, is not annotated mynetwork.io/failover: never, is no DaemonSet's or static pod, and its node is dead.
//     (TestPods: each condition alone keeps the pod)
//  4. A node that is back is untainted, and nothing of it is deleted any more. (TestBack)
//  5. The out-of-service taint is never set: it would let other drivers' volumes be mounted twice. (TestOnlyOurTaint)
//
// What is not fenced: the pod's network. A pod that was deleted by force may still run on a node that is cut off, and speak to
// whom it can reach; only its volumes of this driver answer with errors.
//
// Package takeover carries it out.
package failover
