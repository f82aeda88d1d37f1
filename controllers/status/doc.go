// Package status writes conditions by the rules of kstatus, and checks them.
//
// An Outcome says how a reconcile ended: Ready, Progressing (it goes on by itself) or Stalled (a person has to act). Set turns
// it into the conditions Ready, Reconciling and Stalled.
//
// # Invariants
//
//  1. Ready is always there; Reconciling and Stalled are there only while True, and never both. (TestSetFollowsKstatus)
//  2. Ready is True only without Reconciling and Stalled. (TestSetFollowsKstatus)
//  3. A condition that does not change keeps its transition time: a status that says the same is the same bytes. (TestSetIsStable)
//  4. observedGeneration rises only when the generation was acted on: a Progressing outcome leaves it. (TestObserved)
//
// Violations checks these of a status that somebody else wrote; the tests of all controllers use it on every object they emit.
//
// Everything is a pure function of its arguments, time included, and safe for concurrent use on different conditions.
package status
