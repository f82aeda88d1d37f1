package volume

import (
	"math/rand/v2"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// countLive sums up how many pages of data live by the counts of the block table.
func countLive(t *testing.T, e *Engine) (pages int) {
	t.Helper()
	a := blockmap.Array{Pager: refPager{reader{e: e}, e.spec.ID}, Root: e.cat.table, Size: blockmap.BlockEntrySize}
	must(t, a.Walk(0, func(_ uint64, raw []byte) error {
		b, err := blockmap.GetBlockEntry(raw)
		if b.Type == block.TypeData {
			pages += int(b.Live)
		}
		return err
	}))
	return pages
}

// However often pages are moved, each counts once: what is counted twice looks like an extent that lives, and its garbage is never found again.
func TestLivePagesCountOnce(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	s.Extent = 1 << 20
	e := w.open(s, Options{})
	defer func() { must(t, e.Close(true)) }()
	m := newModel(3, 4<<20)
	must(t, e.Write(ring.ID{}, fill(m.data, 3), 0))
	pages, r := len(m.data)/block.PageSize, rand.New(rand.NewPCG(3, 3))
	for turn := range 8 {
		for range pages * 2 / 3 {
			off := r.IntN(pages) * block.PageSize
			must(t, e.Write(ring.ID{}, fill(m.data[off:off+block.PageSize], r.Uint64()), int64(off)))
		}
		must(t, e.Flush())
		_, err := e.Clean()
		must(t, err)
		must(t, e.Checkpoint())
		if n := countLive(t, e); n != pages {
			t.Errorf("turn %d: %d pages are counted, %d live", turn, n, pages)
		}
	}
	if st := e.Status().Stats; st.Cleaned < 8 {
		t.Errorf("%d extents were cleaned: too few for pages to move twice", st.Cleaned)
	}
	m.checkAll(t, e)
}

// A checkpoint takes a block number for the data that it seals, one for the nodes of the map, and one for all pages of table and directory: so the table, which is as
// long as there are numbers, has few gaps.
func TestTableIsDense(t *testing.T) {
	w := newWorld(t, 3)
	e := w.open(w.create(1), Options{})
	defer func() { must(t, e.Close(true)) }()
	for i := range 200 {
		must(t, e.Write(ring.ID{}, make([]byte, block.PageSize), int64(i)*block.PageSize))
		must(t, e.Flush())
		before := e.nextBlock
		must(t, e.Checkpoint())
		if n := e.nextBlock - before; n > 2 { // the number of the data was taken before
			t.Fatalf("checkpoint %d takes %d numbers", i, n)
		}
	}
}

// The pages of table and directory are written together, not each as a record: a record of them ends the open block of data, and many small blocks make a large table.
func TestIndexInFewRecords(t *testing.T) {
	w := newWorld(t, 3)
	e := w.open(w.create(1), Options{})
	defer func() { must(t, e.Close(true)) }()
	const pages = 400
	for i := range pages { // each in a block of its own
		must(t, e.Write(ring.ID{}, make([]byte, block.PageSize), int64(i)*block.PageSize))
		must(t, e.Flush())
		must(t, e.Checkpoint())
	}
	must(t, e.Write(ring.ID{}, make([]byte, pages*block.PageSize), 0)) // of each block a page becomes garbage
	must(t, e.Flush())
	before := e.log.chain.Seq
	must(t, e.Checkpoint())
	table := blockmap.Array{Pager: refPager{reader{e: e}, e.spec.ID}, Root: e.cat.table, Size: blockmap.BlockEntrySize}
	leaves := 0
	must(t, table.WalkRefs(func(_ journal.Ref, level uint8, _ uint64) (bool, error) {
		if level == 1 {
			leaves++
		}
		return true, nil
	}))
	// Two seals of data, the map and its seal, leaves of the table and what is above them, the directory, the checkpoint.
	if n := e.log.chain.Seq - before; leaves < 10 || n > 10 {
		t.Errorf("a checkpoint that changes %d leaves of the table writes %d records", leaves, n)
	}
}

// Pages of table and directory live like others where a pass looks for extents that are empty: it writes them anew.
func TestIndexPagesLive(t *testing.T) {
	w := newWorld(t, 3)
	e := w.open(w.create(1), Options{})
	defer func() { must(t, e.Close(true)) }()
	must(t, e.Write(ring.ID{}, make([]byte, 1<<20), 0))
	must(t, e.Flush())
	must(t, e.Checkpoint())
	c := &cleaner{e: e, victims: map[uint32]bool{}, target: cleanTarget}
	live, err := c.count()
	must(t, err)
	sum := int64(0)
	for _, n := range live {
		sum += n
	}
	if want := int64(1<<20/block.PageSize + 1 + 1 + 1); sum != want { // the data, the map's leaf, table, directory
		t.Errorf("%d pages live in the extents, want %d", sum, want)
	}
}
