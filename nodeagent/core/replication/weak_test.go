package replication

import (
	"fmt"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// weakRules is what a recovery of a weak volume decides by: the real rules, or a variant that breaks one.
type weakRules struct {
	decide  func(t *Tails) (Tail, bool)
	abandon func(t *Tails, p Patience) (Tail, bool)
	own     func(l weakLog) journal.Chain // see Tail
}

var realWeak = weakRules{
	decide:  func(t *Tails) (Tail, bool) { return t.Decide() },
	abandon: func(t *Tails, p Patience) (Tail, bool) { return t.Abandon(p) },
	own:     func(l weakLog) journal.Chain { return weakLog{epochs: l.epochs[:l.own()]}.chain() },
}

// weakLog is a replica's log of one extent: the epoch of each record. A closed record is the last one; fresh tells that the extent
// that it names begins a new history.
type weakLog struct {
	epochs        []uint64
	closed, fresh bool
}

func (l weakLog) chain() journal.Chain {
	if len(l.epochs) == 0 {
		return journal.Chain{}
	}
	c := chainTo(l.epochs[len(l.epochs)-1], uint64(len(l.epochs)))
	c.Closed = l.closed
	return c
}

// own is how many records are the extent's own writer's.
func (l weakLog) own() (n int) {
	for n < len(l.epochs) && l.epochs[n] == 1 {
		n++
	}
	return n
}

func (l weakLog) clone() weakLog {
	return weakLog{append([]uint64(nil), l.epochs...), l.closed, l.fresh}
}

// weakWorld is R replicas of one extent, and the anchor, which a new history moves beyond the extent.
type weakWorld struct {
	logs     []weakLog
	promised []uint64
	acked    int      // records of the extent that a FLUSH in the history in force covers
	inForce  *weakLog // how the last recovery that served has closed the extent
}

func (w *weakWorld) clone() *weakWorld {
	c := &weakWorld{promised: append([]uint64(nil), w.promised...), acked: w.acked, inForce: w.inForce}
	for _, l := range w.logs {
		c.logs = append(c.logs, l.clone())
	}
	return c
}

// errWeak is a rule that a recovery broke; nil if it had to wait, or did right.
func (w *weakWorld) recover(r weakRules, epoch uint64, asked, seals, closes uint, patience Patience) error {
	n := len(w.logs)
	t := &Tails{Replicas: n, Quorum: 1}
	granted := 0
	for i := range n {
		if asked&(1<<i) == 0 {
			continue
		}
		w.promised[i] = epoch
		granted++
		l := w.logs[i]
		t.Add(Tail{Store: store(i), Held: len(l.epochs) > 0, Chain: l.chain(), Own: r.own(l)})
	}
	best, ok := r.decide(t)
	lost := false
	if !ok {
		if best, lost = r.abandon(t, patience); !lost {
			return nil
		}
	}
	var chosen weakLog
	for i, l := range w.logs {
		if best.Held && store(i) == best.Store {
			chosen = l.clone()
		}
	}
	switch seq := int(best.Chain.Seq); {
	case granted < Structure(n, 1):
		return fmt.Errorf("went on with %d of %d promises", granted, n)
	case lost && patience.Waited < patience.Limit:
		return fmt.Errorf("gave up after %d of %d ticks", patience.Waited, patience.Limit)
	case lost && granted == n:
		return fmt.Errorf("gave up although all have answered")
	case !lost && !chosen.fresh && chosen.own() < w.acked:
		return fmt.Errorf("went on from %d, acknowledged was %d", seq, w.acked)
	case w.inForce != nil && n%2 == 1 && (!best.Chain.Closed || best.Chain.Epoch.Number < w.inForce.epochs[len(w.inForce.epochs)-1]):
		return fmt.Errorf("went on from %d of epoch %d, but a history in force had closed the extent", seq, best.Chain.Epoch.Number)
	}
	if !best.Held {
		return nil
	}
	if !chosen.closed {
		chosen.epochs = append(chosen.epochs, epoch, epoch) // what the former writer left unsealed
		for i := range n {
			if asked&seals&(1<<i) != 0 {
				w.logs[i] = chosen.clone()
			}
		}
		chosen.epochs, chosen.closed, chosen.fresh = append(chosen.epochs, epoch), true, lost
	}
	good := 0
	for i := range n {
		if asked&(1<<i) != 0 && closes&(1<<i) != 0 {
			w.logs[i] = chosen.clone()
			good++
		}
	}
	if good >= Structure(n, 1) { // it serves
		w.inForce, w.acked = &chosen, 0 // all that counts is in the closed log now
	}
	return nil
}

// weakRuns plays, for R replicas: a writer whose records reach some of them, a recovery that any of them answer and that may die
// anywhere, the first writer going on with those that it did not ask, and another recovery.
func weakRuns(replicas int, r weakRules) error {
	most := 2
	if replicas > 3 {
		most = 1
	}
	all := uint(1)<<replicas - 1
	limit := uint64(5)
	held := make([]int, replicas)
	var walk func(i int) error
	walk = func(i int) error {
		if i < replicas {
			for h := range most + 1 {
				held[i] = h
				if err := walk(i + 1); err != nil {
					return err
				}
			}
			return nil
		}
		for first := uint(1); first <= all; first++ {
			for closes := range all + 1 {
				if closes&^first != 0 {
					continue
				}
				for v := range 4 {
					waited, seals := limit-uint64(v&1), closes
					if v&2 != 0 {
						seals = first
					}
					open := 0
					w := &weakWorld{promised: make([]uint64, replicas)}
					for _, h := range held {
						l := weakLog{}
						for range h {
							l.epochs = append(l.epochs, 1)
						}
						w.logs = append(w.logs, l)
						w.acked = max(w.acked, h)
						if h > 0 {
							open++
						}
					}
					if open < Structure(replicas, 1) { // nothing counts in an extent before a quorum has its open record
						w.acked = 0
					}
					if err := w.recover(r, 2, first, seals, closes, Patience{limit, waited}); err != nil {
						return fmt.Errorf("held %v, asked %b, waited %d: %w", held, first, waited, err)
					}
					for i := range w.logs { // the former writer goes on where it can
						if l := &w.logs[i]; w.promised[i] < 2 && len(l.epochs) > 0 {
							l.epochs = append(l.epochs, 1, 1)
							if w.inForce == nil && open >= Structure(replicas, 1) {
								w.acked = max(w.acked, len(l.epochs))
							}
						}
					}
					for second := uint(1); second <= all; second++ {
						for _, waited := range []uint64{limit - 1, limit} {
							if err := w.clone().recover(r, 3, second, second, second, Patience{limit, waited}); err != nil {
								return fmt.Errorf("held %v, asked %b, sealed at %b, closed at %b, then asked %b, waited %d: %w", held, first, seals, closes, second, waited, err)
							}
						}
					}
				}
			}
		}
		return nil
	}
	return walk(0)
}

// TestWeakRecovery is R13, exhaustively.
func TestWeakRecovery(t *testing.T) {
	for _, n := range []int{2, 3, 4} {
		if err := weakRuns(n, realWeak); err != nil {
			t.Errorf("R=%d: %v", n, err)
		}
	}
}

// TestWeakRecoveryCatches: variants that break R13 are noticed.
func TestWeakRecoveryCatches(t *testing.T) {
	for name, change := range map[string]func(r *weakRules){
		"decides as if strong": func(r *weakRules) {
			r.decide = func(t *Tails) (Tail, bool) { t.Quorum = Majority(t.Replicas); return t.Decide() }
		},
		"merges the longest tail": func(r *weakRules) {
			r.decide = func(t *Tails) (Tail, bool) {
				best, ok := t.Decide()
				for _, a := range t.got {
					if ok && a.Chain.Seq > best.Chain.Seq {
						best = a
					}
				}
				return best, ok
			}
		},
		"has no patience": func(r *weakRules) {
			r.abandon = func(t *Tails, p Patience) (Tail, bool) { p.Waited = p.Limit; return t.Abandon(p) }
		},
		"goes on with anybody": func(r *weakRules) {
			r.abandon = func(t *Tails, p Patience) (Tail, bool) {
				return t.longest(), p.Waited >= p.Limit && t.longest().Held
			}
		},
		"counts what recoveries have appended": func(r *weakRules) { r.own = func(l weakLog) journal.Chain { return l.chain() } },
		"trusts any closed log": func(r *weakRules) {
			r.decide = func(t *Tails) (Tail, bool) {
				if best := t.longest(); best.Chain.Closed {
					return best, true
				}
				return t.Decide()
			}
		},
	} {
		rules := realWeak
		change(&rules)
		if weakRuns(3, rules) == nil {
			t.Errorf("%s: was not noticed", name)
		}
	}
}

func TestAbandonIsForWeakVolumes(t *testing.T) {
	for _, c := range []struct{ r, w int }{{1, 1}, {2, 2}, {3, 2}, {5, 3}} {
		tails := Tails{Replicas: c.r, Quorum: c.w}
		for i := range Structure(c.r, c.w) - 1 {
			tails.Add(Tail{Store: store(i), Held: true, Chain: chainTo(1, 5)})
		}
		if _, ok := tails.Abandon(Patience{Limit: 1, Waited: 100}); ok {
			t.Errorf("R=%d W=%d: a strong volume gives up", c.r, c.w)
		}
	}
	damaged := Tails{Replicas: 3, Quorum: 1}
	damaged.Add(Tail{Store: store(0), Held: true, Chain: chainTo(1, 5)})
	damaged.Add(Tail{Store: store(1), Held: true, Unknown: true, Chain: chainTo(1, 3)})
	if _, ok := damaged.Abandon(Patience{Limit: 1, Waited: 100}); ok {
		t.Error("a replica is given up while the tail of another is damaged")
	}
	for r, want := range map[int]int{1: 1, 2: 1, 3: 2, 4: 2, 5: 3} {
		if got := Structure(r, 1); got != want {
			t.Errorf("R=%d: structure %d, want %d", r, got, want)
		}
	}
}

// TestSuffices: a writer that recovers in place knows what was acknowledged, of its own present session and nothing else.
func TestSuffices(t *testing.T) {
	mine := block.Epoch{Number: 7, Token: 9, Session: 2}
	former := mine
	former.Session = 1
	at := func(e block.Epoch, seq uint64) journal.Chain { return journal.Chain{Seq: seq, Epoch: e, LogLen: 1} }
	for name, c := range map[string]struct {
		quorum int
		tails  []Tail
		want   bool
	}{
		"all of it":          {1, []Tail{{Store: store(0), Held: true, Chain: at(mine, 5)}, {Store: store(1), Held: true, Chain: at(mine, 4)}}, true},
		"less than all":      {1, []Tail{{Store: store(0), Held: true, Chain: at(mine, 4)}, {Store: store(1), Held: true, Chain: at(mine, 3)}}, false},
		"one promise":        {1, []Tail{{Store: store(0), Held: true, Chain: at(mine, 5)}}, false},
		"a former session's": {1, []Tail{{Store: store(0), Held: true, Chain: at(former, 9)}, {Store: store(1), Held: true, Chain: at(former, 9)}}, false},
		"damaged":            {1, []Tail{{Store: store(0), Held: true, Unknown: true, Chain: at(mine, 5)}, {Store: store(1)}}, false},
		"a strong volume":    {2, []Tail{{Store: store(0), Held: true, Chain: at(mine, 5)}, {Store: store(1), Held: true, Chain: at(mine, 4)}}, false},
	} {
		tails := Tails{Replicas: 3, Quorum: c.quorum}
		for _, a := range c.tails {
			tails.Add(a)
		}
		if best, ok := tails.Suffices(mine, 5); ok != c.want || (ok && best.Chain.Seq != 5) {
			t.Errorf("%s: %v, best %d", name, ok, best.Chain.Seq)
		}
	}
}

// gripRuns plays every order of: a question whether the epoch is confirmed, its answer, a successor's promises, and a FLUSH. The
// answers of a majority that has promised another epoch are refusals; those on their way count.
func gripRuns(confirm func(g *Grip, asked, answered, lease uint64)) error {
	const lease, end = 3, 9
	for asked := uint64(0); asked < end; asked++ {
		for said := asked; said < end; said++ {
			for answered := said; answered < end; answered++ {
				for taken := range uint64(end) {
					var g Grip
					if said < taken { // the majority had not promised the successor yet
						confirm(&g, asked, answered, lease)
					}
					for now := answered; now < end+lease; now++ {
						if g.Holds(now) && now >= taken+lease {
							return fmt.Errorf("asked %d, said %d, answered %d; taken over at %d, acknowledges at %d", asked, said, answered, taken, now)
						}
					}
				}
			}
		}
	}
	return nil
}

// TestGrip is R14, with its control.
func TestGrip(t *testing.T) {
	if err := gripRuns(func(g *Grip, asked, _, lease uint64) { g.Confirm(asked, lease) }); err != nil {
		t.Error(err)
	}
	if gripRuns(func(g *Grip, _, answered, lease uint64) { g.Confirm(answered, lease) }) == nil {
		t.Error("counting from the answer was not noticed")
	}
	var g Grip
	g.Confirm(10, 5)
	g.Confirm(4, 5) // a late answer takes nothing away
	if !g.Holds(14) || g.Holds(15) || (&Grip{}).Holds(0) {
		t.Error("a lease does not end where it should")
	}
}
