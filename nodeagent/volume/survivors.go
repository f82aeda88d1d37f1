package volume

import (
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// survivors finds the pages of a physical block that any root names, and how many they are.
func (c *cleaner) survivors(t *block.Table) (s blockmap.Survivors, n int, err error) {
	switch t.Header.Type {
	case block.TypeData:
		for _, root := range c.roots {
			if err := c.namedIn(root, t, &s); err != nil {
				return s, 0, err
			}
		}
	default:
		for i := range t.Rows {
			ok, err := c.liveNode(&t.Rows[i], t.Header.Number, uint8(i))
			if err != nil {
				return s, 0, err
			}
			if ok {
				s.Set(uint8(i))
			}
		}
	}
	for i := range t.Rows {
		if s.Has(uint8(i)) {
			n++
		}
	}
	return s, n, nil
}

// namedIn enters the pages of a block of data that root names. Pages that were written in order are looked up together.
func (c *cleaner) namedIn(root journal.MapRoot, t *block.Table, s *blockmap.Survivors) error {
	var addrs [block.MaxPages]blockmap.Addr
	for first := 0; first < len(t.Rows); {
		next := first + 1
		for next < len(t.Rows) && t.Rows[next].Addr == t.Rows[next-1].Addr+1 {
			next++
		}
		found := addrs[:next-first]
		if err := blockmap.LookupRange(reader{e: c.e}, root, t.Rows[first].Addr, found); err != nil {
			return err
		}
		for i, a := range found {
			ok, err := c.leadsTo(a, t.Header.Number, uint8(first+i))
			if err != nil {
				return err
			}
			if ok {
				s.Set(uint8(first + i))
			}
		}
		first = next
	}
	return nil
}

// leadsTo tells whether an address is that of page i of a physical block, itself or through a move.
func (c *cleaner) leadsTo(a blockmap.Addr, number uint64, i uint8) (bool, error) {
	switch {
	case a == 0 || a.Gen() != 0:
		return false, nil
	case a.Block() == number:
		return a.Page() == i, nil
	case a.Block() == c.elsewhere:
		return false, nil
	}
	pl, err := reader{e: c.e}.locate(a)
	if err != nil {
		return false, err
	}
	if pl.number == a.Block() {
		c.elsewhere = pl.number
	}
	return pl.number == number && pl.page == i, nil
}

// liveNode tells whether any root names a page of the map.
func (c *cleaner) liveNode(row *block.Row, number uint64, i uint8) (bool, error) {
	if row.Addr>>62<<62 != rowMap {
		return false, nil // pages of the table and the directory are rewritten by the checkpoint
	}
	r := reader{e: c.e}
	for _, root := range c.roots {
		a, err := nodeAt(r, root, uint8(row.Addr>>56)&63, row.Addr&(1<<56-1))
		if err != nil {
			return false, err
		}
		if ok, err := c.leadsTo(a, number, i); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// sizeOf is how many bytes the surviving pages of a block have as stored.
func (c *cleaner) sizeOf(t *block.Table, survivors *blockmap.Survivors) (n int) {
	for i := range t.Rows {
		if survivors.Has(uint8(i)) {
			n += int(t.Rows[i].Len)
		}
	}
	return n
}

// gather adds the surviving pages of a block to what is stored next, and their rows. Pages that lie together are read together.
func (c *cleaner) gather(x block.ExtentID, dataOff uint32, t *block.Table, survivors *blockmap.Survivors) error {
	for i := 0; i < len(t.Rows); i++ {
		first := i
		for i < len(t.Rows) && survivors.Has(uint8(i)) {
			i++
		}
		if i == first {
			continue
		}
		rows := t.Rows[first:i]
		stored := make([]byte, t.Offs[i]-t.Offs[first])
		if err := c.e.storedPages(x, dataOff+t.Offs[first], rows, stored); err != nil {
			return err
		}
		c.bytes += len(stored)
		for k := range rows {
			c.rows = append(c.rows, make([]byte, block.RowSize)...)
			rows[k].Put(c.rows[len(c.stored)*block.RowSize:])
			c.stored = append(c.stored, stored[:rows[k].Len:rows[k].Len])
			stored = stored[rows[k].Len:]
		}
	}
	return nil
}

// storedPages reads pages as stored, which lie together, from replicas that have them right.
func (e *Engine) storedPages(x block.ExtentID, off uint32, rows []block.Row, stored []byte) error {
	if len(rows) > 1 {
		for _, s := range (reader{e: e}).order(x) {
			if e.readStream(s, replica.TypeReadData, x, off, stored) == nil && checkStored(rows, stored) == nil {
				return nil
			}
		}
	}
	for i := range rows { // none has all of them right, or there is one
		n := rows[i].Len
		if err := e.storedPage(x, off, &rows[i], stored[:n]); err != nil {
			return err
		}
		off, stored = off+uint32(n), stored[n:]
	}
	return nil
}

// checkStored checks pages as stored, one behind the other, against their rows.
func checkStored(rows []block.Row, stored []byte) error {
	var pages [block.MaxPages][]byte
	var sums [block.MaxPages]block.Hash
	for i := range rows {
		n := rows[i].Len
		pages[i], stored = stored[:n], stored[n:]
	}
	block.Sums(pages[:len(rows)], sums[:len(rows)])
	for i := range rows {
		if sums[i] != rows[i].Leaf {
			return fmt.Errorf("page %d (seq %d): %w", rows[i].Addr, rows[i].Seq, block.ErrMismatch)
		}
	}
	return nil
}

// storedPage reads one page as stored, from whichever replica has it right.
func (e *Engine) storedPage(x block.ExtentID, off uint32, row *block.Row, page []byte) error {
	if len(page) == 0 {
		return nil
	}
	last := errElsewhere
	for _, s := range (reader{e: e}).order(x) {
		err := e.readStream(s, replica.TypeReadData, x, off, page)
		if err == nil {
			err = row.Check(page)
		}
		if err == nil {
			return nil
		}
		last = worse(last, err)
	}
	return last
}
