// Package scrub reads, in the background, every byte that a node's stores hold, and replaces what is damaged by what other nodes have.
//
// Each store has a pass of its own, extent by extent in the order of ids: the whole log and every page of closed extents, and of open
// ones as far as they are committed. Passes begin every half of Options.Period, and each is paced so that it ends before the next is due:
// an extent that is held for long is looked at at least once in a period.
//
// # Pace
//
//	rate = what is left of the pass / what is left of its time, at least Floor, at most Cap      (bytes per second)
//
// While others use the disk, or copies are made on it, a pass waits; one that is late does not wait any more. One that somebody has asked for
// (Ask) reads at Cap and does not wait; it takes the place of one that runs, and goes on as such after a restart.
//
// # Damage
//
// A damaged page, or log, is fetched from another store that has the extent. The store checks it by leaf or chain before it is written
// (RepairData, RepairLog). A closed extent with much damage is fetched whole, from a store whose copy ends in the same record
// (ReplaceExtent). What cannot be mended now is tried again every RetryEvery. Neighbouring damage is one bad area; areas are counted
// against the disk, those too that others have found and mended (replica.TypeRepair). A disk with Options.Limit of them within a day is
// suspected: nothing new is placed on it, and its copies move away (stores.Store.Suspect).
//
// # What is remembered
//
// In the store itself, as the value MetaKey (JSON, version 1): where the pass is, so that a restart goes on there, what was found and
// mended, when, and whether the disk is suspected. It is written when damage was found, at the end of a pass, and once a minute of work.
//
// # Invariants
//
//  1. Every byte that is committed is read once in a pass; a restart goes on where the last one stopped. (agent.TestScrubResumes)
//  2. Nothing is written that does not fit leaf or chain, and no copy takes the place of one with another end. (agent.TestScrub,
//     TestScrubReplaces)
//  3. A scrub that is off finds nothing, and one that is on finds each flip. (agent.TestScrub; control: off)
//  4. Who asks has every byte read again that was last read in a pass begun before. (agent.TestScrubAsked; control: nobody asks)
//  5. Damage that was mended counts against the disk as well; a suspected disk stays so after a restart. (agent.TestScrubSuspects)
//
// Concurrency: Run is a Runnable; Status may be called from any goroutine.
package scrub
