package replication

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// twinExtent is an extent as the naive twin keeps it: for each member, what it says.
type twinExtent struct {
	id          block.ExtentID
	first, last uint64
	closed      bool
	quorum      int
	flush       int
	durable     []uint64
	failed      []bool
}

func (x *twinExtent) holds(seq uint64) (n int) {
	for _, d := range x.durable {
		if d >= seq {
			n++
		}
	}
	return n
}

// twinProgress answers by trying every sequence.
type twinProgress struct {
	base    uint64
	extents []*twinExtent // all that ever were
}

// committed is the highest sequence such that it and all before are with a quorum of the extent that they are in.
func (p *twinProgress) committed() uint64 {
	at := p.base
	for _, x := range p.extents {
		for seq := max(x.first, p.base+1); seq <= x.last; seq++ {
			if x.holds(seq) < x.quorum {
				return at
			}
			at = seq
		}
		if !x.closed {
			return at
		}
	}
	return at
}

// flushed is committed, and in the extent behind it also what flush members hold of records in a row.
func (p *twinProgress) flushed() uint64 {
	at := p.committed()
	for _, x := range p.extents {
		if at < x.first-1 || at > x.last || (x.closed && at == x.last) {
			continue
		}
		for seq := max(x.first, at+1); seq <= x.last && x.holds(seq) >= x.flush; seq++ {
			at = seq
		}
		return at
	}
	return at
}

// released is likewise for all living members, and at least a quorum.
func (p *twinProgress) released() uint64 {
	at := p.base
	for _, x := range p.extents {
		for seq := x.first; seq <= x.last; seq++ {
			for i, d := range x.durable {
				if !x.failed[i] && d < seq {
					return min(at, p.committed())
				}
			}
			if x.holds(seq) < x.quorum {
				return min(at, p.committed())
			}
			at = max(at, seq)
		}
		if !x.closed {
			break
		}
	}
	return min(at, p.committed())
}

// tracker is what the model drives: Progress, or a variant that breaks a rule.
type tracker interface {
	Open(id block.ExtentID, first uint64, quorum int, members []block.StoreID) *Extent
	Ack(id block.ExtentID, s block.StoreID, seq uint64) bool
	Fail(id block.ExtentID, s block.StoreID)
	Retire() []*Extent
	Committed() uint64
	Flushed() uint64
	Released() uint64
	Current() *Extent
}

func progressRun(t *rapid.T, p tracker, base uint64) error {
	m := &twinProgress{base: base}
	r := rapid.SampledFrom([]int{1, 3, 5}).Draw(t, "replicas")
	seq, n := base, uint32(0)
	open := func() {
		seq++
		n++
		quorum := Majority(r)
		x := &twinExtent{id: block.ExtentID{Epoch: 1, N: n}, first: seq, last: seq, quorum: quorum, flush: quorum, durable: make([]uint64, r), failed: make([]bool, r)}
		if rapid.IntRange(0, 2).Draw(t, "weak") == 0 {
			x.flush = 1
		}
		p.Open(x.id, seq, quorum, stores(r)).Flush = x.flush
		m.extents = append(m.extents, x)
	}
	open()
	retired := 0
	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		cur := m.extents[len(m.extents)-1]
		before, flushed := p.Committed(), p.Flushed()
		switch rapid.IntRange(0, 9).Draw(t, "step") {
		case 0: // roll: closed here, then open there
			seq++
			cur.last, cur.closed = seq, true
			p.Current().Last, p.Current().Closed = seq, true
			open()
		case 1, 2, 3:
			seq += uint64(rapid.IntRange(1, 3).Draw(t, "records"))
			cur.last = seq
			p.Current().Last = seq
		case 4:
			x, i := m.extents[rapid.IntRange(0, len(m.extents)-1).Draw(t, "extent")], rapid.IntRange(0, r-1).Draw(t, "member")
			x.failed[i] = true
			p.Fail(x.id, store(i))
		default:
			x, i := m.extents[rapid.IntRange(0, len(m.extents)-1).Draw(t, "extent")], rapid.IntRange(0, r-1).Draw(t, "member")
			at := x.first + uint64(rapid.IntRange(0, int(x.last-x.first)+2).Draw(t, "at"))
			if at <= x.last {
				x.durable[i] = max(x.durable[i], at)
			}
			p.Ack(x.id, store(i), at)
		}
		if got, want := p.Committed(), m.committed(); got != want {
			return fmt.Errorf("committed %d, twin %d", got, want)
		}
		if got, want := p.Flushed(), m.flushed(); got != want {
			return fmt.Errorf("flushed %d, twin %d", got, want)
		}
		if p.Committed() < before || p.Flushed() < flushed {
			return fmt.Errorf("went back from %d committed, %d flushed", before, flushed)
		}
		if got, want := p.Released(), m.released(); got != want && (got > want || retired == 0) {
			return fmt.Errorf("released %d, twin %d", got, want)
		}
		for _, x := range p.Retire() {
			w := m.extents[retired]
			if x.ID != w.id || !w.closed || slices.ContainsFunc(seqs(w), func(s uint64) bool { return w.holds(s) < w.quorum }) {
				return fmt.Errorf("retired %s too early", x.ID)
			}
			for i := range w.durable {
				if !w.failed[i] && w.durable[i] < w.last {
					return fmt.Errorf("retired %s before member %d", x.ID, i)
				}
			}
			retired++
		}
		if got, want := p.Committed(), m.committed(); got != want {
			return fmt.Errorf("after retiring: committed %d, twin %d", got, want)
		}
		if got, want := p.Released(), m.released(); got != want {
			return fmt.Errorf("after retiring: released %d, twin %d", got, want)
		}
	}
	return nil
}

func seqs(x *twinExtent) (out []uint64) {
	for s := x.first; s <= x.last; s++ {
		out = append(out, s)
	}
	return out
}

// TestProgressModel is R3 and R8 against the twin.
func TestProgressModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.Uint64Range(0, 50).Draw(t, "base")
		if err := progressRun(t, NewProgress(base), base); err != nil {
			t.Fatal(err)
		}
	})
}

// ignoresClosed commits in an extent although the closed record before is not with a quorum.
type ignoresClosed struct{ *Progress }

func (p ignoresClosed) Committed() uint64 {
	c := p.Progress.Committed()
	for _, x := range p.Extents() {
		c = max(c, x.Durable())
	}
	return c
}

// flushesAhead answers a FLUSH in an extent although the closed record before is not with a quorum.
type flushesAhead struct{ *Progress }

func (p flushesAhead) Flushed() uint64 {
	f := p.Progress.Flushed()
	for _, x := range p.Extents() {
		f = max(f, x.with(x.Flush))
	}
	return f
}

// countsLiving counts quorums over the living members.
type countsLiving struct{ *Progress }

func (p countsLiving) Fail(id block.ExtentID, s block.StoreID) {
	p.Progress.Fail(id, s)
	if x := p.Find(id); x != nil && x.Quorum > 1 {
		x.Quorum--
	}
}

// releasesAtQuorum lets the ring go as soon as a quorum has it.
type releasesAtQuorum struct{ *Progress }

func (p releasesAtQuorum) Released() uint64 { return p.Progress.Committed() }

// forgetsTheFailed counts no more what a failed member had made durable.
type forgetsTheFailed struct{ *Progress }

func (p forgetsTheFailed) Ack(id block.ExtentID, s block.StoreID, seq uint64) bool {
	if x := p.Find(id); x != nil && x.member(s).Failed {
		return false
	}
	return p.Progress.Ack(id, s, seq)
}

// believesAnything takes answers beyond what was appended.
type believesAnything struct{ *Progress }

func (p believesAnything) Ack(id block.ExtentID, s block.StoreID, seq uint64) bool {
	if x := p.Find(id); x != nil && seq > x.Last {
		last := x.Last
		x.Last = seq
		defer func() { x.Last = last }()
	}
	return p.Progress.Ack(id, s, seq)
}

// retiresEarly drops an extent before it is whole.
type retiresEarly struct{ *Progress }

func (p retiresEarly) Retire() (done []*Extent) {
	for len(p.extents) > 1 {
		done = append(done, p.extents[0])
		p.extents = p.extents[1:]
	}
	return done
}

func TestProgressCatches(t *testing.T) {
	for name, variant := range map[string]func(p *Progress) tracker{
		"ignores the closed record":   func(p *Progress) tracker { return ignoresClosed{p} },
		"flushes ahead of the closed": func(p *Progress) tracker { return flushesAhead{p} },
		"counts over the living":      func(p *Progress) tracker { return countsLiving{p} },
		"releases at quorum":          func(p *Progress) tracker { return releasesAtQuorum{p} },
		"forgets the failed":          func(p *Progress) tracker { return forgetsTheFailed{p} },
		"believes anything":           func(p *Progress) tracker { return believesAnything{p} },
		"retires early":               func(p *Progress) tracker { return retiresEarly{p} },
	} {
		caught := false
		for seed := 0; seed < 300 && !caught; seed++ {
			err := rapid.Custom(func(t *rapid.T) error { return progressRun(t, variant(NewProgress(3)), 3) }).Example(seed)
			caught = err != nil
		}
		if !caught {
			t.Errorf("%s: was not noticed", name)
		}
	}
}

// TestRoll plays one roll step by step: nothing in the new extent counts before the closed record does in the old one.
func TestRoll(t *testing.T) {
	a, b := block.ExtentID{N: 1}, block.ExtentID{N: 2}
	p := NewProgress(0)
	x := p.Open(a, 1, 2, stores(3))
	x.Last, x.Closed = 5, true // 5 is the closed record
	y := p.Open(b, 6, 2, stores(3))
	y.Last = 8
	for i := range 3 {
		p.Ack(b, store(i), 8)
	}
	p.Ack(a, store(0), 5)
	p.Ack(a, store(1), 4)
	if p.Committed() != 4 || p.Released() != 0 || len(p.Retire()) != 0 {
		t.Fatalf("committed %d, released %d", p.Committed(), p.Released())
	}
	p.Ack(a, store(1), 5)
	if p.Committed() != 8 || p.Released() != 0 {
		t.Fatalf("committed %d, released %d", p.Committed(), p.Released())
	}
	p.Fail(a, store(2))
	if p.Released() != 8 || len(p.Retire()) != 1 || p.Find(a) != nil || p.Current() != y {
		t.Fatalf("released %d", p.Released())
	}
	if p.Ack(b, store(0), 9) || p.Ack(b, store(7), 8) || p.Ack(a, store(2), 5) {
		t.Fatal("an answer beyond what was sent, of a stranger, or for a retired extent counts")
	}
}
