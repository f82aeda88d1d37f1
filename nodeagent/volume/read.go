package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// Read fills p with the content at off. It waits for replicas as long as there is hope; wrong bytes are never returned:
// if no replica has the right ones the answer is EIO.
func (e *Engine) Read(p []byte, off int64) error {
	page, pages, err := e.pageRange(off, int64(len(p)))
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.stats.Reads++
	e.stats.ReadBytes += uint64(len(p))
	e.mu.Unlock()
	deadline := time.Duration(0)
	for {
		err := reader{e: e}.readPages(page, pages, p)
		if err == nil {
			return nil
		}
		if ferr := e.Err(); ferr != nil {
			return ferr
		}
		if !transient(err) {
			return eio(fmt.Errorf("volume %s page %d+%d: %w", e.spec.ID, page, pages, err))
		}
		now := e.Env.Now()
		if deadline == 0 {
			deadline = now + readPatience
		}
		if now > deadline && !errors.Is(err, replica.ErrUnreachable) {
			return eio(fmt.Errorf("volume %s page %d+%d: %w", e.spec.ID, page, pages, err))
		}
		e.refreshAncestors()
		e.Env.Sleep(retryPause)
	}
}

// TryRead is Read if that needs no other node: ok = false means that nothing was decided.
func (e *Engine) TryRead(p []byte, off int64) (ok bool, err error) {
	page, pages, err := e.pageRange(off, int64(len(p)))
	if err != nil {
		return true, err
	}
	if err := e.Err(); err != nil {
		return true, err
	}
	if pages > maxGather {
		return false, nil
	}
	if err := (reader{e, true}).readSome(page, p); err != nil {
		return false, nil
	}
	e.mu.Lock()
	e.stats.Reads++
	e.stats.ReadBytes += uint64(len(p))
	e.mu.Unlock()
	return true, nil
}

// readPatience is how long a read is tried again when replicas answer but none has the page: a block may just be
// moving. While replicas do not answer at all it waits for them.
const readPatience = 10 * time.Second

func transient(err error) bool {
	return errors.Is(err, replica.ErrUnreachable) || errors.Is(err, replica.ErrNotHeld) || errors.Is(err, replica.ErrBusy)
}

// maxGather is how many pages one pass resolves.
const maxGather = 256

// readPages reads a range in passes.
func (r reader) readPages(page, pages uint64, p []byte) error {
	for pages > 0 {
		n := min(pages, maxGather)
		if err := r.readSome(page, p[:n*block.PageSize]); err != nil {
			return err
		}
		page, pages, p = page+n, pages-n, p[n*block.PageSize:]
	}
	return nil
}

func (r reader) readSome(first uint64, p []byte) error {
	e := r.e
	n := len(p) / block.PageSize
	var addrs [maxGather]blockmap.Addr
	var known [maxGather]bool // in p already, or address known
	var done [maxGather]bool  // in p already
	e.mu.RLock()
	root := e.view.root
	left := e.readRing(first, p, known[:n], done[:n])
	for _, l := range e.view.layers {
		if left == 0 {
			break
		}
		left -= overlayRange(l.edits, first, addrs[:n], known[:n])
	}
	e.mu.RUnlock()
	for i := 0; i < n && left > 0; {
		if known[i] {
			i++
			continue
		}
		j := i
		for j < n && !known[j] {
			j++
		}
		if err := blockmap.LookupRange(r, root, first+uint64(i), addrs[i:j]); err != nil {
			return fmt.Errorf("map: %w", err)
		}
		left -= j - i
		i = j
	}
	for i := 0; i < n; {
		if done[i] {
			i++
			continue
		}
		j := i + 1
		for j < n && !done[j] && addrs[i] != 0 && addrs[j] == addrs[i]+blockmap.Addr(j-i) {
			j++
		}
		dst := p[i*block.PageSize : j*block.PageSize]
		if addrs[i] == 0 {
			clear(dst)
		} else if err := r.fetch(addrs[i], j-i, dst); err != nil {
			return err
		}
		i = j
	}
	return nil
}

// overlayRange looks up what is not known yet, and returns how many pages it found.
func overlayRange(o *blockmap.Overlay, first uint64, addrs []blockmap.Addr, known []bool) (found int) {
	if o.Len() == 0 {
		return 0
	}
	for i := range addrs {
		if known[i] {
			continue
		}
		if a, ok := o.Lookup(first + uint64(i)); ok {
			addrs[i], known[i] = a, true
			found++
		}
	}
	return found
}

// readRing copies pages that are in the ring and returns how many are left. The caller holds mu.
func (e *Engine) readRing(first uint64, p []byte, known, done []bool) (left int) {
	left = len(known)
	if len(e.pending) == 0 && len(e.ringDiscards) == 0 {
		return left
	}
	for i := range known {
		page := first + uint64(i)
		dst := p[i*block.PageSize : (i+1)*block.PageSize]
		if w, ok := e.pending[page]; ok {
			if s, ok := e.ring.Get(w); ok && s.Op == ring.OpWrite {
				copy(dst, s.Payload[(page-s.Page)*block.PageSize:])
				known[i], done[i] = true, true
				left--
				continue
			}
		}
		if len(e.ringDiscards) > 0 && e.discardedAfter(page, 0) != 0 {
			clear(dst)
			known[i], done[i] = true, true
			left--
		}
	}
	return left
}

// place is where the pages of one block lie.
type place struct {
	volume  block.VolumeID // birth volume: extent and block number are its
	extent  block.ExtentID
	dataOff uint32
	page    uint8 // resolved page within the physical block
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
	for range 3 {
		var b blockmap.BlockEntry
		if gen == 0 {
			e.mu.RLock()
			open := e.openBlocks[number]
			if open != nil && open.ordinal != 0 && int(page) < int(open.header.Rows) {
				x := e.cat.extents[open.ordinal]
				e.mu.RUnlock()
				return place{volume: v, extent: extentID(v, &x), dataOff: open.dataOff, page: page, number: number, open: open}, nil
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
			return place{volume: v, extent: extentID(v, &x), dataOff: b.DataOff, page: page, number: number, gen: gen, entry: b}, nil
		case blockmap.KindMoved:
			var ok bool
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
	if int(ordinal) >= len(cat.extents) || cat.extents[ordinal].State == blockmap.ExtentNone {
		return x, fmt.Errorf("extent ordinal %d is not in the directory: %w", ordinal, replica.ErrNotHeld)
	}
	return cat.extents[ordinal], nil
}

// fetch reads n pages at consecutive addresses from a on, from the cache or from replicas, checked, into dst.
func (r reader) fetch(a blockmap.Addr, n int, dst []byte) error {
	e := r.e
	for n > 0 {
		if v, ok := e.Cache.Get(e.pageKey(a)); ok {
			copy(dst, v.(*[block.PageSize]byte)[:])
			a, n, dst = a+1, n-1, dst[block.PageSize:]
			continue
		}
		got, err := r.fetchRun(a, n, dst)
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

// fetchRun reads as many of n pages as lie together, at least one.
func (r reader) fetchRun(a blockmap.Addr, n int, dst []byte) (int, error) {
	e := r.e
	pl, err := r.locate(a)
	if err != nil {
		return 0, err
	}
	var table *block.Table
	var rows []block.Row
	var off uint32
	comp := e.codec.compression
	if pl.open != nil {
		e.mu.RLock()
		first := int(pl.page)
		n = min(n, int(pl.open.header.Rows)-first)
		rows = make([]block.Row, n)
		for i := range rows {
			rows[i] = block.GetRow(pl.open.rows[(first+i)*block.RowSize:])
		}
		off = pl.dataOff + pl.open.offs[first]
		e.mu.RUnlock()
	} else {
		if table, err = r.table(&pl); err != nil {
			return 0, err
		}
		first := int(pl.page)
		if first >= len(table.Rows) {
			return 0, fmt.Errorf("address %s beyond block of %d pages: %w", a, len(table.Rows), block.ErrFormat)
		}
		if pl.number != a.Block() {
			n = 1 // moved: neighbours may lie elsewhere
		}
		n = min(n, len(table.Rows)-first)
		rows, off, comp = table.Rows[first:first+n], pl.dataOff+table.Offs[first], table.Header.Compression
	}
	return n, r.readRows(&pl, rows, off, comp, a, dst[:n*block.PageSize])
}

// readRows reads stored pages that lie back to back and turns them into plain ones. Replicas are asked in turn until
// every page matches its row; what a replica had wrong is repaired from one that has it right.
func (r reader) readRows(pl *place, rows []block.Row, off uint32, comp block.Compression, a blockmap.Addr, dst []byte) error {
	e := r.e
	size := 0
	for i := range rows {
		size += int(rows[i].Len)
	}
	stored := dst
	if size != len(dst) || rows[0].Key != 0 {
		stored = make([]byte, size)
	}
	var bad []block.StoreID
	last := errElsewhere
	for _, s := range r.order(pl.extent) {
		if size > 0 {
			if err := e.readStream(s, replica.TypeReadData, pl.extent, off, stored[:size]); err != nil {
				last = worse(last, err)
				continue
			}
		}
		if err := e.decodeRows(pl.volume, rows, comp, stored[:size], a, dst); err != nil {
			last = worse(last, fmt.Errorf("store %s: %w", s, err))
			bad = append(bad, s)
			e.mu.Lock()
			e.stats.BadPages++
			e.mu.Unlock()
			continue
		}
		if len(bad) > 0 {
			e.repairLater(pl.extent, bad, s, off, size)
		}
		return nil
	}
	return last
}

// errElsewhere is what a local read ends with when no store of this process has the page.
var errElsewhere = fmt.Errorf("no store at hand: %w", replica.ErrNotHeld)

// worse keeps the error that says more: a mismatch before not answering before not holding.
func worse(a, b error) error {
	if a == errElsewhere || errors.Is(b, replica.ErrUnreachable) || (errors.Is(b, block.ErrMismatch) && !errors.Is(a, replica.ErrUnreachable)) {
		return b
	}
	return a
}

func (e *Engine) decodeRows(v block.VolumeID, rows []block.Row, comp block.Compression, stored []byte, a blockmap.Addr, dst []byte) error {
	same := len(stored) == len(dst) && len(dst) > 0 && &stored[0] == &dst[0]
	for i := range rows {
		n := int(rows[i].Len)
		d := dst[i*block.PageSize : (i+1)*block.PageSize]
		if same {
			if err := rows[i].Check(d); err != nil {
				return err
			}
		} else if err := e.codec.open(v, &rows[i], comp, stored[:n], d); err != nil {
			return err
		}
		stored = stored[n:]
		page := new([block.PageSize]byte)
		copy(page[:], d)
		e.Cache.Put(e.pageKey(a+blockmap.Addr(i)), page, block.PageSize)
	}
	return nil
}

// reader is one way to read: from all replicas, or only from what this process has at hand.
type reader struct {
	e     *Engine
	local bool // never wait for another node
}

// order lists where to read an extent: stores of this process first, then who is known to hold it, then everybody.
func (r reader) order(x block.ExtentID) []block.StoreID {
	e := r.e
	all := e.whoHolds(x)
	out := make([]block.StoreID, 0, len(all))
	for _, s := range all {
		if e.Local(s) != nil {
			out = append(out, s)
		}
	}
	if r.local {
		return out
	}
	for _, alive := range []bool{true, false} {
		for _, s := range all {
			if e.Local(s) == nil && e.believedAlive(s) == alive {
				out = append(out, s)
			}
		}
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

// table gets the verified leaf table of a sealed block.
func (r reader) table(pl *place) (*block.Table, error) {
	e := r.e
	key := CacheKey{Owner: e.owner, Kind: cacheTable, A: uint64(pl.gen)<<40 | pl.number}
	if v, ok := e.Cache.Get(key); ok {
		return v.(*block.Table), nil
	}
	b := &pl.entry
	h := block.Header{Type: b.Type, Encryption: b.Encryption, Compression: b.Compression, Rows: b.Rows, Payload: b.Payload, Volume: pl.volume, Number: pl.number}
	seal := journal.Seal{Header: h, DataOff: b.DataOff, LogOff: b.LogOff, LogLen: b.LogLen, ID: b.ID}
	log := make([]byte, b.LogLen)
	last := errElsewhere
	var bad []block.StoreID
	for _, s := range r.order(pl.extent) {
		if err := e.readStream(s, replica.TypeReadLog, pl.extent, b.LogOff, log); err != nil {
			last = worse(last, err)
			continue
		}
		rows, err := seal.BlockRows(log)
		var t *block.Table
		if err == nil {
			t, err = block.NewTable(h, rows, b.ID)
		}
		if err != nil {
			last = worse(last, fmt.Errorf("store %s: %w", s, errors.Join(err, block.ErrMismatch)))
			bad = append(bad, s)
			continue
		}
		if len(bad) > 0 {
			e.repairLog(pl.extent, bad, b.LogOff, log)
		}
		e.Cache.Put(key, t, len(rows)*2)
		return t, nil
	}
	return nil, fmt.Errorf("leaf table of block %d: %w", pl.number, last)
}

// repairLater writes the right bytes over a wrong copy, in the background. The replica checks them again.
func (e *Engine) repairLater(x block.ExtentID, bad []block.StoreID, good block.StoreID, off uint32, size int) {
	e.start("repair", func() {
		right := make([]byte, size)
		if err := e.readStream(good, replica.TypeReadData, x, off, right); err != nil {
			return
		}
		for _, s := range bad {
			e.repaired(s, x, e.Client.Repair(s, e.epochNow(), x, off, true, right))
		}
	})
}

func (e *Engine) repairLog(x block.ExtentID, bad []block.StoreID, off uint32, right []byte) {
	right = append([]byte(nil), right...)
	e.start("repair", func() {
		for _, s := range bad {
			e.repaired(s, x, e.Client.Repair(s, e.epochNow(), x, off, false, right))
		}
	})
}

func (e *Engine) repaired(s block.StoreID, x block.ExtentID, err error) {
	if err != nil {
		e.Logf("volume %s: repairing extent %s on store %s: %v", e.spec.ID, x, s, err)
		return
	}
	e.mu.Lock()
	e.stats.Repaired++
	e.mu.Unlock()
	e.Logf("volume %s: store %s had wrong bytes of extent %s; repaired from a good copy", e.spec.ID, s, x)
}

// Node implements blockmap.Pager: it reads map nodes.
func (r reader) Node(a blockmap.Addr) ([]byte, error) {
	if page := r.e.pinned(pinKey{a: uint64(a)}); page != nil {
		return page, nil
	}
	if v, ok := r.e.Cache.Get(r.e.pageKey(a)); ok {
		return v.(*[block.PageSize]byte)[:], nil
	}
	page := make([]byte, block.PageSize)
	if err := r.fetch(a, 1, page); err != nil {
		return nil, fmt.Errorf("map node %s: %w", a, err)
	}
	return page, nil
}

// refPager reads pages of the block table and the extent directory of one volume.
type refPager struct {
	reader
	v block.VolumeID
}

// Page implements blockmap.RefPager.
func (p refPager) Page(r journal.Ref) ([]byte, error) {
	e := p.e
	place := r.Epoch<<32 | uint64(r.N)
	if page := e.pinned(pinKey{a: place, b: uint64(r.Off), ref: true}); page != nil && p.v == e.spec.ID {
		return page, nil
	}
	key := CacheKey{Owner: e.owner ^ binary.LittleEndian.Uint64(p.v[:]), Kind: cacheRef, A: place, B: uint64(r.Off)}
	if v, ok := e.Cache.Get(key); ok {
		return v.(*[block.PageSize]byte)[:], nil
	}
	x := block.ExtentID{Volume: p.v, Epoch: r.Epoch, N: r.N}
	page := new([block.PageSize]byte)
	last := errElsewhere
	var bad []block.StoreID
	for _, s := range p.order(x) {
		if err := e.readStream(s, replica.TypeReadData, x, r.Off, page[:]); err != nil {
			last = worse(last, err)
			continue
		}
		if block.Sum(page[:]) != r.Leaf {
			last = worse(last, fmt.Errorf("store %s: %w", s, block.ErrMismatch))
			bad = append(bad, s)
			continue
		}
		if len(bad) > 0 {
			e.repairLater(x, bad, s, r.Off, block.PageSize)
		}
		e.Cache.Put(key, page, block.PageSize)
		return page[:], nil
	}
	return nil, fmt.Errorf("index page at %s+%d: %w", x, r.Off, last)
}
