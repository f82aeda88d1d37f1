// Package volumes manages the volumes of a node: it makes and deletes them, and attaches them: grant, ring memory, engine,
// device.
//
// # Attach and detach
//
// Attach: the holder's name goes to the registry (a hint), grants are presented, the ring's memory is made, the engine
// takes the volume over, the device is made and given to the holder together with the memory. Detach: the device ends, the
// engine flushes and ends, the epoch is released (the registry gets the next number, so that the lease of a writer that is
// gone protects nothing), the memory is let go.
//
// # Restart
//
// At start the manager asks the holder for what a former process of this node had: the ring's memory, from which the
// engine goes on under the same epoch, and the device, which then serves what was left unanswered. An encrypted volume's
// key lies in memory of its own beside the ring: it is never on a disk, and the holder does not look at it.
//
// # Invariants
//
//  1. One operation at a time on a volume (ErrBusy for a second one), but that waiting for the same attach or detach is
//     joining it.
//  2. A volume that is open here has one engine; no device is made before its engine serves.
//  3. An engine that has ended stays visible, with the reason, until it is detached; its device answers EIO.
//  4. A volume is deleted only when it is not attached and has no clones; the deletion fences writers by an epoch of its
//     own, and is final before any store is told.
//  5. A snapshot is deleted only when it has no clones, and nobody can clone it meanwhile.
//  6. A fence takes an epoch only from the epoch and the node that it names, and says that it holds only when a majority of the
//     tail's replicas refuse that epoch (TestFence).
//  7. A snapshot that is made with the token of a hold is of a moment at which nothing went through the volume's gate, or it is an error
//     and gone again (TestHoldVolume).
//  8. What is modified is in the registry before the engine knows it, so it holds for every later attach (TestModify).
//  9. While the registry is away, what is open here goes on, can be inspected, held and detached, and is resumed after a restart
//     (TestRegistryAway); the registry is told of changes only, never periodically (TestCopies).
//  10. A volume that is sealed is written by nobody: it is attached by package readers, and shows the snapshot that it was sealed with
//     (TestReaders).
//  11. A clone that was made before a checkpoint named its snapshot is opened once the parent's record says that a durable one does: whoever has
//     the parent open says so, after it has opened it, too (TestCloneBeforeCheckpoint, TestCloneWaitsForRoot).
//  12. Neither keys nor content reach a log, an event, a status or the registry.
//
// # Concurrency
//
// Manager is safe for concurrent use.
package volumes
