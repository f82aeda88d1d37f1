package sim

import (
	"errors"
	"strings"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// script is a cluster without chance in what happens: a test tells what goes wrong when. Everything that it reads is
// checked against the model as in a run with faults.
type script struct {
	w *World
	v *vol
}

// play runs a scenario on so many nodes, with R = 3, under some seeds: they change the order of tasks and messages.
func play(t *testing.T, nodes int, f func(s *script)) {
	t.Helper()
	if seed, r := playLie(nodes, 10, nil, f); r.Failure != nil {
		t.Fatalf("seed %d: %v\n%s", seed, r.Failure, strings.Join(r.Trace, "\n"))
	}
}

// playLie is play under so many seeds with lies; lie may be nil. It gives the first run that fails, or the last.
func playLie(nodes int, seeds uint64, lies func() lie, f func(s *script)) (seed uint64, r Result) {
	formats := &Formats{}
	for seed = 1; seed <= seeds && r.Failure == nil; seed++ {
		cfg := Config{Nodes: nodes, Replicas: 3, Volumes: 1, Clients: 1, Pages: 64, RingBytes: 1 << 20, Extent: 1 << 20, CachePages: 100, Formats: formats, Trace: 60}
		if lies != nil {
			cfg.Lie, cfg.faulty = lies(), true
		}
		w := newWorld(seed, cfg)
		s := &script{w: w}
		s.v = w.newVol(volume.Spec{ID: w.volumeID(), Pages: 64, Replicas: 3, Extent: 1 << 20})
		over := false
		w.home.Go("script", func() {
			w.home.Sleep(time.Second)
			f(s)
			over = true
		})
		w.until(10*time.Minute, func() bool { return over })
		if !over && w.failure == nil {
			w.violate(7, "the scenario does not come to its end: %s", w.stuck())
		}
		r = w.finish(seed)
	}
	return seed - 1, r
}

func (s *script) node(i int) *node { return s.w.nodes[i] }

// require breaks the scenario unless ok.
func (s *script) require(ok bool, format string, args ...any) {
	if !ok {
		s.w.violate(0, format, args...)
		s.w.home.Sleep(time.Hour)
	}
}

// open attaches the volume to a node with a new ring, by force, and checks what its writer finds.
func (s *script) open(i int) *seat {
	a := s.v.tryOpen(s.node(i), nil, true)
	s.w.waitFor(func() bool { return a.done })
	s.require(a.err == nil, "open: %v", a.err)
	return s.seated(a)
}

func (s *script) seated(a *attempt) *seat {
	st := &seat{v: s.v, n: a.n, p: a.p, e: a.e, mem: a.mem, clients: []*client{{buf: make([]byte, maxBuf)}}}
	a.n.rings[s.v.spec.ID] = a.mem
	s.v.seat = st
	s.require(s.v.establish(st), "what the new writer found can not be read")
	return st
}

// write puts n new values at a page.
func (st *seat) write(page, n int) {
	w := st.v.w
	c := st.clients[0]
	c.pending = &pending{id: w.requestID(), e: entry{kind: entryWrite, page: page, n: n, first: w.values + 1}, call: w.s.now}
	w.values += uint64(n)
	_, _ = st.onSeat("write", func() error { st.mutate(0, c); return nil })
}

func (s *script) flush(st *seat) {
	covered := len(st.r.log)
	err, ok := st.onSeat("flush", st.e.Flush)
	s.require(ok && err == nil, "flush: %v", err)
	st.flushed(covered)
}

// apart cuts a node off from others, both ways.
func (s *script) apart(i int, others ...int) {
	for _, o := range others {
		s.w.cut[i][o], s.w.cut[o][i] = true, true
	}
}

// up starts a node and waits until its store is there.
func (s *script) up(i int) {
	n := s.node(i)
	n.start()
	s.w.waitFor(func() bool { return n.srv != nil })
	s.w.home.Sleep(time.Second)
}

func (s *script) wait(d time.Duration) { s.w.home.Sleep(d) }

// PROTOCOL 1: the API server is away, the writer rolls E1→E2 and acknowledges; another writer must find E2.
func TestRollWhileRegistryIsAway(t *testing.T) {
	play(t, 5, func(s *script) {
		a := s.open(0)
		a.write(0, 8)
		s.flush(a)
		s.w.reg.away = true
		was := a.e.Status().Extent
		for i := range 8 {
			a.write(i*8, 8)
			a.write(0, 64)
		}
		s.flush(a)
		s.require(a.e.Status().Extent != was, "the writer did not roll")
		s.w.reg.away = false
		s.open(1)
	})
}

// PROTOCOL 2: an extent's replicas are those of its opening, whatever the layout says later.
func TestLiteralMembers(t *testing.T) {
	play(t, 5, func(s *script) {
		a := s.open(0)
		a.write(0, 10)
		s.flush(a)
		members := map[block.StoreID]bool{}
		kept := 0
		for _, m := range a.e.Status().Members {
			members[m.Store] = true
		}
		layout := s.w.layout
		s.w.layout = nil
		for _, id := range layout { // one of the three stays in the layout
			if !members[id] || kept == 0 {
				if members[id] {
					kept++
				}
				s.w.layout = append(s.w.layout, id)
			}
		}
		s.w.version++
		s.node(0).end(false)
		s.up(0)
		s.open(1)
	})
}

// PROTOCOL 3: what a writer did not find and did not acknowledge must not come back under a later one.
func TestCutRecordsStayCut(t *testing.T) {
	play(t, 3, func(s *script) {
		a := s.open(0)
		a.write(0, 4)
		s.flush(a)
		s.wait(time.Second)
		s.apart(0, 2)
		a.write(0, 2) // n0 and n1 have it
		s.wait(20 * time.Millisecond)
		s.apart(0, 1)
		a.write(2, 2) // only n0
		s.wait(20 * time.Millisecond)
		s.node(0).end(false)
		s.w.join()
		s.open(1) // from n1 and n2
		s.node(1).end(false)
		s.node(2).end(false)
		s.up(0)
		s.up(1)
		s.open(0) // from n0 and n1: the model has what the second writer found
	})
}

// PROTOCOL 4: a replaced disk has no vote; recovery waits for who knows.
func TestReplacedDiskHasNoVote(t *testing.T) {
	play(t, 3, func(s *script) {
		a := s.open(0)
		a.write(0, 4)
		s.flush(a)
		s.wait(time.Second)
		s.apart(0, 2)
		s.apart(1, 2)
		a.write(0, 4)
		covered := len(a.r.log)
		err, ok := a.onSeat("flush", a.e.Flush) // n0 and n1
		s.require(ok && err == nil, "flush: %v", err)
		a.flushed(covered)
		members := a.e.Status().Members
		s.require(len(members) == 3, "members %v", members)
		s.node(0).end(false)
		s.node(1).end(false)
		s.node(1).newDisk()
		s.w.join()
		s.up(1)
		try := s.v.tryOpen(s.node(2), nil, true)
		s.wait(30 * time.Second)
		s.require(!try.done || try.err != nil, "a writer went on without anybody who knows")
		s.up(0)
		if try.done {
			s.open(2)
			return
		}
		s.w.waitFor(func() bool { return try.done })
		s.require(try.err == nil, "open: %v", try.err)
		s.seated(try)
	})
}

// PROTOCOL 5: a ring whose epoch was superseded is never brought in.
func TestSupersededRing(t *testing.T) {
	play(t, 4, func(s *script) {
		a := s.open(0)
		a.write(0, 4)
		s.flush(a)
		a.write(0, 2)
		s.node(0).end(true)
		mem := s.node(0).rings[s.v.spec.ID]
		b := s.open(1)
		b.write(0, 4)
		s.flush(b)
		s.up(0)
		try := s.v.tryOpen(s.node(0), mem, false)
		s.w.waitFor(func() bool { return try.done })
		s.require(errors.Is(try.err, replication.ErrFenced), "resume of a superseded ring: %v", try.err)
		_, ok := b.readAll()
		s.require(ok, "the new writer does not serve")
		s.flush(b)
	})
}

// restart kills the process of a seat's node and resumes its ring.
func (s *script) restart(st *seat) *seat {
	st.over, st.killed = false, false
	st.n.end(true)
	s.up(st.n.idx)
	again := s.v.resume(st)
	s.require(again != nil, "the ring is not resumed")
	return again
}

// PROTOCOL 5: a request that is sent again after a newer acknowledged write to the same page is answered, not applied.
func TestResentRequest(t *testing.T) {
	play(t, 3, func(s *script) {
		a := s.open(0)
		a.write(0, 4)
		old := &pending{id: s.w.requestID(), e: entry{kind: entryWrite, page: 1, n: 2, first: s.w.values + 1}, call: s.w.s.now}
		s.w.values += 2
		page := make([]byte, 2*block.PageSize)
		fillPage(page[:block.PageSize], old.e.first)
		fillPage(page[block.PageSize:], old.e.first+1)
		_, _ = a.onSeat("write", func() error { return a.e.Write(old.id, page, block.PageSize) }) // the reply is lost
		a.clients = append(a.clients, &client{pending: old, buf: make([]byte, maxBuf)})
		a.landed(a.mem)
		a.write(1, 2)
		b := s.restart(a)
		_, _ = b.onSeat("resend", func() error { return b.e.Write(old.id, page, block.PageSize) })
		b.e.Resent()
		got, ok := b.readAll()
		s.require(ok && equal(got, b.r.state), "a resent request was applied again")
		s.flush(b)
		s.restart(b)
	})
}

// PROTOCOL 5: a slot that was never committed, below one that was, is no obstacle.
func TestHoleInRing(t *testing.T) {
	play(t, 3, func(s *script) {
		a := s.open(0)
		a.write(0, 4)
		s.flush(a)
		s.apart(0, 1, 2)
		id := s.w.requestID()
		lost := make([]byte, block.PageSize)
		fillPage(lost, 1<<40)
		_, _ = a.onSeat("write", func() error { return a.e.Write(id, lost, 20*block.PageSize) })
		slot, ok := findSlot(a.mem, id)
		s.require(ok, "no slot")
		s.wait(time.Millisecond)
		a.write(8, 2)
		s.node(0).end(false) // what n0 made durable of it counts for nothing: it is one of three
		s.node(0).rings[s.v.spec.ID] = a.mem
		n := int(a.mem[44]) | int(a.mem[45])<<8
		clear(a.mem[4096+int(slot)%n*64:][:8]) // as if the kill had come before the commit word
		s.w.join()
		s.node(0).newDisk() // nor does its disk
		s.up(0)
		b := s.v.tryOpen(s.node(0), a.mem, false)
		s.w.waitFor(func() bool { return b.done })
		s.require(b.err == nil, "resume: %v", b.err)
		st := &seat{v: s.v, n: b.n, p: b.p, e: b.e, mem: a.mem, r: a.r}
		got, ok := st.readAll()
		s.require(ok && equal(got, a.r.state), "a hole in the ring: %s", explain(a.r.log, len(a.r.log), len(a.r.log), got))
	})
}

// PROTOCOL 6, 13: the registry comes back as of yesterday; the next writer still gets above all that was promised.
func TestRegistryOfYesterday(t *testing.T) {
	play(t, 3, func(s *script) {
		yesterday := s.w.reg.facts[s.v.spec.ID]
		for i := range 3 {
			a := s.open(i)
			a.write(i, 4)
			s.flush(a)
			if i == 0 {
				yesterday = s.w.reg.facts[s.v.spec.ID]
			}
		}
		s.restored(yesterday)
		try := s.v.tryOpen(s.node(0), nil, true)
		s.w.waitFor(func() bool { return try.done })
		for try.err != nil { // refused: the number was taken; the next try begins above it
			s.wait(time.Second)
			try = s.v.tryOpen(s.node(0), nil, true)
			s.w.waitFor(func() bool { return try.done })
		}
		s.seated(try)
		s.require(try.e.Status().Epoch.Number > 3, "epoch %s", try.e.Status().Epoch)
	})
}

// PROTOCOL 6, 13: the registry comes back with an anchor that cleaning has freed since. What a store that was away has left
// of that extent is not the end of the journal; the next writer finds that by itself.
func TestRegistryFromBeforeCleaning(t *testing.T) {
	play(t, 4, func(s *script) {
		a := s.outsider()
		i := a.n.idx
		yesterday := s.w.reg.facts[s.v.spec.ID]
		a.write(0, 8)
		s.flush(a)
		s.wait(time.Second)
		away := s.w.byStore[yesterday.Anchor.Members[0]]
		away.end(false)
		s.fill(a)
		for _, m := range yesterday.Anchor.Members[1:] {
			_, held := s.w.byStore[m].st.Stat(yesterday.Anchor.Extent)
			s.require(!held, "the first extent is not freed")
		}
		a.n.end(false)
		s.up(away.idx)
		s.up(i)
		_, held := away.st.Stat(yesterday.Anchor.Extent)
		s.require(held, "nothing is left of the first extent")
		s.restored(yesterday)
		s.wait(5 * time.Second)
		b := s.open((i + 1) % 4)
		b.write(0, 4)
		s.flush(b)
	})
}
