package sim

import (
	"slices"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// large replaces the scenario's volume by one of several extents.
func (s *script) large() *seat {
	s.v = s.w.newVol(volume.Spec{ID: s.w.volumeID(), Pages: 2400, Replicas: 3, Extent: 1 << 20})
	return s.open(0)
}

// fillUp writes 4.5 MiB from a page on, so that nothing becomes garbage, and has a checkpoint made.
func (s *script) fillUp(a *seat, page int) {
	for i := range 24 {
		a.write(page+i*48, 48)
		if i%6 == 5 {
			s.flush(a)
		}
	}
	_, _ = a.onSeat("checkpoint", a.e.Checkpoint)
}

// inPlace waits until every copy is where the layout wants it.
func (s *script) inPlace(a *seat) {
	why := "-"
	for limit := s.w.s.now + convergeDeadline; why != "" && s.w.s.now < limit; s.wait(time.Second) {
		why = s.w.misplaced(s.v, a)
	}
	s.require(why == "", "%s", why)
}

// held is how many bytes of closed extents a node has, and of how many.
func (s *script) held(a *seat, n *node) (bytes int64, extents int) {
	list := a.e.Directory()
	for i := range list {
		if n.holdsWhole(&list[i]) {
			bytes += list[i].Bytes
			extents++
		}
	}
	return bytes, extents
}

// stored is how many bytes of the volume a node has, the open extent included.
func (s *script) stored(n *node) (bytes int64) {
	for _, x := range n.st.Extents(s.v.spec.ID) {
		st, _ := n.st.Stat(x)
		bytes += int64(st.Chain.LogLen) + int64(st.Chain.DataLen)
	}
	return bytes
}

// fullest is the node that has most, beside the one that the volume is used on.
func (s *script) fullest(a *seat) (best *node) {
	most := 0
	for _, n := range s.w.nodes {
		if _, k := s.held(a, n); n != a.n && k > most {
			best, most = n, k
		}
	}
	s.require(best != nil, "no node holds anything")
	return best
}

// checked reads everything, and compares.
func (s *script) checked(a *seat) {
	got, ok := a.readAll()
	s.require(ok && equal(got, a.r.state), "content: %s", explain(a.r.log, len(a.r.log), len(a.r.log), got))
}

// moved requires that the bytes that nodes read from each other since before are those that had to move, and 10 % at most on top.
func (s *script) moved(before, ideal int64, what string) {
	got := s.w.carried - before
	s.require(got >= ideal && got <= ideal*11/10+64<<10, "%s: %d bytes were copied, %d had to be", what, got, ideal)
}

// A drained node is emptied, a node that was added gets its share, and no more moves than has to.
func TestDrainAndAdd(t *testing.T) {
	play(t, 5, func(s *script) {
		s.node(4).become(absent)
		a := s.large()
		s.fillUp(a, 0)
		s.inPlace(a)
		n := s.fullest(a)
		_, extents := s.held(a, n)
		ideal := s.stored(n)
		s.require(extents > 2, "only %d extents are there to move", extents)
		before := s.w.carried
		n.become(drained)
		s.inPlace(a)
		s.moved(before, ideal, "drain")
		s.checked(a)
		s.require(removeNode(s.w, n), "%s can not be removed", n.name)
		before = s.w.carried
		s.node(4).become(active)
		s.inPlace(a)
		ideal = s.stored(s.node(4))
		s.require(ideal > 0, "the new node gets nothing")
		s.moved(before, ideal, "add")
		s.checked(a)
	})
}

// A fourth copy goes when three are wanted, also if the volume was opened anew since, and its directory has room for three names only.
func TestFourthCopyGoes(t *testing.T) {
	play(t, 4, func(s *script) {
		s.v = s.w.newVol(volume.Spec{ID: s.w.volumeID(), Pages: 2400, Replicas: 4, Extent: 1 << 20})
		a := s.open(0)
		s.fillUp(a, 0)
		s.inPlace(a)
		most := func(a *seat) (most int) {
			for _, x := range a.e.Directory() {
				holders := 0
				for _, n := range s.w.nodes {
					if n.holdsWhole(&x) {
						holders++
					}
				}
				most = max(most, holders)
			}
			return most
		}
		s.require(most(a) == 4, "%d copies where 4 are wanted", most(a))
		s.v.spec.Replicas = 3
		a = s.open(1)
		s.inPlace(a)
		for limit := s.w.s.now + convergeDeadline; most(a) != 3 && s.w.s.now < limit; s.wait(time.Second) {
		}
		s.require(most(a) == 3, "%d copies where 3 are wanted", most(a))
		s.checked(a)
		a = s.open(2)
		s.checked(a)
	})
}

// A node that is back within the grace time pulls what it missed, and nothing is copied elsewhere.
func TestBriefAbsence(t *testing.T) {
	play(t, 4, func(s *script) {
		a := s.large()
		s.fillUp(a, 0)
		s.inPlace(a)
		n := s.fullest(a)
		_, extents := s.held(a, n)
		before := s.w.carried
		n.end(true)
		s.wait(15 * time.Second)
		s.up(n.idx)
		s.inPlace(a)
		s.moved(before, 0, "brief absence")
		_, again := s.held(a, n)
		s.require(again >= extents, "%d extents of %d are left", again, extents)
		n.end(true) // the control: beyond the grace time its copies are made elsewhere
		s.wait(3 * time.Minute)
		s.require(s.w.carried > before+1<<20, "a node is gone and nothing is copied")
	})
}

// While one of three is away it misses all that is written, and pulls that when it is back.
func TestMissedIsPulled(t *testing.T) {
	play(t, 3, func(s *script) {
		a := s.large()
		s.fillUp(a, 0)
		s.inPlace(a)
		n := s.node(2)
		was := s.stored(n)
		n.end(true)
		s.wait(2 * time.Second)
		s.fillUp(a, 1200)
		before := s.w.carried
		s.up(2)
		s.inPlace(a)
		now := s.stored(n)
		s.require(now-was > 2<<20, "only %d bytes were missed", now-was)
		s.moved(before, now-was, "missed")
	})
}

// A store that could not be reached is a member again as soon as it answers, however short a time ago it failed. The control: one that answers, and did not
// get on with what it was sent, is not.
func TestBackAtOnce(t *testing.T) {
	back := func(s *script, fail func(n *node)) time.Duration {
		a := s.open(0)
		a.write(0, 8)
		s.flush(a)
		n := s.node(2)
		fail(n)
		for end := s.w.s.now + 10*time.Second; s.member(a, n); s.wait(100 * time.Millisecond) {
			s.require(s.w.s.now < end, "%s does not fail", n.name)
			a.write(8, 8)
		}
		failed := s.w.s.now
		n.diskDelay = 0
		if n.proc == nil {
			s.up(2) // takes a second
		}
		for end := failed + 30*time.Second; !s.member(a, n); s.wait(100 * time.Millisecond) {
			s.require(s.w.s.now < end, "%s is no member again", n.name)
		}
		took := s.w.s.now - failed
		s.inPlace(a)
		s.checked(a)
		return took
	}
	play(t, 3, func(s *script) {
		took := back(s, func(n *node) { n.end(true) })
		s.require(took < 4*time.Second, "who was away is back after %v", took)
	})
	play(t, 3, func(s *script) {
		took := back(s, func(n *node) { n.diskDelay = 5 * time.Second })
		s.require(took > 4*time.Second, "who was slow is back after %v", took)
	})
}

// What a store has missed of the extent that was open is copied as soon as that is closed, which is when the store is a member again: no look at all stores has to
// come by, of which the last one was a moment too early.
func TestCopiedAtOnce(t *testing.T) {
	play(t, 3, func(s *script) {
		a := s.open(0)
		a.write(0, 8)
		s.flush(a)
		s.wait(3 * time.Second)
		n := s.node(2)
		n.end(true)
		for end := s.w.s.now + 10*time.Second; s.member(a, n); s.wait(100 * time.Millisecond) {
			s.require(s.w.s.now < end, "%s does not fail", n.name)
			a.write(8, 8)
		}
		s.up(2)
		for end := s.w.s.now + 30*time.Second; !s.member(a, n); s.wait(20 * time.Millisecond) {
			s.require(s.w.s.now < end, "%s is no member again", n.name)
		}
		back := s.w.s.now
		for end := back + 30*time.Second; a.e.Status().Degraded > 0; s.wait(20 * time.Millisecond) {
			s.require(s.w.s.now < end, "%s has not got what it missed", n.name)
		}
		s.require(s.w.s.now-back < 1500*time.Millisecond, "what it missed is there after %v", s.w.s.now-back)
		s.checked(a)
	})
}

// What recovery may need stays where the journal says: nothing moves before the registry's anchor has passed it.
func TestNothingMovesBeforeTheAnchor(t *testing.T) {
	play(t, 5, func(s *script) {
		a := s.large()
		s.w.reg.away = true
		s.fillUp(a, 0)
		n := s.fullest(a)
		_, extents := s.held(a, n)
		n.become(drained)
		s.wait(time.Minute)
		_, now := s.held(a, n)
		s.require(now >= extents, "%d of %d extents are left, and the anchor is before them", now, extents)
		s.require(a.e.Upkeep().Waiting > 0, "what waits is not told: %+v", a.e.Upkeep())
		s.w.reg.away = false
		s.inPlace(a)
		_, now = s.held(a, n)
		s.require(now == 0, "%d extents are left", now)
		s.checked(s.open(1))
	})
}

// A clone finds the pages that it shares, wherever its parent's extents went.
func TestCloneFindsWhatMoved(t *testing.T) {
	play(t, 6, func(s *script) {
		a := s.large()
		s.fillUp(a, 0)
		s.v.takeSnapshot(a)
		_, _ = a.onSeat("checkpoint", a.e.Checkpoint)
		parent, c := s.v, s.w.newClone(s.v, s.v.snaps[0])
		s.v = c
		b := s.open(1)
		s.v = parent
		list := a.e.Directory()
		was := make(map[block.ExtentID][]block.StoreID)
		for _, x := range list {
			was[x.ID] = x.Members
		}
		for range 2 { // most copies move twice
			n := s.fullest(a)
			n.become(drained)
			s.inPlace(a)
			n.become(active)
			s.inPlace(a)
		}
		b.n.cache = newCache(0)
		s.v = c
		s.checked(b)
		s.checked(s.open(2))
		s.v = parent
	})
}

// A store that has the last copy of an extent is told of, as long as there is no room for another.
func TestLastCopiesAreTold(t *testing.T) {
	play(t, 4, func(s *script) {
		a := s.large()
		s.fillUp(a, 0)
		s.inPlace(a)
		x := a.e.Directory()[0]
		last := s.w.byStore[x.Members[0]]
		for _, n := range s.w.nodes {
			if n != last {
				n.full = true
			}
		}
		for _, m := range x.Members[1:] {
			_, err := s.w.byStore[m].st.Free(x.ID)
			s.require(err == nil, "%v", err)
		}
		s.wait(40 * time.Second)
		up := a.e.Upkeep()
		s.require(up.Only[last.store] == 1 && up.Below == 1 && up.Repair > 0, "a last copy is not told: %+v", up)
		last.become(drained)
		s.wait(40 * time.Second)
		s.require(last.holdsWhole(&x), "the last copy is gone")
		for _, n := range s.w.nodes {
			n.full = false
		}
		s.inPlace(a)
		s.require(len(a.e.Upkeep().Only) == 0, "still told: %+v", a.e.Upkeep())
		s.checked(a)
	})
}

// A volume whose copies are all in place asks stores for what they hold every two minutes, and at once when the layout changes.
func TestIdleAsksNothing(t *testing.T) {
	play(t, 5, func(s *script) {
		a := s.large()
		s.fillUp(a, 0)
		s.inPlace(a)
		s.wait(30 * time.Second) // what was under way is through
		asked := func() int { return s.w.sent[replica.TypeHoldings] }
		before := asked()
		s.wait(4 * time.Minute)
		s.require(asked()-before <= 2*len(s.w.nodes), "%d questions of an idle volume in four minutes", asked()-before)
		before = asked()
		s.fullest(a).become(drained)
		s.wait(20 * time.Second)
		s.require(asked()-before >= len(s.w.nodes), "%d questions after a change of the layout", asked()-before)
		s.inPlace(a)
		before = asked()
		n := s.fullest(a)
		n.end(true)
		s.wait(20 * time.Second)
		s.require(asked()-before >= len(s.w.nodes)-1, "%d questions after a store was lost", asked()-before)
		s.up(n.idx)
		s.inPlace(a)
		s.checked(a)
	})
}

// A replica whose disk is slower than the others' is left for one that is not, though no write waits for it; what it has stays there. Controls: where there
// is no other it is kept, and one that is as slow for a moment only is kept too.
func TestSlowReplicaIsLeft(t *testing.T) {
	for _, c := range []struct {
		name  string
		nodes int
		slow  time.Duration // for so long
		left  bool
	}{{"another is there", 4, 40 * time.Second, true}, {"no other", 3, 40 * time.Second, false}, {"for a moment", 4, 2 * time.Second, false}} {
		t.Run(c.name, func(t *testing.T) {
			play(t, c.nodes, func(s *script) {
				a := s.large()
				a.write(0, 8)
				s.flush(a)
				n := s.slowest(a, c.slow)
				s.require(!s.member(a, n) == c.left, "%s is a member: %v", n.name, s.member(a, n))
				s.require(!c.left || a.e.Status().Stats.Demoted == 1, "%d verdicts", a.e.Status().Stats.Demoted)
				s.inPlace(a)
				s.checked(a)
			})
		})
	}
}

// member tells whether a node has a replica of the open extent.
func (s *script) member(a *seat, n *node) bool {
	return slices.ContainsFunc(a.e.Status().Members, func(m volume.MemberStatus) bool { return m.Store == n.store && !m.Failed })
}

// slowest gives a replica a disk that takes a third of a second for everything, and writes meanwhile.
func (s *script) slowest(a *seat, d time.Duration) *node {
	at := slices.IndexFunc(s.w.nodes, func(n *node) bool { return n != a.n && s.member(a, n) })
	n := s.w.nodes[at]
	n.diskDelay = 300 * time.Millisecond
	slow := s.w.s.now + d
	for end := s.w.s.now + max(d, 20*time.Second); s.w.s.now < end; s.wait(400 * time.Millisecond) {
		if s.w.s.now >= slow {
			n.diskDelay = 0
		}
		a.write(16, 1)
		s.flush(a)
	}
	n.diskDelay = 0
	return n
}
