package volume

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// TestExtentTable: the table is a map by ordinal, whatever is entered and taken out, and keeps no chunk that is empty.
func TestExtentTable(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var table extentTable
	model, next := map[uint32]blockmap.ExtentEntry{}, uint32(1)
	for step := range 4000 {
		o := rng.Uint32N(1500)
		if _, there := model[o]; there && rng.IntN(3) > 0 {
			table.set(o, noExtent)
			delete(model, o)
		} else {
			x := blockmap.ExtentEntry{N: uint32(step), State: blockmap.ExtentState(1 + rng.IntN(4))}
			table.set(o, x)
			model[o] = x
		}
		if next = max(next, o+1); table.n != next {
			t.Fatalf("step %d: the next ordinal is %d, not %d", step, table.n, next)
		}
		if step%100 != 0 {
			continue
		}
		limit := rng.Uint32N(1600)
		for name, c := range map[string]struct {
			table extentTable
			limit uint32
		}{"all": {table, next}, "before": {table.before(limit), min(limit, next)}} {
			var seen []uint32
			for o, x := range c.table.all() {
				seen = append(seen, o)
				if *x != model[o] || *c.table.at(o) != *x {
					t.Fatalf("step %d: %s: extent %d is %+v", step, name, o, x)
				}
			}
			want := slices.DeleteFunc(slices.Sorted(maps.Keys(model)), func(o uint32) bool { return o >= c.limit })
			if !slices.Equal(seen, want) || c.table.n != c.limit || c.table.at(c.limit) != &noExtent {
				t.Fatalf("step %d: %s: %d entries of %d, the next ordinal is %d", step, name, len(seen), len(want), c.table.n)
			}
		}
	}
	for o := range model {
		table.set(o, noExtent)
	}
	if slices.ContainsFunc(table.chunks, func(c *extentChunk) bool { return c != nil }) {
		t.Error("an empty table has chunks")
	}
}

// freedIn counts the extents that a volume's directory names, in memory and in its latest checkpoint, although they are freed.
func freedIn(t *testing.T, e *Engine) (n int) {
	t.Helper()
	count := func(x *blockmap.ExtentEntry) {
		if x.State == blockmap.ExtentFreed {
			n++
		}
	}
	e.mu.RLock()
	dir, there := e.cat.dir, 0
	for _, x := range e.cat.extents.all() {
		count(x)
		there++
	}
	if there != len(e.cat.byID) {
		t.Errorf("%d extents, %d of them by name", there, len(e.cat.byID))
	}
	e.mu.RUnlock()
	a := blockmap.Array{Pager: refPager{reader{e: e}, e.spec.ID}, Root: dir, Size: blockmap.ExtentEntrySize}
	must(t, a.Walk(0, func(_ uint64, b []byte) error {
		x, err := blockmap.GetExtentEntry(b)
		count(&x)
		return err
	}))
	return n
}

// TestFreedIsForgotten: what is freed is in the directory no more once there was a checkpoint, neither in memory nor on disk; ordinals are not given again.
func TestFreedIsForgotten(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	s.Extent = MinExtent
	e := w.open(s, Options{})
	m := newModel(5, 2*MinExtent)
	var last uint32
	for round := range 3 {
		for range 6 {
			m.steps(t, e, 60)
			_, err := e.Clean()
			must(t, err)
		}
		must(t, e.Checkpoint())
		e.mu.RLock()
		n := e.cat.extents.n
		e.mu.RUnlock()
		if freed, left := e.Status().Stats.Freed, freedIn(t, e); freed < 20 || left > 0 || n <= last {
			t.Errorf("round %d: %d extents were freed, %d are in the directory, the next is %d after %d", round, freed, left, n, last)
		}
		last = n
		must(t, e.Close(false))
		e = w.open(s, Options{Force: true})
		m.checkAll(t, e)
	}
	must(t, e.Close(false))
}

// TestLeftOverOfForgotten: a store that did not hear that extents were freed is told when it is there again, by the same writer, which does not know them any more.
func TestLeftOverOfForgotten(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	s.Extent = MinExtent
	e := w.open(s, Options{})
	for n := range 6 {
		must(t, e.Write(ring.ID{}, fill(make([]byte, 2*MinExtent), uint64(n)), 0))
		must(t, e.Flush())
	}
	e.mu.Lock()
	e.suspectLocked(w.ids[0], errSlow)
	e.suspects[w.ids[0]].failed += time.Hour // for as long as the test takes
	e.mu.Unlock()
	for range 3 {
		_, err := e.Clean()
		must(t, err)
	}
	must(t, e.Checkpoint())
	on := func(i int) int { return len(w.node[w.ids[i]].st.Extents(s.ID)) }
	e.mu.RLock()
	unknown := 0
	for _, x := range w.node[w.ids[0]].st.Extents(s.ID) {
		if _, ok := e.cat.byID[x]; !ok {
			unknown++
		}
	}
	e.mu.RUnlock()
	if unknown == 0 || on(0) <= on(1) {
		t.Fatalf("the store that did not hear has %d extents, another %d; %d are not known any more", on(0), on(1), unknown)
	}
	e.mu.Lock()
	clear(e.suspects)
	e.mu.Unlock()
	e.audit(true)
	if on(0) != on(1) {
		t.Errorf("the store that did not hear has %d extents, another %d", on(0), on(1))
	}
	must(t, e.Close(false))
}

// TestEarlierDirectory: what an earlier version left of freed extents goes with the next checkpoint, but for weak volumes, which tell by it what they gave up.
func TestEarlierDirectory(t *testing.T) {
	v := block.VolumeID{1}
	for weak, want := range map[bool]int{false: 2, true: 3} {
		c := newCatalog()
		for n, state := range []blockmap.ExtentState{blockmap.ExtentFreed, blockmap.ExtentClosed, blockmap.ExtentOpen} {
			c.addExtent(v, blockmap.ExtentEntry{Epoch: 1, N: uint32(n), State: state})
		}
		clear(c.dirty)
		c.stale(weak)
		c.extentsMerged(v, c.extentChanges(), weak)
		if len(c.byID) != want || len(c.dirty) != 0 || c.extents.n != 4 {
			t.Errorf("weak %v: %d extents, %d changed, the next ordinal is %d", weak, len(c.byID), len(c.dirty), c.extents.n)
		}
	}
	c := newCatalog()
	c.dir = journal.ArrayRoot{Count: 9, Levels: 1} // of which all are gone
	if err := c.loadExtents(v, nil); err != nil || c.extents.n != 9 {
		t.Errorf("the next ordinal is %d, %v", c.extents.n, err)
	}
}
