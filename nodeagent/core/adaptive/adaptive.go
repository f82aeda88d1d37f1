package adaptive

import (
	"errors"
	"fmt"
)

// ErrRules is returned for rules without hysteresis.
var ErrRules = errors.New("rules of adaptive copies")

// Rules say when copies are gained and lost. Times are in seconds.
type Rules struct {
	Rise      float64 // reads a second of each copy above which another one is wanted
	Fall      float64 // reads a second that each copy would have to give without one of them, below which it is not needed
	RiseAfter int64   // so long it has to be above Rise
	FallAfter int64   // so long it has to be below Fall
	Rest      int64   // between two changes
	Gap       int64   // no look counts for more: what was between is not known
}

// Default are the rules of an agent that is told no others.
func Default() Rules {
	return Rules{Rise: 500, Fall: 100, RiseAfter: 10 * 60, FallAfter: 6 * 3600, Rest: 30 * 60, Gap: 5 * 60}
}

// Validate reports ErrRules unless there is hysteresis in rate and in time.
func (r Rules) Validate() error {
	if r.Fall < 0 || r.Rise < 2*r.Fall || r.Rise == 0 || r.RiseAfter <= 0 || r.FallAfter <= 0 || r.Rest < 0 || r.Gap <= 0 {
		return fmt.Errorf("%w: copies are gained above %g reads a second for %d s and lost below %g for %d s; the first rate has to be twice the second, and times above 0",
			ErrRules, r.Rise, r.RiseAfter, r.Fall, r.FallAfter)
	}
	return nil
}

// Bounds are the least and the most copies that people want. Copies adapt if they differ.
type Bounds struct{ Least, Most int }

// On tells whether copies adapt.
func (b Bounds) On() bool { return b.Least > 0 && b.Least < b.Most }

// Clamp gives the number within the bounds that is nearest to n.
func (b Bounds) Clamp(n int) int { return min(max(n, b.Least), b.Most) }

// Copies that it takes to be safe.
const (
	strongFloor = 3 // any one may be lost without a pause
	zonesFloor  = 2 // one is left if a zone is lost
)

// Floor is how many copies a volume needs to be safe: a weak one, of which one copy answers a flush, or a strong one; with the failure domains that take copies.
func Floor(weak bool, zones int) int {
	switch {
	case !weak:
		return strongFloor
	case zones >= zonesFloor:
		return zonesFloor
	}
	return 1
}

// Seen is a volume at one moment.
type Seen struct {
	At     int64   // seconds, by a clock that does not jump
	Reads  float64 // a second, since the last look
	Copies int     // that are wanted now
	Bounds Bounds
	Floor  int // copies that it takes to be safe; the most that people want counts more
	Room   int // copies that the network has room for
	// Calm is empty if nothing speaks against a change: Degraded, Moving or LowSpace.
	Calm Reason
}

// Reason says in one CamelCase word why there are as many copies as there are.
type Reason string

// The reasons.
const (
	Off        Reason = "Off"         // bounds do not differ
	Steady     Reason = "Steady"      // reads ask for no other number
	Resting    Reason = "Resting"     // another number is wanted; the last change was a short while ago
	AtMost     Reason = "AtMost"      // more would be wanted
	AtLeast    Reason = "AtLeast"     // fewer would do
	NoRoom     Reason = "NoRoom"      // more are wanted, and too few nodes have room
	Degraded   Reason = "Degraded"    // copies are missing
	Moving     Reason = "Rebalancing" // copies move
	LowSpace   Reason = "LowSpace"    // a node is short of space
	ReadHot    Reason = "ReadHot"     // one more, as it is read much
	Unused     Reason = "Unused"      // one fewer, as it is read little
	BelowLeast Reason = "BelowLeast"  // one more, as there are fewer than people want
	AboveMost  Reason = "AboveMost"   // one fewer, as there are more than people want
)

// Words says a reason to people.
func (w Reason) Words() string {
	switch w {
	case Off:
		return "its bounds do not differ, so the number stays as it is"
	case Steady:
		return "reads ask for no other number"
	case Resting:
		return "another number is wanted, and the last change was a short while ago"
	case AtMost:
		return "reads ask for more, and these are the most that are allowed"
	case AtLeast:
		return "reads ask for fewer, and these are the least that are allowed"
	case NoRoom:
		return "more are wanted, and too few nodes have room"
	case Degraded:
		return "nothing changes while copies are missing"
	case Moving:
		return "nothing changes while copies move"
	case LowSpace:
		return "a node is short of space"
	case ReadHot:
		return "it is read much"
	case Unused:
		return "it is read little"
	case BelowLeast:
		return "there were fewer than people want"
	case AboveMost:
		return "there were more than people want"
	}
	return string(w)
}

// Decision is how many copies are wanted, and why.
type Decision struct {
	Want int
	Why  Reason
}

// State is what is remembered of one volume. The zero value knows nothing.
type State struct {
	seen    bool
	at      int64 // of the last look
	hot     int64 // time above Rise, less time that was not
	cold    int64 // time below Fall, less time that was not
	changed bool
	since   int64 // of the last change
}

// Changed notes that somebody else changed the number of copies: what was counted is void.
func (s *State) Changed(at int64) { *s = State{seen: true, at: at, changed: true, since: at} }

// Step looks at a volume and says how many copies it is to have. The caller carries it out, or asks again.
func (s *State) Step(r Rules, in Seen) Decision {
	stay := func(why Reason) Decision { return Decision{in.Copies, why} }
	if !in.Bounds.On() {
		*s = State{}
		return stay(Off)
	}
	s.count(r, &in)
	most := in.Bounds.Most
	least := min(max(in.Bounds.Least, in.Floor), most)
	up, down := s.hot >= r.RiseAfter, s.cold >= r.FallAfter
	switch {
	case in.Copies < least: // people's word, and safety: it waits for room alone
		if in.Copies >= in.Room {
			return stay(NoRoom)
		}
		return s.change(in, +1, BelowLeast)
	case in.Copies > most:
		up, down = false, true
	case up && in.Copies >= most:
		return stay(AtMost)
	case down && in.Copies <= least:
		return stay(AtLeast)
	case up && in.Calm == "" && in.Copies >= in.Room:
		return stay(NoRoom)
	}
	switch {
	case !up && !down:
		return stay(Steady)
	case in.Calm != "":
		return stay(in.Calm)
	case s.changed && in.At-s.since < r.Rest:
		return stay(Resting)
	case up:
		return s.change(in, +1, ReadHot)
	case in.Copies > most:
		return s.change(in, -1, AboveMost)
	}
	return s.change(in, -1, Unused)
}

// count adds the time since the last look to what it was.
func (s *State) count(r Rules, in *Seen) {
	step := min(max(in.At-s.at, 0), r.Gap)
	if !s.seen {
		step = 0
	}
	s.seen, s.at = true, in.At
	add := func(sum *int64, is bool, most int64) {
		if is {
			*sum = min(*sum+step, most)
		} else {
			*sum = max(*sum-step, 0)
		}
	}
	add(&s.hot, in.Reads > r.Rise*float64(in.Copies), r.RiseAfter)
	add(&s.cold, in.Reads < r.Fall*float64(max(in.Copies-1, 1)), r.FallAfter)
}

func (s *State) change(in Seen, by int, why Reason) Decision {
	s.Changed(in.At)
	return Decision{in.Copies + by, why}
}
