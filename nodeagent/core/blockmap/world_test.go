package blockmap

import (
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// world is a family of volumes with their map nodes, beside a plain model of each: the judge of every merge.
type world struct {
	vols []*volume
	draw func(lo, hi int) int
	bad  faults
	did  map[string]int // how often what matters was met
}

// faults are the negative controls: what a merge is made to do wrong.
type faults struct {
	forgetShift bool // entries of an ancestor's node are copied as they stand
	forgetDrop  int  // the n-th drop is not told
	forgetCut   bool
	reuseNode   bool // a new node takes an old one's address
	emitTwice   bool // a node is emitted again
	forgetDiff  bool // single pages that differ are not told
	firstWins   bool // a put does not replace another
}

// place is an address in absolute terms.
type place struct {
	vol   int
	block uint64
	page  uint8
}

type volume struct {
	w       *world
	id      int
	parent  *volume
	nodes   map[Addr][]byte
	next    Addr // next free address, generation 0
	root    journal.MapRoot
	overlay *Overlay
	model   map[uint64]place // what a reader must see, overlay included
	alive   map[place]bool   // named by the root or by the overlay, by the accounting of drops
	drops   int
	snaps   []snapshot
	err     error
}

type snapshot struct {
	root  journal.MapRoot
	model map[uint64]place
}

func newWorld(draw func(lo, hi int) int, bad faults) *world {
	w := &world{draw: draw, bad: bad, did: map[string]int{}}
	w.add(nil)
	return w
}

func (w *world) add(parent *volume) *volume {
	v := &volume{w: w, id: len(w.vols), parent: parent, nodes: map[Addr][]byte{}, next: New(0, 1, 0), model: map[uint64]place{},
		alive: map[place]bool{}}
	v.overlay = NewOverlay(uint64(v.id), v.lose)
	w.vols = append(w.vols, v)
	return v
}

var errNoNode = errors.New("no such node")

func (v *volume) birth(a Addr) (*volume, Addr, error) {
	b := v
	for range a.Gen() {
		if b = b.parent; b == nil {
			return nil, 0, fmt.Errorf("volume %d has no ancestor for %s", v.id, a)
		}
	}
	return b, New(0, a.Block(), a.Page()), nil
}

func (v *volume) Node(a Addr) ([]byte, error) {
	b, local, err := v.birth(a)
	if err != nil {
		return nil, err
	}
	if n := b.nodes[local]; n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("volume %d, %s: %w", v.id, a, errNoNode)
}

func (v *volume) place(a Addr) place {
	b, _, err := v.birth(a)
	if err != nil {
		v.fail("%w", err)
		return place{vol: -1}
	}
	return place{b.id, a.Block(), a.Page()}
}

func (v *volume) fail(format string, args ...any) {
	if v.err == nil {
		v.err = fmt.Errorf("volume %d: "+format, append([]any{v.id}, args...)...)
	}
}

// alloc gives n consecutive addresses of one block.
func (v *volume) alloc(n uint64) Addr {
	if uint64(v.next.Page())+n > 240 {
		v.next = New(0, v.next.Block()+1, 0)
	}
	a := v.next
	v.next += Addr(n)
	for i := range n {
		v.gain(a + Addr(i))
	}
	return a
}

func (v *volume) gain(a Addr) {
	p := v.place(a)
	if v.alive[p] {
		v.fail("%s gained twice", a)
	}
	v.alive[p] = true
}

func (v *volume) lose(a Addr) {
	if v.drops++; v.drops == v.w.bad.forgetDrop {
		return
	}
	p := v.place(a)
	if !v.alive[p] {
		v.fail("%s dropped twice, or never held", a)
	}
	delete(v.alive, p)
}

func (v *volume) put(page, n uint64) {
	a := v.alloc(n)
	if _, known := v.overlay.Lookup(page); !known || !v.w.bad.firstWins {
		v.overlay.Put(page, n, a)
	}
	for i := range n {
		v.model[page+i] = v.place(a + Addr(i))
	}
}

func (v *volume) discard(page, n uint64) {
	v.overlay.Discard(page, n)
	maps.DeleteFunc(v.model, func(p uint64, _ place) bool { return p >= page && p-page < n })
}

func (v *volume) merge() {
	emitted := map[[2]uint64]bool{}
	sink := Sink{
		Emit: func(node []byte, level uint8, index uint64) (Addr, error) {
			if key := [2]uint64{uint64(level), index}; emitted[key] {
				v.fail("node %d of level %d emitted twice", index, level)
			} else {
				emitted[key] = true
			}
			if isZero(node) {
				v.fail("an empty node emitted")
			}
			a := v.alloc(1)
			v.nodes[a] = slices.Clone(node)
			if v.w.bad.reuseNode && level == 1 {
				for old := range v.nodes {
					v.nodes[old] = v.nodes[a]
				}
			}
			for i := 0; i < len(node); i += 8 {
				v.w.did[fmt.Sprintf("entry of generation %d", node[i+6])]++
			}
			return a, nil
		},
		Drop: v.lose,
		Cut: func(a Addr, level uint8) {
			v.w.did["cut"]++
			if !v.w.bad.forgetCut {
				v.loseTree(journal.MapRoot{Addr: uint64(a), Levels: level})
			}
		},
	}
	if emit := sink.Emit; v.w.bad.emitTwice {
		sink.Emit = func(node []byte, level uint8, index uint64) (Addr, error) {
			_, _ = emit(node, level, index)
			return emit(node, level, index)
		}
	}
	m := newMerger(v, v.overlay.Sorted(), sink)
	if v.w.bad.forgetShift {
		m.load = func(t *table, page []byte, _ uint16) error { return t.load(page, 0) }
	}
	root, err := m.run(v.root)
	if err != nil {
		v.fail("merge: %w", err)
		return
	}
	if root.Levels > v.root.Levels && v.root.Levels > 0 {
		v.w.did["growth"]++
	}
	if root.Levels == 0 && v.root.Levels > 0 {
		v.w.did["empty"]++
	}
	v.root = root
	v.overlay.Reset()
}

func (v *volume) loseTree(root journal.MapRoot) {
	err := Walk(v, root, func(a Addr, _ uint8, _ uint64) (bool, error) { v.lose(a); return true, nil },
		func(_ uint64, a Addr) error { v.lose(a); return nil })
	if err != nil {
		v.fail("walk of a cut: %w", err)
	}
}

func (v *volume) clone() {
	v.merge()
	c := v.w.add(v)
	root, err := Clone(v.root)
	if err != nil {
		v.fail("clone: %w", err)
	}
	c.root, c.model = root, maps.Clone(v.model)
	c.alive = c.reach(root)
}

func (v *volume) snapshot() {
	v.merge()
	v.snaps = append(v.snaps, snapshot{v.root, maps.Clone(v.model)})
}

// rollback accounts for the change of root by Diff alone.
func (v *volume) rollback(s snapshot) {
	v.merge()
	swap := func(from, to Addr) {
		if from != 0 {
			v.lose(from)
		}
		if to != 0 {
			v.gain(to)
		}
	}
	err := Diff(v, v.root, s.root, 0, func(_ uint8, from, to Addr) error { swap(from, to); return nil }, func(c PageChange) error {
		if v.w.bad.forgetDiff && c.Count == 1 {
			return nil
		}
		for i := range Addr(c.Count) {
			swap(c.From+min(i, c.From), c.To+min(i, c.To)) // a hole stays a hole
		}
		return nil
	})
	if err != nil {
		v.fail("diff: %w", err)
	}
	v.w.did["rollback"]++
	v.root, v.model = s.root, maps.Clone(s.model)
}

func (v *volume) reach(root journal.MapRoot) map[place]bool {
	set := map[place]bool{}
	err := Walk(v, root, func(a Addr, _ uint8, _ uint64) (bool, error) { set[v.place(a)] = true; return true, nil },
		func(_ uint64, a Addr) error { set[v.place(a)] = true; return nil })
	if err != nil {
		v.fail("walk: %w", err)
	}
	return set
}

// check compares the root (and overlay) with the model, by every way to read.
func (v *volume) check() {
	seen := map[uint64]place{}
	err := Walk(v, v.root, nil, func(page uint64, a Addr) error { seen[page] = v.place(a); return nil })
	if err != nil {
		v.fail("walk: %w", err)
	}
	want := v.model
	if v.overlay.Len() == 0 {
		if !maps.Equal(seen, want) {
			v.fail("walk finds %d pages, want %d", len(seen), len(want))
		}
		if got := v.reach(v.root); !maps.Equal(got, v.alive) {
			v.fail("%d addresses reachable, %d by the accounting", len(got), len(v.alive))
		}
	}
	for page := range want {
		v.checkRange(page, 1)
	}
	for range 4 {
		v.checkRange(v.w.page(), v.w.draw(1, 700))
	}
}

func (v *volume) checkRange(page uint64, n int) {
	out, alone := make([]Addr, n), make([]Addr, n)
	if err := LookupRange(v, v.root, page, out); err != nil {
		v.fail("lookup of %d pages at %d: %w", n, page, err)
		return
	}
	known := make([]bool, n)
	v.overlay.LookupRange(page, out, nil)
	count := v.overlay.LookupRange(page, alone, known)
	for i, a := range out {
		p := page + uint64(i)
		var got place
		if a != 0 {
			got = v.place(a)
		}
		if got != v.model[p] {
			v.fail("page %d is at %v, want %v", p, got, v.model[p])
		}
		one, k := v.overlay.Lookup(p)
		if k != known[i] || k && one != alone[i] {
			v.fail("overlay on page %d: %s %t, in a range %s %t", p, one, k, alone[i], known[i])
		}
		if k {
			count--
		}
		if b, err := Lookup(v, v.root, p); err != nil || !k && b != a {
			v.fail("lookup of page %d: %s %v, in a range %s", p, b, err, a)
		}
	}
	if count != 0 {
		v.fail("overlay miscounts what it knows by %d", count)
	}
}

// page draws a page near the edges that matter.
func (w *world) page() uint64 {
	base := []uint64{0, 0, 400, 512, 1 << 18, 1<<18 - 40, 3 << 18, 1 << 27, 5<<27 - 60, MaxPages - 300}
	return base[w.draw(0, len(base)-1)] + uint64(w.draw(0, 60))
}

func (w *world) step() {
	v := w.vols[w.draw(0, len(w.vols)-1)]
	switch w.draw(0, 13) {
	default:
		v.put(w.page(), uint64(w.draw(1, 30)))
	case 4:
		v.put(w.page(), uint64(w.draw(1, 240)))
	case 5:
		v.discard(w.page(), uint64(w.draw(1, 100)))
	case 6: // whole subtrees
		level := uint8(w.draw(1, 4))
		v.discard(w.page()>>(fanBits*level)<<(fanBits*level), span(level)*uint64(w.draw(1, 2)))
	case 7:
		v.discard(w.page(), 1<<w.draw(0, 40))
	case 8:
		if len(w.vols) < 5 {
			v.clone()
		}
	case 9:
		v.snapshot()
	case 10:
		if len(v.snaps) > 0 {
			v.rollback(v.snaps[w.draw(0, len(v.snaps)-1)])
		}
	case 11, 12, 13:
		v.merge()
	}
	v.check()
}

// run plays steps and returns what went wrong first.
func (w *world) run(steps int) (err error) {
	for i := range steps {
		w.step()
		for _, v := range w.vols {
			if v.err != nil {
				return fmt.Errorf("step %d: %w", i, v.err)
			}
		}
	}
	for _, v := range w.vols {
		v.merge()
		v.check()
		for _, s := range v.snaps {
			v.rollback(s)
			v.check()
		}
		if v.err != nil {
			return v.err
		}
	}
	return nil
}

func seeded(seed int64) func(lo, hi int) int {
	r := rand.New(rand.NewSource(seed))
	return func(lo, hi int) int { return lo + r.Intn(hi-lo+1) }
}
