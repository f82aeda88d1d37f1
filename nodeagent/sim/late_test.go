package sim

import (
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/replica"
)

// What was sent to a node while it was away, and arrives once it is back, is answered by that it lacks what was before: it is a member again at once, and not only
// when its suspicion is over. Control: volume's wasAway without what a store lacks.
func TestLateAnswersOfWhoWasAway(t *testing.T) {
	met := 0
	play(t, 3, func(s *script) {
		s.w.cfg.Late = true
		a := s.open(0)
		a.write(0, 8)
		s.flush(a)
		s.wait(time.Second)
		n := s.node(2)
		n.end(true)
		for end := s.w.s.now + 10*time.Second; s.member(a, n); s.wait(time.Millisecond) {
			s.require(s.w.s.now < end, "%s does not fail", n.name)
			a.write(8, 1)
		}
		n.start()
		back := s.w.s.now
		for end := back + 30*time.Second; !s.member(a, n); s.wait(20 * time.Millisecond) {
			s.require(s.w.s.now < end, "%s is no member again", n.name)
		}
		s.require(s.w.s.now-back < 4*time.Second, "who was away is back after %v", s.w.s.now-back)
		met += s.w.coverage[[2]string{waitedForNode, typeName(replica.TypeAppend)}]
		s.inPlace(a)
		s.checked(a)
	})
	if met < 5 {
		t.Errorf("only %d requests came late", met)
	}
}

// Where all stores refuse what they are asked to read, each of them late, reads and checkpoints fail; once they give it again every page is what it was. Control:
// volume's worse, with which no error outweighs an error, as it once did.
func TestAllRefuseLate(t *testing.T) {
	failed := 0
	play(t, 3, func(s *script) {
		s.w.cfg.Late, s.node(0).cache = true, newCache(0)
		a := s.open(0)
		a.write(0, 64)
		s.flush(a)
		s.wait(3 * time.Second)
		for range 5 {
			a.write(0, 16)
			s.flush(a)
			s.w.refusal = refusal{s.w.s.now, s.w.s.now + time.Hour, 6, s.w.s.rng.Uint64()}
			if err, ok := a.onSeat("checkpoint", a.e.Checkpoint); ok && err != nil {
				failed++
			}
			a.read(0, a.clients[0], 32, 16) // of what is not in the ring; it may fail, and not be wrong
			s.w.refusal.until = s.w.s.now
			s.wait(2 * time.Second)
			s.checked(a)
		}
		s.require(s.w.coverage[[2]string{readsRefused, ownRead}] > 0, "nothing was refused")
	})
	t.Logf("%d checkpoints failed", failed)
}
