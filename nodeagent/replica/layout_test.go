package replica

import (
	"errors"
	"runtime"
	"slices"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// testLayout is a layout of a version that puts nothing on some stores.
type testLayout struct {
	version uint64
	leaving []block.StoreID
}

func (l *testLayout) Version() uint64            { return l.version }
func (l *testLayout) Takes(s block.StoreID) bool { return !slices.Contains(l.leaving, s) }

// open sends the open record of extent n, proposed under a layout, to a store.
func (w *world) open(s block.StoreID, n uint32, layout uint64, members ...block.StoreID) error {
	w.t.Helper()
	x := &writer{x: block.ExtentID{Volume: vol, Epoch: e5.Number, N: n}, epoch: e5, members: members}
	o := journal.Open{Extent: x.x, Layout: layout, Replicas: uint8(len(members)), Quorum: uint8(len(members)/2 + 1), Capacity: 8 << 20, Members: members}
	x.add(journal.Record{Type: journal.TypeOpen, Body: o.Encode()}, nil)
	a := <-w.ask(s, TypeAppend, x.body(s, 0))
	return ErrorOf(a.st, a.body)
}

// TestOldLayout: a store opens no extent that was proposed under an older layout than the one it knows and names a store on which that one puts
// nothing; everything else it opens.
func TestOldLayout(t *testing.T) {
	w := newWorld(t, 3, small)
	l := &testLayout{5, []block.StoreID{s3}}
	if err := w.open(s1, 1, 4, s1, s2, s3); err != nil {
		t.Errorf("nothing is known of a layout: %v", err) // control
	}
	w.node[s1].srv.Follow(l)
	err := w.open(s1, 2, 4, s1, s2, s3)
	var old *LayoutError
	if !errors.As(err, &old) || old.Version != 5 || !slices.Equal(old.Leaving, []block.StoreID{s3}) {
		t.Errorf("under the older layout: %v", err)
	}
	for n, o := range map[uint32]struct {
		layout  uint64
		members []block.StoreID
	}{3: {5, []block.StoreID{s1, s2, s3}}, 4: {4, []block.StoreID{s1, s2}}, 5: {6, []block.StoreID{s1, s2, s3}}} {
		if err := w.open(s1, n, o.layout, o.members...); err != nil {
			t.Errorf("layout %d on %v: %v", o.layout, o.members, err)
		}
	}
	l.leaving = nil
	if err := w.open(s1, 6, 4, s1, s2, s3); err != nil {
		t.Errorf("nobody leaves: %v", err)
	}
}

// TestAcknowledge: what a store has acknowledged it keeps to after a power cut, although its node knows only an older layout then, and can not
// say who leaves. What it had not acknowledged it forgets.
func TestAcknowledge(t *testing.T) {
	for _, acknowledges := range []bool{true, false} {
		w := newWorld(t, 1, small)
		w.node[s1].srv.Follow(&testLayout{5, nil})
		if got := w.node[s1].srv.Acknowledge(); got != 0 {
			t.Errorf("acknowledged %d before it is durable", got)
		}
		if !acknowledges {
			w = newWorld(t, 1, small)
		} else {
			if _, err := w.c.Promise(s1, e5, block.ExtentID{Volume: vol}); err != nil { // answered with, or after, the note's commit
				t.Fatal(err)
			}
			for w.node[s1].srv.Acknowledge() != 5 { // a task of the server may have had its lock
				runtime.Gosched()
			}
		}
		n := w.crash(s1)
		n.srv.Follow(&testLayout{4, nil})
		var old *LayoutError
		err := w.open(s1, 1, 4, s1)
		if is := errors.As(err, &old); is != acknowledges || is && (old.Version != 5 || old.Leaving != nil) {
			t.Errorf("acknowledged %v: %v", acknowledges, err)
		}
		if err := w.open(s1, 2, 5, s1); err != nil {
			t.Errorf("under the layout that was acknowledged: %v", err)
		}
		want := uint64(5)
		if !acknowledges {
			want = 0
		}
		if got := n.srv.Acknowledge(); got != want {
			t.Errorf("acknowledged %d after the crash, want %d", got, want)
		}
	}
}

// TestAcknowledgeBesideAnAppend: while an append waits for a disk nobody who asks what a store has acknowledged waits, and once it has ended it is noted.
func TestAcknowledgeBesideAnAppend(t *testing.T) {
	w := newWorld(t, 1, small)
	srv := w.node[s1].srv
	srv.Follow(&testLayout{5, nil})
	srv.mu.Lock() // as an append has it
	for range 3 {
		if got := srv.Acknowledge(); got != 0 {
			t.Errorf("acknowledged %d", got)
		}
	}
	srv.mu.Unlock()
	for srv.Acknowledge() != 5 {
		runtime.Gosched()
	}
}
