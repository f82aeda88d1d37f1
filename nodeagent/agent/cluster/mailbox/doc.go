// Package mailbox has the operator sign grants and deletions: only the operator has a network's control key. An agent writes its
// request into the volume's VolumeRecord (requests, one per node), the operator answers in the record's status.
//
//	Box.Sign          asks for a grant to take the volume over and to write it, or gives one that it has
//	Box.SignDeletion  asks for the signature of a deletion
//	Box.Run           asks anew, in time, for the grants of volumes that are attached here
//
// While it waits it watches the one object, and nothing else; nothing is asked for periodically. A request's id is random, so an
// answer to an older request is never taken for one to this. What comes is verified before it is used or kept.
//
// # On disk
//
// One file for each grant, VOLUME.grant in Options.Dir, mode 0600: the bytes that the operator signed. It is a cache: one that is
// damaged, has ended or is for another node is removed. With it an agent goes on, and is started again, without the API.
//
// # Invariants
//
//  1. Nothing is given out that no control key of the network has signed for this node and this volume.
//  2. One request per volume is under way; who wants the same waits for it.
//  3. A refusal is grants.ErrRefused with the operator's words; it is not kept.
//  4. Requests of other nodes stay, but for the oldest when the record has no room.
//
// # Concurrency
//
// Box is safe for concurrent use.
package mailbox
