package replica

import (
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// TestFreedMark: a store tells of an extent that it does not hold whether it may have freed it, also after a restart. One
// that was minted later than all that it freed was never here.
func TestFreedMark(t *testing.T) {
	w := newWorld(t, 1, small)
	check := func(when string, n uint32, freed bool) {
		t.Helper()
		st, err := w.c.Promise(s1, e5, block.ExtentID{Volume: vol, Epoch: e5.Number, N: n})
		if err != nil || st.Held || st.Freed != freed {
			t.Errorf("%s: extent %d: %+v: %v", when, n, st, err)
		}
	}
	check("before", 2, false)
	x := newWriter(e5, 2, s1)
	if err := w.c.Free(s1, e5, x.x); err != nil {
		t.Fatal(err)
	}
	check("freed what was not here", 2, false) // control: the mark is not made by the order alone
	w.send(s1, x, 0, 1)
	if err := w.c.Free(s1, e5, x.x); err != nil {
		t.Fatal(err)
	}
	check("freed", 1, true)
	check("freed", 2, true)
	check("freed", 3, false)
	w.crash(s1)
	check("restarted", 2, true)
	if st, err := w.c.Stat(s1, block.ExtentID{Volume: vol, Epoch: e5.Number - 1, N: 9}); err != nil || !st.Freed {
		t.Errorf("of an earlier epoch: %+v: %v", st, err)
	}
	if err := w.c.Drop(s1, e5, vol, []byte("signed")); err != nil {
		t.Fatal(err)
	}
	if w.node[s1].srv.store.Meta(freedKey(vol)) != nil {
		t.Error("the mark outlives the volume")
	}
}
