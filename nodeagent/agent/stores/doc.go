// Package stores runs the stores of one node: it opens them, gives each a door (replica.Server), and takes the requests
// of other nodes.
//
// Invariants:
//
//  1. A directory is formatted only on a grant, and only if it is empty.
//  2. A store of another network, or of another node, is not opened.
//  3. A drop passes a door only with the deletion record of that volume, signed by the control key.
//  4. Close ends the doors before the stores.
//
// Concurrency: Set is safe for concurrent use after Start; Serve is called by peer's readers and does not block beyond the
// local disk.
package stores
