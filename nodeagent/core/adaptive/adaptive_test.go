package adaptive

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// Times are in seconds.
const (
	minute = 60
	hour   = 3600
)

// load gives reads a second at a minute.
type load func(m int) float64

// day is a minute count.
const day = 24 * 60

// patterns are loads that were chosen to trip a rule that is too simple.
func patterns() map[string]load {
	r := rand.New(rand.NewPCG(7, 7))
	walk := make([]float64, 10*day)
	for i := range walk {
		last := 1500.0
		if i > 0 {
			last = walk[i-1]
		}
		walk[i] = max(0, last*(1+0.1*(r.Float64()-0.5)))
	}
	return map[string]load{
		"nothing":  func(int) float64 { return 0 },
		"steady":   func(int) float64 { return 1000 },
		"hot":      func(int) float64 { return 1e6 },
		"a spike":  func(m int) float64 { return pick(m == 500, 1e7, 900) },
		"spikes":   func(m int) float64 { return pick(m%20 == 0, 1e7, 0) },
		"decay":    func(m int) float64 { return 20000 * math.Exp(-float64(m)/day) },
		"at Rise":  func(m int) float64 { return pick(m%2 == 0, 1600, 1400) },                     // of three copies, both ways each minute
		"at Fall":  func(m int) float64 { return pick(m%2 == 0, 190, 210) },                       // of three copies
		"between":  func(m int) float64 { return pick(m/30%2 == 0, 5000, 0) },                     // half an hour each
		"days":     func(m int) float64 { return 2000 + 2000*math.Sin(2*math.Pi*float64(m)/day) }, // by day and night
		"at doors": func(m int) float64 { return pick(m/(7*60)%2 == 0, 2e4, 0) },                  // as long as Fall takes
		"a walk":   func(m int) float64 { return walk[m%len(walk)] },
	}
}

func pick(is bool, a, b float64) float64 {
	if is {
		return a
	}
	return b
}

// lie distorts what the state machine sees; the judge sees the truth.
type lie func(s *Seen)

// world is a network around one volume: trouble and room come and go.
type world struct {
	rules  Rules
	bounds Bounds
	floor  int
	lie    lie
	seed   uint64
}

// run plays a load for ten days, and gives the changes and what was wrong with them.
func (w world) run(l load) (changes int, wrong []string) {
	r := rand.New(rand.NewPCG(w.seed, 1))
	var s State
	copies, last := 3, int64(-hour)
	calm, room := Reason(""), 7
	note := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for m := range 10 * day {
		if r.IntN(300) == 0 {
			calm = []Reason{"", "", Degraded, Moving, LowSpace}[r.IntN(5)]
			room = 3 + r.IntN(5)
		}
		truth := Seen{At: int64(m) * minute, Reads: l(m), Copies: copies, Bounds: w.bounds, Floor: w.floor, Room: room, Calm: calm}
		seen := truth
		if w.lie != nil {
			w.lie(&seen)
		}
		d := s.Step(w.rules, seen)
		if d.Want == copies {
			continue
		}
		changes++
		switch by := d.Want - copies; {
		case by != 1 && by != -1:
			note("minute %d: from %d to %d copies at once", m, copies, d.Want)
		case d.Want > w.bounds.Most || d.Want < max(w.bounds.Least, w.floor):
			note("minute %d: %d copies, outside of what is allowed", m, d.Want)
		case by > 0 && d.Want > room:
			note("minute %d: %d copies where %d have room", m, d.Want, room)
		case calm != "":
			note("minute %d: a change to %d copies while %s", m, d.Want, calm)
		case truth.At-last < Default().Rest:
			note("minute %d: a change %d s after the last", m, truth.At-last)
		}
		copies, last = d.Want, truth.At
	}
	rules := Default()
	if most := 2*int(10*24*hour/(rules.RiseAfter+rules.FallAfter)) + w.bounds.Most - w.bounds.Least; changes > most {
		note("%d changes in ten days, more than %d", changes, most)
	}
	return changes, wrong
}

// TestPatterns: whatever the load and the network do, every invariant holds; and loads that are nothing but noise change nothing.
func TestPatterns(t *testing.T) {
	for name, l := range patterns() {
		for seed := range uint64(5) {
			for _, w := range []world{{bounds: Bounds{3, 6}, floor: 3}, {bounds: Bounds{1, 7}, floor: 2}, {bounds: Bounds{2, 4}, floor: 1}} {
				w.rules, w.seed = Default(), seed
				changes, wrong := w.run(l)
				for _, s := range wrong {
					t.Errorf("%s, bounds %v, seed %d: %s", name, w.bounds, seed, s)
				}
				if quiet := name == "steady" || name == "a spike" || name == "at Rise"; quiet && w.bounds.Least == 3 && changes != 0 {
					t.Errorf("%s: %d changes", name, changes)
				}
			}
		}
	}
}

// TestNotices: what is left out of the rules shows in TestPatterns' judgement.
func TestNotices(t *testing.T) {
	loose := Rules{Rise: 500, Fall: 500, RiseAfter: 1, FallAfter: 1, Rest: 0, Gap: 5 * minute}
	short := Default()
	short.Rest = 0
	short.RiseAfter, short.FallAfter = minute, minute
	for name, w := range map[string]world{
		"no hysteresis":          {rules: loose},
		"no time":                {rules: short},
		"trouble is not seen":    {rules: Default(), lie: func(s *Seen) { s.Calm = "" }},
		"room is not seen":       {rules: Default(), lie: func(s *Seen) { s.Room = 7 }},
		"safety is not seen":     {rules: Default(), lie: func(s *Seen) { s.Floor = 0 }},
		"the most is not seen":   {rules: Default(), lie: func(s *Seen) { s.Bounds.Most = 7 }},
		"the least is not seen":  {rules: Default(), lie: func(s *Seen) { s.Bounds.Least, s.Floor = 1, 0 }},
		"reads are seen as none": {rules: Default(), lie: nil},
	} {
		w.bounds, w.floor = Bounds{2, 5}, 3
		found := 0
		for _, l := range patterns() {
			for w.seed = range 5 {
				_, wrong := w.run(l)
				found += len(wrong)
			}
		}
		if honest := name == "reads are seen as none"; (found == 0) != honest {
			t.Errorf("%s: %d complaints", name, found)
		}
	}
}

// TestStep: how long each change takes, and what is said meanwhile.
func TestStep(t *testing.T) {
	r := Default()
	play := func(copies, minutes int, change func(s *Seen)) (Decision, int) {
		var s State
		for m := range minutes {
			in := Seen{At: int64(m) * minute, Copies: copies, Bounds: Bounds{3, 5}, Floor: 3, Room: 7}
			change(&in)
			if d := s.Step(r, in); d.Want != copies || m == minutes-1 {
				return d, m
			}
		}
		return Decision{}, 0
	}
	hot := func(s *Seen) { s.Reads = 5000 }
	with := func(f func(s *Seen), g func(s *Seen)) func(s *Seen) { return func(s *Seen) { f(s); g(s) } }
	for name, c := range map[string]struct {
		copies int
		seen   func(s *Seen)
		want   Decision
		after  int // minutes; 0: it never comes
	}{
		"hot":             {3, hot, Decision{4, ReadHot}, 10},
		"hot at most":     {5, hot, Decision{5, AtMost}, 0},
		"unused":          {4, func(*Seen) {}, Decision{3, Unused}, 360},
		"unused at least": {3, func(*Seen) {}, Decision{3, AtLeast}, 0},
		"neither":         {4, func(s *Seen) { s.Reads = 1000 }, Decision{4, Steady}, 0},
		"gained is kept":  {4, func(s *Seen) { s.Reads = 1501 }, Decision{4, Steady}, 0}, // what gave the fourth copy does not take it again
		"off":             {3, with(hot, func(s *Seen) { s.Bounds.Most = 3 }), Decision{3, Off}, 0},
		"unset":           {3, with(hot, func(s *Seen) { s.Bounds = Bounds{} }), Decision{3, Off}, 0},
		"no room":         {3, with(hot, func(s *Seen) { s.Room = 3 }), Decision{3, NoRoom}, 0},
		"degraded":        {3, with(hot, func(s *Seen) { s.Calm = Degraded }), Decision{3, Degraded}, 0},
		"low":             {4, func(s *Seen) { s.Calm = LowSpace }, Decision{4, LowSpace}, 0},
		"too few":         {2, func(s *Seen) { s.Calm = Degraded }, Decision{3, BelowLeast}, 0},
		"too few, full":   {2, func(s *Seen) { s.Room = 2 }, Decision{2, NoRoom}, 0},
		"too many":        {6, hot, Decision{5, AboveMost}, 0},
	} {
		d, m := play(c.copies, 1000, c.seen)
		if d != c.want || d.Want != c.copies && m != c.after {
			t.Errorf("%s: %+v after %d minutes, want %+v after %d", name, d, m, c.want, c.after)
		}
	}
}

// TestGap: a look after a long sleep counts for no more than Gap, and one that goes back for nothing.
func TestGap(t *testing.T) {
	var s State
	in := Seen{Reads: 1e6, Copies: 3, Bounds: Bounds{3, 5}, Floor: 3, Room: 7}
	for _, at := range []int64{hour, 10 * hour, 9 * hour, 9*hour + minute} {
		in.At = at
		if d := s.Step(Default(), in); d.Want != 3 {
			t.Errorf("at %d: %+v", at, d)
		}
	}
}

// TestRest: of two changes that are due at once the second waits, and says so.
func TestRest(t *testing.T) {
	var s State
	in := Seen{Reads: 1e6, Copies: 3, Bounds: Bounds{3, 6}, Floor: 3, Room: 7}
	var at []int
	rested := false
	for m := range 120 {
		in.At = int64(m) * minute
		d := s.Step(Default(), in)
		if d.Want != in.Copies {
			at = append(at, m)
		}
		in.Copies = d.Want
		rested = rested || d.Why == Resting
	}
	if fmt.Sprint(at) != "[10 40 70]" || !rested {
		t.Errorf("changes at %v, rest was said: %v", at, rested)
	}
}

func TestValidate(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(r *Rules){
		"equal rates":   func(r *Rules) { r.Fall = r.Rise },
		"close rates":   func(r *Rules) { r.Fall = 0.6 * r.Rise },
		"no rise":       func(r *Rules) { r.Rise, r.Fall = 0, 0 },
		"no dwell up":   func(r *Rules) { r.RiseAfter = 0 },
		"no dwell down": func(r *Rules) { r.FallAfter = 0 },
		"no gap":        func(r *Rules) { r.Gap = 0 },
		"negative":      func(r *Rules) { r.Fall = -1 },
	} {
		r := Default()
		change(&r)
		if r.Validate() == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
