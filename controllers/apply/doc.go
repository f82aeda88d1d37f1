// Package apply makes objects what the operator wants them to be, by server-side apply, and writes nothing when they are that
// already.
//
// # Invariants
//
//  1. An object that is as wanted is not written: a reconcile at rest costs no write. (TestSecondApplyWritesNothing)
//  2. What others change of a field that the operator set is set back; fields that it does not set are theirs. (TestDriftIsSetBack)
//  3. A field that the operator wants no more is taken back. (TestDroppedFieldIsTakenBack)
//  4. An object under a wanted name that does not carry the network's label and uid is left alone: ErrForeign. (TestForeignObjectIsLeft)
//
// Objects have no owner reference to their MyNetwork. A foreground deletion, which GitOps tools use, would let the garbage
// collector delete the agents and the authority of a network that still has volumes and is only waiting on its finalizer.
// The operator deletes them itself, in an order of its own.
//
// An Applier holds no state and may be used from any goroutine.
package apply
