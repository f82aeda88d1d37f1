package replica

import (
	"errors"
	"sync/atomic"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// TestUnsure: a store whose log is damaged where a promise may have been takes no orders, whoever gives them, until a
// writer says that it has just seen its epoch in the registry.
func TestUnsure(t *testing.T) {
	w := newWorld(t, 1, small)
	n := w.node[s1]
	if _, err := w.c.Promise(s1, e5, block.ExtentID{Volume: vol}); err != nil {
		t.Fatal(err)
	}
	x := newWriter(e5, 1, s1)
	for range 3 {
		x.write(1)
	}
	w.send(s1, x, 0, len(x.recs))
	if err := n.fs.FlipBit("wal/00", 100, 3); err != nil { // the first batch: the promise
		t.Fatal(err)
	}
	n = w.crash(s1)
	if !n.st.Unsure(vol) {
		t.Fatal("the store is sure")
	}
	resumed := e5
	resumed.Session = 3
	for name, call := range map[string]func() error{
		"first":   func() error { _, err := w.c.Promise(s1, e6, x.x); return err },
		"promise": func() error { _, err := w.c.Promise(s1, resumed, x.x); return err },
		"cut":     func() error { _, err := w.c.Cut(s1, resumed, x.x, 1); return err },
		"free":    func() error { return w.c.Free(s1, resumed, x.x) },
	} {
		if err := call(); !errors.Is(err, ErrUnsure) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if st, err := w.c.PromiseFresh(s1, e6, x.x); err != nil || st.Promised != e6 {
		t.Fatalf("%+v: %v", st, err)
	}
	next := e6
	next.Session = 1
	if _, err := w.c.Promise(s1, next, x.x); err != nil {
		t.Fatalf("after it was settled: %v", err)
	}
	n = w.crash(s1)
	if n.st.Unsure(vol) || n.st.Promised(vol) != next {
		t.Fatalf("unsure %v, promised %s", n.st.Unsure(vol), n.st.Promised(vol))
	}
}

// TestUnknownTail: damage in the middle of what was acknowledged is told, and a pull from a whole replica ends it; one that breaks off does not,
// also if what it has brought is durable.
func TestUnknownTail(t *testing.T) {
	w := newWorld(t, 2, small)
	x := newWriter(e5, 1, s1, s2)
	for range 6 {
		x.write(1)
	}
	for _, s := range []block.StoreID{s1, s2} {
		w.send(s, x, 0, len(x.recs))
	}
	w.rot(s1, x)
	st, err := w.c.Stat(s1, x.x)
	if err != nil || !st.Held || !st.Unknown || st.Chain.Seq >= x.chain.Seq {
		t.Fatalf("%+v: %v", st, err)
	}
	before := st.Chain.Seq
	if _, err = w.c.PromiseFresh(s1, e6, x.x); err != nil {
		t.Fatal(err)
	}
	for range 6 * MaxRead / block.PageSize / journal.MaxRecordPages { // so much that it takes more reads than there are under way at a time
		x.write(journal.MaxRecordPages)
	}
	w.send(s2, x, 7, len(x.recs))
	var reads atomic.Int64
	w.lose = func(typ Type) bool { return typ == TypeReadData && reads.Add(1) > readAhead }
	if _, err = w.c.PullChosen(s1, e6, x.x, s2); err == nil {
		t.Fatal("a pull without its source succeeded")
	}
	w.lose = nil
	if _, err = w.c.PromiseFresh(s1, e6, x.x); err != nil { // answered once all is durable
		t.Fatal(err)
	}
	if st, err = w.c.Stat(s1, x.x); err != nil || !st.Unknown || st.Chain.Seq >= x.chain.Seq || st.Chain.Seq <= before {
		t.Fatalf("after a pull that broke off: %+v: %v", st, err)
	}
	w.crash(s1)
	if st, err = w.c.Stat(s1, x.x); err != nil || !st.Unknown {
		t.Fatalf("after a pull that broke off, and a crash: %+v: %v", st, err)
	}
	if _, err = w.c.PromiseFresh(s1, e6, x.x); err != nil {
		t.Fatal(err)
	}
	if st, err = w.c.PullChosen(s1, e6, x.x, s2); err != nil || st.Unknown || st.Chain != x.chain {
		t.Fatalf("%+v: %v", st, err)
	}
	w.same(s1, x)
}

// rot damages the tail of an extent on a store, in its log and in its files, and starts the store again: the tail is not known.
func (w *world) rot(id block.StoreID, x *writer) {
	w.t.Helper()
	n := w.node[id]
	w.inFiles(id, x)
	for off := int64(0); off < 512*9*7; off += 512 * 3 {
		if err := n.fs.FlipBit("wal/00", off+600, 1); err != nil {
			w.t.Fatal(err)
		}
	}
	name := "ext/" + x.x.Key().String()[:2] + "/" + x.x.String() + ".log" // where the same records are, once tidied
	if err := n.fs.FlipBit(name, int64(x.chain.LogLen)-300, 1); err != nil {
		w.t.Fatal(err)
	}
	w.crash(id)
}

// TestUnknownSource: a source that does not know its own tail ends nobody's doubt, unless a recovery has chosen it.
func TestUnknownSource(t *testing.T) {
	w := newWorld(t, 2, small)
	x := newWriter(e5, 1, s1, s2)
	for range 6 {
		x.write(1)
	}
	for _, s := range []block.StoreID{s1, s2} {
		w.send(s, x, 0, len(x.recs))
		w.rot(s, x)
		if _, err := w.c.PromiseFresh(s, e6, x.x); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := w.c.Pull(s1, e6, x.x, s2); err != nil || !st.Unknown {
		t.Errorf("%+v: %v", st, err)
	}
	if st, err := w.c.PullChosen(s1, e6, x.x, s2); err != nil || st.Unknown {
		t.Errorf("chosen: %+v: %v", st, err)
	}
}
