// Package fsck checks what a network stores.
//
// Scrub has every replica check every byte of a volume and repairs what differs; Fsck only looks: every byte on every
// replica, the chain of extents, and that each extent has its copies. ScrubStores checks this node's stores whatever they
// hold. Rebuild makes the registry's entries anew from the stores alone.
//
// Invariants: Fsck changes nothing; Rebuild never touches an entry that is there, and never brings back a volume of which a
// store keeps a deletion record. Everything is safe for concurrent use.
package fsck
