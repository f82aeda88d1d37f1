// Package caretaker looks after volumes that nobody has open, and knows of each store which copies belong there, and which are the last.
//
// Each volume has a warden: the first node in the layout's order for the volume's id whose store answers. All nodes that agree on the layout
// and on who answers agree on it; where they do not for a while, two may look, and the epoch lets one of them act.
//
// # Surveys
//
// A warden asks all stores what they hold of its volumes (replica.TypeHoldings), and judges by the layout alone, without opening anything:
// which places lack a copy, which copies are on stores that leave, which are the last whole ones. It does so when the network has changed
// (a node lost, back, or given up, a layout, a disk that is not trusted), after it has done something, every Every, and again and again, ever
// more slowly, for a volume that is not as it should be. What it found it tells the nodes concerned (Word, type TypeWord): each adds up what
// the wardens say of its own stores (Figures). A node that has heard from all of them for a layout, and lacks nothing, has synced that.
//
// # Caretaking
//
// If something is to do for a volume that nobody uses, its warden opens it without a device (volumes.Manager.Tend), lets the engine do what
// it does for every volume (make copies, move them, free what is condemned), looks again every while, and closes it. One volume at a time.
// Nobody uses it: the registry names no holder, or the stores have not heard of a writer for Grace; its fact has not changed for Quiet;
// no lease is fresh; and in a cluster the operator grants it, which it does not while a pod on another node uses the volume.
//
// An encrypted volume is surveyed like others, and not opened: records that name copies are written with its key. How many copies it has is
// noted in its record, and an event tells that it waits to be attached; nodes that it keeps from leaving name it. (Copies of closed extents could be
// made without the key, where all holders agree on their end, and be named by the next writer; that is not built.)
//
// While stores are short of space (core/clearing), volumes that nobody uses are opened for them in the same way, one at a time: to be cleaned, or, if
// they have bounds and more copies than they need, to give one up. Encrypted ones are not, nor are sealed ones made to give up copies.
//
// A volume with bounds that nobody has used for Options.Idle loses the copies beyond the least, one each time that long has passed, without anybody being short
// of anything: what is not open is not read (core/adaptive). Whether it is used the registry is asked for such volumes alone, every ten minutes at most.
//
// # Invariants
//
//  1. A caretaker is in nobody's way: whoever attaches takes the volume at once, here and elsewhere. (agent TestCaretakerGivesWay)
//  2. An idle network opens nothing, and asks the registry once in Every what a volume is to have, as that may have been changed. (agent.TestCaretakerIdle, TestRelearn)
//  3. A store that does not answer is not evidence of anything: its copies count as there as long as the layout has it, and as gone when
//     it has not, or, where no operator changes the layout, after Grace. (TestJudge)
//  4. What no warden has spoken of counts as a last copy, after a minute. (TestFigures)
//  5. What came to nothing is not tried again before the network has changed, or ever more slowly. (TestBackOff)
//  6. An encrypted volume is never opened, and that it lacks copies is said. (TestSealed)
//  7. For stores that have room no volume is opened, and none gives up a copy that it needs. (TestSpare, agent TestClearingUnused)
//  8. A copy beyond the least goes once nobody has used the volume for Idle, and not before. (agent TestFade)
//
// # Word
//
// Body of TypeWord, little endian; it replaces what the sender has said before:
//
//	 0   1         9        13
//	+---+---------+--------+----------------------------------------------
//	| 1 | layout  | count  | count entries: volume 16, last 4, missing 4
//	+---+---------+--------+----------------------------------------------
//
// Concurrency: Run is a Runnable; Figures and Heard may be called from any goroutine.
package caretaker
