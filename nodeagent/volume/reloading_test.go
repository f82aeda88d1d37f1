package volume

import (
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// TestNothingIsSuperfluousWhileReloading: while a recovery in place reads the directory anew, it names next to nothing;
// an audit that took that for the truth would free every extent of earlier epochs. (Found by seed 10145.)
func TestNothingIsSuperfluousWhileReloading(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	s.Extent = MinExtent
	e := w.open(s, Options{})
	old := e.Status().Extent
	must(t, e.Write(ring.ID{}, fill(make([]byte, 8*block.PageSize), 1), 0))
	must(t, e.Close(true))
	e = w.open(s, Options{Force: true})
	judge := func(reloading bool) bool {
		e.mu.Lock()
		full := e.cat
		e.cat, e.reloading = newCatalog(), reloading
		e.mu.Unlock()
		defer func() {
			e.mu.Lock()
			e.cat, e.reloading = full, false
			e.mu.Unlock()
		}()
		return e.superfluous(old)
	}
	if judge(true) {
		t.Error("a copy counts as superfluous while the directory is read anew")
	}
	if !judge(false) { // control: but for that, an extent that the directory does not name is
		t.Error("the test judges nothing")
	}
	must(t, e.Close(true))
}

// TestNothingEntersHalfAMap: after a recovery in place that has failed on its way, neither writes nor checkpoints go on from a map that is built by half: they would give
// block numbers again that the journal has, and pass over what was not replayed. (Found by a seed of the simulator.)
func TestNothingEntersHalfAMap(t *testing.T) {
	w := newWorld(t, 3)
	e := w.open(w.create(1), Options{})
	m := newModel(1, 16*block.PageSize)
	write := func(page int) {
		off := page * block.PageSize
		must(t, e.Write(ring.ID{}, fill(m.data[off:off+block.PageSize], uint64(page)), int64(off)))
	}
	write(0)
	must(t, e.Flush())
	reloading := func(on bool) (seq uint64) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.reloading = on
		return e.progress.Current().Last
	}
	before := reloading(true)
	write(1)
	if e.pump() || reloading(true) != before {
		t.Error("a write enters the journal while the map is built by half")
	}
	e.mu.Lock()
	if e.mayEnter(false) || !e.mayEnter(true) {
		t.Error("somebody else than a recovery may use a map that is built by half")
	}
	e.mu.Unlock()
	reloading(false)
	e.wake.Notify() // as resume does
	must(t, e.Flush())
	e.mu.Lock()
	if e.mayEnter(false) == e.busy || e.pumped != 2 {
		t.Errorf("the map is whole, and %d slots are in the journal", e.pumped)
	}
	e.mu.Unlock()
	m.checkAll(t, e)
	must(t, e.Close(true))
}
