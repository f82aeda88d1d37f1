// Package contentgroup fills in the status of ContentGroups: what users see of their volumes.
//
// A group of kind Volume names a claim of its own namespace; the VolumeRecord that was made for this claim is shown: copies, size
// used, snapshots. A group carries no authority. It is never followed to a record of another namespace's claim, it changes no
// record, and deleting it deletes nothing, which is why it has no finalizer.
//
// # Invariants
//
//  1. A group shows only a record whose claim is in the group's namespace. (TestNoOtherNamespace)
//  2. No record is ever written. (TestRecordsAreLeft)
//  3. A reconcile at rest writes nothing. (TestSecondReconcileWritesNothing)
//  4. The volume of a claim gets a group of the claim's name, which goes with the claim; a group that is there is left. (TestViews)
//
// Not built yet: groups of files; changing a volume's copies through its group (such a group is Stalled and says so).
package contentgroup
