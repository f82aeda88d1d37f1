// Package mynetwork reconciles a MyNetwork: gather, then a pure plan, then apply, then one status patch.
//
//	Gather   reads everything that a plan depends on into a State            (gather.go)
//	Plan     says from a State alone what is to be made, deleted and told    (plan.go, and one file for each part of it)
//	apply    does it, each object by server-side apply                       (reconcile.go)
//
// The parts of a plan: which nodes belong to the network (nodes.go), its agents and holders (daemonsets.go), their settings
// (config.go), classes (classes.go), the authority of its certificates (authority.go), the layout (layout.go), what a status says
// (report.go), and the end of a network (delete.go).
//
// # Invariants
//
//  1. A plan is a function of its State: the same State gives the same plan, byte for byte. (TestPlanIsPure)
//  2. A reconcile at rest writes nothing. (TestSecondReconcileWritesNothing)
//  3. A reconcile that was interrupted after any write is finished by the next one. (TestInterruptedAnywhere)
//  4. A deleted network that has volumes, or data without another copy, keeps serving, and says which. (TestDeletionIsRefused)
//  5. Agents go before holders, both before StorageNodes, and the authority goes last. (TestDeletionOrder)
//  6. The authority is made once, and not again while StorageNodes exist. (TestAuthorityIsNeverMadeAgain)
//  7. A layout is named by the status only after its body was stored; without the body of the present layout no new one is
//     computed; at most one layout is published in MinLayoutPeriod, of many nodes fewer. (TestLayout, TestLayoutsOfManyAreRarer)
//  8. A StorageNode is never deleted because its Kubernetes node is gone. (TestStorageNodesStay)
//  9. Of two networks that want one directory on one node, the younger one gets no agents. (TestTwoNetworksOnePath)
//
// A Reconciler may serve any number of networks at a time, each by one worker.
package mynetwork
