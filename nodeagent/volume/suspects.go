package volume

import (
	"errors"
	"slices"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// A store that fails is not chosen again for a while (suspicion). One that did not get on with what it was sent sits that out: it answers, and
// a question would tell nothing. One that could not be reached is asked as soon as it is believed to answer, and its answer ends the suspicion. So who was
// away for a second is back after that, and not after suspicion. What it says to the first record that reaches it again, that it lacks those before it, is
// of that too: it has missed them. A way that breaks again and again costs an extent each time, so one answer counts in a while. (TestBackAtOnce, TestRecalled)

// suspicion is how long a store that failed is not chosen for a new extent.
const suspicion = 5 * slowReplica

// suspect is what is remembered of a store that failed.
type suspect struct {
	failed   time.Duration // last time
	lost     bool          // it could not be reached, or lacks what was sent when it could not; else it refused, or was slow
	full     bool          // it has no room up to the users' mark, and nothing else is known against it
	roomless bool          // it had no room, up to whichever mark: it answers, and gives what it has
	asked    bool          // a question is under way that may end the suspicion

	answered time.Duration // when an answer has ended a suspicion
	ever     bool          // one has
}

// suspected tells whether the store is not to be chosen at now.
func (s *suspect) suspected(now time.Duration) bool {
	return now-s.failed <= suspicion && (!s.ever || s.answered < s.failed)
}

// mayAsk tells whether an answer now would end the suspicion.
func (s *suspect) mayAsk(now time.Duration) bool {
	return s.lost && !s.asked && s.suspected(now) && (!s.ever || now-s.answered > suspicion)
}

// suspectLocked notes why a store failed. The caller holds mu.
func (e *Engine) suspectLocked(s block.StoreID, err error) {
	p := e.suspects[s]
	if p == nil {
		p = &suspect{}
		e.suspects[s] = p
	}
	p.failed, p.lost, p.full, p.roomless = e.Env.Now(), wasAway(err), false, errors.Is(err, replica.ErrFull)
}

// wasAway tells whether a failure says only that a store was away.
func wasAway(err error) bool {
	return errors.Is(err, replica.ErrUnreachable) || errors.Is(err, replica.ErrNotHeld) || errors.Is(err, replica.ErrGap)
}

func (e *Engine) believedAlive(s block.StoreID) bool {
	e.mu.RLock()
	p := e.suspects[s]
	bad := p != nil && p.suspected(e.Env.Now())
	e.mu.RUnlock()
	return e.Placer.Alive(s) && !bad
}

// answers tells whether a store is believed to answer: it may be chosen, or only has no room.
func (e *Engine) answers(s block.StoreID) bool {
	e.mu.RLock()
	p := e.suspects[s]
	bad := p != nil && p.suspected(e.Env.Now()) && !p.roomless
	e.mu.RUnlock()
	return e.Placer.Alive(s) && !bad
}

// recall asks the stores that could not be reached, and are believed to answer again.
func (e *Engine) recall() {
	now := e.Env.Now()
	var ask []block.StoreID
	e.mu.Lock()
	for s, p := range e.suspects {
		if p.mayAsk(now) && e.Placer.Alive(s) {
			p.asked = true
			ask = append(ask, s)
		}
	}
	e.mu.Unlock()
	slices.SortFunc(ask, func(a, b block.StoreID) int { return slices.Compare(a[:], b[:]) })
	for _, s := range ask {
		e.Env.Go("recall", func() {
			_, err := e.Client.Lease(s, e.spec.ID) // whose answer says nothing more that matters here
			e.recalled(s, now, err)
		})
	}
}

// recalled takes a store's answer to a question of the time asked.
func (e *Engine) recalled(s block.StoreID, asked time.Duration, err error) {
	e.mu.Lock()
	p := e.suspects[s]
	p.asked = false
	answers := err == nil && p.lost && p.failed <= asked
	if answers {
		p.answered, p.ever = e.Env.Now(), true
	}
	e.mu.Unlock()
	if answers {
		e.heal.Notify()
		e.repair.Notify()
	}
}

// Look has the engine look at once at who answers, and which copies are missing: something has changed.
func (e *Engine) Look() { e.heal.Notify() }
