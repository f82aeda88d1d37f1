package blockmap

import (
	"errors"
	"slices"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

func TestAddr(t *testing.T) {
	a := New(3, 1<<40-1, 239)
	if a.Gen() != 3 || a.Block() != MaxBlock || a.Page() != 239 || a != 0x0003_ffffffffff_ef || a.String() != "3:1099511627775.239" {
		t.Errorf("parts of %s: %d %d %d", a, a.Gen(), a.Block(), a.Page())
	}
	for _, c := range []struct {
		a    Addr
		gen  uint16
		want Addr
		err  error
	}{
		{0, 5, 0, nil},
		{New(1, 7, 9), 2, New(3, 7, 9), nil},
		{New(1, 7, 9), MaxGeneration - 1, New(MaxGeneration, 7, 9), nil},
		{New(1, 7, 9), MaxGeneration, 0, ErrFormat},
		{New(0xffff, 7, 9), 1, 0, ErrFormat},
		{New(1, 0, 9), 0, 0, ErrFormat},
		{New(0, 1, block.MaxPages), 0, 0, ErrFormat},
	} {
		if got, err := c.a.Shift(c.gen); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s shifted %d: %s, %v", c.a, c.gen, got, err)
		}
	}
	if root, err := Clone(journal.MapRoot{}); root != (journal.MapRoot{}) || err != nil {
		t.Errorf("clone of the empty map: %v, %v", root, err)
	}
}

// list is Edits from a slice.
type list []Edit

func (l *list) Next() (e Edit, ok bool) {
	if len(*l) == 0 {
		return e, false
	}
	e, *l = (*l)[0], (*l)[1:]
	return e, true
}

// memory is a volume without a model: it keeps nodes and writes down drops and cuts.
type memory struct {
	nodes map[Addr][]byte
	reads int
	drops []Addr
	cuts  []Addr
	emits int
	fail  error
}

func (m *memory) Node(a Addr) ([]byte, error) {
	m.reads++
	if n := m.nodes[a]; n != nil {
		return n, nil
	}
	return nil, errNoNode
}

func (m *memory) merge(root journal.MapRoot, edits ...Edit) (journal.MapRoot, error) {
	m.reads, m.emits, m.drops, m.cuts = 0, 0, nil, nil
	l := list(edits)
	return Merge(m, root, &l, Sink{
		Emit: func(node []byte, _ uint8, _ uint64) (Addr, error) {
			m.emits++
			a := New(0, 1000, 0) + Addr(len(m.nodes))<<8
			m.nodes[a] = slices.Clone(node)
			return a, m.fail
		},
		Drop: func(a Addr) { m.drops = append(m.drops, a) },
		Cut:  func(a Addr, _ uint8) { m.cuts = append(m.cuts, a) },
	})
}

func newMemory() *memory { return &memory{nodes: map[Addr][]byte{}} }

func TestMergeRefusesBadEdits(t *testing.T) {
	a := New(0, 1, 0)
	for name, edits := range map[string][]Edit{
		"no pages":              {{0, 0, a}},
		"out of order":          {{5, 1, a}, {4, 1, a}},
		"overlap":               {{5, 2, a}, {6, 1, a}},
		"beyond the map":        {{MaxPages, 1, a}},
		"across the map's end":  {{MaxPages - 1, 2, a}},
		"beyond the block":      {{0, 2, New(0, 1, 239)}},
		"beyond any block":      {{0, 300, a}},
		"block zero":            {{0, 1, New(0, 0, 1)}},
		"too many generations":  {{0, 1, New(65, 1, 1)}},
		"hole over the address": {{1, ^uint64(0), 0}},
	} {
		m := newMemory()
		if root, err := m.merge(journal.MapRoot{}, edits...); !errors.Is(err, ErrEdit) || root != (journal.MapRoot{}) {
			t.Errorf("%s: %v, %v", name, root, err)
		}
	}
}

func TestMergeFailsWithItsSinkAndPager(t *testing.T) {
	m := newMemory()
	root, err := m.merge(journal.MapRoot{}, Edit{0, 1, New(0, 1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	m.fail = errors.New("full")
	if got, err := m.merge(root, Edit{0, 1, New(0, 2, 0)}); !errors.Is(err, m.fail) || got != root {
		t.Errorf("failed emit: %v, %v", got, err)
	}
	clear(m.nodes)
	if got, err := m.merge(root, Edit{0, 1, New(0, 2, 0)}); !errors.Is(err, errNoNode) || got != root {
		t.Errorf("failed read: %v, %v", got, err)
	}
}

// TestMergeTouchesLittle: invariant B3. Reads and emits are those of the touched paths; a discard of whole subtrees
// reads nothing below them.
func TestMergeTouchesLittle(t *testing.T) {
	m := newMemory()
	var edits []Edit
	for i := range uint64(64) {
		edits = append(edits, Edit{i << 18, 1, New(0, i+1, 0)})
	}
	root, err := m.merge(journal.MapRoot{}, edits...)
	if err != nil || root.Levels != 3 || m.emits != 64+64+1 {
		t.Fatalf("root %v, %d nodes, %v", root, m.emits, err)
	}
	same, err := m.merge(root, Edit{0, 1, New(0, 1, 0)}, Edit{1, 511, 0}, Edit{512, 1 << 17, 0})
	if err != nil || same != root || m.emits != 0 || len(m.drops)+len(m.cuts) != 0 {
		t.Errorf("edits that change nothing: root %v, %d emits, %d drops, %d cuts, %v", same, m.emits, len(m.drops), len(m.cuts), err)
	}
	one, err := m.merge(root, Edit{0, 1, New(0, 100, 0)})
	if err != nil || m.reads != 3 || m.emits != 3 || len(m.drops) != 4 {
		t.Errorf("one page: %d reads, %d emits, %d drops, %v", m.reads, m.emits, len(m.drops), err)
	}
	_, err = m.merge(one, Edit{1 << 18, 62 << 18, 0})
	if err != nil || m.reads != 1 || m.emits != 1 || len(m.cuts) != 62 || len(m.drops) != 1 {
		t.Errorf("discard of 62 subtrees: %d reads, %d emits, %d cuts, %d drops, %v", m.reads, m.emits, len(m.cuts), len(m.drops), err)
	}
	none, err := m.merge(one, Edit{0, ^uint64(0), 0})
	if err != nil || none != (journal.MapRoot{}) || m.reads != 0 || !slices.Equal(m.cuts, []Addr{Addr(one.Addr)}) || m.drops != nil {
		t.Errorf("discard of all: root %v, %d reads, cuts %v, drops %v, %v", none, m.reads, m.cuts, m.drops, err)
	}
}

func TestWalkFromResumes(t *testing.T) {
	v := newWorld(seeded(1), faults{}).vols[0]
	for _, page := range []uint64{0, 511, 512, 1 << 18, 1<<27 - 1, 1 << 27, MaxPages - 1} {
		v.put(page, 1)
	}
	v.merge()
	var all, steps []uint64
	if err := Walk(v, v.root, nil, func(page uint64, _ Addr) error { all = append(all, page); return nil }); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("enough")
	from := uint64(0)
	for {
		err := WalkFrom(v, v.root, from, nil, func(page uint64, _ Addr) error {
			steps = append(steps, page)
			from = page + 1
			return stop
		})
		if err == nil {
			break
		}
		if err != stop {
			t.Fatal(err)
		}
	}
	if !slices.Equal(all, steps) || len(all) != 7 {
		t.Errorf("in one go %v, in steps %v", all, steps)
	}
}

func TestWalkReadsNoLeavesForNodesAlone(t *testing.T) {
	m := newMemory()
	root, err := m.merge(journal.MapRoot{}, Edit{0, 1, New(0, 1, 0)}, Edit{512, 1, New(0, 1, 1)})
	if err != nil {
		t.Fatal(err)
	}
	m.reads = 0
	var levels []uint8
	err = Walk(m, root, func(_ Addr, level uint8, _ uint64) (bool, error) { levels = append(levels, level); return true, nil }, nil)
	if err != nil || m.reads != 1 || !slices.Equal(levels, []uint8{2, 1, 1}) {
		t.Errorf("%d reads, levels %v, %v", m.reads, levels, err)
	}
}

// TestDiffRuns: runs are as long as both sides allow, and equal subtrees are not read.
func TestDiffRuns(t *testing.T) {
	m := newMemory()
	a, err := m.merge(journal.MapRoot{}, Edit{0, 10, New(0, 1, 0)}, Edit{1 << 18, 1, New(0, 2, 0)})
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.merge(a, Edit{2, 4, New(0, 3, 7)}, Edit{6, 1, 0}, Edit{20, 3, New(0, 4, 0)}, Edit{1 << 27, 2, New(0, 5, 0)})
	if err != nil {
		t.Fatal(err)
	}
	m.reads = 0
	var got []PageChange
	if err := Diff(m, a, b, 0, nil, func(c PageChange) error { got = append(got, c); return nil }); err != nil {
		t.Fatal(err)
	}
	want := []PageChange{
		{2, 4, New(0, 1, 2), New(0, 3, 7)},
		{6, 1, New(0, 1, 6), 0},
		{20, 3, 0, New(0, 4, 0)},
		{1 << 27, 2, 0, New(0, 5, 0)},
	}
	if !slices.Equal(got, want) {
		t.Errorf("changes %v, want %v", got, want)
	}
	if m.reads != 2*3+1+3 { // both paths to page 0, the node above them, the new path; nothing below page 1<<18
		t.Errorf("%d reads", m.reads)
	}
	got = nil
	if err := Diff(m, a, b, 4, nil, func(c PageChange) error { got = append(got, c); return nil }); err != nil {
		t.Fatal(err)
	}
	want[0] = PageChange{4, 2, New(0, 1, 4), New(0, 3, 9)}
	if !slices.Equal(got, want) {
		t.Errorf("changes from page 4 %v, want %v", got, want)
	}
	m.reads = 0
	if err := Diff(m, b, b, 0, nil, nil); err != nil || m.reads != 0 {
		t.Errorf("diff with itself: %d reads, %v", m.reads, err)
	}
}

// TestRoots: a root that no merge can have made is refused everywhere.
func TestRoots(t *testing.T) {
	m := newMemory()
	for _, root := range []journal.MapRoot{
		{Addr: uint64(New(0, 1, 0)), Levels: 5}, {Addr: uint64(New(0, 1, 0))}, {Addr: uint64(New(0, 0, 3)), Levels: 1},
		{Addr: uint64(New(65, 1, 3)), Levels: 1}, {Addr: ^uint64(0), Levels: 4},
	} {
		_, lookup := Lookup(m, root, 0)
		_, merge := m.merge(root)
		for _, err := range []error{lookup, merge, Walk(m, root, nil, nil), Diff(m, root, journal.MapRoot{}, 0, nil, nil)} {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("root %v: %v", root, err)
			}
		}
	}
}

// hostile answers every address with the same page, so that a node can name itself.
type hostile struct{ page []byte }

func (h hostile) Node(Addr) ([]byte, error) { return h.page, nil }

// FuzzNode: invariant B8. Whatever a node says, reading ends, in an answer or in ErrFormat.
func FuzzNode(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 0, 0, 0, 0}, uint8(4), uint64(0)) // block 1, page 0: names itself
	f.Add([]byte{0, 1, 0, 0, 0, 0, 1, 0}, uint8(3), uint64(0)) // an ancestor's, at each step one more up
	f.Add([]byte{0, 1, 0, 0, 0, 0, 0xff, 0xff}, uint8(2), ^uint64(0))
	f.Add([]byte{0xff, 1, 0, 0, 0, 0, 0, 0}, uint8(1), uint64(7)) // page 255
	f.Fuzz(func(t *testing.T, start []byte, levels uint8, page uint64) {
		p := hostile{make([]byte, block.PageSize)}
		copy(p.page, start)
		root := journal.MapRoot{Addr: uint64(New(0, 1, 0)), Levels: levels}
		enough := errors.New("enough")
		left := 10_000
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
		_, err := Lookup(p, root, page)
		check(err)
		check(LookupRange(p, root, page, make([]Addr, 600)))
		check(Walk(p, root, func(a Addr, level uint8, _ uint64) (bool, error) {
			if level == 0 || level > MaxLevels || !a.validAt(0) {
				t.Errorf("visit of %s at level %d", a, level)
			}
			return true, visit()
		}, func(uint64, Addr) error { return visit() }))
		check(Diff(p, root, journal.MapRoot{}, 0, nil, func(PageChange) error { return visit() }))
		edits := list{{page % MaxPages, 1, New(0, 9, 9)}, {page%MaxPages + 1, 600, 0}}
		_, err = Merge(p, root, &edits, Sink{func([]byte, uint8, uint64) (Addr, error) { return New(0, 2, 0), nil },
			func(Addr) {}, func(Addr, uint8) {}})
		check(err)
	})
}

type shortPager struct{}

func (shortPager) Node(Addr) ([]byte, error) { return make([]byte, 100), nil }

func TestShortNode(t *testing.T) {
	if _, err := Lookup(shortPager{}, journal.MapRoot{Addr: uint64(New(0, 1, 0)), Levels: 1}, 0); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
}
