// Package registry keeps what must be agreed on about volumes: that they exist, what they are made of, and the one fact
// that needs compare-and-set (who is the writer, and where its journal is found).
//
// Store is what a registry can do; File is the registry of one machine, shared by all its agents. It holds no data, no
// map and no key: what it loses can be rebuilt from the stores, but for names.
//
// # Files
//
// One file per volume, ID.json, beside a file "lock":
//
//	{"version": 2, "sum": "<BLAKE3-256 of the bytes of record, hex>", "record": {...}}
//
// A change takes an exclusive flock on "lock", reads, decides, writes ".ID.tmp", syncs it, renames it and syncs the
// directory. A reader needs no lock: a rename replaces a file whole.
//
// # Invariants
//
//  1. A file that cannot be read, or whose sum differs, is ErrCorrupt, one of a later version ErrNewer; neither is changed or counts as
//     absent, and no name is given out meanwhile.
//  2. Of two Swaps from one revision, one succeeds. Changes of other parts of the record do not disturb a Swap.
//  3. What a change returned is there after a power cut.
//  4. A live name belongs to one volume. A deleted volume stays, with its deletion record, and never comes back.
//  5. A volume with live clones is not deleted; a clone is not made of a volume, or a snapshot, that is being deleted.
//
// # Concurrency
//
// File is safe for concurrent use, also from many processes.
package registry
