// Package journal defines the records of a volume's replicated log, their chain, and how an extent stores them.
//
// A volume's journal is one chain of records, numbered without gaps by seq, cut into extents. An extent is two
// byte streams that only grow, equal on every replica:
//
//	log   the records (header and body) back to back, beginning with an open record
//	data  the payloads of the page records, back to back, in the order of the log
//
// so a position is an offset, the same everywhere, and a block is a range of both streams. A record is
//
//	header (128 bytes, little endian)
//	  0  magic    u16  0x4a4d ("MJ")
//	  2  version  u8   = 1
//	  3  type     u8
//	  4  flags    u16  0
//	  6  rows     u16  leaf-table rows in the body (page records)
//	  8  length   u32  header + body, bytes
//	 12  payload  u32  bytes in the data stream
//	 16  seq      u64  place in the chain, from 1
//	 24  epoch    20   number u64, token u64, session u32: the writer that appended it
//	 44  dataOff  u32  where the payload starts in the extent's data stream
//	 48  logOff   u32  where this record starts in the extent's log stream
//	 52  page     u16  place of its first page within the block
//	 54  reserved u16  0
//	 56  block    u64  number of the block that its pages belong to, 0 for control records
//	 64  prev     32   chain hash of record seq-1 (zeros for the first record of a volume)
//	 96  wseq     u64  write sequence of the request, 0 for the engine's own records
//	104  reserved u64  0
//	112  mac      16   keyed hash of the chain hash (zeros without a key): see DESIGN.md
//	body
//	  page records (write, index, relocate): rows × block.Row
//	  control records: see bodies.go
//
// The chain hash of a record is BLAKE3-256 over header[0:112] and body. As the body's leaves pin the payload, the
// hash of one record pins everything in the volume's journal up to it.
//
// Everything here is pure and safe for concurrent use.
package journal
