package replication

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

func store(i int) block.StoreID { return block.StoreID{byte(i + 1)} }

func stores(n int) (out []block.StoreID) {
	for i := range n {
		out = append(out, store(i))
	}
	return out
}

func TestAdmit(t *testing.T) {
	e := func(n uint64, s uint32, t uint64) block.Epoch { return block.Epoch{Number: n, Session: s, Token: t} }
	for name, c := range map[string]struct {
		promised, sender block.Epoch
		raise, fenced    bool
	}{
		"first":                  {e(0, 0, 0), e(1, 0, 7), true, false},
		"same":                   {e(3, 1, 7), e(3, 1, 7), false, false},
		"later number":           {e(3, 1, 7), e(4, 0, 1), true, false},
		"later session":          {e(3, 1, 7), e(3, 2, 7), true, false},
		"earlier number":         {e(3, 0, 7), e(2, 9, 7), false, true},
		"earlier session":        {e(3, 2, 7), e(3, 1, 7), false, true},
		"other token":            {e(3, 1, 7), e(3, 1, 8), false, true},
		"other token, later":     {e(3, 1, 7), e(3, 2, 8), false, true},
		"nobody":                 {e(0, 0, 0), e(0, 0, 0), false, true},
		"number 0 after nothing": {e(0, 0, 0), e(0, 1, 5), false, true},
	} {
		raise, err := Admit(c.promised, c.sender)
		if raise != c.raise || errors.Is(err, ErrFenced) != c.fenced || (err != nil) != c.fenced {
			t.Errorf("%s: raise %v, %v", name, raise, err)
		}
	}
}

// acceptRun drives one replica with random writers and checks what it took against R1.
func acceptRun(t *rapid.T, admit func(promised, sender block.Epoch) (bool, error)) error {
	var promised block.Epoch
	tokens := map[uint64]uint64{}
	var highest block.Epoch
	for range rapid.IntRange(1, 30).Draw(t, "orders") {
		s := block.Epoch{Number: rapid.Uint64Range(0, 4).Draw(t, "number"), Session: rapid.Uint32Range(0, 2).Draw(t, "session"), Token: rapid.Uint64Range(1, 3).Draw(t, "token")}
		raise, err := admit(promised, s)
		if err != nil {
			continue
		}
		if raise {
			promised = s
		}
		if other, seen := tokens[s.Number]; seen && other != s.Token {
			return fmt.Errorf("number %d: tokens %d and %d were both taken", s.Number, other, s.Token)
		}
		tokens[s.Number] = s.Token
		if s.Less(highest) {
			return fmt.Errorf("%s was taken after %s", s, highest)
		}
		highest = s
	}
	return nil
}

func TestAdmitOneTokenNeverBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if err := acceptRun(t, Admit); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAdmitCatches: an acceptor that breaks R1 is noticed.
func TestAdmitCatches(t *testing.T) {
	for name, admit := range map[string]func(p, s block.Epoch) (bool, error){
		"ignores the token": func(p, s block.Epoch) (bool, error) {
			s.Token = p.Token
			return Admit(p, s)
		},
		"does not keep what it promised": func(p, s block.Epoch) (bool, error) {
			_, err := Admit(p, s)
			return false, err
		},
		"takes earlier sessions": func(p, s block.Epoch) (bool, error) {
			if s.Number == p.Number && s.Token == p.Token {
				return false, nil
			}
			return Admit(p, s)
		},
	} {
		caught := false
		for seed := range 200 {
			err := rapid.Custom(func(t *rapid.T) error { return acceptRun(t, admit) }).Example(seed)
			caught = caught || err != nil
		}
		if !caught {
			t.Errorf("%s: was not noticed", name)
		}
	}
}

// chainTo is the end of the log of writer e at sequence n.
func chainTo(e, n uint64) journal.Chain {
	return journal.Chain{Seq: n, Epoch: block.Epoch{Number: e}, Hash: block.Sum(fmt.Appendf(nil, "%d/%d", e, n)), LogLen: 1}
}

// decide is what a recovery does with answers: nil Tail, false if it has to wait.
type decide func(replicas, quorum int, answers []Tail) (Tail, bool)

func realDecide(replicas, quorum int, answers []Tail) (Tail, bool) {
	t := Tails{Replicas: replicas, Quorum: quorum}
	for _, a := range answers {
		t.Add(a)
	}
	return t.Decide()
}

// enumerate tries every write set of one writer: each replica holds 0..3 records, or lost its tail from there on
// (unknown), and every subset of answers. A record counts as acknowledged if a quorum held it before the damage.
func enumerate(replicas, quorum int, d decide) error {
	const most = 3
	held, lost := make([]int, replicas), make([]int, replicas) // lost: how many records damage took
	var walk func(i int) error
	walk = func(i int) error {
		if i < replicas {
			for h := range most + 1 {
				for l := 0; l <= h; l++ {
					held[i], lost[i] = h, l
					if err := walk(i + 1); err != nil {
						return err
					}
				}
			}
			return nil
		}
		sorted := append([]int(nil), held...)
		slices.Sort(sorted)
		acked := acknowledged(sorted, quorum)
		for subset := range 1 << replicas {
			var answers []Tail
			for s := range replicas {
				if subset&(1<<s) == 0 {
					continue
				}
				n := held[s] - lost[s]
				a := Tail{Store: store(s), Held: n > 0, Unknown: lost[s] > 0}
				if n > 0 {
					a.Chain = chainTo(1, uint64(n))
				}
				answers = append(answers, a)
			}
			best, ok := d(replicas, quorum, answers)
			if ok && int(best.Chain.Seq) < acked {
				return fmt.Errorf("R=%d W=%d: held %v, lost %v, answers %0*b: chose %d, acknowledged was %d", replicas, quorum, held, lost, replicas, subset, best.Chain.Seq, acked)
			}
			if ok && len(answers) < Majority(replicas) {
				return fmt.Errorf("R=%d: decided with %d promises", replicas, len(answers))
			}
		}
		return nil
	}
	return walk(0)
}

// acknowledged is how many records were: a quorum has at least so many, and nothing counts before a majority has the open record, which
// is the first. sorted is how many each replica has.
func acknowledged(sorted []int, quorum int) int {
	if sorted[len(sorted)-Structure(len(sorted), quorum)] == 0 {
		return 0
	}
	return sorted[len(sorted)-quorum]
}

// TestDecideNeverShortens is R4, exhaustively: R = 1, 3 with both quorums, and R = 5 sampled.
func TestDecideNeverShortens(t *testing.T) {
	for _, c := range [][2]int{{1, 1}, {2, 2}, {2, 1}, {3, 2}, {3, 1}, {4, 3}} {
		if err := enumerate(c[0], c[1], realDecide); err != nil {
			t.Error(err)
		}
	}
	for _, w := range []int{3, 1} {
		if err := enumerateSmall(5, w, realDecide); err != nil {
			t.Error(err)
		}
	}
}

// enumerateSmall is enumerate with two records and whole loss, so that R = 5 stays exhaustive too.
func enumerateSmall(replicas, quorum int, d decide) error {
	states := []struct {
		held, known int
		unknown     bool
	}{{0, 0, false}, {1, 1, false}, {2, 2, false}, {2, 1, true}, {1, 0, true}}
	total := 1
	for range replicas {
		total *= len(states)
	}
	for n := range total {
		held := make([]int, replicas)
		tails := make([]Tail, replicas)
		for i, k := 0, n; i < replicas; i, k = i+1, k/len(states) {
			s := states[k%len(states)]
			held[i] = s.held
			tails[i] = Tail{Store: store(i), Held: s.known > 0, Unknown: s.unknown}
			if s.known > 0 {
				tails[i].Chain = chainTo(1, uint64(s.known))
			}
		}
		sorted := append([]int(nil), held...)
		slices.Sort(sorted)
		acked := acknowledged(sorted, quorum)
		for subset := range 1 << replicas {
			var answers []Tail
			for i := range tails {
				if subset&(1<<i) != 0 {
					answers = append(answers, tails[i])
				}
			}
			if best, ok := d(replicas, quorum, answers); ok && int(best.Chain.Seq) < acked {
				return fmt.Errorf("R=%d W=%d: held %v, answers %b: chose %d", replicas, quorum, held, subset, best.Chain.Seq)
			}
		}
	}
	return nil
}

// TestDecideCatches: variants of Decide that break R4 are noticed.
func TestDecideCatches(t *testing.T) {
	for name, d := range map[string]decide{
		"counts unknown tails as known": func(r, w int, answers []Tail) (Tail, bool) {
			known := append([]Tail(nil), answers...)
			for i := range known {
				known[i].Unknown = false
			}
			return realDecide(r, w, known)
		},
		"counts over the living": func(r, w int, answers []Tail) (Tail, bool) { return realDecide(len(answers), w, answers) },
		"takes the shortest": func(r, w int, answers []Tail) (Tail, bool) {
			best, ok := realDecide(r, w, answers)
			for _, a := range answers {
				if ok && a.Chain.Seq < best.Chain.Seq {
					best = a
				}
			}
			return best, ok
		},
		"weak as if strong": func(r, _ int, answers []Tail) (Tail, bool) { return realDecide(r, Majority(r), answers) },
	} {
		var err error
		for _, w := range []int{2, 1} {
			err = errors.Join(err, enumerate(3, w, d))
		}
		if err == nil {
			t.Errorf("%s: was not noticed", name)
		}
	}
}

// closedAt is chainTo of a log that is closed.
func closedAt(e, n uint64) journal.Chain {
	c := chainTo(e, n)
	c.Closed = true
	return c
}

// TestFreedHasNoTail: what a replica freed may have been more than what the others have, closed or not, unless it is known that nobody
// freed it; nor is it given up in a weak volume, as it was not lost.
func TestFreedHasNoTail(t *testing.T) {
	for _, unfreed := range []bool{false, true} {
		tails := Tails{Replicas: 3, Quorum: 1, Unfreed: unfreed}
		tails.Add(Tail{Store: store(0), Held: true, Chain: chainTo(1, 5)})
		tails.Add(Tail{Store: store(1), Freed: true})
		if _, ok := tails.Abandon(Patience{Limit: 1, Waited: 1}); ok != unfreed {
			t.Errorf("not freed is known %v: given up %v", unfreed, ok)
		}
		tails.Quorum = 2
		if best, ok := tails.Decide(); ok != unfreed || (ok && best.Chain.Seq != 5) {
			t.Errorf("not freed is known %v: %+v, %v", unfreed, best, ok)
		}
	}
}

// TestDecideScenarios are the written scenarios: who is chosen among logs of several writers.
func TestDecideScenarios(t *testing.T) {
	known := func(i int, c journal.Chain) Tail { return Tail{Store: store(i), Held: true, Chain: c} }
	for name, c := range map[string]struct {
		answers []Tail
		want    journal.Chain
		ok      bool
	}{
		"one of three":                      {[]Tail{known(0, chainTo(1, 9))}, journal.Chain{}, false},
		"same answer twice":                 {[]Tail{known(0, chainTo(1, 9)), known(0, chainTo(1, 9))}, journal.Chain{}, false},
		"longest of an epoch":               {[]Tail{known(0, chainTo(1, 95)), known(1, chainTo(1, 100))}, chainTo(1, 100), true},
		"later epoch, shorter":              {[]Tail{known(0, chainTo(1, 100)), known(1, chainTo(2, 96))}, chainTo(2, 96), true},
		"nobody holds it":                   {[]Tail{{Store: store(0)}, {Store: store(1)}}, journal.Chain{}, true},
		"unknown does not count":            {[]Tail{known(0, chainTo(1, 5)), {Store: store(1), Held: true, Unknown: true, Chain: chainTo(1, 4)}}, journal.Chain{}, false},
		"unknown may still be the longest":  {[]Tail{known(0, chainTo(1, 5)), known(2, chainTo(1, 5)), {Store: store(1), Held: true, Unknown: true, Chain: chainTo(1, 8)}}, chainTo(1, 8), true},
		"unknown, confirmed later":          {[]Tail{known(0, chainTo(1, 17)), known(2, chainTo(1, 17)), {Store: store(1), Held: true, Unknown: true, Chain: chainTo(2, 2)}}, chainTo(1, 17), true},
		"a replica without it counts as so": {[]Tail{known(0, chainTo(1, 5)), {Store: store(1)}}, chainTo(1, 5), true},
		"one that freed it does not":        {[]Tail{known(0, closedAt(1, 5)), {Store: store(1), Freed: true}}, journal.Chain{}, false},
		"two that did not free it":          {[]Tail{known(0, chainTo(1, 5)), {Store: store(1), Freed: true}, known(2, closedAt(1, 7))}, closedAt(1, 7), true},
	} {
		got, ok := realDecide(3, 2, c.answers)
		if ok != c.ok || got.Chain != c.want {
			t.Errorf("%s: %+v, %v", name, got.Chain, ok)
		}
	}
	tl := Tails{Replicas: 3, Quorum: 2}
	tl.Add(known(0, chainTo(1, 7)))
	tl.Add(known(1, chainTo(1, 5)))
	tl.Add(Tail{Store: store(2), Held: true, Unknown: true, Chain: chainTo(1, 7)})
	best, _ := tl.Decide()
	if best.Store != store(0) && best.Store != store(2) || len(tl.Behind(tl.got[store(0)])) != 2 {
		t.Errorf("behind: %v of best %v", tl.Behind(best), best.Store)
	}
	c := tl.Clone()
	c.Add(known(3, chainTo(1, 1)))
	if tl.Has(store(3)) || !c.Has(store(3)) || c.Granted() != 4 || tl.Granted() != 3 {
		t.Error("a clone shares")
	}
}
