package clearing

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// pools is what a store could give back in each stage, in percent of it.
type pools map[Stage]int

// world is a store of 100 bytes that fills up, and those who clear it.
type world struct {
	rules Rules
	after func(Stage) Stage
	seed  uint64
	blind bool // deletions are not seen
}

// swing is how many changes of use the test makes around the threshold.
const swing = 20

// run plays two hours, and tells what was freed out of order and how often clearing began.
func (w world) run(p pools, used int) (wrong []string, begun int, order []Stage) {
	r := rand.New(rand.NewPCG(w.seed, 3))
	var s State
	freed, last, next := uint64(0), Idle, int64(0)
	for at := int64(0); at < 7200; at += 5 {
		switch { // after an hour users write and delete as much, around the threshold
		case at > 3600 && at%180 == 0 && used >= 90 && used <= 91:
			used = 90 + int(at/180)%2
		case r.IntN(400) == 0: // somebody deletes a volume, and a node that was away brings the word
			p[Deleted] += 2
			used = min(used+2, 100)
		}
		in := Seen{At: at, Total: 100, Used: int64(used), Freed: freed, Deletions: p[Deleted] > 0 && !w.blind}
		in.Nothing = s.stage == Deleted && p[Deleted] == 0
		stage := s.step(w.rules, in, w.after)
		if stage != last && last == Idle {
			begun++
		}
		last = stage
		if p[stage] == 0 || at < next {
			continue
		}
		next = at + 5 + r.Int64N(60) // a pass takes so long
		for earlier := Deleted; earlier < stage; earlier++ {
			if p[earlier] > 0 {
				wrong = append(wrong, fmt.Sprintf("at %d s %v is freed while %d %% of %v are left", at, stage, p[earlier], earlier))
			}
		}
		p[stage]--
		used--
		freed++
		if len(order) == 0 || order[len(order)-1] != stage {
			order = append(order, stage)
		}
	}
	return wrong, begun, order
}

// judge plays stores of several kinds with many seeds.
func (w world) judge() (wrong []string, begun int) {
	for w.seed = range 50 {
		for _, c := range []struct {
			p    pools
			used int
		}{
			{pools{Deleted: 3, Unreferenced: 5, Surplus: 10}, 99},
			{pools{Unreferenced: 2, Surplus: 10}, 95},
			{pools{Deleted: 20, Unreferenced: 20, Surplus: 20}, 92},
			{pools{Surplus: 4}, 91},
			{pools{}, 99},
			{pools{Deleted: 1, Unreferenced: 1, Surplus: 1}, 91},
		} {
			bad, n, _ := w.run(c.p, c.used)
			wrong, begun = append(wrong, bad...), max(begun, n)
		}
	}
	return wrong, begun
}

// TestOrder: whatever there is to be freed, and however long a pass takes, it is freed in order, and a swing around the threshold begins nothing.
func TestOrder(t *testing.T) {
	wrong, begun := world{rules: Default(), after: after}.judge()
	for _, s := range wrong {
		t.Error(s)
	}
	if begun > swing/2 {
		t.Errorf("clearing began %d times in two hours", begun)
	}
	_, _, order := world{rules: Default(), after: after, seed: 2}.run(pools{Deleted: 3, Unreferenced: 3, Surplus: 3}, 99)
	if len(order) < 3 || order[0] != Deleted {
		t.Errorf("%v", order)
	}
}

// TestNotices: another order, too little patience, or deletions that nobody sees show in TestOrder's judgement; as does a threshold without a gap.
func TestNotices(t *testing.T) {
	turned := func(s Stage) Stage {
		return map[Stage]Stage{Idle: Surplus, Surplus: Unreferenced, Unreferenced: Deleted, Deleted: Exhausted}[s]
	}
	swapped := func(s Stage) Stage {
		return map[Stage]Stage{Idle: Deleted, Deleted: Surplus, Surplus: Unreferenced, Unreferenced: Exhausted}[s]
	}
	hasty := Default()
	hasty.Patience = 5
	for name, w := range map[string]world{
		"the order turned":         {rules: Default(), after: turned},
		"two stages swapped":       {rules: Default(), after: swapped},
		"no patience":              {rules: hasty, after: after},
		"deletions are not seen":   {rules: Default(), after: after, blind: true},
		"the control: none of it ": {rules: Default(), after: after},
	} {
		wrong, _ := w.judge()
		if honest := name == "the control: none of it "; (len(wrong) == 0) != honest {
			t.Errorf("%s: %d complaints", name, len(wrong))
		}
	}
	tight := Default()
	tight.Begin = 10
	tight.End = 10
	count := func(r Rules) (n int) {
		var s State
		last := Idle
		for i := range int64(200) {
			stage := s.Step(r, Seen{At: i * 5, Total: 1000, Used: 900 + i%2, Nothing: true})
			if last == Idle && stage != Idle {
				n++
			}
			last = stage
		}
		return n
	}
	if with, without := count(Default()), count(tight); with != 1 || without < 50 {
		t.Errorf("a swing begins %d times, without a gap %d times", with, without)
	}
}

// TestStages: when each begins and ends.
func TestStages(t *testing.T) {
	var s State
	step := func(at int64, used int64, change func(*Seen)) Stage {
		in := Seen{At: at, Total: 1000, Used: used}
		if change != nil {
			change(&in)
		}
		return s.Step(Default(), in)
	}
	nothing := func(in *Seen) { in.Nothing = true }
	deletions := func(in *Seen) { in.Deletions = true }
	freed := func(n uint64) func(*Seen) { return func(in *Seen) { in.Freed = n } }
	for i, c := range []struct {
		at, used int64
		change   func(*Seen)
		want     Stage
	}{
		{0, 900, nil, Idle},
		{5, 901, deletions, Deleted},
		{10, 895, deletions, Deleted}, // below the begin, and not yet room
		{15, 895, nothing, Unreferenced},
		{100, 895, nil, Unreferenced},
		{130, 890, freed(1), Unreferenced},
		{240, 890, freed(1), Unreferenced},
		{250, 890, freed(1), Surplus}, // nothing for 120 s
		{255, 890, func(in *Seen) { in.Freed, in.Deletions = 1, true }, Deleted},
		{260, 890, func(in *Seen) { in.Freed, in.Nothing = 1, true }, Unreferenced},
		{265, 880, freed(2), Idle},
		{270, 895, freed(2), Idle},
		{275, 950, freed(2), Deleted},
		{280, 950, func(in *Seen) { in.Freed, in.Nothing = 2, true }, Unreferenced},
		{400, 950, freed(2), Surplus},
		{520, 950, freed(2), Exhausted},
		{819, 950, freed(2), Exhausted},
		{820, 950, freed(2), Deleted},
		{825, 0, freed(2), Idle},
	} {
		if got := step(c.at, c.used, c.change); got != c.want || s.Stage() != got {
			t.Fatalf("line %d: %v, want %v", i, got, c.want)
		}
	}
	if got := s.Step(Default(), Seen{At: 900, Used: 10}); got != Idle {
		t.Errorf("an unknown size: %v", got)
	}
	for _, s := range Stages() {
		if s.String() == "Unknown" || s.Words() == s.String() {
			t.Errorf("stage %d has no words", s)
		}
	}
}
