package volume

import (
	"slices"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
)

// compare looks for replicas of the open extent that are slower than the others (volume/siblings). What is written next goes to others, if there
// are any; what a slow one has stays there. It changes where new extents are opened, and nothing else.
func (e *Engine) compare(now time.Duration) {
	e.mu.Lock()
	var x *replication.Extent
	if e.progress != nil {
		if xs := e.progress.Extents(); len(xs) > 0 && e.siblings.Look(now, xs[len(xs)-1]) {
			x = xs[len(xs)-1]
			e.stats.Demoted++
		}
	}
	e.mu.Unlock()
	if x != nil {
		e.Logf("volume %s: a replica of extent %s is slower than the others, which are preferred for what is written next", e.spec.ID, x.ID)
		e.heal.Notify()
	}
}

// demote puts candidates that are slower than others behind those, and before those that take no new copies.
func (e *Engine) demote(candidates []block.StoreID) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	now := e.Env.Now()
	if !e.siblings.Any(now) {
		return
	}
	rank := func(s block.StoreID) int {
		_, slow := e.siblings.Slow(now, s)
		switch {
		case !e.Placer.Site(s).Takes:
			return 2
		case slow:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(candidates, func(a, b block.StoreID) int { return rank(a) - rank(b) })
}

// slow counts the stores that are slower than others.
func (e *Engine) slow(stores []block.StoreID) (n int) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, s := range stores {
		if _, slow := e.siblings.Slow(e.Env.Now(), s); slow {
			n++
		}
	}
	return n
}

// openSlow tells whether the open extent has a member that is slower than others, and another extent could do without.
func (e *Engine) openSlow() bool {
	e.mu.RLock()
	any := e.siblings.Any(e.Env.Now())
	e.mu.RUnlock()
	if !any {
		return false
	}
	e.jmu.Lock()
	open := e.holdersOf(e.log.extent)
	e.jmu.Unlock()
	now := e.slow(open)
	if now == 0 {
		return false
	}
	members, alive := e.pick(block.ExtentID{Volume: e.spec.ID, N: ^uint32(0)}, e.copies())
	live, _ := e.liveMembers()
	if alive < live || e.slow(members) >= now || e.leaving(members) > e.leaving(open) {
		return false
	}
	return e.mayRoll()
}

// mayRoll allows one roll in a while because of where the open extent is, rather than because a replica has failed.
func (e *Engine) mayRoll() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if at := e.Env.Now(); at-e.lastLeave >= leavePause {
		e.lastLeave = at
		return true
	}
	return false
}
