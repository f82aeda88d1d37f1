// Package agent is one node's agent: it puts stores, replica servers, peers, volumes and the control server together.
//
//	control ── volumes ── engine ── transport ─┬─ stores (this node) ── replica.Server ── store ── disk
//	   │          │         │                  └─ peer pool ── TLS ── peer server of another agent ── its stores
//	   │       holder     cache
//	   └─ fsck ── transport
//
// The parts, each a package below this one: members (who is in the network, which stores they have, who answers: the engines' Placer),
// transport (requests to stores here and elsewhere), stores (this node's), grants, deletion (the word on which a volume dies),
// volumes (attach, detach and all that people ask), control (gRPC), fsck, events. What looks after data by itself: caretaker (volumes that nobody uses),
// scrub (every byte), demand (copies by how much is read), space (stores that fill up).
//
// What is known of the node is served beside them: metrics (on a port of their own), history (a day of it, for reports), health (thresholds).
//
// # Order
//
// Start: lock of the directory, registry, cache, members, stores, pool, doors, peer server, holder, volumes, control socket; then the
// members are asked, and the volumes that the holder kept go on. End: volumes first (left to the holder, or detached), then the peer
// server, transport, pool, stores. What was made when a start fails is ended in the same order.
//
// # Invariants
//
//  1. One agent per directory.
//  2. Nothing but TLS carries data between nodes, and nothing passes a door without a grant.
//  3. Killed at any moment, an agent with a holder goes on where it was: no I/O error, no acknowledged write lost.
//  4. Every goroutine ends with Run, but for requests of a device that are left to the next process.
//
// See DESIGN.md for the tests.
//
// # Concurrency
//
// Run is a Runnable: one call per Agent. Volumes may be used from any goroutine after Ready.
package agent
