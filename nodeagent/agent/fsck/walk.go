package fsck

import (
	"errors"
	"fmt"
	"sync"
	"time"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/peer/grant"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// catalog is a volume's directory and table, as its checkpoint has them.
type catalog struct {
	*view
	extents map[uint32]blockmap.ExtentEntry
	table   blockmap.Array
	tables  map[uint64]*block.Table // leaf tables that were checked
	failed  map[uint64]error
}

// leafTables bounds the leaf tables that a walk keeps.
const leafTables = 4096

func (w *view) catalog() (*catalog, error) {
	k := &catalog{view: w, extents: map[uint32]blockmap.ExtentEntry{}, tables: map[uint64]*block.Table{}, failed: map[uint64]error{}}
	k.table = blockmap.Array{Pager: k, Root: w.checkpoint.Table, Size: blockmap.BlockEntrySize}
	dir := blockmap.Array{Pager: k, Root: w.checkpoint.Dir, Size: blockmap.ExtentEntrySize}
	return k, dir.Walk(0, func(i uint64, b []byte) error {
		e, err := blockmap.GetExtentEntry(b)
		k.extents[uint32(i)] = e
		return err
	})
}

// Page implements blockmap.RefPager.
func (k *catalog) Page(r journal.Ref) ([]byte, error) {
	id := block.ExtentID{Volume: k.volume, Epoch: r.Epoch, N: r.N}
	return k.page(kindTable, id, r.Off, block.PageSize, func(p []byte) error {
		if block.Sum(p) != r.Leaf {
			return block.ErrMismatch
		}
		return nil
	})
}

func (k *catalog) entry(number uint64) (blockmap.BlockEntry, error) {
	var b [blockmap.BlockEntrySize]byte
	if err := k.table.Get(number, b[:]); err != nil {
		return blockmap.BlockEntry{}, err
	}
	return blockmap.GetBlockEntry(b[:])
}

// place says where a page is.
type place struct {
	entry  blockmap.BlockEntry
	extent block.ExtentID
	table  *block.Table
	page   uint8
}

// locate finds a page by its block and place in it, through a move if there was one.
func (k *catalog) locate(number uint64, page uint8) (p place, err error) {
	e, err := k.entry(number)
	if err == nil && e.Kind == blockmap.KindMoved {
		var ok bool
		if number, page, ok = e.Resolve(page); !ok {
			return p, fmt.Errorf("page %d did not survive a move", page)
		}
		e, err = k.entry(number)
	}
	switch {
	case err != nil:
		return p, err
	case e.Kind != blockmap.KindPhysical:
		return p, fmt.Errorf("block %d is not in the table", number)
	case uint16(page) >= e.Rows:
		return p, fmt.Errorf("block %d has %d pages, not page %d", number, e.Rows, page)
	}
	x, ok := k.extents[e.Extent]
	if !ok || x.State == blockmap.ExtentFreed {
		return p, fmt.Errorf("block %d lies in extent %d, which is freed or not in the directory", number, e.Extent)
	}
	p = place{entry: e, extent: block.ExtentID{Volume: k.volume, Epoch: x.Epoch, N: x.N}, page: page}
	p.table, err = k.leafTable(number, &p)
	return p, err
}

// leafTable reads a block's leaf table from the log and checks it against the block's id.
func (k *catalog) leafTable(number uint64, p *place) (*block.Table, error) {
	if t, ok := k.tables[number]; ok {
		return t, nil
	}
	if err, ok := k.failed[number]; ok {
		return nil, err
	}
	if err := k.report.step(int64(p.entry.LogLen)); err != nil {
		return nil, err
	}
	e := &p.entry
	h := block.Header{Type: e.Type, Encryption: e.Encryption, Compression: e.Compression, Rows: e.Rows, Payload: e.Payload, Volume: k.volume, Number: number}
	s := journal.Seal{Header: h, DataOff: e.DataOff, LogOff: e.LogOff, LogLen: e.LogLen, ID: e.ID}
	err := fmt.Errorf("leaf table of block %d in extent %s: %w", number, p.extent, errNowhere)
	for _, r := range k.held[p.extent] {
		log := make([]byte, e.LogLen)
		t, rerr := (*block.Table)(nil), k.c.client.Read(r.store, replica.TypeReadLog, p.extent, e.LogOff, log)
		if rerr == nil {
			var rows []byte
			if rows, rerr = s.BlockRows(log); rerr == nil {
				t, rerr = block.NewTable(h, rows, e.ID)
			}
		}
		if rerr == nil {
			if len(k.tables) >= leafTables {
				clear(k.tables)
			}
			k.tables[number] = t
			return t, nil
		}
		err = errors.Join(err, rerr)
	}
	k.failed[number] = err
	return nil, err
}

// walker walks the maps of a volume, with its ancestors' catalogues.
type walker struct {
	own     *catalog
	lineage []*catalog // by generation, the volume itself first
	seen    map[blockmap.Addr]bool
}

// node addresses within row addresses: see the engine's index rows.
const rowTree = uint64(3) << 62

func (w *walker) catalogOf(a blockmap.Addr) (*catalog, error) {
	if int(a.Gen()) >= len(w.lineage) || w.lineage[a.Gen()] == nil {
		return nil, fmt.Errorf("%s: generation beyond the volume's %d ancestors", a, len(w.lineage)-1)
	}
	return w.lineage[a.Gen()], nil
}

// Node implements blockmap.Pager: every replica's page is checked.
func (w *walker) Node(a blockmap.Addr) ([]byte, error) {
	k, err := w.catalogOf(a)
	if err != nil {
		return nil, err
	}
	p, err := k.locate(a.Block(), a.Page())
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", a, err)
	}
	row := &p.table.Rows[p.page]
	if p.entry.Type != block.TypeIndex || row.Addr&rowTree != 0 {
		return nil, fmt.Errorf("node %s: block %d holds no nodes of a map: %w", a, a.Block(), blockmap.ErrFormat)
	}
	return k.page(kindMap, p.extent, p.entry.DataOff+p.table.Offs[p.page], int(row.Len), func(b []byte) error { return row.Check(b) })
}

// data checks what a map says of a page of content.
func (w *walker) data(page uint64, a blockmap.Addr) error {
	k, err := w.catalogOf(a)
	if err != nil {
		return err
	}
	p, err := k.locate(a.Block(), a.Page())
	if err != nil {
		return err
	}
	if row := &p.table.Rows[p.page]; row.Addr != page || p.entry.Type != block.TypeData {
		return fmt.Errorf("%s holds page %d", a, row.Addr)
	}
	return nil
}

// walk checks all that the latest checkpoint names, and the replicas of every extent. It returns what is wrong.
func (w *view) walk(replicas int) ([]*agentv1.Finding, error) {
	var own *catalog
	if w.found {
		var err error
		if own, err = w.catalog(); err != nil {
			w.bad(kindTable, block.ExtentID{}, "extent directory: %v", err)
		} else if err := w.maps(own); err != nil {
			return nil, err
		}
	}
	w.copies(own, replicas)
	return w.problem, w.ctx.Err()
}

func (w *view) maps(own *catalog) error {
	k := &walker{own: own, lineage: []*catalog{own}, seen: map[blockmap.Addr]bool{}}
	for _, v := range w.checkpoint.Lineage {
		a, err := w.ancestor(v)
		if err != nil {
			w.bad(kindReference, block.ExtentID{}, "ancestor %s: %v", v, err)
		}
		k.lineage = append(k.lineage, a)
	}
	w.blocks(own)
	roots := []journal.SnapshotRoot{{Root: w.checkpoint.Map}}
	roots = append(roots, w.checkpoint.Snapshots...)
	for i := range roots {
		what := "the volume's map"
		if i > 0 {
			what = fmt.Sprintf("the map of snapshot %q", roots[i].Name)
		}
		if err := k.root(roots[i].Root, what); err != nil {
			return err
		}
		for _, c := range k.lineage[1:] {
			if c != nil { // what is wrong with an ancestor's pages is this volume's trouble
				w.problem = append(w.problem, c.problem...)
				c.problem = nil
			}
		}
	}
	return nil
}

// root walks one tree; nodes that were walked before are passed over. The error is the context's.
func (w *walker) root(root journal.MapRoot, what string) error {
	err := blockmap.Walk(w, root, func(a blockmap.Addr, _ uint8, _ uint64) (bool, error) {
		if w.seen[a] {
			return false, nil
		}
		w.seen[a] = true
		return true, w.own.ctx.Err()
	}, func(page uint64, a blockmap.Addr) error {
		if err := w.data(page, a); err != nil {
			w.own.bad(kindReference, block.ExtentID{}, "%s, page %d: %v", what, page, err)
		}
		return w.own.ctx.Err()
	})
	if err != nil && w.own.ctx.Err() == nil {
		w.own.bad(kindMap, block.ExtentID{}, "%s: %v", what, err)
	}
	return w.own.ctx.Err()
}

// ancestor loads another volume's catalogue.
func (w *view) ancestor(v block.VolumeID) (*catalog, error) {
	if err := w.c.opt.Grants.Ensure(w.ctx, v, grant.Read); err != nil {
		return nil, err
	}
	f, err := w.c.opt.Registry.Load(v)
	if err != nil {
		return nil, err
	}
	a, err := w.c.look(w.ctx, v, f.Anchor.Extent)
	if err != nil {
		return nil, err
	}
	a.report = w.report
	if !a.found {
		return nil, fmt.Errorf("it has no checkpoint: %w", errNowhere)
	}
	return a.catalog()
}

// blocks checks every entry of the block table.
func (w *view) blocks(k *catalog) {
	err := k.table.Walk(0, func(i uint64, b []byte) error {
		e, err := blockmap.GetBlockEntry(b)
		if err != nil {
			return err
		}
		if e.Kind != blockmap.KindPhysical || e.Live == 0 {
			return w.ctx.Err()
		}
		if _, err := k.locate(i, 0); err != nil {
			w.bad(kindBlock, block.ExtentID{}, "block %d: %v", i, err)
		}
		return w.ctx.Err()
	})
	if err != nil && w.ctx.Err() == nil {
		w.bad(kindTable, block.ExtentID{}, "block table: %v", err)
	}
}

// copies checks that every extent that is named has its replicas.
func (w *view) copies(k *catalog, replicas int) {
	inChain := map[block.ExtentID]bool{}
	for _, x := range w.chain {
		inChain[x.id] = true
		w.whole(x.id, x.chain.Seq, x.chain.Hash, replicas)
	}
	if k == nil {
		return
	}
	for _, e := range k.extents {
		id := block.ExtentID{Volume: w.volume, Epoch: e.Epoch, N: e.N}
		if e.State == blockmap.ExtentClosed && !inChain[id] {
			w.whole(id, e.LastSeq, e.LastHash, replicas)
		}
	}
}

// A replica that is behind is asked again, as it may be about to catch up: so often in one walk, so far apart.
const (
	askAgain = 10
	askPause = 200 * time.Millisecond
)

// whole checks that replicas of an extent reach a record.
func (w *view) whole(id block.ExtentID, seq uint64, hash block.Hash, replicas int) {
	n := 0
	for {
		n = 0
		for _, h := range w.held[id] {
			if c := &h.state.Chain; c.Seq > seq || c.Seq == seq && c.Hash == hash {
				n++
			}
		}
		if n >= replicas {
			return
		}
		if w.asked == askAgain {
			break
		}
		w.asked++
		select {
		case <-time.After(askPause):
		case <-w.ctx.Done():
			return
		}
		w.askAgain(id)
	}
	w.bad(kindReplicas, id, "%d of %d replicas are whole", n, replicas)
}

// askAgain asks all stores anew for one extent.
func (w *view) askAgain(id block.ExtentID) {
	var mu sync.Mutex
	var now []holding
	w.c.each(func(s block.StoreID) {
		if st, err := w.c.client.Stat(s, id); err == nil && st.Held {
			mu.Lock()
			now = append(now, holding{s, st})
			mu.Unlock()
		}
	})
	inOrder(now)
	w.held[id] = now
}
