package volume

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// catalog says where the blocks of one volume lie: the block table (paged, with what changed since the checkpoint kept
// here) and the extent directory (in memory whole: 128 bytes an extent that is not freed). Guarded by Engine.mu.
type catalog struct {
	table   journal.ArrayRoot
	dir     journal.ArrayRoot
	blocks  map[uint64]blockmap.BlockEntry // changed since the checkpoint
	deltas  map[uint64]int                 // pages dropped from blocks that are not in blocks
	extents extentTable                    // by ordinal; 0 unused
	dirty   map[uint32]bool                // ordinals changed since the checkpoint
	durable extentTable                    // extents as the latest durable checkpoint names them
	byID    map[block.ExtentID]uint32
	held    int64 // bytes of extents that are closed and not freed
}

// holds is what a closed extent takes on each store, 0 of others.
func holds(x *blockmap.ExtentEntry) int64 {
	if x.State != blockmap.ExtentClosed && x.State != blockmap.ExtentCondemned {
		return 0
	}
	return sizeOfExtent(x)
}

func newCatalog() catalog {
	c := catalog{blocks: make(map[uint64]blockmap.BlockEntry), deltas: make(map[uint64]int), dirty: make(map[uint32]bool), byID: make(map[block.ExtentID]uint32)}
	c.extents.grow(1)
	return c
}

func (c *catalog) setBlock(number uint64, b blockmap.BlockEntry) {
	if d := c.deltas[number]; d != 0 {
		b.Live = uint16(max(int(b.Live)-d, 0))
		delete(c.deltas, number)
	}
	c.blocks[number] = b
}

// replaceBlock enters a block's new place after cleaning. Pages dropped meanwhile stay dropped.
func (c *catalog) replaceBlock(number uint64, b blockmap.BlockEntry) {
	delete(c.deltas, number)
	c.blocks[number] = b
}

// drop counts one page of a block as no longer named.
func (c *catalog) drop(number uint64) {
	if b, ok := c.blocks[number]; ok {
		if b.Live > 0 {
			b.Live--
			c.blocks[number] = b
		}
		return
	}
	c.deltas[number]++
}

// addExtent enters an extent and returns its ordinal; an extent that is known keeps it.
func (c *catalog) addExtent(v block.VolumeID, x blockmap.ExtentEntry) uint32 {
	id := block.ExtentID{Volume: v, Epoch: x.Epoch, N: x.N}
	if o, ok := c.byID[id]; ok {
		return o
	}
	o := c.extents.n
	c.extents.set(o, x)
	c.byID[id] = o
	c.dirty[o] = true
	return o
}

func (c *catalog) setExtent(ordinal uint32, x blockmap.ExtentEntry) {
	c.held += holds(&x) - holds(c.extents.at(ordinal))
	c.extents.set(ordinal, x)
	c.dirty[ordinal] = true
}

func (c *catalog) count() (n int) {
	for _, x := range c.extents.all() {
		if s := x.State; s == blockmap.ExtentOpen || s == blockmap.ExtentClosed {
			n++
		}
	}
	return n
}

func (c *catalog) degraded() (n int) {
	for _, x := range c.extents.all() {
		if x.Flags&extentDegraded != 0 && x.State == blockmap.ExtentClosed {
			n++
		}
	}
	return n
}

// loadExtents reads the whole directory. An ordinal that it had is not given again.
func (c *catalog) loadExtents(v block.VolumeID, p blockmap.RefPager) error {
	a := blockmap.Array{Pager: p, Root: c.dir, Size: blockmap.ExtentEntrySize}
	c.extents.grow(uint32(min(c.dir.Count, math.MaxUint32)))
	return a.Walk(0, func(i uint64, entry []byte) error {
		x, err := blockmap.GetExtentEntry(entry)
		if err != nil {
			return err
		}
		if i != uint64(uint32(i)) || i == 0 {
			return fmt.Errorf("extent ordinal %d: %w", i, blockmap.ErrFormat)
		}
		c.held += holds(&x) - holds(c.extents.at(uint32(i)))
		c.extents.set(uint32(i), x)
		c.stored(uint32(i), x)
		c.byID[block.ExtentID{Volume: v, Epoch: x.Epoch, N: x.N}] = uint32(i)
		return nil
	})
}

// sortedEdits is a blockmap.ArrayEdits over entries encoded beforehand.
type sortedEdits struct {
	index   []uint64
	entries []byte
	size    int
	at      int
}

func (s *sortedEdits) Next() (uint64, []byte, bool) {
	if s.at == len(s.index) {
		return 0, nil, false
	}
	i := s.at
	s.at++
	return s.index[i], s.entries[i*s.size : (i+1)*s.size], true
}

func (s *sortedEdits) add(i uint64, put func(b []byte)) {
	s.index = append(s.index, i)
	n := len(s.entries)
	s.entries = append(s.entries, make([]byte, s.size)...)
	put(s.entries[n:])
}

// extentChange is one changed entry of the directory.
type extentChange struct {
	ordinal uint32
	entry   blockmap.ExtentEntry
}

// extentChanges lists what changed in the directory, in order. The catalogue keeps it until extentsMerged.
func (c *catalog) extentChanges() (out []extentChange) {
	for _, o := range slices.Sorted(maps.Keys(c.dirty)) {
		out = append(out, extentChange{o, *c.extents.at(o)})
	}
	return out
}

// forgettable tells whether the directory has no use for an entry: its extent is freed. One of a weak volume stays, since what the directory does not
// know may be of a history that was given up.
func forgettable(x *blockmap.ExtentEntry, weak bool) bool {
	return x.State == blockmap.ExtentFreed && !weak
}

// stale has the next checkpoint take out what the directory has no use for: an earlier version left it there.
func (c *catalog) stale(weak bool) {
	for o, x := range c.extents.all() {
		if forgettable(x, weak) {
			c.dirty[o] = true
		}
	}
}

// stored notes how a durable checkpoint names an extent.
func (c *catalog) stored(ordinal uint32, x blockmap.ExtentEntry) {
	c.durable.set(ordinal, x)
}

// stores tells whether the latest durable checkpoint names exactly these members of a closed extent, as far as it names members.
func (c *catalog) stores(ordinal uint32, members []block.StoreID) bool {
	var want blockmap.ExtentEntry
	setMembers(&want, members)
	x := c.durable.at(ordinal)
	return x.State == blockmap.ExtentClosed && x.Count == want.Count && x.Members == want.Members
}

// extentsMerged forgets the changes that a checkpoint has taken, as far as they did not change again, and the extents that it has taken out.
func (c *catalog) extentsMerged(v block.VolumeID, taken []extentChange, weak bool) {
	for i := range taken {
		t := &taken[i]
		if forgettable(&t.entry, weak) {
			delete(c.byID, extentID(v, &t.entry))
			delete(c.dirty, t.ordinal)
			c.extents.set(t.ordinal, noExtent)
			c.stored(t.ordinal, noExtent)
			continue
		}
		c.stored(t.ordinal, t.entry)
		if *c.extents.at(t.ordinal) == t.entry {
			delete(c.dirty, t.ordinal)
		}
	}
}

// blockChange is one changed entry of the block table, or a count of dropped pages.
type blockChange struct {
	number uint64
	entry  blockmap.BlockEntry
	delta  int
}

// blockChanges lists what changed in the table, in order. The catalogue keeps it until blocksMerged.
func (c *catalog) blockChanges() (out []blockChange) {
	for n, b := range c.blocks {
		out = append(out, blockChange{number: n, entry: b})
	}
	for n, d := range c.deltas {
		out = append(out, blockChange{number: n, delta: d})
	}
	slices.SortFunc(out, func(a, b blockChange) int { return cmp.Compare(a.number, b.number) })
	return out
}

// blocksMerged forgets the changes that a checkpoint has taken, as far as they did not change again.
func (c *catalog) blocksMerged(taken []blockChange) {
	for _, t := range taken {
		if t.delta != 0 {
			if c.deltas[t.number] -= t.delta; c.deltas[t.number] <= 0 {
				delete(c.deltas, t.number)
			}
		} else if c.blocks[t.number] == t.entry {
			delete(c.blocks, t.number)
		}
	}
}
