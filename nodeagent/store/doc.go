// Package store keeps one replica's extents on one disk.
//
// It is synchronous: no goroutine, clock or randomness of its own. It trusts its caller for the protocol (who may
// write, under which epoch) and refuses what breaks its structure. Appends are staged; Commit makes everything staged
// durable with one write and one sync of the write-ahead log, over all extents and volumes.
//
// # Files
//
//	superblock        who the store is; never changes after Format
//	state             what the log no longer holds: promises, tombstones, small values, open extents, where the log starts
//	reserve           space for the state when others fill the disk
//	wal/00 ...        the ring of preallocated log segments
//	ext/KK/ID.log     an extent's log stream   (KK: leading byte of the extent's key; ID: block.ExtentID.String)
//	ext/KK/ID.dat     an extent's data stream, preallocated while open
//	ext/KK/ID.ftr     footer of a closed extent: everything the index needs
//
// All integers are little endian, all checksums CRC-32C (Castagnoli).
//
// # Write-ahead log
//
// A segment is an array of 512-byte sectors without a header. A batch is what one Commit writes: a run of sectors
// within one segment, beginning at a multiple of Options.Align. Batch numbers rise by one; their high 24 bits are the
// store's generation, which rises at each Open, so a number is never used twice.
//
//	sector (512 bytes)
//	  0  batch  u64   number of the batch
//	  8  index  u16   of this sector within the batch
//	 10  count  u16   sectors of the batch
//	 12  first  u32   low half of the LSN of the batch's first entry
//	 16  data   492   a part of the batch's stream
//	508  crc    u32   over [0:508], seeded with the store id and the segment, xor sector number * 0x9e3779b1
//
//	stream of a batch
//	  0  first   u64  LSN of the first entry; the others count up
//	  8  bytes   u32  length of all entries
//	 12  entries u32  how many; 0 is a mark: it only proves that the batch before it was acknowledged
//	 16  entries      back to back; zeros after the last
//
//	entry
//	  0  kind    u8   see below
//	  1  zero    3
//	  4  length  u32  of the body
//	  8  body
//
//	kind 1 inline   extent 28, record length u32, record, payload
//	kind 2 extern   extent 28, record length u32, record              (payload is in the data file, fsynced before)
//	kind 3 promise  volume 16, epoch 20, settles u8
//	kind 4 cut      extent 28, last kept seq u64, log length u32, data length u32, hash 32
//	kind 5 free     extent 28
//	kind 6 drop     volume 16, signed deletion record
//	kind 7 meta     key length u16, key, value
//
// A sector tells by itself what it is: valid and of a live batch, valid and old, zeros (both: never written), or bad
// (its checksum fails, also when it was written for another place). A batch is written only after the one before it
// was acknowledged. Therefore: an incomplete batch that is the last and has no bad sector was torn by a power cut and
// never acknowledged: it is cut. Every other incomplete, missing or bad batch is damage, unless the LSNs before and after
// it are consecutive (it was a mark): reported, and each extent that may have had an entry there answers Unknown. See DESIGN.md for the invariants.
//
// # Superblock, state and footer
//
//	envelope (superblock and state: two copies, each padded to half of the file)
//	  0  magic   4    "MNSB" superblock, "MNST" state, "MNFT" footer
//	  4  version u32  = 1
//	  8  length  u32  of the body
//	 12  crc     u32  over [0:12] and the body
//	 16  body
//
// An envelope is the same in all versions, so that a later version is told from damage: it is refused with ErrNewer, before anything
// is changed. What has no envelope (the log, and the records of extents) is of the version of the state, which Open writes before
// anything else: whoever changes one of them raises formatVersion, so that a program that would not understand it does not open the store.
//
//	superblock  network 16, store 16, segment size u64, segments u16, align u16, name length u16, name
//	footer      extent 28, lsn u64, last seq u64, hash 32, epoch 20, log length u32, data length u32, crc of the log u32,
//	            open body length u32, open body, closed body length u32, closed body
//	state       generation u64, start of the log (batch u64, slot u32, sector u32, lsn u64), lsn u64, unsure u8,
//	            then lists, each led by u32 count:
//	            promises (volume 16, epoch 20, settled u8), tombstones (volume 16, u32 length, bytes),
//	            values (u16 length, key, u32 length, value), open extents (extent 28, log length u32, hash 32,
//	            lsn u64, unknown u8)
//
// # Concurrency
//
// Append, the other staging calls, reads and Stat may run concurrently; Commit and Tidy each serialise themselves and
// run beside them. Appends to one extent are serialised. What is staged while a Commit is under way goes to the next.
package store
