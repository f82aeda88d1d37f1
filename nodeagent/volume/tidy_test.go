package volume

import (
	"errors"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/throttle"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// TestCleaningMakesWay: a pass for which nobody waits holds back after what it has copied, and only then, and not while space is short or somebody waits
// for its end.
func TestCleaningMakesWay(t *testing.T) {
	w := newWorld(t, 3)
	e := w.open(w.create(1), Options{})
	must(t, e.Write(ring.ID{}, make([]byte, block.PageSize), 0))
	must(t, e.Flush())
	for name, c := range map[string]struct {
		change func(c *cleaner)
		undo   func()
		waits  bool
		ends   bool
	}{
		"as it is":               {waits: true},
		"nothing was copied yet": {change: func(*cleaner) { e.tidy.beside.Moved(-1 << 40) }},
		"nothing of it lived":    {change: func(*cleaner) { e.tidy.beside.Moved(-1 << 40); e.tidy.beside.Begin() }},
		"it is on its way":       {change: func(*cleaner) { e.tidy.beside.Moved(-1 << 40); e.tidy.beside.Begin(); e.tidy.copied = 1 << 40 }, undo: func() { e.tidy.copied = 0 }, waits: true},
		"the pass is asked for":  {change: func(c *cleaner) { c.beside = false }},
		"much garbage":           {change: func(c *cleaner) { c.pressure = pressing }},
		"no extent can be had":   {change: func(*cleaner) { e.full = true }, undo: func() { e.full = false }},
		"somebody waits":         {change: func(*cleaner) { e.queued++ }, undo: func() { e.queued-- }},
		"a checkpoint is due":    {change: func(*cleaner) { e.dirty += 2 * checkpointBytes }, undo: func() { e.dirty -= 2 * checkpointBytes }, ends: true},
		"a recovery waits":       {change: func(*cleaner) { e.regain = true }, undo: func() { e.regain = false }, ends: true},
	} {
		p := &cleaner{e: e, beside: true, rules: throttle.Default()}
		e.mu.Lock()
		e.tidy.beside = throttle.State{}
		e.tidy.begin(e.Env.Now())
		e.tidy.beside.Moved(1 << 40)
		if c.change != nil {
			c.change(p)
		}
		if wait, goOn := p.turn(); wait > 0 != c.waits || goOn == c.ends {
			t.Errorf("%s: waits %v, goes on: %v", name, wait, goOn)
		}
		if c.undo != nil {
			c.undo()
		}
		e.mu.Unlock()
	}
	must(t, e.Close(true))
}

// TestPassEndsEarly: a pass for whose end somebody waits ends with the extent that it is at. What it has copied stays, and the next pass does the rest. The control:
// one that is asked for takes all.
func TestPassEndsEarly(t *testing.T) {
	var whole uint64
	for _, asked := range []bool{true, false} {
		w := newWorld(t, 3)
		s := w.create(1)
		s.Extent = 1 << 20
		e := w.open(s, Options{})
		m := &model{data: make([]byte, 4<<20), r: newModel(41, 1).r}
		must(t, e.Write(ring.ID{}, fill(m.data, 41), 0))
		for off := 0; off < len(m.data); off += 4 * block.PageSize { // three quarters of each extent
			must(t, e.Write(ring.ID{}, fill(m.data[off:off+3*block.PageSize], 42), int64(off)))
		}
		must(t, e.Flush())
		e.mu.Lock()
		e.queued++
		e.mu.Unlock()
		if asked {
			_, err := e.Clean()
			must(t, err)
		} else {
			must(t, e.Tidy())
		}
		e.mu.Lock()
		e.queued--
		cleaned, more := e.stats.Cleaned, e.tidy.more && e.tidy.next <= e.Env.Now()
		e.mu.Unlock()
		switch {
		case asked:
			if whole = cleaned; whole < 3 {
				t.Errorf("a pass that is asked for cleans %d extents", whole)
			}
		case cleaned == 0 || cleaned >= whole || !more:
			t.Errorf("a pass cleans %d extents of %d although somebody waits, and there is more: %v", cleaned, whole, more)
		}
		m.checkAll(t, e)
		for range 3 {
			_, err := e.Clean()
			must(t, err)
		}
		if st := e.Status().Stats; st.Cleaned < 3 || st.Freed < 3 {
			t.Errorf("%d extents cleaned, %d freed", st.Cleaned, st.Freed)
		}
		must(t, e.Close(true))
		e = w.open(s, Options{Force: true})
		m.checkAll(t, e)
		must(t, e.Close(true))
	}
}

// TestPassWithoutRoom: a pass that began while there was room ends with its extent when there is none, or a write waits for another; one that is made for room takes what fits, and its first
// extent in any case.
func TestPassWithoutRoom(t *testing.T) {
	for _, c := range []struct{ full, waits, wanted, ends bool }{{ends: false}, {full: true, ends: true}, {full: true, wanted: true}, {waits: true, ends: true}, {waits: true, wanted: true}} {
		e := &Engine{full: c.full}
		e.tidy.tight.waits = c.waits
		if got := (&cleaner{e: e, wanted: c.wanted}).awaited(); got != c.ends {
			t.Errorf("%+v: ends %v", c, got)
		}
	}
	const most = wantCopies / block.PageSize
	live := []int64{most / 2, most / 2, 1, 2 * most}
	for first, want := range map[uint32]int{0: 2, 3: 1} {
		c := &cleaner{order: []uint32{first, 1, 2}}
		if c.fits(live); len(c.order) != want || !c.more {
			t.Errorf("from extent %d: %v, more: %v", first, c.order, c.more)
		}
	}
}

// TestTimedWrites: one write at a time is timed, from the ring until a quorum has it.
func TestTimedWrites(t *testing.T) {
	w := newWorld(t, 3)
	e := w.open(w.create(1), Options{})
	for i := range int64(3) {
		must(t, e.Write(ring.ID{}, make([]byte, block.PageSize), i*block.PageSize))
		must(t, e.Flush())
	}
	e.mu.Lock()
	p := e.tidy.probe
	e.mu.Unlock()
	if p.last == 0 || p.wseq != 0 {
		t.Errorf("after three writes that are durable: %+v", p)
	}
	let := make(chan struct{})
	for _, n := range w.node {
		n.in <- func() { <-let }
	}
	must(t, e.Write(ring.ID{}, make([]byte, block.PageSize), 0))
	e.mu.Lock()
	under := e.tidy.probe.wseq != 0
	e.mu.Unlock()
	if !under {
		t.Error("a write that no store has taken is through")
	}
	close(let)
	must(t, errors.Join(e.Flush(), e.Close(true)))
}

// TestPressure: what is kept while there are writes is one and a half times what lives, and a little.
func TestPressure(t *testing.T) {
	const pages = 1 << 30 / block.PageSize
	extents := func(data uint32) *extentTable {
		var t extentTable
		t.set(1, blockmap.ExtentEntry{State: blockmap.ExtentClosed, DataBytes: data})
		t.set(2, blockmap.ExtentEntry{State: blockmap.ExtentOpen, DataBytes: 512 << 20})
		return &t
	}
	for name, c := range map[string]struct {
		data        uint32
		live        int64
		least, most float64
	}{
		"nothing":             {0, 0, 0, 0},
		"no garbage":          {1 << 30, pages, 0, 0},
		"as much again":       {2 << 30, pages, 0.6, 0.65},
		"as is kept":          {5<<29 + garbageSlack, pages, 1, 1},
		"three times":         {3<<30 + 1<<29, pages, 1.5, 1.7},
		"nothing lives":       {64 << 20, 0, 1, 1},
		"a little that lives": {512 << 20, 1, 7, 8},
	} {
		if got := pressureOf(extents(c.data), []int64{0, c.live, 0}); got < c.least || got > c.most {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestLeastRate: at pressure 1 a pass gains what becomes garbage while it goes on.
func TestLeastRate(t *testing.T) {
	for _, c := range []struct{ garbage, pressure, copies, frees, want int64 }{
		{10, 1, 0, 100 << 20, 0}, {10 << 20, 1, 50 << 20, 100 << 20, 10 << 20}, {10 << 20, 2, 25 << 20, 100 << 20, 40 << 20 / 3}, {0, 1, 50 << 20, 100 << 20, 0},
	} {
		got := leastRate(float64(c.garbage), float64(c.pressure), c.copies, c.frees)
		if int64(got) != c.want {
			t.Errorf("%+v: %.0f", c, got)
		}
	}
	var y tidy
	for range 20 {
		y.garbage = 50 << 20
		y.begin(y.began + 5*time.Second)
	}
	if y.rate < 9.9*(1<<20) || y.rate > 10.1*(1<<20) {
		t.Errorf("50 MiB in 5 s are %.1f MiB a second", y.rate/(1<<20))
	}
}
