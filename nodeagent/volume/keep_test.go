package volume

import (
	"math/rand/v2"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// atRest is an engine of which no task runs, with one extent that its replicas have whole.
func atRest(t *testing.T) *Engine {
	t.Helper()
	w := newWorld(t, 3)
	e, err := newEngine(w.deps(), w.create(1))
	must(t, err)
	e.progress = replication.NewProgress(0)
	x := block.ExtentID{Volume: e.spec.ID, N: 1}
	e.progress.Open(x, 1, 2, w.ids)
	e.log.extent, e.replayFrom, e.anchor.Anchor.Extent, e.holders[x] = x, x, x, w.ids
	for _, s := range w.ids {
		e.progress.Ack(x, s, 1)
	}
	e.stock.report.Version, e.stock.report.Synced, e.stock.sight = 1, 1, e.sight()
	return e
}

// old is the environment of a process that began long ago.
type old struct{ task.Env }

func (o old) Now() time.Duration { return o.Env.Now() + time.Hour }

// TestOpenedLate: what an engine finds as it opens is not old because its process is: the first checkpoint and the first cleaning fall due as long after the
// opening as after the ones before.
func TestOpenedLate(t *testing.T) {
	w := newWorld(t, 3)
	d := w.deps()
	d.Env = old{d.Env}
	e, err := newEngine(d, w.create(1))
	must(t, err)
	begin := d.Env.Now()
	for name, c := range map[string]struct {
		change func()
		after  time.Duration
	}{
		"garbage": {func() { e.tidy.garbage = 1 }, 12 * cleanPause},
		"writes":  {func() { e.dirty = 1 }, checkpointAge},
		"anchor":  {func() { e.anchor.Anchor.Extent = block.ExtentID{} }, checkpointAge},
	} {
		e.progress = replication.NewProgress(0)
		x := block.ExtentID{N: 1}
		e.progress.Open(x, 1, 2, w.ids)
		e.dirty, e.tidy.garbage, e.replayFrom, e.anchor.Anchor.Extent = 0, 0, x, x
		c.change()
		if e.tendDue(begin) || !e.tendDue(begin+c.after+2) {
			t.Errorf("%s: due at %s, opened at %s", name, e.tendAt(), begin)
		}
	}
}

// TestCalm: whatever is to be expected keeps an engine from its rest. The control: as it is, it rests.
func TestCalm(t *testing.T) {
	const now = 100 * time.Second
	for name, change := range map[string]func(e *Engine){
		"as it is":                       func(*Engine) {},
		"a replica lacks a record":       func(e *Engine) { e.progress.Current().Last++ },
		"a replica has failed":           func(e *Engine) { e.progress.Current().Members[2].Failed = true },
		"a copy more is wanted":          func(e *Engine) { e.spec.Replicas++ },
		"the journal has rolled":         func(e *Engine) { e.progress.Open(block.ExtentID{N: 2}, 2, 2, nil) },
		"a flush waits":                  func(e *Engine) { e.flushes = make([]flushWaiter, 1) },
		"no extent can be had":           func(e *Engine) { e.full = true },
		"a checkpoint is being made":     func(e *Engine) { e.busy = true },
		"a recovery waits":               func(e *Engine) { e.regain = true },
		"a recovery goes on":             func(e *Engine) { e.reloading = true },
		"a store is suspected":           func(e *Engine) { e.suspects[block.StoreID{1}] = &suspect{failed: now - suspicion} },
		"a closed extent lacks a copy":   func(e *Engine) { e.cat.extents.set(e.cat.extents.n, lacking()) },
		"the layout is another":          func(e *Engine) { e.stock.report.Version = 2 },
		"copies are not in place":        func(e *Engine) { e.stock.report.Synced = 0 },
		"copies are to move":             func(e *Engine) { e.stock.report.Misplace = 1 },
		"copies wait for a checkpoint":   func(e *Engine) { e.stock.report.Waiting = 1 },
		"the open extent is to leave":    func(e *Engine) { e.stock.report.Rolls = true },
		"an audit is to come":            func(e *Engine) { e.stock.again = true },
		"a store does not answer":        func(e *Engine) { e.stock.goneSince[block.StoreID{1}] = 1 },
		"others answer than at an audit": func(e *Engine) { e.stock.sight++ },
		"a checkpoint is due":            func(e *Engine) { e.dirty, e.lastCheck = 1, now-checkpointAge-1 },
		"cleaning is due":                func(e *Engine) { e.tidy.garbage = cleanWorth + 1 },
	} {
		e := atRest(t)
		change(e)
		if got, want := e.comeToRest(now), name == "as it is"; got != want || e.resting() != want {
			t.Errorf("%s: rests %v", name, got)
		}
	}
}

func lacking() blockmap.ExtentEntry {
	return blockmap.ExtentEntry{State: blockmap.ExtentClosed, Flags: extentDegraded}
}

// TestTendAt: what tendLoop would do now is due at a time that is not later, and what is due is something that it would do.
func TestTendAt(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	e := atRest(t)
	open := e.progress.Current().ID
	second := func(n int64) time.Duration { return time.Duration(r.Int64N(n)) * time.Second }
	counts := map[bool]int{}
	for range 100_000 {
		e.dirty, e.replayFrom, e.anchor.Anchor.Extent = 0, open, open
		e.tidy = tidy{more: r.IntN(20) == 0, left: r.IntN(5) == 0, began: second(100), next: second(100)}
		now := second(200)
		e.lastCheck, e.anchored = second(200), second(200)
		switch r.IntN(4) {
		case 0:
			e.dirty = r.Int64N(2 * checkpointBytes)
		case 1:
			e.replayFrom = block.ExtentID{}
		case 2:
			e.anchor.Anchor.Extent = block.ExtentID{}
		}
		if r.IntN(3) == 0 {
			e.tidy.garbage = r.Int64N(2 * cleanWorth)
		}
		anchored := e.anchored
		due, lagging := e.checkpointDue(now)
		want := due || e.cleanDue(now) || lagging && e.anchorDue(now)
		e.anchored = anchored
		if got := e.tendDue(now); got != want {
			t.Fatalf("at %s: due %v, want %v: dirty %d, checkpoint at %s, anchor at %s, %+v", now, got, want, e.dirty, e.lastCheck, e.anchored, e.tidy)
		}
		counts[want]++
	}
	if counts[true] < 10_000 || counts[false] < 10_000 {
		t.Errorf("one-sided: %v", counts)
	}
}

// TestUntilLook: an engine that rests looks when the lease is to be renewed, or when something falls due before that; one that does not, at every glance.
// Whatever it is, no renewal is left out, and all engines of a process look at the same moments.
func TestUntilLook(t *testing.T) {
	e := atRest(t)
	if renewEvery%glance != 0 || 4*renewEvery > Lease || e.comeToRest(0) != true {
		t.Fatalf("renewed each %s of %s, looked at each %s", renewEvery, Lease, glance)
	}
	for _, c := range []struct {
		name      string
		rests     bool
		now, want time.Duration
		dirty     int64
	}{
		{"it rests", true, 100 * time.Second, renewEvery, 0},
		{"it rests, and began at another time", true, 101 * time.Second, 1500 * time.Millisecond, 0},
		{"a checkpoint falls due", true, 101 * time.Second, time.Millisecond + 1, 1},
		{"it does not rest", false, 100*time.Second + 1, glance - 1, 0},
	} {
		e.rests, e.dirty, e.lastCheck = c.rests, c.dirty, 101*time.Second+time.Millisecond-checkpointAge
		if got := e.untilLook(c.now); got != c.want {
			t.Errorf("%s: looks in %s, want %s", c.name, got, c.want)
		}
	}
}

// counted is a signal that counts its notices.
type counted struct {
	task.Signal
	n int
}

func (c *counted) Notify() { c.n++ }

// TestStir: a record ends the rest, and so does what wakes the healer; what comes while nothing rests wakes nobody.
func TestStir(t *testing.T) {
	e := atRest(t)
	keep := &counted{}
	e.keep = keep
	for i, stir := range []func(){e.stir, func() { e.jmu.Lock(); e.append(&journal.Record{Type: journal.TypeSeal}); e.jmu.Unlock() }} {
		for _, rests := range []bool{true, false} {
			e.rests, keep.n = rests, 0
			stir()
			if e.resting() || keep.n == 1 != rests {
				t.Errorf("%d: rested %v, rests now %v, %d notices", i, rests, e.resting(), keep.n)
			}
		}
	}
	healed := make(chan struct{})
	e.rests, keep.n, e.heal = true, 0, &once{e: e}
	go func() { e.healLoop(); close(healed) }()
	<-healed
	if keep.n != 1 {
		t.Errorf("what woke the healer has made %d notices", keep.n)
	}
}

// once is a signal that is there once; then the engine has ended.
type once struct {
	counted
	e    *Engine
	over bool
}

func (o *once) Wait() {
	if o.over {
		o.e.mu.Lock()
		o.e.failed = ErrClosed
		o.e.mu.Unlock()
	}
	o.over = true
}

// TestRenewal: a majority that promises counts at once, whoever else does not answer, and once; less than that counts for a weak volume when nobody else is
// waited for, if the registry says so too.
func TestRenewal(t *testing.T) {
	for _, c := range []struct {
		name      string
		weak      bool
		of, good  int
		bad       int
		closed    bool
		counts    bool
		confirmed bool
	}{
		{"none", false, 3, 0, 0, false, false, false},
		{"one", false, 3, 1, 0, true, false, false},
		{"two", false, 3, 2, 0, false, true, false},
		{"two, weak", true, 3, 2, 0, false, true, true},
		{"one of two, weak", true, 2, 1, 0, false, false, false},
		{"one of two, weak, the other has failed", true, 2, 1, 1, false, false, true},
		{"one of two, weak, the other is silent", true, 2, 1, 0, true, false, true},
		{"one of two", false, 2, 1, 0, true, false, false},
		{"none of two, weak", true, 2, 0, 2, true, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := atRest(t)
			e.spec.Weak = c.weak
			e.lastQuorum = 0
			r := &renewal{e: e, asked: e.Env.Now(), of: c.of, left: c.of}
			for range c.good {
				r.heard(block.StoreID{1}, e.log.extent, nil)
			}
			for range c.bad {
				r.heard(block.StoreID{2}, e.log.extent, errSlow)
			}
			if c.closed {
				r.close()
			}
			e.mu.Lock()
			e.failed = ErrClosed
			none := e.tasks == 0
			e.mu.Unlock()
			if !none {
				e.tasksEnd.Wait()
			}
			if got := e.lastQuorum != 0; got != c.counts {
				t.Errorf("counts as a quorum: %v", got)
			}
			if got := e.grip.Holds(ticks(e.Env.Now())); got != c.confirmed {
				t.Errorf("confirms: %v", got)
			}
		})
	}
}
