package sim

import (
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// weakShape is Shape of a seed as a weak volume that loses nodes for a while, and one for good.
func weakShape(seed uint64) Config {
	cfg := Shape(seed)
	cfg.Layouts = false
	if cfg.Weak = true; cfg.Replicas != 5 {
		cfg.Replicas = 3
	}
	return cfg
}

// TestWeakSeeds runs seeds with weak volumes. Some of them must give up what was flushed, or they say nothing.
func TestWeakSeeds(t *testing.T) {
	formats := &Formats{}
	coverage := make(map[[2]string]int)
	for seed := *flagFirst; seed < *flagFirst+uint64(*flagSeeds); seed++ {
		cfg := weakShape(seed)
		cfg.Formats = formats
		r := Run(seed, cfg)
		if r.Failure != nil {
			report(t, seed, cfg, r)
		}
		for k, n := range r.Coverage {
			coverage[k] += n
		}
	}
	t.Logf("%d new histories, %d gave up what was flushed", coverage[[2]string{"new history", "open"}], coverage[[2]string{"new history", "flushed data lost"}])
	if *flagSeeds >= 40 && coverage[[2]string{"new history", "open"}] == 0 {
		t.Error("no history was begun")
	}
}

// TestWeakSeedsNotice: were a loss not told, seeds would notice it.
func TestWeakSeedsNotice(t *testing.T) {
	formats := &Formats{}
	for seed := uint64(1); seed <= 300; seed++ {
		cfg := weakShape(seed)
		cfg.Formats, cfg.Lie = formats, silentLoss{}
		cfg.Calm, cfg.Clones = time.Second, 0
		if r := Run(seed, cfg); r.Failure != nil {
			t.Logf("seed %d: %.200s", seed, r.Failure.Error())
			if r.Failure.Promise == 1 {
				return
			}
		}
	}
	t.Fatal("300 seeds did not notice it")
}

// playWeak is play with a weak volume of three replicas on four nodes. at is the node whose store takes the writer's records alone in a
// while, a member of the open extent.
func playWeak(t *testing.T, f func(s *script, a *seat)) {
	t.Helper()
	play(t, 4, weakly(f))
}

func weakly(f func(s *script, a *seat)) func(s *script) {
	return func(s *script) {
		s.v.spec.Weak = true
		for i := range 5 * len(s.w.nodes) {
			a := s.open(i % len(s.w.nodes))
			for _, m := range a.e.Status().Members {
				if m.Store == a.n.store {
					f(s, a)
					return
				}
			}
		}
		s.require(false, "no node is a member")
	}
}

// alone cuts a node off, and has what is written there flushed by its own store.
func (s *script) alone(a *seat) {
	a.write(0, 8)
	s.flush(a)
	s.wait(time.Second)
	for i := range s.w.nodes {
		if i != a.n.idx {
			s.apart(a.n.idx, i)
		}
	}
	for range 6 { // more than what ends an extent
		a.write(4, 4)
	}
	s.flush(a)
}

// other is a node that is not a's.
func (s *script) other(a *seat, n int) int { return (a.n.idx + n) % len(s.w.nodes) }

// PROTOCOL 8: the replica that alone has what a FLUSH covered is away for good, as it seems. The history begins anew, and says so; when the
// replica comes back, its tail is kept for a person and comes back nowhere, until the person removes it.
func TestWeakTailIsKeptAndNotMerged(t *testing.T) {
	playWeak(t, func(s *script, a *seat) {
		s.alone(a)
		tail := a.e.Status().Appended
		flushed := a.r.flushed
		a.n.end(false)
		s.w.join()
		b := s.open(s.other(a, 1))
		h := b.e.Status().History
		s.require(!h.IsZero() && a.r.cut < flushed, "history %v, %d of %d flushed entries are left", h, a.r.cut, flushed)
		b.write(2, 3)
		s.flush(b)
		s.up(a.n.idx)
		s.kept(b, a.n, tail)
		c := s.open(a.n.idx)
		s.require(c.e.Status().History == h, "history %v after %v", c.e.Status().History, h)
		c.write(0, 40)
		_, _ = c.onSeat("checkpoint", c.e.Checkpoint)
		s.wait(40 * time.Second)
		s.kept(c, a.n, tail)
		d := s.open(s.other(a, 2))
		_, _ = d.onSeat("remove", func() error {
			list, err := d.e.RemoveTails()
			s.require(err == nil && len(list) == 1, "removed %v: %v", list, err)
			list, err = d.e.Tails()
			s.require(err == nil && len(list) == 0, "left is %v: %v", list, err)
			return nil
		})
	})
}

// kept requires that a node keeps a tail that ends in a sequence, and that an engine finds that one alone.
func (s *script) kept(on *seat, n *node, seq uint64) {
	_, _ = on.onSeat("tails", func() error {
		list, err := on.e.Tails()
		for try := 0; len(list) == 0 && try < 100; try++ { // repair finds it when the node is back
			on.p.Sleep(time.Second)
			list, err = on.e.Tails()
		}
		s.require(err == nil && len(list) == 1 && list[0].Store == n.store && list[0].Extent.IsAside() && list[0].Seq >= seq, "tails %v, want one on %s to %d: %v", list, n.name, seq, err)
		return nil
	})
	for _, x := range n.st.Extents(s.v.spec.ID) {
		if st, ok := n.st.Stat(x); ok && x.IsAside() {
			log := make([]byte, st.Chain.LogLen)
			var c journal.Chain
			err := n.st.ReadLog(x, 0, log)
			if err == nil {
				err = c.Walk(log, func(*journal.Record, block.Hash) error { return nil })
			}
			s.require(err == nil && c.Seq >= seq, "what is set aside ends in %d: %v", c.Seq, err)
		}
	}
}

// As long as the replica is back before patience is over, nothing is given up and nobody is told of a loss.
func TestWeakReplicaComesBackInTime(t *testing.T) {
	playWeak(t, func(s *script, a *seat) {
		s.alone(a)
		flushed := a.r.flushed
		a.n.end(false)
		s.w.join()
		try := s.v.tryOpen(s.node(s.other(a, 1)), nil, true)
		s.wait(weakPatience / 2)
		s.require(!try.done, "opened without the replica: %v", try.err)
		s.up(a.n.idx)
		s.w.waitFor(func() bool { return try.done })
		s.require(try.err == nil, "open: %v", try.err)
		b := s.seated(try)
		s.require(b.e.Status().History.IsZero() && a.r.cut >= flushed, "history %v, %d of %d entries", b.e.Status().History, a.r.cut, flushed)
	})
}

// A weak writer that is cut off with one replica acknowledges nothing once its lease is over (volume.TestGripGuardsFlush has the control: in
// whole clusters the recovery in place that it tries guards it too); a FLUSH that waits is answered, if nobody
// has taken the volume over, as soon as a majority is back.
func TestWeakWriterLetsGo(t *testing.T) {
	playWeak(t, func(s *script, a *seat) {
		s.alone(a)
		s.wait(volume.Lease + time.Second)
		a.write(20, 2)
		covered, answered := len(a.r.log), false
		a.p.Go("flush", func() {
			answered = a.e.Flush() == nil
			if answered {
				a.flushed(covered)
			}
		})
		s.wait(5 * time.Second)
		s.require(!answered, "a FLUSH was answered without a majority, a lease after the last one")
		s.w.join()
		s.w.waitFor(func() bool { return answered })
		s.require(a.e.Status().History.IsZero(), "nothing was lost, but history %v", a.e.Status().History)
	})
}

// A replica comes back with the tail of a history that was given up just when another writer takes the volume over. Control: were tails
// compared by length, and the anchor left where it was, the old tail would be merged, and that must show within 300 seeds: as wrong content, or
// as copies of the one history that are freed for the other.
func TestWeakTailComesBackInTakeOver(t *testing.T) {
	script := weakly(func(s *script, a *seat) {
		s.alone(a)
		a.n.end(false)
		s.w.join()
		b := s.open(s.other(a, 1))
		b.write(4, 2)
		s.flush(b)
		s.up(a.n.idx)
		c := s.open(s.other(a, 2))
		c.write(8, 2)
		s.open(a.n.idx)
	})
	play(t, 4, script)
	seed, r := playLie(4, 300, newByLength, script)
	if r.Failure == nil || (r.Failure.Promise != 1 && r.Failure.Promise != 6) { // its content, or the order to free what it has replaced
		t.Fatalf("a merged tail was not noticed: %v", r.Failure)
	}
	t.Logf("seed %d: %.200s", seed, r.Failure.Error())
}
