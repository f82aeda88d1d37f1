// Package contentgroup fills in the status of ContentGroups: what users see of their volumes.
//
// A group of kind Volume names a claim of its own namespace; the VolumeRecord that was made for this claim is shown: copies, size
// used, snapshots. A group carries no authority. It is never followed to a record of another namespace's claim, it changes no
// record, and deleting it deletes nothing, which is why it has no finalizer.
//
// Copies that a group asks for, and the bounds within which they are to follow reads, are set by the agent that has the volume attached, or any if
// nobody has: the operator asks it, and the record says what came of it. What an agent refuses is in the group's condition, with its words. Bounds that
// the group has set go when they are taken away from it; those of a VolumeAttributesClass are left alone.
//
// # Invariants
//
//  1. A group shows only a record whose claim is in the group's namespace. (TestNoOtherNamespace)
//  2. No record is ever written. (TestRecordsAreLeft)
//  3. A reconcile at rest writes nothing. (TestSecondReconcileWritesNothing)
//  4. The volume of a claim gets a group of the claim's name, which goes with the claim; a group that is there is left. (TestViews)
//  5. An agent is asked only for what differs, and only for a record of the group's own claim. (TestCopies, TestAsksOnce)
//  6. Of several groups that set the copies of one claim one does, and the others say so. (TestTwoGroups)
//
// Not built yet: groups of files.
package contentgroup
