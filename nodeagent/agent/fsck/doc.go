// Package fsck checks what a network stores, without the engines.
//
// Everything is read from the stores by the requests that any reader may send. Pages of maps, tables and directories are not
// encrypted, so no key is needed to walk them; content is checked as it is stored, against its leaf.
//
// # What is checked of a volume
//
//	chain      from the registry's anchor to the tail: every extent names the next, and the next pins the one before by its hash
//	replicas   every extent that the directory or the chain names has R replicas that hold all of it
//	bytes      every byte of every replica: each store reads its extents, checks the chain and each page against its leaf
//	table      every page of the extent directory and of the block table, on every replica; every entry against the directory
//	block      every block's leaf table, against the block's id
//	map        every node of the volume's map and of its snapshots' maps, on every replica
//	reference  every mapped page: its block is in the table, its row is that page's
//
// A volume that is written to meanwhile moves under the walk: extents are freed that the walk has still to read. So a volume with
// findings is walked again, three times in all, and what each of the walks has found is told.
//
// # Scrub and Rebuild
//
// Scrub checks the bytes and repairs what is damaged from a replica that is not. Rebuild makes the registry's entries anew
// from the stores alone.
//
// # Invariants
//
//  1. Fsck changes nothing.
//  2. What Scrub writes to a store the store has checked against the leaf or the chain.
//  3. Rebuild never touches an entry that is there, not even a corrupt one; it does nothing without a majority of the nodes; it never
//     brings back a volume of which any store that answers keeps a deletion record.
//
// # Concurrency
//
// Checker is safe for concurrent use; one check runs its requests a few at a time.
package fsck
