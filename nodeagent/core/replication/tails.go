package replication

import (
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// Majority is the smallest number of members of which any two choices share one.
func Majority(replicas int) int { return replicas/2 + 1 }

// Structure is how many members must have the records that the journal stands on: those that open, close and confirm extents, and
// checkpoints. A volume is weak in its FLUSH only, so this is a majority also if one copy answers a FLUSH. Of an even number
// half is enough for a weak volume: whoever goes on with half needs the registry's compare-and-set too, which breaks the tie.
func Structure(replicas, quorum int) int {
	if quorum < Majority(replicas) {
		return (replicas + 1) / 2
	}
	return quorum
}

// Tail is what a replica says about an extent after it promised.
type Tail struct {
	Store   block.StoreID
	Held    bool          // it has the extent; if not, Chain is zero
	Freed   bool          // it does not have it, and may have freed it
	Past    bool          // it has freed it, and it was closed: the journal has gone on behind it
	Unknown bool          // its log ends in a bad record: the tail beyond Chain is not known
	Chain   journal.Chain // durable end
	Own     journal.Chain // of a weak volume, if the log is not closed: where what the extent's own writer has appended ends; zero: at Chain
}

// counts is the end that a log is compared by. What recoveries have appended to one that is not closed was never served: of a weak volume
// they may have gone on from less than others hold, which nobody was told.
func (a *Tail) counts() *journal.Chain {
	if a.Own.LogLen != 0 && !a.Chain.Closed {
		return &a.Own
	}
	return &a.Chain
}

// Tails gathers the promises for one extent and decides which log the volume goes on from.
type Tails struct {
	Replicas int // R of the extent
	Quorum   int // W of the extent: copies that answer a FLUSH
	// Unfreed tells that the extent was looked for in all stores and not freed: who does not hold it never did.
	Unfreed bool
	got     map[block.StoreID]Tail
}

// Add takes one replica's answer. A later answer of the same store replaces the former.
func (t *Tails) Add(a Tail) {
	if t.got == nil {
		t.got = make(map[block.StoreID]Tail)
	}
	t.got[a.Store] = a
}

// Granted is the number of replicas that have promised.
func (t *Tails) Granted() int { return len(t.got) }

// known is how many answers count for the tail: enough of them meet every quorum that a FLUSH can have had. One that may have
// freed the extent held, maybe, more than the others (invariant R12).
func (t *Tails) known() (n int) {
	for _, a := range t.got {
		if !a.Unknown && (!a.Freed || t.Unfreed) {
			n++
		}
	}
	return n
}

// Freed lists, in no order, the replicas that have promised and may have freed the extent. If there are none, those that do
// not hold it never did, and the journal ends where the others' logs say; else it may go on elsewhere, and what the others have of
// it, closed or not, may be what was left behind.
func (t *Tails) Freed() (out []Tail) {
	for _, a := range t.got {
		if a.Freed {
			out = append(out, a)
		}
	}
	return out
}

// Decide picks the log to go on from. ok is false as long as more answers are needed: a majority must have promised,
// and the answers with a known tail must meet every write quorum (R-W+1 of them). A replica with an unknown tail
// counts for the promise only, so the log is never shortened on its word (invariant R4). If no replica that counts
// holds the extent, best is the zero Tail.
//
// Of a weak volume, a log that is closed needs only meet every quorum that can have closed it otherwise: what follows a closed record
// counts in no FLUSH, so nobody has more that was acknowledged. So does an extent that nobody holds: had it been named, a quorum would.
func (t *Tails) Decide() (best Tail, ok bool) {
	best = t.longest()
	quorum := t.Quorum
	if best.Chain.Closed || !best.Held {
		quorum = Structure(t.Replicas, t.Quorum)
	}
	if len(t.got) < Majority(t.Replicas) || t.known() < max(t.Replicas-quorum+1, 1) {
		return Tail{}, false
	}
	return best, true
}

// longest finds the log that recovery prefers. What was acknowledged is in one with a known tail. One with an unknown tail is preferred only if
// it has more of the same epoch: the epoch that it was confirmed in may be that of an end that it has lost.
func (t *Tails) longest() (best Tail) {
	for _, a := range t.got {
		if a.Held && !a.Unknown && (!best.Held || preferred(&a, &best)) {
			best = a
		}
	}
	known := best
	for _, a := range t.got {
		if a.Held && a.Unknown && known.Held && a.Chain.Epoch == known.Chain.Epoch && a.Chain.Seq > known.Chain.Seq && (!best.Unknown || preferred(&a, &best)) {
			best = a
		}
	}
	return best
}

func preferred(a, b *Tail) bool {
	for _, c := range [][2]*journal.Chain{{a.counts(), b.counts()}, {&a.Chain, &b.Chain}} {
		if journal.Longer(c[0], c[1]) || journal.Longer(c[1], c[0]) {
			return journal.Longer(c[0], c[1])
		}
	}
	return less(a.Store, b.Store)
}

func less(a, b block.StoreID) bool { return string(a[:]) < string(b[:]) }

// Behind lists, in no order, the promised replicas whose log is not exactly the chosen one.
func (t *Tails) Behind(best Tail) (out []Tail) {
	for _, a := range t.got {
		if !a.Held || a.Chain.Seq != best.Chain.Seq || a.Chain.Hash != best.Chain.Hash || a.Unknown {
			out = append(out, a)
		}
	}
	return out
}

// Has tells whether the store has promised.
func (t *Tails) Has(s block.StoreID) bool {
	_, ok := t.got[s]
	return ok
}

// Clone is an independent copy.
func (t *Tails) Clone() *Tails {
	c := *t
	c.got = make(map[block.StoreID]Tail, len(t.got))
	for s, a := range t.got {
		c.got[s] = a
	}
	return &c
}
