// Package block defines the immutable unit of storage: ids, the leaf table, and the block id that pins every byte.
//
// A block is a run of at most MaxPages consecutive pages of one extent's data area, with a header and a leaf table:
//
//	header (64 bytes, little endian)
//	 0  magic        "MNBK"
//	 4  version      u8   = 1
//	 5  type         u8   index, data, record, contacts, message
//	 6  encryption   u8   0 none, 1 AES-256-GCM
//	 7  compression  u8   0 none, 1 Zstandard, page by page
//	 8  rows         u16  rows in the leaf table = pages
//	10  reserved     u16  0
//	12  payload      u32  bytes of all pages as stored
//	16  volume       16   birth volume
//	32  number       u64  block number within the birth volume, from 1, never reused
//	40  reserved     24   0
//
//	leaf table: one Row of 88 bytes a page
//	 0  leaf    32   BLAKE3-256 of the page as stored (after compression and encryption)
//	32  tag     16   AES-GCM tag, zeros when not encrypted
//	48  addr    u64  page address in the volume, or node address in an index block
//	56  epoch   u64  epoch number under which the page was first written
//	64  token   u64  that epoch's writer token
//	72  seq     u64  write sequence under that epoch: with idx, the page's nonce
//	80  idx     u16  page within the write
//	82  len     u16  stored bytes: 4096 as is, 1..4095 compressed, 0 a page of zeros (no bytes stored)
//	84  key     u32  key id, 0 when not encrypted
//
//	pages, as stored, back to back
//
// The block id is BLAKE3-256 over header and leaf table. As each row pins its page, one id pins every byte, and a
// single page is checked with the leaf table alone. A row moves with its page when a block is cleaned.
//
// Everything here is pure and safe for concurrent use.
package block
