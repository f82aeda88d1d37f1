package replica

import (
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// closedExtent is an extent of an open and a closed record.
func closedExtent(e block.Epoch, n uint32, members ...block.StoreID) *writer {
	x := newWriter(e, n, members...)
	c := journal.Closed{Next: block.ExtentID{Volume: vol, Epoch: e.Number, N: n + 1}, Members: members}
	x.add(journal.Record{Type: journal.TypeClosed, Body: c.Encode()}, nil)
	return x
}

// TestFreedMark: a store tells of an extent that it does not hold whether it had it closed, and freed it, also after a restart. One
// that it freed open, or never had, was not left behind by the journal.
func TestFreedMark(t *testing.T) {
	w := newWorld(t, 1, small)
	check := func(when string, n uint32, past bool) {
		t.Helper()
		st, err := w.c.Promise(s1, e5, block.ExtentID{Volume: vol, Epoch: e5.Number, N: n})
		if err != nil || st.Held || st.Past != past || st.Freed != past {
			t.Errorf("%s: extent %d: %+v: %v", when, n, st, err)
		}
	}
	free := func(x block.ExtentID) {
		t.Helper()
		if err := w.c.Free(s1, e5, x); err != nil {
			t.Fatal(err)
		}
	}
	check("before", 2, false)
	x := closedExtent(e5, 2, s1)
	free(x.x)
	check("freed what was not here", 2, false) // control: the mark is not made by the order alone
	w.send(s1, x, 0, 1)
	free(x.x)
	check("freed while it was open", 2, false) // control: it may have been opened in vain, and be opened again
	w.send(s1, x, 0, 2)
	free(x.x)
	for n, past := range map[uint32]bool{1: false, 2: true, 3: false} {
		check("freed", n, past)
	}
	w.crash(s1)
	check("restarted", 2, true)
	for records, unknown := range []bool{1: true, 2: false} { // a fetch that breaks off, and one that does not
		if records > 0 {
			w.send(s1, x, records-1, records)
			if st, err := w.c.Promise(s1, e5, x.x); err != nil || !st.Held || st.Unknown != unknown {
				t.Errorf("%d records of what was freed are here again: %+v: %v", records, st, err)
			}
		}
	}
	free(x.x)
	if err := w.c.Drop(s1, e5, vol, []byte("signed")); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{freedKey(vol), pastKey(vol)} {
		if w.node[s1].srv.store.Meta(key) != nil {
			t.Errorf("%s outlives the volume", key)
		}
	}
}

// TestPastRanges: what is kept stays small, and of what is forgotten a store says that it may have had it.
func TestPastRanges(t *testing.T) {
	w := newWorld(t, 1, small)
	const most = 2 * (maxPast + 3)
	for n := uint32(0); n < most; n += 2 {
		x := closedExtent(e5, n, s1)
		w.send(s1, x, 0, 2)
		if err := w.c.Free(s1, e5, x.x); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(w.node[s1].srv.store.Meta(pastKey(vol))); n != maxPast*pastSize {
		t.Errorf("%d bytes are kept", n)
	}
	for n := range uint32(most) {
		st, err := w.c.Stat(s1, block.ExtentID{Volume: vol, Epoch: e5.Number, N: n})
		forgotten := n <= 2*2
		if past := n%2 == 0 && !forgotten; err != nil || st.Past != past || st.Freed != (past || forgotten) {
			t.Fatalf("extent %d: %+v: %v", n, st, err)
		}
	}
	list := addPast(addPast(addPast(nil, block.ExtentID{Epoch: 1, N: 3}), block.ExtentID{Epoch: 1, N: 5}), block.ExtentID{Epoch: 1, N: 4})
	if len(list) != 1 || list[0] != (pastRange{1, 3, 5}) {
		t.Errorf("neighbours are %v", list)
	}
}
