package volume

import (
	"errors"
	"fmt"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// Checkpoint merges what the overlays hold into the map, writes the changed nodes, and makes a root durable from which
// the volume opens without replaying what came before.
func (e *Engine) Checkpoint() error {
	return e.again(func(bool) error {
		if err := e.exclusive(); err != nil {
			return err
		}
		defer e.release()
		return e.checkpointNow(nil)
	})
}

// checkpointNow makes a checkpoint; change, if not nil, edits what it says before it is written. The caller has the
// exclusive right. Order (invariant C1): data blocks sealed, map nodes, block table, directory, then the record that
// names them; the former checkpoint stays in force until the record is durable at a quorum. What it has taken of the
// overlays, the table and the directory is kept until then: if it fails, the next one takes it (invariant C4).
func (e *Engine) checkpointNow(change func(c *journal.Checkpoint)) error {
	c, frozen, bytes, err := e.freezeAll()
	if err != nil {
		return err
	}
	w := &indexWriter{e: e}
	defer e.unpin()
	if err := w.writeAll(&c, frozen, change); err != nil {
		e.mu.Lock()
		e.dirty += bytes
		e.mu.Unlock()
		return err
	}
	e.moveAnchor()
	return e.countCuts(w.cuts)
}

// writeAll writes what a checkpoint names, then the checkpoint, and makes it the present one.
func (w *indexWriter) writeAll(c *journal.Checkpoint, frozen []*layer, change func(c *journal.Checkpoint)) error {
	e := w.e
	if err := w.mergeMap(c, frozen); err != nil {
		return fmt.Errorf("merging the map: %w", err)
	}
	e.mu.Lock()
	e.view = view{root: c.Map, layers: e.view.layers[:len(e.view.layers)-len(frozen)]}
	// Before anything is counted as dropped: it may be theirs (invariant G4). A copy, as change edits c before it is durable (invariant C4).
	e.snapshots = slices.Clone(c.Snapshots)
	for _, a := range w.drops {
		e.dropOld(a)
	}
	blocks := e.cat.blockChanges()
	e.mu.Unlock()
	if err := w.mergeTable(c, blocks); err != nil {
		return fmt.Errorf("merging the block table: %w", err)
	}
	e.mu.Lock()
	extents := e.cat.extentChanges()
	e.mu.Unlock()
	if err := w.mergeDir(c, extents); err != nil {
		return fmt.Errorf("merging the extent directory: %w", err)
	}
	if change != nil {
		change(c)
	}
	if err := e.writeCheckpoint(c); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.view.root, e.snapshots, e.pages = c.Map, c.Snapshots, c.Pages
	e.root(c.Snapshots)
	e.cat.table, e.cat.dir = c.Table, c.Dir
	e.cat.blocksMerged(blocks)
	e.cat.extentsMerged(e.spec.ID, extents, e.weak())
	e.lastCheck = e.Env.Now()
	e.stats.Checkpoints++
	e.tidy.tight.check = w.bytes
	return nil
}

// freezeAll seals the open block, ends the present layer, and notes where replay starts. bytes is what e.dirty was.
func (e *Engine) freezeAll() (c journal.Checkpoint, frozen []*layer, bytes int64, err error) {
	if err := e.lockFor(journal.HeaderSize+256, 0); err != nil {
		return c, nil, 0, err
	}
	defer e.jmu.Unlock()
	e.sealBlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.freeze(nil)
	bytes, e.dirty = e.dirty, 0
	frozen = e.view.layers[1:]
	c = journal.Checkpoint{Pages: e.pages, Map: e.view.root, Table: e.cat.table, Dir: e.cat.dir, NextBlock: e.nextBlock, WSeq: e.pumped,
		Lineage: e.lineage, Snapshots: append([]journal.SnapshotRoot(nil), e.snapshots...),
		Replay: journal.Position{Extent: e.log.extent, LogOff: e.log.chain.LogLen, Seq: e.log.chain.Seq + 1, Members: e.holders[e.log.extent]}}
	return c, frozen, bytes, nil
}

// dropOld counts a page or node that the new root no longer names, unless a snapshot may. The caller holds mu.
func (e *Engine) dropOld(a blockmap.Addr) {
	if a.Gen() != 0 {
		return
	}
	for i := range e.snapshots {
		if a.Block() < e.snapshots[i].NextBlock {
			return
		}
	}
	e.cat.drop(a.Block())
	e.tidy.garbage += block.PageSize
}

// indexWriter writes what merges emit: map nodes many to a block, pages of the table and the directory many to a record.
type indexWriter struct {
	e     *Engine
	block *openBlock
	rows  []byte
	pages [][]byte
	bytes int64  // that it has written
	pager uint64 // the number that all pages of table and directory have as their block's; 0: none yet
	drops []blockmap.Addr
	cuts  []journal.MapRoot
}

// wrote notes that so many bytes of it are in the journal.
func (w *indexWriter) wrote(bytes int64) {
	w.bytes += bytes
	w.e.wroteIndex(bytes)
}

func (w *indexWriter) mergeMap(c *journal.Checkpoint, frozen []*layer) error {
	for i := len(frozen) - 1; i >= 0; i-- {
		l := frozen[i]
		w.e.mu.Lock()
		edits := l.edits.Sorted()
		w.e.mu.Unlock()
		root, err := blockmap.Merge(reader{e: w.e}, c.Map, edits, blockmap.Sink{
			Emit: w.emitNode,
			Drop: func(a blockmap.Addr) { w.drops = append(w.drops, a) },
			Cut: func(a blockmap.Addr, level uint8) {
				w.cuts = append(w.cuts, journal.MapRoot{Addr: uint64(a), Levels: level})
			},
		})
		if err != nil {
			return err
		}
		c.Map = root
		if l.snapshot != nil {
			w.e.mu.RLock()
			next := w.e.nextBlock
			w.e.mu.RUnlock()
			c.Snapshots = append(c.Snapshots, journal.SnapshotRoot{Snapshot: *l.snapshot, Root: root, Pages: l.pages, NextBlock: next})
		}
	}
	return w.flush()
}

func indexRow(e *Engine, page []byte, addr uint64, idx int) block.Row {
	epoch := e.epochNow()
	return block.Row{Leaf: block.Sum(page), Addr: addr, Epoch: epoch.Number, Token: epoch.Token, Idx: uint16(idx), Len: block.PageSize}
}

// what the address of an index row says: which tree, level, index.
const (
	rowMap   = uint64(0) << 62
	rowTable = uint64(1) << 62
	rowDir   = uint64(2) << 62
)

func rowAddr(tree uint64, level uint8, index uint64) uint64 { return tree | uint64(level)<<56 | index }

func (w *indexWriter) emitNode(node []byte, level uint8, index uint64) (blockmap.Addr, error) {
	if w.block == nil {
		w.e.jmu.Lock()
		w.block = w.e.newBlock(block.TypeIndex, block.EncryptionNone, block.CompressionNone)
		w.e.jmu.Unlock()
	}
	i := len(w.pages)
	page := append([]byte(nil), node...)
	row := indexRow(w.e, page, rowAddr(rowMap, level, index), i)
	n := len(w.rows)
	w.rows = append(w.rows, make([]byte, block.RowSize)...)
	row.Put(w.rows[n:])
	w.pages = append(w.pages, page)
	a := blockmap.New(0, w.block.header.Number, uint8(i))
	w.e.pin(pinKey{a: uint64(a)}, page)
	if len(w.pages) == journal.MaxRecordPages {
		return a, w.flush()
	}
	return a, nil
}

// flush writes the gathered nodes as one record and seals their block.
func (w *indexWriter) flush() error {
	if w.block == nil {
		return nil
	}
	if err := w.e.lockFor(journal.HeaderSize+len(w.rows), len(w.pages)*block.PageSize); err != nil {
		return err
	}
	defer w.e.jmu.Unlock()
	w.e.sealBlock()
	w.block.ordinal = w.e.log.ordinal
	w.e.pagesRecord(journal.TypeIndex, w.block, 0, w.rows, w.pages, uint32(len(w.pages)*block.PageSize), noted)
	w.e.seal(w.block)
	w.wrote(copySize(int64(len(w.pages))))
	w.block, w.rows, w.pages = nil, w.rows[:0], w.pages[:0]
	return nil
}

// emitPages writes pages of a literal tree, as one record, and says where they are: each record ends the block of data before it, and many small blocks make a large table.
func (w *indexWriter) emitPages(tree uint64) func(pages []blockmap.ArrayPage) error {
	return func(pages []blockmap.ArrayPage) error {
		e := w.e
		rows, stored := make([]byte, len(pages)*block.RowSize), make([][]byte, len(pages))
		leaves := make([]block.Hash, len(pages))
		for i := range pages {
			p := &pages[i]
			row := indexRow(e, p.Page, rowAddr(tree, p.Level, p.Index), i)
			row.Put(rows[i*block.RowSize:])
			stored[i], leaves[i] = append([]byte(nil), p.Page...), row.Leaf
		}
		if err := e.lockFor(journal.HeaderSize+len(rows), len(pages)*block.PageSize); err != nil {
			return err
		}
		defer e.jmu.Unlock()
		e.sealBlock()
		b := w.literal()
		for i := range pages {
			pages[i].Ref = journal.Ref{Epoch: e.log.extent.Epoch, N: e.log.extent.N, Off: e.log.chain.DataLen + uint32(i)*block.PageSize, Leaf: leaves[i]}
			e.pin(pinKey{a: pages[i].Ref.Epoch<<32 | uint64(pages[i].Ref.N), b: uint64(pages[i].Ref.Off), ref: true}, stored[i])
		}
		e.pagesRecord(journal.TypeIndex, b, 0, rows, stored, uint32(len(pages)*block.PageSize), noted)
		w.wrote(copySize(int64(len(pages))) + journal.HeaderSize)
		return nil
	}
}

const _ = uint(journal.MaxRecordPages - blockmap.MaxArrayBatch) // a batch fits a record

// literal is the block of pages of the table or the directory. It is never sealed, as such a page is found by its reference: so all of a checkpoint share one
// number. With one for each, the table would be mostly gaps, and each pass of the cleaner would write most of its pages. The caller holds jmu.
func (w *indexWriter) literal() *openBlock {
	e := w.e
	if w.pager == 0 {
		w.pager = e.newBlock(block.TypeIndex, block.EncryptionNone, block.CompressionNone).header.Number
		e.mu.Lock()
		delete(e.openBlocks, w.pager)
		e.mu.Unlock()
	}
	return &openBlock{ordinal: e.log.ordinal, header: block.Header{Type: block.TypeIndex, Volume: e.spec.ID, Number: w.pager}}
}

func (w *indexWriter) mergeTable(c *journal.Checkpoint, taken []blockChange) error {
	a := blockmap.Array{Pager: refPager{reader{e: w.e}, w.e.spec.ID}, Root: c.Table, Size: blockmap.BlockEntrySize}
	s := &sortedEdits{size: blockmap.BlockEntrySize}
	for i := range taken {
		t := &taken[i]
		entry := t.entry
		if t.delta != 0 {
			var b [blockmap.BlockEntrySize]byte
			if err := a.Get(t.number, b[:]); err != nil {
				return err
			}
			var err error
			if entry, err = blockmap.GetBlockEntry(b[:]); err != nil {
				return err
			}
			if entry.Kind == blockmap.KindNone {
				continue
			}
			entry.Live = uint16(max(int(entry.Live)-t.delta, 0))
		}
		s.add(t.number, func(b []byte) { entry.Put(b) })
	}
	var err error
	c.Table, err = w.mergeArray(a, s, rowTable)
	return err
}

// mergeArray merges edits into a tree of literal references, and writes anew what lies in extents being cleaned.
func (w *indexWriter) mergeArray(a blockmap.Array, edits *sortedEdits, tree uint64) (journal.ArrayRoot, error) {
	sink := blockmap.ArraySink{Emit: w.emitPages(tree), Drop: func(journal.Ref) {}}
	root, err := a.Merge(edits, sink)
	w.e.mu.RLock()
	moving := w.e.moving
	w.e.mu.RUnlock()
	if err != nil || moving == nil {
		return root, err
	}
	a.Root = root
	return a.Rewrite(moving, sink)
}

func (w *indexWriter) mergeDir(c *journal.Checkpoint, taken []extentChange) error {
	edits := &sortedEdits{size: blockmap.ExtentEntrySize}
	for i := range taken {
		edits.add(uint64(taken[i].ordinal), func(b []byte) {
			if !forgettable(&taken[i].entry, w.e.weak()) {
				taken[i].entry.Put(b)
			}
		})
	}
	a := blockmap.Array{Pager: refPager{reader{e: w.e}, w.e.spec.ID}, Root: c.Dir, Size: blockmap.ExtentEntrySize}
	var err error
	c.Dir, err = w.mergeArray(a, edits, rowDir)
	return err
}

// writeCheckpoint appends the record and waits until a quorum has it.
func (e *Engine) writeCheckpoint(c *journal.Checkpoint) error {
	body := c.Encode()
	if len(body) > journal.MaxBody {
		return fmt.Errorf("checkpoint of %d bytes, at most %d: too many snapshots", len(body), journal.MaxBody)
	}
	if err := e.lockFor(journal.HeaderSize+len(body), 0); err != nil {
		return err
	}
	at := journal.Position{Extent: e.log.extent, LogOff: e.log.chain.LogLen, Members: e.holdersOf(e.log.extent)}
	at.Seq = e.append(&journal.Record{Type: journal.TypeCheckpoint, Body: body})
	session := e.epochNow().Session
	e.jmu.Unlock()
	if err := e.committedIn(session, at.Seq); err != nil {
		return err
	}
	e.mu.Lock()
	e.checkpoint, e.replayFrom = at, c.Replay.Extent
	e.mu.Unlock()
	return nil
}

func (e *Engine) holdersOf(x block.ExtentID) []block.StoreID {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.holders[x]
}

// moveAnchor lets the registry's anchor follow the journal. It may fail: the chain from the old anchor stays good.
func (e *Engine) moveAnchor() {
	e.mu.RLock()
	f := e.anchor
	var x block.ExtentID
	for _, o := range e.progress.Extents() {
		if o.First <= e.progress.Committed() {
			x = o.ID // its open record, and the closed record before it, are durable at their quorums (invariant C3)
		}
	}
	same := x.IsZero() || f.Anchor.Extent == x
	f.Anchor = journal.Position{Extent: x, Members: e.holders[x]}
	e.mu.RUnlock()
	if same {
		return
	}
	rev, err := e.Registry.Swap(e.spec.ID, f)
	if errors.Is(err, ErrConflict) {
		rev, err = e.swapAgain(&f)
	}
	if err != nil {
		e.Logf("volume %s: registry does not take the new anchor (tried again later): %v", e.spec.ID, err)
		return
	}
	f.Revision = rev
	e.mu.Lock()
	e.anchor = f
	e.mu.Unlock()
}

// swapAgain is for a fact that changed behind this writer's back: the answer to its own last change was lost, or the registry
// was restored from an old copy. An anchor of this writer is part of the journal whatever the registry says; a later writer's
// fact is left alone.
func (e *Engine) swapAgain(f *Fact) (revision string, err error) {
	now, err := e.Registry.Load(e.spec.ID)
	if err != nil {
		return "", err
	}
	if now.Epoch.Number > f.Epoch.Number || (now.Epoch.Number == f.Epoch.Number && now.Epoch.Token != f.Epoch.Token) {
		return "", fmt.Errorf("the registry is at epoch %s, this writer's is %s: %w", now.Epoch, f.Epoch, ErrConflict)
	}
	f.Revision = now.Revision
	return e.Registry.Swap(e.spec.ID, *f)
}

// countCuts walks subtrees that discards have cut, to keep the live counts near the truth.
func (e *Engine) countCuts(cuts []journal.MapRoot) error {
	for _, r := range cuts {
		err := blockmap.Walk(reader{e: e}, r, func(a blockmap.Addr, _ uint8, _ uint64) (bool, error) {
			e.mu.Lock()
			e.dropOld(a)
			e.mu.Unlock()
			return true, nil
		}, func(_ uint64, a blockmap.Addr) error {
			e.mu.Lock()
			e.dropOld(a)
			e.mu.Unlock()
			return nil
		})
		if err != nil {
			e.Logf("volume %s: counting a discarded range: %v (its space returns with the next recount)", e.spec.ID, err)
		}
	}
	return nil
}

// pins keep what a checkpoint in progress has emitted readable until replicas can be asked for it.
type pinKey struct {
	a, b uint64
	ref  bool
}

func (e *Engine) pin(k pinKey, page []byte) {
	e.mu.Lock()
	e.pins[k] = page
	e.mu.Unlock()
}

func (e *Engine) pinned(k pinKey) []byte {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.pins[k]
}

func (e *Engine) unpin() {
	if r := recover(); r != nil {
		panic(r) // see release
	}
	e.mu.Lock()
	clear(e.pins)
	e.mu.Unlock()
}
