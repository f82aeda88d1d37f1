package volume

import (
	"slices"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

const (
	auditPause = 15 * time.Second // how often an engine asks every store what it holds of the volume, while something is to be expected
	restPause  = 2 * time.Minute  // and while nothing is: what changes without a sign, as by a late order of a former writer, is noticed by then
	lookPause  = 3 * time.Second  // how often it asks those concerned while copies are missing
)

// DefaultGrace is how long a store must be gone before its copies are made anew elsewhere, if nothing else is set.
const DefaultGrace = 30 * time.Second

// inventory is what stores said that they hold, and what is remembered of them between audits. Guarded by Engine.mu.
type inventory struct {
	answered  []block.StoreID // by the last audit, in the order of asking
	held      map[block.StoreID]map[block.ExtentID]replica.Holding
	goneSince map[block.StoreID]time.Duration // stores that do not answer
	refused   map[block.StoreID]time.Duration // stores that had no room for a copy
	doubt     map[copyKey]bool                // orders to free whose outcome is not known (invariant K4)
	report    Upkeep
	again     bool   // something is to be done that an audit finds: a copy is to go, or an extent was closed that is not at its places
	sight     uint64 // what the placer said at the last audit
	ended     uint64 // extents of which it became known how they ended
	fallbacks uint64 // extents that were opened with a member on a store that takes no new copies
}

// copyKey is one copy.
type copyKey struct {
	extent block.ExtentID
	store  block.StoreID
}

func newInventory() inventory {
	return inventory{held: make(map[block.StoreID]map[block.ExtentID]replica.Holding), goneSince: make(map[block.StoreID]time.Duration),
		refused: make(map[block.StoreID]time.Duration), doubt: make(map[copyKey]bool)}
}

// whole enters that a store has said, by its answers to appends, that it holds all of a closed extent. If it did not answer the last audit,
// the next one tells.
func (i *inventory) whole(s block.StoreID, x block.ExtentID, ent *blockmap.ExtentEntry) {
	if held := i.held[s]; held != nil && ent.State == blockmap.ExtentClosed {
		held[x] = replica.Holding{Extent: x, Seq: ent.LastSeq, Hash: ent.LastHash}
	}
}

// audit asks stores what they hold: all, or those that are known to hold, or should hold, a part of the volume. A copy of what the
// journal never named, or of what was freed, goes at once. A store that does not answer is not evidence of anything but time.
func (e *Engine) audit(all bool) {
	if all {
		e.mu.Lock()
		e.stock.again = false // what happens from here on is for the next one
		e.mu.Unlock()
	}
	stores := e.everyStore(all)
	lists := make(map[block.StoreID][]replica.Holding)
	var mu sync.Mutex
	e.each(stores, func(s block.StoreID) {
		list, err := e.Client.Holdings(s, e.spec.ID)
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		lists[s] = list
	}, nil)
	e.take(stores, lists, all)
	again := false
	for _, s := range stores {
		for _, x := range lists[s] {
			if e.superfluous(x.Extent) {
				err := e.freeSuperfluous(s, x.Extent)
				again = again || err != nil
				e.settle(s, x.Extent, err) // tried again at the next audit
			}
		}
	}
	e.mu.Lock()
	e.stock.again = e.stock.again || again
	e.mu.Unlock()
}

// doubtful has stores asked soon, if a scrub has found something, or could not look: a store may count on less of its log since.
func (e *Engine) doubtful(found []replica.Finding, err error) {
	if len(found) > 0 || err != nil {
		e.auditAgain()
	}
}

// auditAgain has the next look at the volume's copies ask every store.
func (e *Engine) auditAgain() {
	e.mu.Lock()
	e.stock.again = true
	e.mu.Unlock()
}

// auditDue tells whether all stores are to be asked: the layout, or who answers, is not what it was at the last audit, or that was long
// ago. That is soon while the copies are not all in place, a store is away, or one did not do as it was told; else nothing of what stores hold
// changes but by this engine, which knows what it did.
func (e *Engine) auditDue(ago time.Duration, layout, before uint64, seen, now uint64) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	st := &e.stock
	rests := st.report.Synced == layout && st.report.Version == layout && st.report.Settled() && !st.again && len(st.goneSince) == 0
	return layout != before || seen != now || ago >= restPause || ago >= auditPause && !rests
}

// sight is a digest of what the placer says of all stores: which there are, which of them answer, and what may be put there.
func (e *Engine) sight() uint64 {
	var h digest
	for _, s := range e.Placer.Candidates(block.ExtentID{Volume: e.spec.ID}.Key()) {
		h.store(s)
		site := e.Placer.Site(s)
		h.flags(e.Placer.Alive(s), site.Member, site.Takes)
	}
	return uint64(h)
}

// digest is of a list, in its order: FNV-1a.
type digest uint64

const fnvPrime = 1099511628211

func (h *digest) mix(b byte) {
	if *h == 0 {
		*h = 14695981039346656037
	}
	*h = (*h ^ digest(b)) * fnvPrime
}

func (h *digest) store(s block.StoreID) {
	for _, b := range s {
		h.mix(b)
	}
}

func (h *digest) flags(list ...bool) {
	b := byte(0)
	for i, v := range list {
		if v {
			b |= 1 << i
		}
	}
	h.mix(b)
}

// take enters what stores answered.
func (e *Engine) take(stores []block.StoreID, lists map[block.StoreID][]replica.Holding, all bool) {
	now := e.Env.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	st := &e.stock
	if all {
		st.answered = nil
		clear(st.held)
		for s := range st.goneSince {
			if !slices.Contains(stores, s) { // the volume has nothing to do with it any more
				delete(st.goneSince, s)
			}
		}
	}
	for _, s := range stores {
		list, ok := lists[s]
		if !ok {
			if _, known := st.goneSince[s]; !known {
				st.goneSince[s] = now
			}
			st.answered = slices.DeleteFunc(st.answered, func(o block.StoreID) bool { return o == s })
			delete(st.held, s)
			continue
		}
		delete(st.goneSince, s)
		if !slices.Contains(st.answered, s) {
			st.answered = append(st.answered, s)
		}
		held := make(map[block.ExtentID]replica.Holding, len(list))
		for _, x := range list {
			held[x.Extent] = x
		}
		st.held[s] = held
	}
}

// everyStore lists stores that hold, or should hold, a part of the volume; with all, those of the layout too.
func (e *Engine) everyStore(all bool) (out []block.StoreID) {
	if all {
		out = slices.Clone(e.Placer.Candidates(block.ExtentID{Volume: e.spec.ID}.Key()))
	}
	seen := make(map[block.StoreID]bool, len(out))
	for _, s := range out {
		seen[s] = true
	}
	add := func(list []block.StoreID) {
		for _, s := range list {
			if !seen[s] {
				seen[s] = true
				out = append(out, s)
			}
		}
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, x := range e.cat.extents.all() {
		if x.State == blockmap.ExtentClosed {
			add(e.membersLocked(extentID(e.spec.ID, x), x))
		}
	}
	if !all {
		for _, s := range e.stock.answered {
			if len(e.stock.held[s]) > 0 {
				add([]block.StoreID{s})
			}
		}
	}
	return out
}

// superfluous tells whether any copy of an extent may go: it is of an earlier epoch and the directory does not name it (that of a recovered writer
// is complete, so the journal has no use for it), or of this epoch and from before the anchor, likewise; it was freed; or a durable checkpoint condemns it.
func (e *Engine) superfluous(x block.ExtentID) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	o, known := e.cat.byID[x]
	if x.Volume != e.spec.ID || e.failed != nil || e.regain || e.reloading {
		return false // while a recovery in place builds the directory anew, it says nothing of what may go
	}
	if !known {
		a := e.anchor.Anchor.Extent
		former := x.Epoch < e.epoch.Number || x.Epoch == e.epoch.Number && a.Epoch == x.Epoch && x.N < a.N
		return former && !e.givenUpExtent(x)
	}
	switch e.cat.extents.at(o).State {
	case blockmap.ExtentFreed:
		return true
	case blockmap.ExtentCondemned:
		return !e.cat.dirty[o]
	}
	return false
}

// oldest is the ordinal of the first extent that recovery or replay may need. The caller holds mu.
func (e *Engine) oldest() uint32 {
	limit := e.cat.byID[e.anchor.Anchor.Extent]
	if r, ok := e.cat.byID[e.replayFrom]; ok {
		limit = min(limit, r)
	}
	return limit
}
