// Package stores runs the stores of one node: it opens them, gives each a door (replica.Server), and takes the requests
// of other nodes.
//
// # Stores by grant
//
// In a cluster a directory without a store is offered under a random id, and formatted when the operator grants that id. Which
// directory had a store is remembered in a file beside the stores, and by others (Remember): a directory that had one and is empty
// is missing its disk, and is formatted only if the operator grants the new id in spite of it, as a person told it to.
//
//	{"format":1,"stores":{PATH:ID},"offered":{PATH:ID},"begun":{PATH:ID}}      ids in hex
//
// Invariants:
//
//  1. A directory is formatted only on a grant, and only if it is empty. A grant serves for one id, and an id for one directory. (TestGrant)
//  2. A store of another network, or of another node, is not opened.
//  3. A drop passes a door only with the deletion record of that volume, signed by the control key.
//  4. That a directory had a store is forgotten only when another one is open in it. (TestMissing)
//  5. Close ends the doors before the stores.
//  6. What is asked about stores (Announce, Statuses, Usage) is answered from memory: a disk that hangs makes nobody take its node for away. The room of
//     its file system is measured by a task of its own (measure.go), and that it does not answer is told. (TestDiskHangs)
//
// Concurrency: Set is safe for concurrent use after Start; Serve is called by peer's readers and does not block beyond the
// local disk.
package stores
