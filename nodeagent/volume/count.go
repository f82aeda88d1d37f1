package volume

import (
	"fmt"
	"maps"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// count scans the block table, and says how many pages live in each extent, as far as is known.
func (c *cleaner) count() ([]int64, error) {
	e := c.e
	e.mu.RLock()
	table, dir := e.cat.table, e.cat.dir
	deltas := maps.Clone(e.cat.deltas) // counted since the checkpoint, as by a discard that it has merged
	c.roots, c.order = []journal.MapRoot{e.view.root}, nil
	for i := range e.snapshots {
		c.roots = append(c.roots, e.snapshots[i].Root)
	}
	live := make([]int64, e.cat.extents.n)
	e.mu.RUnlock()
	place := make(map[uint64]uint32)
	aliasLive := make(map[uint64]int64)
	c.aliases = make(map[uint64][]alias)
	a := blockmap.Array{Pager: refPager{reader{e: e}, e.spec.ID}, Root: table, Size: blockmap.BlockEntrySize}
	err := a.Walk(0, func(i uint64, raw []byte) error {
		b, err := blockmap.GetBlockEntry(raw)
		switch {
		case err != nil:
			return err
		case b.Kind == blockmap.KindPhysical && int(b.Extent) < len(live):
			live[b.Extent] += max(int64(b.Live)-int64(deltas[i]), 0)
			place[i] = b.Extent
		case b.Kind == blockmap.KindMoved:
			aliasLive[b.Target] += max(int64(b.Live)-int64(deltas[i]), 0)
			c.aliases[b.Target] = append(c.aliases[b.Target], alias{i, b})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("scanning the block table: %w", err)
	}
	for target, n := range aliasLive {
		live[place[target]] += n
	}
	for _, a := range []blockmap.Array{{Pager: a.Pager, Root: table, Size: blockmap.BlockEntrySize}, {Pager: a.Pager, Root: dir, Size: blockmap.ExtentEntrySize}} {
		if err := e.countIndex(&a, live); err != nil {
			return nil, err
		}
	}
	return live, nil
}

// countIndex adds the pages of the table or the directory to what lives in their extents: they have no block that counts them, and a pass writes them anew.
func (e *Engine) countIndex(a *blockmap.Array, live []int64) error {
	err := a.WalkRefs(func(r journal.Ref, _ uint8, _ uint64) (bool, error) {
		e.mu.RLock()
		defer e.mu.RUnlock()
		if o, ok := e.cat.byID[block.ExtentID{Volume: e.spec.ID, Epoch: r.Epoch, N: r.N}]; ok && int(o) < len(live) {
			live[o]++
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("looking at the pages of table and directory: %w", err)
	}
	return nil
}
