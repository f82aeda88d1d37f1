// Package space gets a store that is short of space its space back, in the order of core/clearing, and sooner than it would come by itself.
//
// Each agent looks at its own stores every Every. A stage that a store is in is said to all nodes with the list of the node's stores, so that
// those that can do something about it do:
//
//   - Deleted: the store's own agent brings deletions through that had not reached it.
//   - Unreferenced: each agent that has volumes attached with copies on the store cleans them, one pass after the other, and also of what is
//     only a tenth garbage (volume.Compact). One volume at a time; after a pass that gained nothing not again for a while.
//   - Surplus: each such agent lets a volume that has bounds, and more copies than it needs, want one copy fewer: the one that is read
//     least, one every GiveUpPause, so that what comes of it is seen first.
//
// Volumes that nobody has attached are opened for it by their wardens (package caretaker), but for encrypted ones: nobody has their key.
//
// # Invariants
//
//  1. A store's own agent alone decides its stage; others act on no stage that they have not heard. (TestHelp)
//  2. A stage is begun and ended in the agent's log of events, in the store's status and as a metric. (TestSaid)
//  3. Space comes back in order from real stores. (agent TestClearing; with another order it does not: core/clearing TestNotices)
//
// Concurrency: Run is a Runnable; Begun may be called from any goroutine.
package space
