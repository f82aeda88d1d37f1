// Package upkeep plans how the copies of closed extents get to where the layout wants them, and how many there are: what
// to copy, which copies to name in the volume's extent directory, which to drop, and in which order.
//
// A planner is a pure function of what was seen. It never decides that something is gone: it is told which stores do not
// answer, and for how long. An extent is looked at alone, and at most one thing is planned for it at a time; the next plan
// begins from what came of it.
//
// Words: a copy is whole if its log ends as the directory says; a member is a store that the directory names; a place is a
// store where the layout wants a copy. A store leaves if its node is drained or is no member of the layout any more.
//
// Invariants are numbered in DESIGN.md. All functions are pure and safe for concurrent use.
package upkeep
