// Package volume is the engine: an open volume, from a request to its replicas and back.
//
// A write goes into the ring (package ring: shared memory that outlives this process) and is acknowledged from there.
// The pump takes committed slots in order, encrypts and hashes their pages, appends them to the journal as records, and
// sends each record to the replicas of the open extent. A FLUSH is answered when a quorum has everything before it
// durable. The map (package blockmap) learns a page's address from the record itself, in journal order, first in an
// overlay in memory; a checkpoint merges overlays into the tree and writes the tree's changed nodes to the same journal.
//
// Reads look, in this order: ring, cache, what the kernel has in memory of the own disk, then the replica that is best (hedged.go): the own one, unless it
// is much slower than others or answers nothing. When that one is late, another one is asked too, and the first right answer counts. Every page is checked against the leaf that the
// block id pins, or is not returned; a bad copy is repaired from a good one.
//
// Locks, outermost first: Engine.jmu (who appends to the journal), Engine.mu (what readers see, the ring, progress).
// No lock is held while anything blocks; all blocking goes through task.Env, so the simulator runs this code as it is.
package volume
