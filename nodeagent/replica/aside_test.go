package replica

import (
	"errors"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// asideWorld is two stores that diverge: s1 has a tail that s2, of a later epoch, does not.
func asideWorld(t *testing.T) (w *world, lost, chosen *writer) {
	w = newWorld(t, 2, small)
	base := newWriter(e5, 1, s1, s2, s3)
	for range 3 {
		base.write(2)
	}
	lost = base.fork()
	lost.write(2)
	lost.write(1)
	chosen = base.at(e6)
	chosen.write(4)
	w.send(s1, lost, 0, len(lost.recs))
	w.send(s2, chosen, 0, len(chosen.recs))
	return w, lost, chosen
}

// kept checks what s1 has set aside.
func kept(t *testing.T, w *world, want *writer) {
	t.Helper()
	list, err := w.c.SetAside(s1, vol)
	if want == nil {
		if err != nil || len(list) != 0 {
			t.Fatalf("%v is set aside, %v", list, err)
		}
		return
	}
	if err != nil || len(list) != 1 || list[0].Extent != want.x.Aside() || list[0].Hash != want.chain.Hash {
		t.Fatalf("set aside: %v, %v; want the end %s", list, err, want.chain.Hash)
	}
	aside := want.fork()
	aside.x = want.x.Aside()
	w.same(s1, aside)
}

// TestPullKept: what a pull cuts of a weak volume is set aside, whole, durable, and out of sight of the journal. Control: PullChosen.
func TestPullKept(t *testing.T) {
	later := block.Epoch{Number: 7, Token: 7}
	w, lost, _ := asideWorld(t)
	if _, err := w.c.PullChosen(s1, later, lost.x, s2); err != nil {
		t.Fatal(err)
	}
	kept(t, w, nil)
	w, lost, chosen := asideWorld(t)
	if _, err := w.c.PullKept(s1, later, lost.x, s2); err != nil {
		t.Fatal(err)
	}
	w.same(s1, chosen)
	kept(t, w, lost)
	w.crash(s1)
	w.same(s1, chosen)
	kept(t, w, lost)
	if list, err := w.c.Holdings(s1, vol); err != nil || len(list) != 1 || list[0].Extent != lost.x {
		t.Fatalf("for the journal: %v, %v", list, err)
	}
	if _, err := w.c.Pull(s1, later, lost.x.Aside(), s2); !errors.Is(err, ErrBad) {
		t.Fatalf("a pull into what is set aside: %v", err)
	}
	if err := w.c.Free(s1, later, lost.x.Aside()); err != nil {
		t.Fatal(err)
	}
	kept(t, w, nil)
}

// TestPullKeptOfAPrefix: nothing is set aside where nothing goes.
func TestPullKeptOfAPrefix(t *testing.T) {
	w := newWorld(t, 2, small)
	x := newWriter(e5, 1, s1, s2)
	x.write(2)
	x.write(2)
	w.send(s1, x, 0, 2)
	w.send(s2, x, 0, len(x.recs))
	if _, err := w.c.PullKept(s1, e6, x.x, s2); err != nil {
		t.Fatal(err)
	}
	w.same(s1, x)
	kept(t, w, nil)
}

// TestFreeKept: freeing sets aside; again after a crash in between; and never over another copy that is kept.
func TestFreeKept(t *testing.T) {
	w, lost, chosen := asideWorld(t)
	srv := w.node[s1].srv
	if err := srv.setAside(&Head{Store: s1, Epoch: e6, Extent: lost.x}); err != nil { // and then the process dies
		t.Fatal(err)
	}
	w.crash(s1)
	w.same(s1, lost)
	if err := w.c.FreeKept(s1, e6, lost.x); err != nil {
		t.Fatal(err)
	}
	if st, err := w.c.Stat(s1, lost.x); err != nil || st.Held {
		t.Fatalf("%+v, %v", st, err)
	}
	kept(t, w, lost)
	if _, err := w.c.Pull(s1, e6, lost.x, s2); err != nil {
		t.Fatal(err)
	}
	if err := w.c.FreeKept(s1, e6, lost.x); !errors.Is(err, ErrGap) {
		t.Fatalf("over another copy: %v", err)
	}
	w.same(s1, chosen)
	kept(t, w, lost)
}

// TestFreeKeptIsFenced: a superseded writer sets nothing aside.
func TestFreeKeptIsFenced(t *testing.T) {
	w, lost, _ := asideWorld(t)
	if _, err := w.c.Promise(s1, block.Epoch{Number: 9, Token: 9}, lost.x); err != nil {
		t.Fatal(err)
	}
	if err := w.c.FreeKept(s1, e6, lost.x); err == nil {
		t.Fatal("freed")
	}
	kept(t, w, nil)
	w.same(s1, lost)
}
