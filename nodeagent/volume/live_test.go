package volume

import (
	"math/rand/v2"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
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
