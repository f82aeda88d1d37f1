package volume

import (
	"testing"

	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// TestDiscardReturnsSpace discards everything after part of it is in the map and part in the overlay.
func TestDiscardReturnsSpace(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	s.Extent = 8 << 20
	e := w.open(s, Options{})
	p := fill(make([]byte, 256<<10), 1)
	for off := int64(0); off < 40<<20; off += int64(len(p)) {
		must(t, e.Write(ring.ID{}, p, off))
		if off == 24<<20 {
			must(t, e.Flush())
			must(t, e.Checkpoint())
		}
	}
	must(t, e.Flush())
	must(t, e.Discard(ring.ID{}, 0, int64(s.Pages)*4096))
	must(t, e.Flush())
	freed, err := e.Clean() // one pass sees what its own checkpoint has merged
	must(t, err)
	if freed < 24<<20 {
		t.Fatalf("%d bytes freed of 40 MiB: %+v", freed, e.Status().Stats)
	}
}
