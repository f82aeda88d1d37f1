package sim

import (
	"slices"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// restored puts a former fact of the volume back into the registry.
func (s *script) restored(f volume.Fact) {
	f.Revision = "restored"
	s.w.reg.facts[s.v.spec.ID] = f
}

// fill makes the journal go on for some extents, and cleans what lies behind.
func (s *script) fill(a *seat) {
	for range 12 {
		a.write(0, 64)
		a.write(0, 64)
		_, _ = a.onSeat("clean", func() error { _, err := a.e.Clean(); return err })
		s.wait(time.Second)
	}
	s.flush(a)
}

// behind leaves of the first extent a copy that was never closed, a whole one, and one that is freed, and restores the registry to it.
func behind(s *script) {
	a := s.outsider()
	i := a.n.idx
	first := s.w.reg.facts[s.v.spec.ID]
	a.write(0, 8)
	s.flush(a)
	s.wait(time.Second)
	at := func(k int) *node { return s.w.byStore[first.Anchor.Members[k]] }
	at(0).end(false)
	a.write(8, 8)
	s.flush(a)
	s.wait(10 * time.Second)
	s.require(a.e.Status().Extent != first.Anchor.Extent, "the writer did not roll")
	at(1).end(false)
	a.write(16, 8)
	s.flush(a)
	s.wait(10 * time.Second)
	s.fill(a)
	a.n.end(false)
	for _, n := range []*node{at(0), at(1), a.n} {
		s.up(n.idx)
	}
	for k, closed := range []bool{false, true} {
		st, held := at(k).st.Stat(first.Anchor.Extent)
		s.require(held && st.Chain.Closed == closed, "copy %d: held %v, closed %v", k, held, st.Chain.Closed)
	}
	_, held := at(2).st.Stat(first.Anchor.Extent)
	s.require(!held, "the first extent is not freed")
	s.restored(first)
	s.wait(5 * time.Second)
	s.w.s.tracef("the registry is restored")
	s.open((i + 1) % 5)
}

// neverFreed has replicas say that they never had what they have freed.
type neverFreed struct{ honest }

func (neverFreed) onSend(_ *World, _ *proc, _ *node, r *request) bool {
	if r.typ != replica.TypePromise && r.typ != replica.TypeStat {
		return false
	}
	done := r.done
	r.done = func(st replica.Status, body []byte, err error) {
		if s, derr := replica.DecodeState(body); err == nil && st == replica.StatusOK && derr == nil {
			s.Freed, s.Past = false, false
			body = s.Encode()
		}
		done(st, body, err)
	}
	return false
}

// Found by seeds (30873, 27062, 49573): a replica that had freed the anchor of an old registry counted like one that never held it, and
// so a copy that its store had missed the end of was taken for the journal's end. Control: replicas that forget what they freed.
func TestStaleCopyOfFreedAnchor(t *testing.T) {
	play(t, 5, behind)
	seed, r := playLie(5, 40, func() lie { return neverFreed{} }, behind)
	if r.Failure == nil || r.Failure.Promise != 1 {
		t.Fatalf("that a stale copy was recovered from was not noticed: %v", r.Failure)
	}
	t.Logf("seed %d: %.200s", seed, r.Failure.Error())
}

// Found by seeds (14340, 14349): an old registry named an extent whose stores are gone for good. Control: if the journal is there, the
// recovery waits for them.
func TestAnchorOnStoresThatAreGone(t *testing.T) {
	play(t, 6, func(s *script) {
		a := s.outsider()
		i := a.n.idx
		first := s.w.reg.facts[s.v.spec.ID]
		a.write(0, 8)
		s.flush(a)
		for _, m := range first.Anchor.Members[:2] {
			s.fill(a)
			n := s.w.byStore[m]
			n.end(false)
			n.newDisk()
			s.up(n.idx)
			s.wait(2 * time.Minute)
		}
		s.inPlace(a)
		a.n.end(false)
		s.up(i)
		s.restored(first)
		b := s.open((i + 1) % 6)
		b.write(0, 8)
		s.flush(b)
		s.wait(time.Second)
		members := b.e.Status().Members
		b.n.end(false)
		for _, m := range members {
			if n := s.w.byStore[m.Store]; n.proc != nil {
				n.end(false)
			}
		}
		on := 0
		for _, n := range s.w.nodes {
			if n.proc != nil {
				on = n.idx
			}
		}
		try := s.v.tryOpen(s.node(on), nil, true)
		s.wait(time.Minute)
		s.require(!try.done || try.err != nil, "a writer went on without the journal's end")
		for _, n := range s.w.nodes {
			if n.proc == nil {
				s.up(n.idx)
			}
		}
		s.w.waitFor(func() bool { return try.done })
		s.require(try.err == nil, "open: %v", try.err)
		s.seated(try)
	})
}

// Found by a seed (27395): a writer that was started again used the number of an extent a second time, and a closed record of the
// former process, which one replica kept, led to the later of the two. Control: a ring that does not say which numbers were used.
func TestExtentNumbersAreUsedOnce(t *testing.T) {
	again := func(forget bool) func(s *script) {
		return func(s *script) {
			a := s.outsider()
			i := a.n.idx
			a.write(0, 8)
			s.flush(a)
			s.wait(time.Second)
			s.w.byStore[a.e.Status().Members[0].Store].end(false)
			s.wait(500 * time.Millisecond)
			for k := range s.w.nodes {
				if k != i && s.node(k).proc != nil {
					s.apart(i, k)
				}
			}
			a.write(8, 8)
			s.wait(8 * time.Second) // the next extents are opened in vain
			mem := s.node(i).rings[s.v.spec.ID]
			a.over, a.killed = false, false
			a.n.end(true)
			if forget {
				clear(mem[72:80])
			}
			s.w.join()
			s.up(i)
			s.require(s.v.resume(a) != nil, "the ring is not resumed")
		}
	}
	play(t, 5, again(false))
	if _, r := playLie(5, 20, nil, again(true)); r.Failure == nil || r.Failure.Promise != 1 {
		t.Fatalf("that a number was used twice was not noticed: %v", r.Failure)
	}
}

// A registry restored to a time before the volume was first opened, or to a writer that had not begun yet: what the stores hold is found, and
// nothing is begun anew over it.
func TestRegistryFromBeforeTheFirstOpen(t *testing.T) {
	for _, former := range []volume.Fact{{}, {Epoch: block.Epoch{Number: 1, Token: 5}}} {
		play(t, 5, func(s *script) {
			a := s.outsider()
			a.write(0, 8)
			s.flush(a)
			i := a.n.idx
			a.n.end(false)
			s.restored(former)
			s.wait(time.Second)
			b := s.open((i + 1) % 5) // the model compares all content
			b.write(8, 8)
			s.flush(b)
			s.fill(b)
			b.n.end(false)
			s.restored(former)
			s.wait(time.Second)
			s.open((i + 2) % 5)
		})
	}
}

// Found by a seed (49715): a store had promised a number to a writer that got no further, the registry was restored from before, and the next
// writer took the same number: that store refused it for as long as it worked, and what it kept was never made good. Control: the same, but
// for a registry that knows.
func TestNumberThatTheRegistryForgot(t *testing.T) {
	for _, forgets := range []bool{true, false} {
		play(t, 4, func(s *script) {
			a := s.open(0)
			a.write(0, 8)
			s.flush(a)
			s.wait(time.Second)
			before := s.w.reg.facts[s.v.spec.ID]
			x := s.w.byStore[a.e.Status().Members[0].Store]
			a.n.end(false)
			s.up(0)
			for k := range s.w.nodes {
				if k != x.idx {
					s.apart(x.idx, k)
				}
			}
			try := s.v.tryOpen(x, nil, true)
			s.w.waitFor(func() bool { return s.w.promised[promiseKey{x.store, s.v.spec.ID}].Number == 2 })
			s.require(!try.done, "a writer has opened the volume with one store: %v", try.err)
			x.end(false)
			s.w.join()
			s.up(x.idx)
			if forgets {
				s.restored(before)
			}
			s.wait(volume.Lease)
			b := s.open((x.idx + 1) % 4)
			s.require(b.e.Status().Epoch.Number == 3, "epoch %s", b.e.Status().Epoch)
			s.wait(time.Minute)
			s.require(b.e.Status().Degraded == 0, "%d extents lack copies", b.e.Status().Degraded)
		})
	}
}

// Found by seeds (5266, 33645): a registry from before a node was removed led to an extent of two replicas, one of which had been on that node, and
// the recovery waited for it for ever. Its copy had moved, which is done only once nothing can be added to an extent. Controls: the node is away, not
// removed, so its store may have to be heard; and the copy that moved does not say that it is closed.
func TestMemberWasRemoved(t *testing.T) {
	for name, waits := range map[string]bool{"removed": false, "away": true, "open": true} {
		var l lie
		if name == "open" {
			l = looksOpen{}
		}
		seed, r := playLie(5, 3, func() lie { return l }, func(s *script) {
			s.v = s.w.newVol(volume.Spec{ID: s.w.volumeID(), Pages: 200, Replicas: 2, Extent: 1 << 20})
			a := s.outsider()
			first := s.w.reg.facts[s.v.spec.ID]
			a.write(0, 8)
			s.flush(a)
			s.wait(time.Second)
			a.n.end(false)
			s.up(a.n.idx)
			b := s.open(a.n.idx)
			b.write(8, 8)
			s.flush(b)
			s.inPlace(b)
			gone := s.w.byStore[first.Anchor.Members[0]]
			gone.become(drained)
			s.inPlace(b)
			if name == "away" {
				gone.end(false)
			} else {
				s.require(removeNode(s.w, gone), "%s can not be removed", gone.name)
				s.up(gone.idx)
			}
			b.n.end(false)
			s.up(b.n.idx)
			s.restored(first)
			s.wait(volume.Lease)
			try := s.v.tryOpen(b.n, nil, true)
			s.wait(30 * time.Second)
			s.require(try.done != waits, "%s: the volume is open %v, %v", name, try.done, try.err)
			if name == "away" {
				s.up(gone.idx)
				s.w.waitFor(func() bool { return try.done })
			}
			if name != "open" {
				s.require(try.err == nil, "open: %v", try.err)
				s.seated(try) // the model compares all content
			}
		})
		if r.Failure != nil {
			t.Errorf("%s: seed %d: %v", name, seed, r.Failure)
		}
	}
}

// looksOpen has replicas say, when they are asked for it, that what they have of an extent is not closed.
type looksOpen struct{ honest }

func (looksOpen) onSend(_ *World, _ *proc, _ *node, r *request) bool {
	if r.typ != replica.TypeStat {
		return false
	}
	done := r.done
	r.done = func(st replica.Status, body []byte, err error) {
		if s, derr := replica.DecodeState(body); err == nil && st == replica.StatusOK && derr == nil {
			s.Chain.Closed = false
			body = s.Encode()
		}
		done(st, body, err)
	}
	return false
}

// rotten has stores say that they do not know what they have of any extent, or not even its open record.
type rotten struct {
	honest
	on, head bool
}

func (l *rotten) onSend(_ *World, _ *proc, _ *node, r *request) bool {
	if !l.on || r.typ != replica.TypePromise && r.typ != replica.TypeStat {
		return false
	}
	done := r.done
	r.done = func(st replica.Status, body []byte, err error) {
		if s, derr := replica.DecodeState(body); err == nil && st == replica.StatusOK && derr == nil && s.Held {
			if s.Unknown = true; l.head {
				s.Chain = journal.Chain{}
			}
			body = s.Encode()
		}
		done(st, body, err)
	}
	return false
}

// Found by seeds (1002 and 3046 with 16 MiB left): the first opening of a volume came no further than one store, where its open record rotted, and
// nobody could open the volume any more. Too few can have it for anything to have been acknowledged, so it is empty. Control: a quorum has extents of which
// nobody can read the open record, so the volume waits until somebody can.
func TestFirstOpeningInVain(t *testing.T) {
	inVain := func(s *script) *node {
		n := s.node(0)
		try := s.v.tryOpen(n, nil, true)
		for i := range s.w.nodes[1:] {
			s.apart(0, i+1)
		}
		s.w.waitFor(func() bool {
			return slices.ContainsFunc(n.st.Extents(s.v.spec.ID), func(x block.ExtentID) bool { st, _ := n.st.Stat(x); return st.Durable.Seq > 0 })
		})
		s.require(!try.done, "the volume was opened with one store: %v", try.err)
		n.end(false)
		s.w.join()
		s.up(0)
		s.require(len(n.st.Extents(s.v.spec.ID)) > 0 && len(s.node(1).st.Extents(s.v.spec.ID)) == 0, "node 0 has no extent, or node 1 has one")
		return n
	}
	for _, head := range []bool{false, true} {
		l := &rotten{head: head}
		if seed, r := playLie(3, 3, func() lie { l.on = false; return l }, func(s *script) {
			inVain(s)
			l.on = true
			again := s.v.tryOpen(s.node(1), nil, true)
			s.wait(30 * time.Second)
			s.require(again.done && again.err == nil, "open: %v, %v", again.done, again.err)
			l.on = false
			s.seated(again)
		}); r.Failure != nil {
			t.Errorf("head %v: seed %d: %v", head, seed, r.Failure)
		}
	}
	if seed, r := playLie(4, 3, nil, func(s *script) { // too few stores answer, until they do
		n := inVain(s)
		for _, x := range n.st.Extents(s.v.spec.ID) {
			_, err := n.st.Free(x)
			s.require(err == nil, "%v", err)
		}
		s.node(2).end(false)
		s.node(3).end(false)
		again := s.v.tryOpen(s.node(1), nil, true)
		s.wait(30 * time.Second)
		s.require(!again.done, "the volume was opened although a quorum may have its journal: %v", again.err)
		s.up(2)
		s.up(3)
		s.w.waitFor(func() bool { return again.done })
		s.require(again.err == nil, "open: %v", again.err)
		s.seated(again)
	}); r.Failure != nil {
		t.Errorf("stores that were away: seed %d: %v", seed, r.Failure)
	}
	l := &rotten{head: true}
	if seed, r := playLie(3, 3, func() lie { l.on = false; return l }, func(s *script) {
		a := s.open(0)
		a.write(0, 8)
		s.flush(a)
		a.n.end(false)
		s.up(0)
		s.restored(volume.Fact{})
		s.wait(volume.Lease)
		l.on = true
		try := s.v.tryOpen(s.node(1), nil, true)
		s.wait(30 * time.Second)
		s.require(!try.done, "a volume of which nothing can be read is open: %v", try.err)
		l.on = false
		s.w.waitFor(func() bool { return try.done })
		s.require(try.err == nil, "open: %v", try.err)
		s.seated(try)
	}); r.Failure != nil {
		t.Errorf("control: seed %d: %v", seed, r.Failure)
	}
}
