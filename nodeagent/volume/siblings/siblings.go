// Package siblings finds replicas that are slower than the others, before anybody waits for them.
//
// A flush waits for a quorum, so a replica that is late costs nothing as long as the others are well; it costs everything when one of those fails. What
// is measured is therefore how long after the quorum a replica has the same record durable, of one record at a time (a probe), as a mean between two looks.
// One whose mean is above Rules.Above at every look of Rules.After is put behind the others for Rules.Rest, which doubles, up to Rules.Longest, each time that the
// replica turns out to be slow again soon after.
//
// # Invariants
//
//  1. Who is never behind the quorum by Above is never slow, whatever the load. (TestEven)
//  2. One late answer, or a few, make nobody slow; nor does what was seen before a pause. (TestSpike, TestIdle)
//  3. Who does not answer at all is slow after After, too. (TestSilent)
//  4. A verdict ends with its time; none lasts longer than Longest. (TestRest)
//
// Who belongs to every quorum is never behind one: of two replicas that both have to have it, none is found to be slow, nor are two of three that are
// both late.
//
// All is pure: time comes in. A Watch belongs to one writer, whose lock protects it; Saw takes no memory but for a replica's first time.
package siblings

import (
	"slices"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
)

// Rules say who is slow.
type Rules struct {
	Above   time.Duration // mean time after the quorum, of the records between two looks
	After   time.Duration // at all looks for so long
	Rest    time.Duration // so long others are preferred, the first time
	Longest time.Duration // and at most
}

// Default are the rules of writers that are told no others.
func Default() Rules {
	return Rules{Above: 50 * time.Millisecond, After: 3 * time.Second, Rest: 5 * time.Minute, Longest: time.Hour}
}

// Watch compares the replicas of one writer. The zero value is not usable: see New.
type Watch struct {
	rules  Rules
	extent block.ExtentID
	probe  uint64 // sequence that replicas are timed with; 0: none
	at     time.Duration
	last   uint64 // that was timed before
	known  map[block.StoreID]*replica
}

// replica is what is known of one.
type replica struct {
	waits   bool          // it has not the probe yet
	sum     time.Duration // after the quorum, of the probes since the last look
	probes  int           // that were timed since then
	begun   bool          // it is above the rule
	since   time.Duration // since then
	behind  time.Duration // when it was judged
	until   time.Duration // others are preferred
	rest    time.Duration // the next time for so long
	verdict bool
}

// New makes a watch.
func New(r Rules) *Watch { return &Watch{rules: r, known: map[block.StoreID]*replica{}} }

// Saw is told how far the members of the open extent are, and what a quorum has, whenever one of them has answered.
func (w *Watch) Saw(now time.Duration, committed uint64, x *replication.Extent) {
	if w.extent != x.ID {
		w.extent, w.probe = x.ID, 0
	}
	if w.probe == 0 {
		if committed <= w.last || committed < x.First {
			return
		}
		w.probe, w.at, w.last = committed, now, committed
		for i := range x.Members {
			w.of(x.Members[i].Store).waits = true
		}
	}
	waiting := false
	for i := range x.Members {
		m := &x.Members[i]
		r := w.of(m.Store)
		switch {
		case !r.waits || m.Failed:
		case m.Durable < w.probe:
			waiting = true
		default:
			r.waits = false
			r.sum += now - w.at
			r.probes++
		}
	}
	if !waiting {
		w.probe = 0
	}
}

func (w *Watch) of(s block.StoreID) *replica {
	r := w.known[s]
	if r == nil {
		r = &replica{rest: w.rules.Rest}
		w.known[s] = r
	}
	return r
}

// Look judges, some times a second, and tells whether one of the members of the open extent is slow from now on.
func (w *Watch) Look(now time.Duration, x *replication.Extent) (news bool) {
	for i := range x.Members {
		m := &x.Members[i]
		r := w.of(m.Store)
		behind, seen := r.sum/time.Duration(max(r.probes, 1)), r.probes > 0
		if w.probe != 0 && w.extent == x.ID && r.waits && !m.Failed && now-w.at > w.rules.Above {
			behind, seen = max(behind, now-w.at), true
		}
		r.sum, r.probes = 0, 0
		switch {
		case !seen || behind <= w.rules.Above:
			r.begun = false
		case !r.begun:
			r.begun, r.since = true, now
		case now-r.since >= w.rules.After && now >= r.until:
			w.condemn(r, now)
			r.behind, news = behind, true
		}
	}
	return news
}

// condemn has others preferred to a replica for a while.
func (w *Watch) condemn(r *replica, now time.Duration) {
	if r.verdict && now-r.until > r.rest { // it was well for longer than it was put behind
		r.rest = w.rules.Rest
	}
	r.verdict, r.begun = true, false
	r.until = now + r.rest
	r.rest = min(2*r.rest, w.rules.Longest)
}

// Slow tells whether others are preferred to a replica now, and how far it was behind.
func (w *Watch) Slow(now time.Duration, s block.StoreID) (behind time.Duration, slow bool) {
	r := w.known[s]
	if r == nil || !r.verdict || now >= r.until {
		return 0, false
	}
	return r.behind, true
}

// Verdict is one replica that others are preferred to.
type Verdict struct {
	Store  block.StoreID
	Behind time.Duration // the quorum, when it was judged
	Until  time.Duration // others are preferred
}

// Verdicts lists the replicas that others are preferred to now.
func (w *Watch) Verdicts(now time.Duration) (out []Verdict) {
	for s, r := range w.known {
		if r.verdict && now < r.until {
			out = append(out, Verdict{s, r.behind, r.until})
		}
	}
	slices.SortFunc(out, func(a, b Verdict) int { return slices.Compare(a.Store[:], b.Store[:]) })
	return out
}

// Calm tells whether looks will see nothing as long as nothing is written.
func (w *Watch) Calm(now time.Duration) bool {
	for _, r := range w.known {
		if r.begun || r.probes > 0 || r.verdict && now < r.until {
			return false
		}
	}
	return w.probe == 0
}

// Any tells whether others are preferred to any replica now.
func (w *Watch) Any(now time.Duration) bool {
	for _, r := range w.known {
		if r.verdict && now < r.until {
			return true
		}
	}
	return false
}
