// Package readers has the sealed volumes that are read on this node, and tells what snapshots hold.
//
// A sealed volume (package volumes, Seal) never changes: it shows the snapshot that it was sealed with. So any number of nodes may attach
// it at once. Each opens a view of that snapshot, which takes no epoch and promises nothing, and makes a device that the kernel
// knows as read-only. That a node which reads it dies concerns nobody else: there is nothing to fence and nothing to take over.
//
// As with volumes that are written, the holder keeps the device of a killed agent; its reads wait for the next one, which opens the view
// again. With the device it keeps the records of the volume and its ancestors, so that a registry that is away does not hinder.
//
// # Invariants
//
//  1. Only a sealed volume is read here, and nothing that reads it can change it or keep anybody else from it (TestReaders).
//  2. One operation at a time on a volume: volumes.ErrBusy for a second one.
//  3. A device that is in use is not ended (export.ErrBusy).
//  4. What was attached goes on over a restart of the agent, also while the registry is away (the latter has no test yet).
//  5. Blocks tells exactly the pages that a snapshot holds, or that were written or discarded between two (TestBlocks).
//  6. A key reaches the view and the holder's memory, and nothing else.
//
// # Concurrency
//
// Readers is safe for concurrent use.
package readers
