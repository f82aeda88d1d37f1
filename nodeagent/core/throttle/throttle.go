package throttle

// Rules say how the rate follows what requests take. Times are in nanoseconds.
type Rules struct {
	Window  int64   // what is judged together
	Ease    float64 // requests that take less than so many times what they take alone let the work go faster
	Press   float64 // requests that take more than so many times slow it down; above Ease
	Up      float64 // factor of the rate after an easy window; above 1
	Down    float64 // factor after one that presses; below 1
	Floor   float64 // bytes a second, that the rate does not fall below
	Ceiling float64 // bytes a second, that it does not rise above
	Poll    int64   // time between looks at a piece that is on its way
}

// Default are rules for pieces of at most 1 MiB: at the ceiling two cores are half busy with copies to two other nodes.
func Default() Rules {
	return Rules{Window: 200e6, Ease: 1.1, Press: 1.25, Up: 1.25, Down: 0.6, Floor: 1 << 20, Ceiling: 64 << 20, Poll: 5e6}
}

// State is what is remembered between looks. The zero value knows nothing: it begins at the floor.
type State struct {
	rate  float64 // bytes a second
	alone float64 // mean of what a request takes with no piece beside it; 0: not known

	under  bool  // a piece is under way
	rested int64 // when the last one ended

	begun int64   // of the window
	n     int     // requests that ended in it
	sum   float64 // of what they took

	paid  int64   // up to when time has paid for what was moved
	debt  float64 // bytes that it has not paid for at the rate; below 0: time that was not used
	least float64 // the same at the least rate
}

// Took tells that a request has ended that took so long.
func (s *State) Took(at, took int64) {
	t := float64(took)
	s.n++
	s.sum += t
	alone := !s.under && s.rested <= at-took
	switch {
	case alone && s.alone == 0:
		s.alone = t
	case t < s.alone: // alone it would have taken no longer
		s.alone += (t - s.alone) / 4
	case alone:
		s.alone += (t - s.alone) / 16
	}
}

// Begin tells that a piece is being moved from now on.
func (s *State) Begin() { s.under = true }

// Moved counts its bytes.
func (s *State) Moved(n int) {
	s.debt += float64(n)
	s.least += float64(n)
}

// End tells that what was moved is through, and stands before no request any more.
func (s *State) End(at int64) {
	if s.under {
		s.under, s.rested = false, at
	}
}

// Start is called when the work goes on after a pause, for which it did not ask.
func (s *State) Start(at int64) {
	s.begun, s.n, s.sum = at, 0, 0
	s.debt, s.least, s.paid = max(s.debt, 0), max(s.least, 0), at
}

// Turn is what the work knows when it asks.
type Turn struct {
	At      int64   // now
	Waiting int64   // how long the request waits that has waited for longest; below 0: there is none
	Full    bool    // requests come faster than they are done: what they take alone is not to be had
	Least   float64 // the least rate, bytes a second
}

// Wait tells how long the work is to wait before it asks again; 0: its next piece may go.
func (s *State) Wait(r Rules, t Turn) int64 {
	if t.At-s.begun >= r.Window {
		s.judge(r, &t)
		s.begun, s.n, s.sum = t.At, 0, 0
	}
	passed := float64(t.At-s.paid) / 1e9
	s.paid = t.At
	rate := max(s.rate, r.Floor, t.Least)
	s.debt = pay(s.debt, rate, passed, r.Window)
	s.least = pay(s.least, t.Least, passed, r.Window)
	rest := s.rested + min(int64(2*s.alone), r.Window)
	switch {
	case t.Least > 0 && s.least <= 0:
		return 0
	case s.under:
		return r.Poll
	case (s.n > 0 || t.Waiting >= 0) && t.At < rest:
		return min(r.Poll, rest-t.At) // so that requests go alone now and then
	case s.debt <= 0:
		return 0
	}
	return min(r.Window, int64(s.debt/rate*1e9)+1)
}

// pay takes off a debt what time is worth; a window's worth at most is saved up.
func pay(debt, rate, seconds float64, window int64) float64 {
	return max(debt-rate*seconds, min(debt, -rate*float64(window)/1e9))
}

// judge lets the rate follow the window that has ended.
func (s *State) judge(r Rules, t *Turn) {
	n, sum := s.n, s.sum
	if w := float64(t.Waiting); n == 0 && w >= 0 || n > 0 && w > sum/float64(n) {
		n, sum = n+1, sum+w // it has taken so long already
	}
	s.rate = max(s.rate, r.Floor)
	switch {
	case n == 0: // nobody asks for anything
		s.rate *= r.Up * r.Up
	case t.Full, s.alone > 0 && sum > r.Press*s.alone*float64(n):
		s.rate *= r.Down
	case s.alone > 0 && sum < r.Ease*s.alone*float64(n):
		s.rate *= r.Up
	}
	s.rate = min(max(s.rate, r.Floor), r.Ceiling)
}
