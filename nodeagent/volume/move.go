package volume

import (
	"errors"
	"slices"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/core/upkeep"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// What a plan says is carried out here, one action at a time. The plan may be old by then, so each action looks again at what it
// rests on.

// closedEntry gives the directory's entry of an extent that is still closed.
func (e *Engine) closedEntry(x block.ExtentID) (ent blockmap.ExtentEntry, ok bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	o, known := e.cat.byID[x]
	if !known || e.failed != nil {
		return ent, false
	}
	ent = *e.cat.extents.at(o)
	return ent, ent.State == blockmap.ExtentClosed
}

// fetchCopy has a store pull what it lacks of an extent; a source may turn out to be damaged, so each is tried. What can not even be
// compared is made anew.
func (e *Engine) fetchCopy(a *upkeep.Action) bool {
	if a.Class > upkeep.Last {
		e.turn(a)
	}
	ent, ok := e.closedEntry(a.Extent)
	if !ok || !e.mayLeave(a, &ent) {
		return false
	}
	for _, source := range a.Sources {
		// What the directory says is what recoveries have chosen, so records of the target that differ have lost.
		st, err := e.pullChosen(a.Store, a.Extent, source)
		good := err == nil && endsAs(&st, &ent) && e.vouched(a.Store, a.Extent, &st)
		if err == nil && endsAs(&st, &ent) && !good { // nothing was missing, so nothing was fetched
			st, err = e.Client.PullAnew(a.Store, e.epochNow(), a.Extent, source)
			good = err == nil && endsAs(&st, &ent) && e.vouched(a.Store, a.Extent, &st)
		}
		switch {
		case good:
			e.holds(a.Store, a.Extent, &st)
			e.mu.Lock()
			e.stats.Copied += uint64(a.Bytes)
			e.mu.Unlock()
			return e.name(a)
		case errors.Is(err, replica.ErrUnreachable), errors.Is(err, replica.ErrUnsure):
			e.settle(a.Store, a.Extent, err)
			return false
		case errors.Is(err, replica.ErrFull):
			e.mu.Lock()
			e.stock.refused[a.Store] = e.Env.Now()
			e.mu.Unlock()
			return false
		}
	}
	members := e.membersOf(a.Extent, &ent)
	if !slices.Contains(members, a.Store) || !e.copyAnew(a.Store, a.Extent, members) {
		return false
	}
	st, err := e.Client.Stat(a.Store, a.Extent)
	if err != nil || !endsAs(&st, &ent) {
		return false
	}
	e.holds(a.Store, a.Extent, &st)
	return e.name(a)
}

// mayLeave tells whether a store may get a copy now: who is no member only once the extent's end is durable at a quorum of the members, as
// recoveries take such a copy for the proof of that (invariant K8).
func (e *Engine) mayLeave(a *upkeep.Action, ent *blockmap.ExtentEntry) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if slices.Contains(e.membersLocked(a.Extent, ent), a.Store) {
		return true
	}
	o, known := e.cat.byID[a.Extent]
	return known && !e.reloading && e.cat.extents.at(o).LastHash == ent.LastHash && e.progress.Committed() >= ent.LastSeq
}

// endsAs tells whether a store's log is that of the directory, whole.
func endsAs(st *replica.State, ent *blockmap.ExtentEntry) bool {
	return st.Held && !st.Unknown && st.Chain.Seq == ent.LastSeq && st.Chain.Hash == ent.LastHash
}

// whole is endsAs for what an audit was told.
func whole(h replica.Holding, x *blockmap.ExtentEntry) bool {
	return h.Seq == x.LastSeq && h.Hash == x.LastHash && !h.Unknown
}

// holds enters into the inventory what a store holds now; nil: nothing.
func (e *Engine) holds(s block.StoreID, x block.ExtentID, st *replica.State) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch held := e.stock.held[s]; {
	case held == nil: // it did not answer the last audit
	case st == nil:
		delete(held, x)
	default:
		held[x] = replica.Holding{Extent: x, Seq: st.Chain.Seq, Hash: st.Chain.Hash, Unknown: st.Unknown}
	}
}

// busyPause is the most that a copy waits because the volume is in use.
const busyPause = 5 * time.Second

// turn waits until the copy may begin: the agent's budget has room, and the volume's own writes do not pile up.
func (e *Engine) turn(a *upkeep.Action) {
	if wait := e.Pace.Reserve(a.Bytes); wait > 0 {
		e.failedSet.WaitFor(wait)
	}
	for end := e.Env.Now() + busyPause; a.Class > upkeep.Below && e.Err() == nil && e.Env.Now() < end && e.pilesUp(); {
		e.failedSet.WaitFor(busyPause / 10)
	}
}

// pilesUp tells whether writes come faster than replicas take them.
func (e *Engine) pilesUp() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.ring != nil && e.ring.Used() > e.ring.Size()/2
}

// nameCopy makes a copy that is there a member. It is read through first, and mended: what nobody counted on may have rotted.
func (e *Engine) nameCopy(a *upkeep.Action) bool {
	if a.Store.IsZero() {
		return e.name(a)
	}
	found, err := e.Client.Scrub(a.Store, a.Extent)
	if err != nil {
		return false
	}
	for _, f := range found {
		if !e.mend(a.Store, a.Extent, f, a.Members) {
			return false
		}
	}
	return e.name(a)
}

// name has the directory name an action's members. It becomes durable with the next checkpoint; until then nothing is dropped.
func (e *Engine) name(a *upkeep.Action) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	ordinal, known := e.cat.byID[a.Extent] // ordinals do not outlive a recovery in place, which may have come in between
	if !known || e.failed != nil || e.reloading || e.cat.extents.at(ordinal).State != blockmap.ExtentClosed {
		return false
	}
	ent := *e.cat.extents.at(ordinal)
	now := e.membersLocked(a.Extent, &ent)
	for _, s := range a.Members {
		if s != a.Store && !slices.Contains(now, s) {
			return false // the list has changed since
		}
	}
	setMembers(&ent, a.Members)
	e.holders[a.Extent] = a.Members
	e.cat.setExtent(ordinal, ent)
	e.stats.Named++
	return true
}

// dropCopy has a store free its copy of an extent that a durable directory does not name it for any more. All members confirm before,
// under this epoch, that they have it whole: so no order of an earlier writer can still take theirs (invariant K3).
func (e *Engine) dropCopy(a *upkeep.Action) bool {
	members, ent, ok := e.droppable(a)
	if !ok {
		return false
	}
	for _, s := range members {
		st, err := e.promiseTo(s, a.Extent)
		if err != nil || !endsAs(&st, &ent) {
			return false
		}
	}
	if _, _, ok := e.droppable(a); !ok {
		return false
	}
	if e.free(a.Store, a.Extent) != nil {
		return false
	}
	e.holds(a.Store, a.Extent, nil)
	e.mu.Lock()
	e.stats.Dropped++
	e.mu.Unlock()
	return true
}

// free has a store drop a copy of an extent that lives on. If it is not known whether it did, it may do so at any time while this
// session lasts (invariant K4).
func (e *Engine) free(s block.StoreID, x block.ExtentID) error {
	err := e.freeSuperfluous(s, x)
	switch {
	case err == nil:
	case errors.Is(err, replica.ErrUnsure), errors.Is(err, replication.ErrFenced):
		e.settle(s, x, err) // it was not carried out, and will not be
	default:
		e.mu.Lock()
		e.stock.doubt[copyKey{x, s}] = true
		e.mu.Unlock()
	}
	return err
}

// droppable tells whether a copy may go, and whose copies are left.
func (e *Engine) droppable(a *upkeep.Action) (members []block.StoreID, ent blockmap.ExtentEntry, ok bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	o, known := e.cat.byID[a.Extent]
	if !known || e.failed != nil || e.regain || e.reloading {
		return nil, ent, false
	}
	ent = *e.cat.extents.at(o)
	members = e.membersLocked(a.Extent, &ent)
	for _, s := range members {
		if s == a.Store || e.stock.doubt[copyKey{a.Extent, s}] {
			return nil, ent, false
		}
	}
	ok = ent.State == blockmap.ExtentClosed && o < e.oldest() && e.progress.Find(a.Extent) == nil && len(members) >= int(ent.Replicas) && e.cat.stores(o, members)
	return members, ent, ok
}
