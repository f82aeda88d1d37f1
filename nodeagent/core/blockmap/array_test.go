package blockmap

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// arrayWorld is an array beside a plain model of it.
type arrayWorld struct {
	Array
	pages      map[journal.Ref][]byte
	alive      map[journal.Ref]bool
	model      map[uint64][]byte
	reads      int
	emits      int
	forgetDrop bool
}

func newArrayWorld(size int) *arrayWorld {
	w := &arrayWorld{pages: map[journal.Ref][]byte{}, alive: map[journal.Ref]bool{}, model: map[uint64][]byte{}}
	w.Array = Array{Pager: w, Size: size}
	return w
}

func (w *arrayWorld) Page(r journal.Ref) ([]byte, error) {
	w.reads++
	if p := w.pages[r]; p != nil {
		return p, nil
	}
	return nil, errNoNode
}

type arrayEdits struct {
	index []uint64
	entry [][]byte
}

func (e *arrayEdits) Next() (i uint64, entry []byte, ok bool) {
	if len(e.index) == 0 {
		return 0, nil, false
	}
	i, entry = e.index[0], e.entry[0]
	e.index, e.entry = e.index[1:], e.entry[1:]
	return i, entry, true
}

func (w *arrayWorld) merge(edits map[uint64][]byte) (err error) {
	w.reads, w.emits = 0, 0
	var e arrayEdits
	for _, i := range slices.Sorted(maps.Keys(edits)) {
		e.index, e.entry = append(e.index, i), append(e.entry, edits[i])
		if delete(w.model, i); edits[i] != nil && !isZero(edits[i]) {
			w.model[i] = edits[i]
		}
	}
	w.Root, err = w.Merge(&e, ArraySink{
		Emit: func(pages []ArrayPage) error {
			if len(pages) == 0 || len(pages) > MaxArrayBatch {
				return fmt.Errorf("%d pages are emitted together", len(pages))
			}
			for i := range pages {
				p := &pages[i]
				w.emits++
				p.Ref = journal.Ref{Epoch: 1, N: uint32(len(w.pages)), Off: uint32(p.Level), Leaf: block.Sum(p.Page)}
				w.pages[p.Ref], w.alive[p.Ref] = bytes.Clone(p.Page), true
			}
			return nil
		},
		Drop: func(r journal.Ref) {
			if !w.alive[r] {
				err = fmt.Errorf("page %d dropped twice", r.N)
			}
			if !w.forgetDrop {
				delete(w.alive, r)
			}
		},
	})
	return err
}

func (w *arrayWorld) check() error {
	seen, live := map[uint64][]byte{}, map[journal.Ref]bool{}
	if err := w.Walk(0, func(i uint64, entry []byte) error { seen[i] = bytes.Clone(entry); return nil }); err != nil {
		return err
	}
	err := w.WalkRefs(func(r journal.Ref, _ uint8, _ uint64) (bool, error) { live[r] = true; return true, nil })
	if err != nil {
		return err
	}
	if !maps.EqualFunc(seen, w.model, bytes.Equal) {
		return fmt.Errorf("walk finds %d entries, want %d", len(seen), len(w.model))
	}
	if !maps.Equal(live, w.alive) {
		return fmt.Errorf("%d pages reachable, %d by the accounting", len(live), len(w.alive))
	}
	got := bytes.Repeat([]byte{0xee}, w.Size)
	for i, want := range w.model {
		if err := w.Get(i, got); err != nil || !bytes.Equal(got, want) {
			return fmt.Errorf("entry %d is %x, want %x (%v)", i, got, want, err)
		}
		if err := w.Get(i+1, got); err != nil || isZero(got) != (w.model[i+1] == nil) {
			return fmt.Errorf("entry %d is %x (%v)", i+1, got, err)
		}
	}
	return nil
}

func (w *arrayWorld) run(draw func(lo, hi int) int, steps int) error {
	bases := []uint64{0, 0, 60, 4096 - 30, 1 << 18, 1 << 24, 1<<35 - 200}
	for step := range steps {
		edits := map[uint64][]byte{}
		for range draw(1, 20) {
			i := bases[draw(0, len(bases)-1)] + uint64(draw(0, 100))
			edits[i] = bytes.Repeat([]byte{byte(draw(0, 3))}, w.Size) // 0 clears
			if draw(0, 5) == 0 {
				edits[i] = nil
			}
		}
		if draw(0, 7) == 0 {
			for i := range w.model {
				edits[i] = nil
			}
		}
		if err := w.merge(edits); err != nil {
			return fmt.Errorf("step %d: %w", step, err)
		}
		if err := w.check(); err != nil {
			return fmt.Errorf("step %d: %w", step, err)
		}
	}
	return nil
}

// TestArrayModel: invariant B7.
func TestArrayModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(lo, hi int) int { return rapid.IntRange(lo, hi).Draw(rt, "n") }
		size := rapid.SampledFrom([]int{BlockEntrySize, ExtentEntrySize}).Draw(rt, "size")
		if err := newArrayWorld(size).run(draw, rapid.IntRange(1, 12).Draw(rt, "steps")); err != nil {
			rt.Fatal(err)
		}
	})
}

// TestArrayModelNotices: the negative control.
func TestArrayModelNotices(t *testing.T) {
	w := newArrayWorld(BlockEntrySize)
	w.forgetDrop = true
	if err := w.run(seeded(1), 10); err == nil {
		t.Error("a merge that forgets drops passed")
	} else {
		t.Log(err)
	}
}

func TestArrayTouchesLittle(t *testing.T) {
	w := newArrayWorld(ExtentEntrySize)
	one := bytes.Repeat([]byte{1}, ExtentEntrySize)
	if err := w.merge(map[uint64][]byte{1: one, 5000: one}); err != nil || w.Root.Levels != 3 || w.Root.Count != 5001 || w.emits != 5 {
		t.Fatalf("root %v, %d emits, %v", w.Root, w.emits, err)
	}
	root := w.Root
	if err := w.merge(map[uint64][]byte{1: one, 2: nil, 100: nil}); err != nil || w.Root != root || w.emits != 0 {
		t.Errorf("edits that change nothing: %v, %d emits, %v", w.Root, w.emits, err)
	}
	if err := w.merge(map[uint64][]byte{2: one}); err != nil || w.reads != 3 || w.emits != 3 {
		t.Errorf("one entry: %d reads, %d emits, %v", w.reads, w.emits, err)
	}
	var from []uint64
	if err := w.Walk(2, func(i uint64, _ []byte) error { from = append(from, i); return nil }); err != nil || !slices.Equal(from, []uint64{2, 5000}) {
		t.Errorf("walk from 2: %v, %v", from, err)
	}
	dst := make([]byte, ExtentEntrySize)
	if n := testing.AllocsPerRun(100, func() { _ = w.Get(5000, dst) }); n != 0 {
		t.Errorf("Get allocates %v times", n)
	}
}

func TestArrayRefuses(t *testing.T) {
	entry := make([]byte, BlockEntrySize)
	for name, e := range map[string]*arrayEdits{
		"out of order": {[]uint64{2, 1}, [][]byte{entry, entry}},
		"twice":        {[]uint64{0, 0}, [][]byte{entry, entry}},
		"beyond":       {[]uint64{1 << 36}, [][]byte{entry}},
		"short entry":  {[]uint64{1}, [][]byte{entry[:10]}},
	} {
		w := newArrayWorld(BlockEntrySize)
		if _, err := w.Merge(e, ArraySink{}); !errors.Is(err, ErrEdit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ref := journal.Ref{N: 1}
	for _, a := range []Array{
		{Size: 65}, {Size: 64, Root: journal.ArrayRoot{Levels: 7, Ref: ref}}, {Size: 64, Root: journal.ArrayRoot{Ref: ref}},
		{Size: 128, Root: journal.ArrayRoot{Ref: ref, Levels: 1, Count: 33}}, {Size: 64, Root: journal.ArrayRoot{Count: 1}},
	} {
		if err := a.Get(0, make([]byte, 128)); !errors.Is(err, ErrFormat) {
			t.Errorf("%v: %v", a.Root, err)
		}
	}
}

type hostileRefs []byte

func (h hostileRefs) Page(journal.Ref) ([]byte, error) { return h, nil }

// FuzzArray: invariant B8 for arrays.
func FuzzArray(f *testing.F) {
	f.Add([]byte{1}, uint8(6), uint64(1<<36), uint64(5))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 1}, uint8(2), uint64(4096), uint64(4095))
	f.Fuzz(func(t *testing.T, start []byte, levels uint8, count, index uint64) {
		page := make([]byte, block.PageSize)
		copy(page, start)
		a := Array{Pager: hostileRefs(page), Size: ExtentEntrySize, Root: journal.ArrayRoot{Ref: journal.Ref{N: 1}, Levels: levels, Count: count}}
		left, enough := 10_000, errors.New("enough")
		visit := func() error {
			if left--; left < 0 {
				return enough
			}
			return nil
		}
		check := func(err error) {
			if err != nil && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrEdit) && err != enough {
				t.Error(err)
			}
		}
		check(a.Get(index, make([]byte, ExtentEntrySize)))
		check(a.Walk(index, func(uint64, []byte) error { return visit() }))
		check(a.WalkRefs(func(journal.Ref, uint8, uint64) (bool, error) { return true, visit() }))
		_, err := a.Merge(&arrayEdits{[]uint64{index}, [][]byte{bytes.Repeat([]byte{7}, ExtentEntrySize)}}, ArraySink{
			Emit: func(pages []ArrayPage) error {
				for i := range pages {
					pages[i].Ref = journal.Ref{N: 2}
				}
				return nil
			}, Drop: func(journal.Ref) {}})
		check(err)
	})
}
