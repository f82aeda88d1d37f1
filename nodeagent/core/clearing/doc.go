// Package clearing says what a store that is short of space gets back first: what deleted volumes have left, then what nothing refers to any more,
// then copies beyond those that are needed.
//
// A store below Begin percent of free space begins with the first stage, and is done when End percent are free. A stage is over when who
// works on it says that nothing is left, or when nothing was freed for Patience: garbage is collected by the nodes that have volumes attached, and
// they are not asked what they have. A stage whose turn has passed comes back as soon as there is something for it again; after the last one,
// and a pause, all come in order once more.
//
// # Invariants
//
//  1. Nothing is freed by a later stage while an earlier one frees something. (TestOrder; broken, it shows: TestNotices)
//  2. A use that swings around the threshold begins and ends no clearing at each swing. (TestNotices: without a gap it does)
//  3. It ends when there is room, in every stage. (TestStages)
//
// All functions are pure: time comes in with what was seen. A State belongs to one store.
package clearing
