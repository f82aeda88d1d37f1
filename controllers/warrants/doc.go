// Package warrants signs what the nodes of a network may do, with the network's control key, which only the operator has.
//
//	Decide    what becomes of one request of a VolumeRecord: a grant, a signed deletion, or words of refusal  (decide.go; pure)
//	Records   answers the requests of VolumeRecords                                                           (records.go)
//	Members   the grants of nodes as members of a network, and the CSI controller's certificates              (members.go)
//
// A node may take a volume over if a pod that is bound to it mounts a claim of the volume, or if no pod elsewhere uses it, as for
// a snapshot of a detached volume. That a healthy writer is not thrown out is the replicas' business, who know its lease; this is
// about who may ask at all. Pods are looked up when they are asked for, by their claim's namespace and by node: no operator
// keeps all pods of a cluster.
//
// # Invariants
//
//  1. Nothing is signed for a node that is no StorageNode of the network, nor for a record of another network. (TestDecide)
//  2. A volume that a pod on another node mounts is granted to nobody else, unless that node is dead. (TestDecide,
//     TestDeadNode)
//  3. A deletion is signed only if no PersistentVolume of the volume is bound and no record names it as its parent. (TestDecide)
//  4. A grant for all volumes never has Write or Attach, and only nodes that store data may repair and delete. (TestMembers)
//  5. A request is answered once: at rest nothing is written. (TestRecords, TestMembers)
//
// Reconcilers hold no state, and may be used from any goroutine.
package warrants
