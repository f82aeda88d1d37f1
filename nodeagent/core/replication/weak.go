package replication

import "mynetwork.io/mynetwork/nodeagent/core/block"

// What a weak volume has beside the rest: recoveries that do not wait for ever, and a writer that lets go by itself.

// Patience is how many ticks a recovery of a weak volume waits for replicas that may hold more than those that answer.
type Patience struct {
	Limit  uint64 // ticks
	Waited uint64 // ticks since the extent was first asked for
}

// Abandon picks the log of those that answer, although one that does not may hold what a FLUSH was answered for. ok is false
// unless the volume is weak, patience is over, and enough have promised to keep a former writer from ever committing again.
// A replica whose tail is damaged is not enough: to go on with it is to forget what it had, and then nobody could tell that anything was lost.
// The caller begins a new history with it (invariant R13); as long as Decide can tell, nothing is abandoned.
func (t *Tails) Abandon(p Patience) (best Tail, ok bool) {
	if t.Quorum >= Majority(t.Replicas) || p.Waited < p.Limit || t.known() < Structure(t.Replicas, t.Quorum) {
		return Tail{}, false
	}
	if _, sure := t.Decide(); sure || (len(t.Freed()) > 0 && !t.Unfreed) { // what was freed was not lost
		return Tail{}, false
	}
	best = t.longest()
	return best, best.Held
}

// Suffices picks the log of those that answer if that is all that a writer itself has had acknowledged, up to sequence least of
// this extent, by the session given: then nobody else need be waited for, whatever they hold.
func (t *Tails) Suffices(session block.Epoch, least uint64) (best Tail, ok bool) {
	best = t.longest()
	e := best.Chain.Epoch
	ok = t.Quorum < Majority(t.Replicas) && len(t.got) >= Structure(t.Replicas, t.Quorum) && best.Held && !best.Unknown &&
		e.Number == session.Number && e.Token == session.Token && e.Session >= session.Session && best.Chain.Seq >= least
	return best, ok
}

// Grip is a weak writer's right to acknowledge. One replica answers its FLUSH, and that one may be cut off together with it while
// another writer has taken the volume over; so it acknowledges nothing unless a majority has confirmed its epoch within a lease.
// Times are ticks of the caller's clock, which only goes forward. The zero value holds nothing.
type Grip struct {
	until uint64
}

// Confirm takes note of a confirmation that was asked for at a time. When it was answered does not matter: a later writer may have been
// promised the volume since the replicas said it.
func (g *Grip) Confirm(asked, lease uint64) { g.until = max(g.until, asked+lease) }

// Holds tells whether the writer may acknowledge now.
func (g *Grip) Holds(now uint64) bool { return now < g.until }
