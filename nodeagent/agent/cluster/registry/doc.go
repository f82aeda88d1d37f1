// Package registry keeps the registry of a network in Kubernetes: one VolumeRecord for each volume, named by its CSI handle.
//
// # Writing
//
// A record is read, changed and written by Update with the resourceVersion that was read, and in no other way. When that
// conflicts, or when the answer of a write is lost, the record is read again and the change is decided again on what is there
// now; a Swap then succeeds only if the fact is still the one that its caller knew, or is already what the caller wants.
// Nothing here is periodic.
//
// # Names
//
// Kubernetes keeps object names unique, and a volume's name is not its object's. So a record is made in steps:
//
//  1. list the records with that name, by a label with its hash: a live one is ErrExists;
//  2. create the record with label state = making: it is no volume yet, for nobody;
//  3. of a clone: update the parent, unless it or the snapshot is being deleted (see Clones);
//  4. list the records with that name again: if one was created before this one, remove this one: ErrExists. What was created
//     first is told by resourceVersion, which is one order for all objects of a kind: a record in the making has the one it was
//     created with, a made one carries it in an annotation. Clocks and uids have no part in it;
//  5. update the record: it is a volume now.
//
// Of two makers the later creation sees the earlier one in step 4, as the list is consistent; the earlier one may see the later
// one and goes on. A record in the making whose agent died is not counted, and removed, once it is old (abandoned).
//
// # Clones
//
// A parent is not deleted while it has clones, though parent and clone are two objects: step 3 changes the parent's
// resourceVersion after the clone's record is there. A deletion that was decided on the parent before it conflicts, is decided
// again, and then lists the clone; one that came first is seen by step 3.
//
// # Tombstones
//
// A deleted volume's record stays, with the deletion record, until every known store has confirmed that it keeps the deletion record
// itself and has freed the extents: then nothing is left to be told, so Forget may remove it. It is safe at any time, even too
// early: a store that was never told holds an unknown volume then, which is kept as an orphan and not lost; ids are random and never given out again,
// a repeated delete finds nothing and succeeds, and no live volume has a deleted ancestor.
//
// # Invariants
//
//  1. A record that cannot be read is registry.ErrCorrupt, and never counts as absent.
//  2. Of two Swaps from one revision, one succeeds. Other changes of the record do not disturb a Swap.
//  3. A live name belongs to one volume.
//  4. Every call ends within Options.Limit, with registry.ErrAway if the API does not answer.
//  5. Requests, status, labels and annotations of others are left as they are.
//
// # Concurrency
//
// Store is safe for concurrent use.
package registry
