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
