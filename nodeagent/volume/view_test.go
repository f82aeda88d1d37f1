package volume

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

func forever() error { return nil }

func showsOf(t testing.TB, v *View, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	must(t, v.Read(got, 0))
	for i := 0; i < len(got); i += 4096 {
		if !bytes.Equal(got[i:i+4096], want[i:i+4096]) {
			t.Fatalf("page %d differs", i/4096)
		}
	}
}

// TestView: views show a snapshot for ever, while the volume's writer goes on, cleans, and moves what they show; the writer keeps its
// epoch, and no view needs another one or any one replica.
func TestView(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	s.Extent = 1 << 20
	e := w.open(s, Options{})
	m := newModel(31, 4<<20)
	m.steps(t, e, 100)
	id := [16]byte{1}
	must(t, errors.Join(e.Snapshot(journal.Snapshot{ID: id, Name: "kept"}), e.Checkpoint()))
	then := bytes.Clone(m.data)
	c := w.create(2)
	c.Parent, c.Snapshot = s.ID, id
	clone := w.open(c, Options{})
	cm := &model{data: bytes.Clone(m.data), r: m.r}
	cm.steps(t, clone, 60)
	must(t, errors.Join(clone.Snapshot(journal.Snapshot{ID: id, Name: "sealed"}), clone.Close(true)))

	before, err := w.Load(s.ID)
	must(t, err)
	open := func(of Spec) *View {
		t.Helper()
		v, err := OpenView(w.deps(), of, id, forever)
		must(t, err)
		return v
	}
	views := []*View{open(s), open(s)}
	ofClone := open(c)
	freed := e.Status().Stats.Freed
	for range 6 {
		m.steps(t, e, 60)
		for range 3 {
			_, err := e.Clean()
			must(t, err)
		}
		showsOf(t, views[0], then)
		showsOf(t, ofClone, cm.data)
	}
	if e.Status().Stats.Freed == freed {
		t.Fatal("the writer freed nothing, so nothing was tried")
	}
	showsOf(t, views[1], then) // that was not read all the while
	views[0].Close()
	if err := views[0].Read(make([]byte, 4096), 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("a closed view reads: %v", err)
	}
	w.setDown(w.ids[0], true)
	showsOf(t, views[1], then)
	showsOf(t, ofClone, cm.data)
	w.setDown(w.ids[0], false)
	m.checkAll(t, e)
	if after, err := w.Load(s.ID); err != nil || after.Epoch != before.Epoch {
		t.Errorf("the epoch went from %s to %s, %v", before.Epoch, after.Epoch, err)
	}
	if _, err := OpenView(w.deps(), s, [16]byte{77}, forever); !errors.Is(err, ErrNotFound) {
		t.Errorf("a snapshot that is not there opens: %v", err)
	}
	must(t, e.Close(true))
}

// TestViewBehind: a replica that has missed the checkpoint of a snapshot does not make it one that is not there, neither for a view nor for
// a clone: they wait for others.
func TestViewBehind(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	e := w.open(s, Options{})
	m := newModel(5, 1<<20)
	m.steps(t, e, 10)
	must(t, e.Checkpoint())
	w.setDown(w.ids[2], true)
	id := [16]byte{1}
	must(t, errors.Join(e.Snapshot(journal.Snapshot{ID: id, Name: "kept"}), e.Close(true)))
	only := func(down bool) {
		w.setDown(w.ids[0], down)
		w.setDown(w.ids[1], down)
		w.setDown(w.ids[2], false)
	}
	only(true)
	asked := 0
	v, err := OpenView(w.deps(), s, id, func() error {
		if asked++; asked == 3 {
			only(false)
		}
		return nil
	})
	must(t, err)
	if asked < 3 {
		t.Fatalf("a snapshot was found where nobody has it, asked %d times", asked)
	}
	showsOf(t, v, m.data)

	only(true)
	c := w.create(2)
	c.Parent, c.Snapshot = s.ID, id
	clone, err := newEngine(w.deps(), c)
	must(t, err)
	go only(false)
	if _, _, err := clone.parent(); err != nil {
		t.Errorf("a clone does not find what it starts from: %v", err)
	}
}

// TestViewGivesUp: without any replica an opening waits until it is told to stop.
func TestViewGivesUp(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	e := w.open(s, Options{})
	id := [16]byte{1}
	must(t, errors.Join(e.Snapshot(journal.Snapshot{ID: id, Name: "kept"}), e.Close(true)))
	for _, n := range w.ids {
		w.setDown(n, true)
	}
	asked := 0
	enough := errors.New("enough")
	_, err := OpenView(w.deps(), s, id, func() error {
		if asked++; asked == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

// versions is the model of TestViewBlocks: the number of the write that a page holds, 0 for none.
type versions []int

func (v versions) runs(from int, is func(page int) bool) (out []string) {
	for p := from; p < len(v); p++ {
		if !is(p) {
			continue
		}
		first := p
		for p < len(v) && is(p) {
			p++
		}
		out = append(out, fmt.Sprint(first, "+", p-first))
	}
	return out
}

// TestViewBlocks compares what is allocated, and what changed between two snapshots, with a model: exactly the pages that are written and not
// discarded, and those that hold another write or none.
func TestViewBlocks(t *testing.T) {
	const pages = 3000 // more than five leaves of a map
	w := newWorld(t, 3)
	s := w.create(1)
	s.Extent = 1 << 20
	s.Pages = pages
	e := w.open(s, Options{})
	r := rand.New(rand.NewPCG(5, 6))
	now := make(versions, pages)
	var kept []versions
	number := 0
	for range 6 {
		for range 40 {
			first := r.IntN(len(now))
			n := min(1+r.IntN(30), len(now)-first)
			number++
			off, value := int64(first)*4096, number
			if r.IntN(4) == 0 {
				must(t, e.Discard(ring.ID{}, off, int64(n)*4096))
				value = 0
			} else {
				must(t, e.Write(ring.ID{}, fill(make([]byte, n*4096), r.Uint64()), off))
			}
			for p := first; p < first+n; p++ {
				now[p] = value
			}
		}
		kept = append(kept, slices.Clone(now))
		must(t, e.Snapshot(journal.Snapshot{ID: [16]byte{byte(len(kept))}, Name: fmt.Sprint("s", len(kept))}))
		if len(kept) == 3 {
			now = append(now, make(versions, 500)...)
			must(t, e.Resize(int64(len(now))*4096))
		}
		_, err := e.Clean()
		must(t, err)
	}
	must(t, e.Checkpoint())
	gather := func(walk func(visit func(page, count uint64) error) error) (out []string) {
		t.Helper()
		must(t, walk(func(page, count uint64) error { out = append(out, fmt.Sprint(page, "+", count)); return nil }))
		return out
	}
	for i, want := range kept {
		v, err := OpenView(w.deps(), s, [16]byte{byte(i + 1)}, forever)
		must(t, err)
		for _, from := range []int{0, 700, len(want) - 1, len(want) + 5} {
			got := gather(func(visit func(page, count uint64) error) error { return v.Allocated(uint64(from), visit) })
			if all := want.runs(from, func(p int) bool { return want[p] != 0 }); !slices.Equal(got, all) {
				t.Errorf("snapshot %d from page %d: %v, want %v", i, from, got, all)
			}
			for j := range i + 1 {
				old := append(slices.Clone(kept[j]), make(versions, len(want)-len(kept[j]))...)
				got := gather(func(visit func(page, count uint64) error) error {
					return v.Changed([16]byte{byte(j + 1)}, uint64(from), visit)
				})
				if all := want.runs(from, func(p int) bool { return want[p] != old[p] }); !slices.Equal(got, all) {
					t.Errorf("from snapshot %d to %d from page %d: %v, want %v", j, i, from, got, all)
				}
			}
		}
		if i == 0 {
			if err := v.Changed([16]byte{2}, 0, nil); !errors.Is(err, ErrRange) {
				t.Errorf("changes since a later snapshot: %v", err)
			}
			if err := v.Changed([16]byte{99}, 0, nil); !errors.Is(err, ErrNotFound) {
				t.Errorf("changes since a snapshot that is not there: %v", err)
			}
			end := errors.New("end")
			if err := v.Allocated(0, func(uint64, uint64) error { return end }); !errors.Is(err, end) {
				t.Errorf("a visitor's error became %v", err)
			}
		}
		v.Close()
	}
	must(t, e.Close(true))
}
