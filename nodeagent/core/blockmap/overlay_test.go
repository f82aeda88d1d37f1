package blockmap

import (
	"maps"
	"slices"
	"testing"
)

func edits(o *Overlay) (out []Edit) {
	it := o.Sorted()
	for e, ok := it.Next(); ok; e, ok = it.Next() {
		out = append(out, e)
	}
	return out
}

func TestOverlaySorted(t *testing.T) {
	a, b := New(0, 1, 0), New(0, 2, 0)
	for name, c := range map[string]struct {
		do   func(o *Overlay)
		want []Edit
	}{
		"nothing":                  {func(*Overlay) {}, nil},
		"a run put in two":         {func(o *Overlay) { o.Put(5, 2, a+3); o.Put(2, 3, a) }, []Edit{{2, 5, a}}},
		"two runs":                 {func(o *Overlay) { o.Put(2, 3, a); o.Put(5, 3, b) }, []Edit{{2, 3, a}, {5, 3, b}}},
		"last put wins":            {func(o *Overlay) { o.Put(2, 3, a); o.Put(3, 1, b) }, []Edit{{2, 1, a}, {3, 1, b}, {4, 1, a + 2}}},
		"put over discard":         {func(o *Overlay) { o.Discard(0, 9); o.Put(3, 2, a) }, []Edit{{0, 3, 0}, {3, 2, a}, {5, 4, 0}}},
		"put at a discard's start": {func(o *Overlay) { o.Discard(3, 9); o.Put(2, 2, a) }, []Edit{{2, 2, a}, {4, 8, 0}}},
		"put at a discard's end":   {func(o *Overlay) { o.Discard(3, 9); o.Put(11, 2, a) }, []Edit{{3, 8, 0}, {11, 2, a}}},
		"discard under one run":    {func(o *Overlay) { o.Discard(3, 2); o.Discard(6, 1); o.Put(3, 9, a) }, []Edit{{3, 9, a}}},
		"discard over put":         {func(o *Overlay) { o.Put(3, 9, a); o.Discard(5, 2) }, []Edit{{3, 2, a}, {5, 2, 0}, {7, 5, a + 4}}},
		"discards meet":            {func(o *Overlay) { o.Discard(5, 2); o.Discard(9, 1); o.Discard(7, 2); o.Discard(1, 3) }, []Edit{{1, 3, 0}, {5, 5, 0}}},
		"discard of everything":    {func(o *Overlay) { o.Put(7, 1, a); o.Discard(0, ^uint64(0)); o.Discard(9, ^uint64(0)) }, []Edit{{0, ^uint64(0), 0}}},
		"discard of nothing":       {func(o *Overlay) { o.Discard(7, 0) }, nil},
	} {
		o := NewOverlay(7, nil)
		if c.do(o); !slices.Equal(edits(o), c.want) {
			t.Errorf("%s: %v, want %v", name, edits(o), c.want)
		}
	}
}

// TestOverlayModel crowds a small range of pages, so that probes collide and wrap, and follows each address dropped.
func TestOverlayModel(t *testing.T) {
	for seed := range int64(30) {
		draw := seeded(seed)
		alive, want := map[Addr]bool{}, map[uint64]Addr{} // want: 0 is a known hole
		o := NewOverlay(uint64(seed), func(a Addr) {
			if !alive[a] {
				t.Fatalf("seed %d: %s dropped twice", seed, a)
			}
			delete(alive, a)
		})
		next := New(0, 1, 0)
		for range 2000 {
			page, n := uint64(draw(0, 300)), uint64(draw(1, 9))
			switch draw(0, 9) {
			case 0:
				o.Discard(page, n)
			case 1:
				n = uint64(draw(1, 300)) // wider than the table at times
				o.Discard(page, n)
			case 2:
				if draw(0, 40) == 0 {
					o.Reset()
					clear(alive)
					clear(want)
				}
				continue
			default:
				o.Put(page, n, next)
				for i := range n {
					want[page+i], alive[next] = next, true
					next++
				}
				continue
			}
			for i := range n {
				want[page+i] = 0
			}
		}
		held := map[Addr]bool{}
		for page := range uint64(700) {
			a, known := o.Lookup(page)
			if w, ok := want[page]; ok != known || a != w {
				t.Fatalf("seed %d: page %d is %s %t, want %s %t", seed, page, a, known, w, ok)
			}
			if a != 0 {
				held[a] = true
			}
		}
		if !maps.Equal(held, alive) {
			t.Fatalf("seed %d: %d addresses held, %d by the accounting", seed, len(held), len(alive))
		}
	}
}

// TestPutAgain: the same put twice (a record replayed) drops nothing.
func TestPutAgain(t *testing.T) {
	o := NewOverlay(1, func(a Addr) { t.Errorf("%s dropped", a) })
	for range 2 {
		o.Put(5, 9, New(0, 1, 0))
	}
	if want := []Edit{{5, 9, New(0, 1, 0)}}; !slices.Equal(edits(o), want) {
		t.Errorf("%v", edits(o))
	}
}

// TestOverlayMemory: no allocation per put or look-up once the table has its size; a wide discard costs none either.
func TestOverlayMemory(t *testing.T) {
	o := NewOverlay(1, nil)
	fill := func() {
		for i := range uint64(1000) {
			o.Put(i*7919%(1<<28), 4, New(0, 1+i, 0))
		}
		o.Discard(0, 1<<40)
		o.Put(0, 240, New(0, 1, 0))
		o.Reset()
	}
	fill()
	size := o.Bytes()
	if n := testing.AllocsPerRun(10, fill); n != 0 || o.Bytes() != size {
		t.Errorf("%v allocations, %d bytes after %d", n, o.Bytes(), size)
	}
	var out [256]Addr
	var known [256]bool
	o.Put(9, 100, New(0, 1, 0))
	if n := testing.AllocsPerRun(10, func() { o.LookupRange(0, out[:], known[:]); _, _ = o.Lookup(3) }); n != 0 {
		t.Errorf("%v allocations to look up", n)
	}
	if o.Release(); o.Len() != 0 || o.Bytes() != 0 {
		t.Errorf("%d edits, %d bytes after Release", o.Len(), o.Bytes())
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	p, root := tebibyte()
	var out [256]Addr
	if n := testing.AllocsPerRun(10, func() {
		_, _ = Lookup(p, root, 12345678)
		_ = LookupRange(p, root, 12345678, out[:])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
