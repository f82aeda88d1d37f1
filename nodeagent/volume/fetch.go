package volume

import (
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// place is where the pages of one block lie.
type place struct {
	volume  block.VolumeID // birth volume: extent and block number are its
	extent  block.ExtentID
	dataOff uint32
	page    uint8 // resolved page within the physical block
	run     int   // at most so many pages from it on lie one behind the other there
	number  uint64
	gen     uint16
	entry   blockmap.BlockEntry // zero for a block that is not sealed
	open    *openBlock
}

// locate resolves an address to a physical block, through at most one move.
func (r reader) locate(a blockmap.Addr) (pl place, err error) {
	e := r.e
	gen, number, page := a.Gen(), a.Block(), a.Page()
	cat, v, err := e.catalogOf(gen, r.local)
	if err != nil {
		return pl, err
	}
	run := block.MaxPages
	for range 3 {
		var b blockmap.BlockEntry
		if gen == 0 {
			e.mu.RLock()
			open := e.openBlocks[number]
			if open != nil && open.ordinal != 0 && int(page) < int(open.header.Rows) {
				x := *e.cat.extents.at(open.ordinal)
				e.mu.RUnlock()
				return place{volume: v, extent: extentID(v, &x), dataOff: open.dataOff, page: page, run: run, number: number, open: open}, nil
			}
			e.mu.RUnlock()
		}
		if b, err = r.blockEntry(cat, v, gen, number); err != nil {
			return pl, err
		}
		switch b.Kind {
		case blockmap.KindPhysical:
			x, err := e.extentOf(cat, gen, b.Extent)
			if err != nil {
				return pl, err
			}
			return place{volume: v, extent: extentID(v, &x), dataOff: b.DataOff, page: page, run: run, number: number, gen: gen, entry: b}, nil
		case blockmap.KindMoved:
			var ok bool
			run = min(run, b.Survivors.RunAt(page)) // survivors keep their order, so their neighbours are neighbours again
			if number, page, ok = b.Resolve(page); !ok {
				return pl, fmt.Errorf("address %s did not survive a move: %w", a, replica.ErrNotHeld)
			}
		default:
			return pl, fmt.Errorf("address %s: no such block: %w", a, replica.ErrNotHeld)
		}
	}
	return pl, fmt.Errorf("address %s: too many moves: %w", a, block.ErrFormat)
}

func extentID(v block.VolumeID, x *blockmap.ExtentEntry) block.ExtentID {
	return block.ExtentID{Volume: v, Epoch: x.Epoch, N: x.N}
}

// blockEntry looks a block up in the table of the volume gen generations up.
func (r reader) blockEntry(cat *catalog, v block.VolumeID, gen uint16, number uint64) (b blockmap.BlockEntry, err error) {
	e := r.e
	e.mu.RLock()
	b, ok := cat.blocks[number]
	root := cat.table
	e.mu.RUnlock()
	if ok {
		return b, nil
	}
	var enc [blockmap.BlockEntrySize]byte
	a := blockmap.Array{Pager: refPager{r, v}, Root: root, Size: blockmap.BlockEntrySize}
	if err := a.Get(number, enc[:]); err != nil {
		return b, fmt.Errorf("block table, block %d: %w", number, err)
	}
	return blockmap.GetBlockEntry(enc[:])
}

func (e *Engine) extentOf(cat *catalog, gen uint16, ordinal uint32) (x blockmap.ExtentEntry, err error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if x = *cat.extents.at(ordinal); x.State == blockmap.ExtentNone {
		return x, fmt.Errorf("extent ordinal %d is not in the directory: %w", ordinal, replica.ErrNotHeld)
	}
	return x, nil
}

// fetch reads n pages at consecutive addresses from a on, from the cache or from replicas, checked, into dst.
func (r reader) fetch(a blockmap.Addr, n int, dst []byte) error {
	e := r.e
	for n > 0 {
		l := e.placeOf(a)
		if l == nil || l.local == nil { // pages of a store at hand are not in the cache: see keepPages
			if v, ok := e.Cache.Get(e.pageKey(a)); ok {
				copy(dst, v.(*[block.PageSize]byte)[:])
				a, n, dst = a+1, n-1, dst[block.PageSize:]
				continue
			}
		}
		got, err := r.fetchRun(l, a, n, dst)
		if err != nil && !r.local {
			e.refreshAncestors() // whoever cleaned meanwhile has moved the block, whatever the stores say of the old place
			got, err = r.fetchRun(nil, a, n, dst)
			err = e.patiently(a.Gen(), err)
		}
		if err != nil {
			return err
		}
		a, n, dst = a+blockmap.Addr(got), n-got, dst[got*block.PageSize:]
	}
	return nil
}

func (e *Engine) pageKey(a blockmap.Addr) CacheKey {
	return CacheKey{Owner: e.owner, Kind: cachePage, A: uint64(a)}
}

// located is a sealed block found: kept in the cache, so that a read in it needs one look-up. It goes stale when the block
// is cleaned; then its extent is not held any more, and it is located again.
type located struct {
	place
	table *block.Table
	at    block.StoreID // store of this process that holds it, if local is not nil
	local Local
}

func (e *Engine) placeKey(a blockmap.Addr) CacheKey {
	return CacheKey{Owner: e.owner, Kind: cachePlace, A: uint64(a) >> 8}
}

// placeOf is the block that a page was last found in, if the cache has it still.
func (e *Engine) placeOf(a blockmap.Addr) *located {
	if v, ok := e.Cache.Get(e.placeKey(a)); ok {
		return v.(*located)
	}
	return nil
}

// fetchRun reads as many of n pages as lie together, at least one. known is where the block was last; nil if that is not known.
func (r reader) fetchRun(known *located, a blockmap.Addr, n int, dst []byte) (int, error) {
	if known != nil {
		if got, err := r.readTable(known, int(a.Page()), a, n, dst); err == nil {
			return got, nil
		} else if r.local && wouldWait(err) {
			return 0, err
		}
		// Whatever the error says (a store that is away hides that others hold it no more), look where the block is now.
	}
	pl, err := r.locate(a)
	if err != nil {
		return 0, err
	}
	if pl.open != nil {
		return r.readOpen(&pl, a, n, dst)
	}
	key := blockmap.New(pl.gen, pl.number, 0)
	if pl.number != a.Block() { // moved: the block that took its pages may be known
		if l := r.e.placeOf(key); l != nil && l.extent == pl.extent {
			if got, err := r.readTable(l, int(pl.page), a, min(n, pl.run), dst); err == nil {
				return got, nil
			}
		}
	}
	l := &located{place: pl}
	if l.table, err = r.table(&pl); err != nil {
		return 0, err
	}
	for _, s := range r.e.whoHolds(pl.extent) {
		if l.local = r.e.Local(s); l.local != nil {
			l.at = s
			break
		}
	}
	r.e.Cache.Put(r.e.placeKey(key), l, 256)
	return r.readTable(l, int(pl.page), a, min(n, pl.run), dst)
}

// readTable reads pages of a sealed block.
func (r reader) readTable(l *located, first int, a blockmap.Addr, n int, dst []byte) (int, error) {
	t := l.table
	if first >= len(t.Rows) {
		return 0, fmt.Errorf("address %s beyond block of %d pages: %w", a, len(t.Rows), block.ErrFormat)
	}
	n = min(n, len(t.Rows)-first)
	rows, off, dst := t.Rows[first:first+n], l.dataOff+t.Offs[first], dst[:n*block.PageSize]
	if l.local != nil {
		err := r.readLocal(l, rows, off, a, dst)
		if err == nil || r.local && wouldWait(err) {
			return n, err
		}
		r.waits = wouldWait(err)
	}
	return n, r.readRows(&l.place, rows, off, t.Header.Compression, a, dst)
}

// readLocal reads from the store at hand what needs no waiting; whatever goes wrong is left to readRows.
func (r reader) readLocal(l *located, rows []block.Row, off uint32, a blockmap.Addr, dst []byte) error {
	stored, size := storedInto(rows, dst)
	if size > 0 {
		if err := r.readHere(l.local, replica.TypeReadData, l.extent, off, stored); err != nil {
			return err
		}
	}
	if last := len(rows) - 1; r.later.takes() && last%2 == 0 && size == len(dst) && &stored[0] == &dst[0] {
		r.later.add(a+blockmap.Addr(last), &rows[last], dst[last*block.PageSize:])
		rows, dst = rows[:last], dst[:last*block.PageSize]
		return checkPages(rows, dst)
	}
	return r.e.decodeRows(l.volume, rows, l.table.Header.Compression, stored, dst)
}

// readOpen reads pages of a block that is not sealed yet; their rows are in memory.
func (r reader) readOpen(pl *place, a blockmap.Addr, n int, dst []byte) (int, error) {
	r.e.mu.RLock()
	first := int(pl.page)
	n = min(n, int(pl.open.header.Rows)-first)
	rows := make([]block.Row, n)
	for i := range rows {
		rows[i] = block.GetRow(pl.open.rows[(first+i)*block.RowSize:])
	}
	off, comp := pl.dataOff+pl.open.offs[first], pl.open.header.Compression
	r.e.mu.RUnlock()
	return n, r.readRows(pl, rows, off, comp, a, dst[:n*block.PageSize])
}

// storedInto gives the buffer for the stored form of pages: dst itself if they are stored as they are.
func storedInto(rows []block.Row, dst []byte) (stored []byte, size int) {
	for i := range rows {
		size += int(rows[i].Len)
	}
	if size == len(dst) && rows[0].Key == 0 {
		return dst, size
	}
	return make([]byte, size), size
}

// readRows reads stored pages that lie back to back and turns them into plain ones. Replicas are asked until every page matches its row;
// what a replica had wrong is repaired from one that has it right.
func (r reader) readRows(pl *place, rows []block.Row, off uint32, comp block.Compression, a blockmap.Addr, dst []byte) error {
	e := r.e
	stored, size := storedInto(rows, dst)
	if size == 0 {
		return e.decodeRows(pl.volume, rows, comp, stored, dst)
	}
	good, bad, err := r.ask(replica.TypeReadData, pl.extent, off, stored, func() error { return e.decodeRows(pl.volume, rows, comp, stored, dst) })
	if len(bad) > 0 {
		e.mu.Lock()
		e.stats.BadPages += uint64(len(bad))
		e.mu.Unlock()
	}
	if err != nil {
		return err
	}
	if len(bad) > 0 {
		e.repairLater(pl.extent, bad, good, off, size)
	}
	if e.Local(good) == nil {
		e.keepPages(a, dst)
	}
	return nil
}

// keepPages caches pages that came from another node. What lies on this node's own disk is in the kernel's cache.
func (e *Engine) keepPages(a blockmap.Addr, plain []byte) {
	for i := 0; i < len(plain); i += block.PageSize {
		page := new([block.PageSize]byte)
		copy(page[:], plain[i:])
		e.Cache.Put(e.pageKey(a+blockmap.Addr(i/block.PageSize)), page, block.PageSize)
	}
}

// decodeRows checks stored pages against their rows and puts the plain ones into dst; stored may be dst itself.
func (e *Engine) decodeRows(v block.VolumeID, rows []block.Row, comp block.Compression, stored, dst []byte) error {
	if len(stored) > 0 && &stored[0] == &dst[0] {
		return checkPages(rows, dst)
	}
	for i := range rows {
		n := int(rows[i].Len)
		if err := e.codec.open(v, &rows[i], comp, stored[:n], dst[i*block.PageSize:(i+1)*block.PageSize]); err != nil {
			return err
		}
		stored = stored[n:]
	}
	return nil
}

// checkPages checks whole pages against their rows, two at a time.
func checkPages(rows []block.Row, pages []byte) error {
	for len(rows) > 1 {
		a, b := block.SumPair(pages[:block.PageSize], pages[block.PageSize:2*block.PageSize])
		if a != rows[0].Leaf || b != rows[1].Leaf {
			return fmt.Errorf("page %d or the one behind it (seq %d): %w", rows[0].Addr, rows[0].Seq, block.ErrMismatch)
		}
		rows, pages = rows[2:], pages[2*block.PageSize:]
	}
	if len(rows) == 0 {
		return nil
	}
	return rows[0].Check(pages[:block.PageSize])
}

// errElsewhere is what a local read ends with when no store of this process has the page.
var errElsewhere = fmt.Errorf("no store at hand: %w", replica.ErrNotHeld)

// worse keeps the error that says more of why a page is not found: a store that does not answer may have it; a mismatch
// tells of damage; one that holds it no more, that it may have moved; one whose disk fails tells of itself only. No error says nothing:
// what was found wrong stays found.
func worse(a, b error) error {
	if b != nil && (a == nil || weight(b) > weight(a)) {
		return b
	}
	return a
}

func weight(err error) int {
	switch {
	case err == errElsewhere:
		return 0
	case errors.Is(err, replica.ErrUnreachable):
		return 4
	case errors.Is(err, block.ErrMismatch):
		return 3
	case errors.Is(err, replica.ErrNotHeld), errors.Is(err, replica.ErrBusy):
		return 2
	}
	return 1
}

// reader is one way to read: from all replicas, or only what this process has at hand.
type reader struct {
	e     *Engine
	local bool    // never wait for another node
	turn  Turn    // nil: never wait for a disk either
	waits bool    // the store at hand is known to have to be waited for
	later *checks // pages that may be checked with others; nil: each is checked where it is read
}

// order lists where to read an extent, best first: see sources.
func (r reader) order(x block.ExtentID) []block.StoreID {
	from := r.sources(x)
	out := make([]block.StoreID, len(from))
	for i := range from {
		out[i] = from[i].store
	}
	return out
}

// readStream reads from a store of this process directly, else by message.
func (e *Engine) readStream(s block.StoreID, typ replica.Type, x block.ExtentID, off uint32, p []byte) error {
	l := e.Local(s)
	if l == nil {
		return e.Client.Read(s, typ, x, off, p)
	}
	var err error
	if typ == replica.TypeReadLog {
		err = l.ReadLog(x, off, p)
	} else {
		err = l.ReadData(x, off, p)
	}
	if err != nil {
		return replica.LocalError(err)
	}
	return nil
}
