package volume

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/throttle"
)

// Cleaning returns space. Pages that no root names any more lie in closed extents between pages that are named; a pass
// copies the named ones of the emptiest extents to the open one, points the block table to the copies, and frees the
// extents. Order (invariants G1-G3): copies and table are durable by a checkpoint before anything is freed; an extent is
// freed only if it lies before the registry's anchor and before the checkpoint's replay position, so that neither
// recovery nor replay can need it; what is freed is decided from roots, never from live counts, which only choose.
const (
	cleanBatch  = 8               // most extents of a pass, while there is room
	cleanPause  = 5 * time.Second // between passes
	cleanWorth  = 16 << 20        // bytes of new garbage that make a pass worth its table scan
	cleanTarget = 75              // percent: fuller extents are left alone
	eagerTarget = 90              // percent, for a store that is short of space
)

// Clean makes one pass and returns how many bytes of extents it freed.
func (e *Engine) Clean() (freed int64, err error) {
	return e.clean(&cleaner{e: e, victims: make(map[uint32]bool), target: cleanTarget})
}

// Compact is Clean for the sake of stores that are short of space: it looks only at extents that have a copy on one of them, whether or not there is new
// garbage, and takes also those of which a tenth is. A volume that is written to
// and knows how much room there is cleans itself as that shrinks, and only then: it is left alone. It returns by how many bytes a copy of the volume is smaller for it; 0: there is nothing more to gain.
func (e *Engine) Compact(on []block.StoreID) (gained int64, err error) {
	if e.cleansItself() {
		return 0, nil
	}
	c := &cleaner{e: e, victims: make(map[uint32]bool), target: eagerTarget, on: on}
	freed, err := e.clean(c)
	if err != nil {
		return 0, err
	}
	return max(0, freed-c.live), nil
}

func (e *Engine) clean(c *cleaner) (freed int64, err error) {
	if err := e.exclusive(); err != nil {
		return 0, err
	}
	defer e.release()
	e.lookAtRoom()
	e.mu.Lock()
	c.wanted = e.wanting()
	c.tight = e.tidy.tight.known && (c.wanted || c.beside && e.tidy.tight.short())
	if c.wanted || c.tight {
		c.target = eagerTarget
	}
	if c.tight {
		c.enter()
	}
	e.mu.Unlock()
	if c.tight {
		c.giveBack()
	}
	defer func() {
		c.settle(err)
		if c.wanted && freed == 0 && err == nil && !c.cut {
			e.mu.Lock()
			if e.full {
				e.tidy.giveUp(e.Env.Now())
			}
			e.mu.Unlock()
		}
		if c.wanted || c.tight {
			e.heal.Notify() // which looks whether there is room now
		}
	}()
	follows := c.beside && e.followsOn()
	if !follows {
		if err := e.checkpointNow(nil); err != nil {
			return 0, err
		}
	}
	e.mu.Lock()
	e.tidy.begin(e.Env.Now())
	e.mu.Unlock()
	if err := c.chooseFrom(follows); err != nil || len(c.victims) == 0 {
		return 0, errors.Join(err, e.freeCondemned())
	}
	err = c.copyAll()
	e.mu.Lock()
	e.tidy.ended(e.Env.Now(), err == nil, (c.cut || c.more) && !c.tight || c.wanted)
	e.mu.Unlock()
	if err != nil {
		return 0, err
	}
	err = e.freeCondemned()
	return c.freed, err
}

// cleaner is one pass.
type cleaner struct {
	e       *Engine
	victims map[uint32]bool
	order   []uint32
	aliases map[uint64][]alias // physical block → blocks that moved there
	roots   []journal.MapRoot
	freed   int64
	live    int64           // of freed, as pages that are copied
	more    bool            // there are more victims than the pass takes
	target  int64           // percent: fuller extents are left alone
	beside  bool            // the pass goes on beside writes, and nobody waits for it
	cut     bool            // it ends early
	wanted  bool            // writes wait for the room that it makes
	tight   bool            // there is little room, and it is known how much: see plan
	grant   int64           // bytes that writes may take until it has ended, and
	granted int64           // have got so far
	poor    bool            // it was cut for want of room
	copied  int64           // bytes that it has copied, rows and records too
	gone    int64           // bytes of its victims, logs too
	on      []block.StoreID // only extents with a copy there; nil: all

	rules    throttle.Rules
	pressure float64 // see pressureOf
	least    float64 // see leastRate

	elsewhere uint64 // a block that was looked at and has not moved: what it is named by names no other

	// The block being filled: it is written in one go, as the pages of a block lie together in the journal.
	header  block.Header
	rows    []byte
	stored  [][]byte
	bytes   int     // of stored
	pending []moved // entries that wait for its number
}

type alias struct {
	number uint64
	entry  blockmap.BlockEntry
}

type moved struct {
	number uint64
	entry  blockmap.BlockEntry
}

// choose picks the emptiest extents.
func (c *cleaner) choose() error {
	c.e.mu.RLock()
	extents := c.e.cat.extents.before(c.e.oldest())
	c.e.mu.RUnlock()
	live, err := c.count()
	if err != nil {
		return err
	}
	c.take(&extents, live)
	return nil
}

// take picks the emptiest extents, with so many pages that live in each, and says how fast they are to be copied.
func (c *cleaner) take(extents *extentTable, live []int64) {
	e := c.e
	c.rules, c.pressure = throttle.Default(), pressureOf(extents, live)
	target, left := c.targetNow(), false
	for o, x := range extents.all() {
		if x.State != blockmap.ExtentClosed || !c.helps(x) {
			continue
		}
		share := int64(0)
		if x.DataBytes != 0 {
			share = live[o] * block.PageSize * 100 / int64(x.DataBytes)
		}
		if share < target {
			c.order = append(c.order, o)
		} else {
			left = left || share < c.target
		}
	}
	filled := func(o uint32) float64 { return float64(live[o]) / float64(max(extents.at(o).DataBytes, 1)) } // extents differ in size
	slices.SortStableFunc(c.order, func(a, b uint32) int { return cmp.Compare(filled(a), filled(b)) })
	switch {
	case c.tight:
		c.plan(extents, live)
	default:
		c.more = len(c.order) > cleanBatch
		c.order = c.order[:min(len(c.order), cleanBatch)]
		if c.wanted {
			c.fits(live)
		}
	}
	for _, o := range c.order {
		c.victims[o] = true
		c.freed += int64(extents.at(o).DataBytes)
		c.live += live[o] * block.PageSize
	}
	e.mu.Lock()
	e.tidy.more, e.tidy.left = c.more && !c.tight, left
	c.least = leastRate(e.tidy.rate, c.pressure, c.live, c.freed)
	e.mu.Unlock()
}

// helps tells whether it helps the stores that the pass is for if an extent is freed.
func (c *cleaner) helps(x *blockmap.ExtentEntry) bool {
	if c.on == nil {
		return true
	}
	return slices.ContainsFunc(c.e.membersOf(extentID(c.e.spec.ID, x), x), func(s block.StoreID) bool { return slices.Contains(c.on, s) })
}

// copyAll moves what is live in the victims, makes that durable, and condemns them.
func (c *cleaner) copyAll() error {
	e := c.e
	c.cut = !c.makeWay()
	for i, o := range c.order {
		if c.cut || i > 0 && c.awaited() {
			c.leave(c.order[i:])
			break
		}
		err := c.copyExtent(o)
		if errors.Is(err, errCut) {
			c.leave(c.order[i:])
			break
		}
		if err != nil {
			e.mu.RLock()
			x := extentID(e.spec.ID, e.cat.extents.at(o))
			e.mu.RUnlock()
			return fmt.Errorf("cleaning extent %s: %w", x, err)
		}
	}
	if err := c.seal(); err != nil {
		return err
	}
	c.condemn()
	err := e.checkpointNow(nil)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.moving = nil
	if err != nil { // not durable: pages of table and directory may lie there still (invariant G1)
		for o := range c.victims {
			if x := *e.cat.extents.at(o); x.State == blockmap.ExtentCondemned {
				x.State = blockmap.ExtentClosed
				x.Flags |= extentDegraded
				e.cat.setExtent(o, x)
			}
		}
		return err
	}
	e.stats.Cleaned += uint64(len(c.victims))
	return nil
}

// condemn marks the victims, and has the next checkpoint move what it writes itself out of them.
func (c *cleaner) condemn() {
	e := c.e
	e.mu.Lock()
	defer e.mu.Unlock()
	victims := make(map[[2]uint64]bool)
	for o := range c.victims {
		x := *e.cat.extents.at(o)
		victims[[2]uint64{x.Epoch, uint64(x.N)}] = true
		c.gone += sizeOfExtent(&x)
		x.State = blockmap.ExtentCondemned
		x.Flags &^= extentDegraded
		e.cat.setExtent(o, x)
	}
	e.moving = func(r journal.Ref) bool { return victims[[2]uint64{r.Epoch, uint64(r.N)}] }
}

// copyExtent copies the live pages of one extent.
func (c *cleaner) copyExtent(ordinal uint32) error {
	e := c.e
	e.mu.RLock()
	ent := *e.cat.extents.at(ordinal)
	e.mu.RUnlock()
	x := extentID(e.spec.ID, &ent)
	log, err := e.fetchLog(x, ent.LastSeq, ent.LastHash)
	if err != nil {
		return err
	}
	return walkLog(log, func(r *journal.Record) error {
		if r.Type != journal.TypeSeal {
			return nil
		}
		s, err := journal.DecodeSeal(r.Body)
		if err != nil {
			return err
		}
		rows, err := s.BlockRows(log[s.LogOff : s.LogOff+s.LogLen])
		if err != nil {
			return err
		}
		return c.copyBlock(ordinal, x, &s, rows)
	})
}

// copyBlock copies the live pages of one block. A block that is not here any more, because a pass that failed has moved it,
// is left as it is: its entry says where its pages are now.
func (c *cleaner) copyBlock(ordinal uint32, x block.ExtentID, s *journal.Seal, rows []byte) error {
	b, err := reader{e: c.e}.blockEntry(&c.e.cat, c.e.spec.ID, 0, s.Header.Number)
	if err != nil || b.Kind != blockmap.KindPhysical || b.Extent != ordinal {
		return err
	}
	t, err := block.NewTable(s.Header, rows, s.ID)
	if err != nil {
		return err
	}
	survivors, n, err := c.survivors(t)
	if err != nil {
		return err
	}
	if n == 0 {
		return c.retire(s, blockmap.BlockEntry{})
	}
	h := &s.Header
	if len(c.stored)+n > block.MaxPages || c.bytes+c.sizeOf(t, &survivors) > int(c.e.spec.Extent) || c.header.Type != h.Type || c.header.Encryption != h.Encryption || c.header.Compression != h.Compression {
		if err := c.seal(); err != nil {
			return err
		}
		if !c.makeWay() {
			return errCut
		}
	}
	c.header = block.Header{Type: h.Type, Encryption: h.Encryption, Compression: h.Compression}
	base := uint8(len(c.stored))
	if err := c.gather(x, s.DataOff, t, &survivors); err != nil {
		return err
	}
	named := uint16(n)
	if len(c.aliases[h.Number]) > 0 {
		named = 0 // its pages are copies: they count with the blocks that they came from
	}
	return c.retire(s, blockmap.BlockEntry{Kind: blockmap.KindMoved, Type: h.Type, Encryption: h.Encryption, Compression: h.Compression, Rows: h.Rows,
		Live: named, Base: base, Survivors: survivors})
}

var errFound = errors.New("found")

// nodeAt is the address of the map node at a level and index, 0 if there is none.
func nodeAt(r reader, root journal.MapRoot, level uint8, index uint64) (found blockmap.Addr, err error) {
	if level == 0 || level > root.Levels {
		return 0, nil
	}
	err = blockmap.WalkFrom(r, root, index<<(9*level), func(a blockmap.Addr, l uint8, i uint64) (bool, error) {
		if l > level {
			return true, nil
		}
		if i == index {
			found = a
		}
		return false, errFound
	}, nil)
	if errors.Is(err, errFound) {
		err = nil
	}
	return found, err
}

// retire notes where a block's pages live on; it and the blocks that had moved into it are entered once the block that
// takes them is sealed.
func (c *cleaner) retire(s *journal.Seal, next blockmap.BlockEntry) error {
	c.pending = append(c.pending, moved{s.Header.Number, next})
	for _, a := range c.aliases[s.Header.Number] {
		entry := blockmap.BlockEntry{}
		if next.Kind == blockmap.KindMoved {
			entry = a.entry.Through(&next)
		}
		c.pending = append(c.pending, moved{a.number, entry})
	}
	return nil
}

// seal writes the gathered pages as one block and enters what has moved into it.
func (c *cleaner) seal() error {
	e := c.e
	var number, seq uint64
	if len(c.stored) > 0 {
		if err := e.lockFor(4*journal.HeaderSize+len(c.rows), c.bytes); err != nil {
			return err
		}
		e.sealBlock()
		b := e.newBlock(c.header.Type, c.header.Encryption, c.header.Compression)
		for i := 0; i < len(c.stored); i += journal.MaxRecordPages {
			part := c.stored[i:min(i+journal.MaxRecordPages, len(c.stored))]
			bytes := 0
			for _, p := range part {
				bytes += len(p)
			}
			e.pagesRecord(journal.TypeRelocate, b, 0, c.rows[i*block.RowSize:(i+len(part))*block.RowSize], part, uint32(bytes), noted)
		}
		e.seal(b)
		number, seq = b.header.Number, e.log.chain.Seq
		e.jmu.Unlock()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if number != 0 {
		b := e.cat.blocks[number]
		b.Live = 0 // named only through the blocks that moved here
		e.cat.blocks[number] = b
		e.tidy.copied = seq
		e.tidy.beside.Moved(c.bytes)
		c.copied += copySize(int64(len(c.stored)))
		if c.tight {
			c.earn(int64(c.bytes))
		}
		e.timeQuorum() // it may have it already
	}
	for _, m := range c.pending {
		if m.entry.Kind == blockmap.KindMoved {
			m.entry.Target = number
		}
		e.cat.replaceBlock(m.number, m.entry)
	}
	c.rows, c.stored, c.pending, c.bytes = nil, nil, nil, 0
	return nil
}

// freeCondemned has holders drop condemned extents; an extent is done with once all that are believed alive have said so.
// The others are told by an audit, when they are back. What is condemned here is so by a durable checkpoint.
func (e *Engine) freeCondemned() error {
	e.mu.RLock()
	var todo []uint32
	for o, x := range e.cat.extents.all() {
		if x.State == blockmap.ExtentCondemned {
			todo = append(todo, o)
		}
	}
	e.mu.RUnlock()
	for _, o := range todo {
		e.lookAtRoom() // what was said of it before the extent is freed does not know that
		e.mu.RLock()
		ent := *e.cat.extents.at(o)
		e.mu.RUnlock()
		x := extentID(e.spec.ID, &ent)
		var left atomic.Bool
		e.each(slices.DeleteFunc(slices.Clone(e.membersOf(x, &ent)), func(s block.StoreID) bool { return !e.answers(s) }), func(s block.StoreID) {
			if err := e.freeCopy(s, x, &ent); err != nil {
				e.settle(s, x, err)
				left.Store(true)
			}
		}, nil)
		if left.Load() {
			continue
		}
		e.mu.Lock()
		if ent = *e.cat.extents.at(o); ent.State == blockmap.ExtentCondemned && extentID(e.spec.ID, &ent) == x {
			ent.State = blockmap.ExtentFreed
			e.cat.setExtent(o, ent)
			delete(e.holders, x)
			e.stats.Freed++
		}
		e.mu.Unlock()
	}
	return e.Err()
}
