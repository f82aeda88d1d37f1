// Package blockmap holds the copy-on-write structures that say where a volume's pages lie: the map (page to address),
// the two side tables (block number to place, extent ordinal to extent), and the overlay of edits not yet merged.
//
// An address names a stored page. It never changes: cleaning moves pages behind it, by way of the block table.
//
//	Addr  63      48 47                        8 7     0
//	      generation       block number (40)      page       0 = hole
//
// Block numbers are those of a birth volume, from 1. The generation says which volume: how many ancestors up from the
// volume in which the map node holding the entry was born (for a root: from the volume at hand).
//
//	map node (one page, level 1..4)         512 × Addr, little endian
//	  level 1 entries name data pages, higher ones nodes of the level below; node i of level l covers pages
//	  [i<<9l, (i+1)<<9l); the root is node 0 of level Levels; Levels 0 is the empty map; no node is all holes
//
//	array leaf (one page, level 1)          4096/E entries of E = 64 or 128 bytes; all zeros = no entry
//	array node (one page, level 2..6)       64 × journal.Ref; a zero Ref is an empty subtree
//
//	BlockEntry (64 bytes, little endian)    index = block number
//	  0  kind        u8   0 none, 1 physical, 2 moved
//	  1  type        u8   block.Type
//	  2  encryption  u8
//	  3  compression u8
//	  4  rows        u16  pages of the block
//	  6  live        u16  pages believed live: may overstate, never understate
//	  physical                                moved
//	  8  extent      u32  ordinal, from 1       8  target    u64  block number
//	 12  dataOff     u32                       16  base      u8   target page of the first survivor
//	 16  logOff      u32                       17  reserved  15   0
//	 20  logLen      u32                       32  survivors 30   bit p: page p lives on, little endian
//	 24  payload     u32                       62  reserved  2    0
//	 28  reserved    u32  0
//	 32  id          32
//
//	ExtentEntry (128 bytes, little endian)  index = extent ordinal
//	  0  epoch       u64  epoch number of the extent id
//	  8  n           u32  counter of the extent id
//	 12  state       u8   0 none, 1 open, 2 closed, 3 condemned, 4 freed (of weak volumes, and left by earlier versions)
//	 13  flags       u8   the engine's
//	 14  replicas    u8   R
//	 15  quorum      u8   W
//	 16  dataBytes   u32
//	 20  logBytes    u32
//	 24  liveBytes   u32
//	 28  count       u8   members in all
//	 29  reserved    3    0
//	 32  lastSeq     u64  sequence of the last record
//	 40  lastHash    32   chain hash of the last record
//	 72  members     48   the first three store ids, zeros beyond count: a hint
//	120  reserved    u64  0
//
// Merging is functional: a merge reads the old tree and a sorted run of edits, emits changed pages bottom-up, and gives
// the new root; the old tree stays whole until the caller forgets it. Nothing here starts I/O: pages come from a pager,
// which may block and whose errors pass through wrapped.
//
// Functions on roots are as safe for concurrent use as their pager. An Overlay is not: the caller locks.
package blockmap
