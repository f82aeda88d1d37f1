package volume

import (
	"slices"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/upkeep"
)

// The copies of closed extents are looked after by plans of core/upkeep: what stores say that they hold, the directory and the layout
// go in, and what is to be fetched, named and dropped comes out. move.go carries it out. DESIGN.md has the invariants, K1 to K6.

const (
	planBytes   = 256 << 20        // extents that one plan fetches
	planOther   = 1024             // further actions of one plan
	refusePause = 60 * time.Second // a store without room is not asked for so long
	settlePause = 5 * time.Second  // between checkpoints that are made only for copies that wait for one
	leavePause  = 10 * time.Second // between rolls because of the layout
)

// Upkeep is how the copies of a volume are, as far as its engine knows.
type Upkeep struct {
	Version uint64 // of the layout that was looked at last; 0: none was yet
	Synced  uint64 // the latest layout with which every extent, the open one too, was whole and in place; 0: none, or an extent was opened
	// since, for want of others, on a store that takes no new copies
	Rolls bool // the open extent has a member on a store that takes no new copies
	upkeep.Summary
}

// Upkeep tells how the copies are. Maps in it are the caller's to read only.
func (e *Engine) Upkeep() Upkeep {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.stock.report
}

// repairLoop looks after the copies of closed extents. It may wait long for a store, so it is apart from healLoop, which wakes it.
func (e *Engine) repairLoop() {
	audited, looked, version, seen := -restPause, -lookPause, uint64(0), uint64(0)
	more, before := false, uint64(0)
	for e.Err() == nil {
		e.retarget()
		now, v, sight, chance, ended := e.Env.Now(), e.Placer.Version(), e.sight(), e.chance(), e.ended()
		switch {
		case e.auditDue(now-audited, v, version, seen, sight):
			audited, looked, version, seen = now, now, v, sight
			e.saw(sight)
			e.audit(true)
		case e.missing() && now-looked >= lookPause:
			looked = now
			e.audit(false)
		case !more && chance == before:
			wait := auditPause
			if e.resting() {
				wait = max(wait, audited+restPause-now)
			}
			e.repair.WaitFor(wait)
			continue
		}
		before = chance
		if looked == now && e.ended() != ended {
			looked = now - lookPause // an answer may be older than what it has overwritten
		}
		more = e.tendCopies(v)
	}
}

// saw notes what the placer says as an audit begins.
func (e *Engine) saw(sight uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stock.sight = sight
}

// chance is a digest of what decides whether copies that are missing can be made now, as far as that changes without an audit: which stores may be chosen, how many
// extents lack a copy, and of how many it became known how they ended. So what a store has missed of the extent that was open when it failed is copied as soon as that
// is closed, since the store is back, and no look has to come by: the last one was a moment too early.
func (e *Engine) chance() uint64 {
	var h digest
	for _, s := range e.Placer.Candidates(block.ExtentID{Volume: e.spec.ID}.Key()) {
		h.store(s)
		h.flags(e.believedAlive(s))
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	lacking := e.cat.degraded()
	if lacking == 0 {
		return uint64(h)
	}
	return (uint64(h)*fnvPrime^uint64(lacking))*fnvPrime ^ e.stock.ended
}

// ended is of how many extents it has become known how they ended.
func (e *Engine) ended() uint64 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.stock.ended
}

// missing tells whether an extent is known to lack a copy.
func (e *Engine) missing() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.cat.degraded() > 0
}

// tendCopies makes a plan and carries it out. It tells whether something came of it: then there may be more to do.
func (e *Engine) tendCopies(version uint64) (more bool) {
	e.mu.RLock()
	fallbacks := e.stock.fallbacks
	e.mu.RUnlock()
	xs := e.copiesSeen()
	plan, sum := upkeep.Plan(network{e}, xs, upkeep.Limits{Bytes: planBytes, Other: planOther})
	e.noteCopies(xs, version, sum, fallbacks)
	named, dropped := 0, 0
	for i := range plan {
		if e.Err() != nil {
			return false
		}
		a := &plan[i]
		switch {
		case a.Kind == upkeep.Drop && e.dropCopy(a):
			dropped++
		case a.Kind == upkeep.Fetch && e.fetchCopy(a), a.Kind == upkeep.Name && e.nameCopy(a):
			named++
		}
	}
	e.mu.RLock()
	waits := (sum.Waiting > 0 || sum.Surplus > dropped) && e.Env.Now()-e.lastCheck > settlePause
	e.mu.RUnlock()
	if named > 0 || waits {
		if err := e.Checkpoint(); err != nil && e.Err() == nil {
			e.Logf("volume %s: checkpoint for copies that moved: %v (tried again)", e.spec.ID, err)
			return false
		}
	}
	return named+dropped > 0 || waits
}

// copiesSeen says of each closed extent who holds it.
func (e *Engine) copiesSeen() []upkeep.Extent {
	now := e.Env.Now()
	e.mu.RLock()
	defer e.mu.RUnlock()
	holders := make(map[block.ExtentID][]block.StoreID)
	for _, s := range e.stock.answered {
		for x := range e.stock.held[s] {
			holders[x] = append(holders[x], s) // by store in order, so the order of extents does not matter
		}
	}
	limit := e.oldest()
	var out []upkeep.Extent
	for o, ent := range e.cat.extents.all() {
		if ent.State != blockmap.ExtentClosed {
			continue
		}
		id := extentID(e.spec.ID, ent)
		members := e.membersLocked(id, ent)
		x := upkeep.Extent{ID: id, Bytes: max(1, int64(ent.DataBytes)+int64(ent.LogBytes)), Want: int(ent.Replicas), Min: int(ent.Quorum), Max: int(ent.Replicas),
			Settled: o < limit && e.progress.Find(id) == nil, Durable: e.cat.stores(o, members)}
		for _, s := range members {
			x.Copies = append(x.Copies, upkeep.Copy{Store: s, State: e.stateOf(s, id, ent, now), Member: true, Doubtful: e.stock.doubt[copyKey{id, s}]})
		}
		for _, s := range holders[id] {
			if !slices.Contains(members, s) {
				x.Copies = append(x.Copies, upkeep.Copy{Store: s, State: e.stateOf(s, id, ent, now), Doubtful: e.stock.doubt[copyKey{id, s}]})
			}
		}
		out = append(out, x)
	}
	return out
}

// stateOf says what is known of one store's copy. The caller holds mu.
func (e *Engine) stateOf(s block.StoreID, id block.ExtentID, ent *blockmap.ExtentEntry, now time.Duration) upkeep.State {
	held, answers := e.stock.held[s]
	since, gone := e.stock.goneSince[s]
	site := e.Placer.Site(s)
	switch {
	case answers && whole(held[id], ent):
		return upkeep.Whole
	case answers && e.stock.full(s, now):
		return upkeep.Gone // it takes nothing
	case answers:
		return upkeep.Lacking
	case gone && (now-since >= e.grace() || (site.Node != "" && !site.Takes)):
		return upkeep.Gone
	}
	return upkeep.Away
}

func (e *Engine) grace() time.Duration {
	if e.Grace == 0 {
		return DefaultGrace
	}
	return e.Grace
}

func (i *inventory) full(s block.StoreID, now time.Duration) bool {
	at, refused := i.refused[s]
	return refused && now-at < refusePause
}

// noteCopies keeps the figures, and marks the extents that lack a copy.
func (e *Engine) noteCopies(xs []upkeep.Extent, version uint64, sum upkeep.Summary, fallbacks uint64) {
	rolls := e.openAway() > 0
	e.mu.Lock()
	defer e.mu.Unlock()
	r := &e.stock.report
	r.Version, r.Summary, r.Rolls = version, sum, rolls
	if sum.Settled() && !rolls && fallbacks == e.stock.fallbacks { // what was seen is so still
		r.Synced = version
	}
	for i := range xs {
		o, known := e.cat.byID[xs[i].ID]
		if !known || e.cat.extents.at(o).State != blockmap.ExtentClosed {
			continue
		}
		ent := *e.cat.extents.at(o)
		ent.Flags &^= extentDegraded
		if xs[i].Lacks() {
			ent.Flags |= extentDegraded
		}
		if ent != *e.cat.extents.at(o) {
			e.cat.setExtent(o, ent)
		}
	}
}

// openAway counts the members of the open extent that are on stores which take no new copies.
func (e *Engine) openAway() int {
	e.jmu.Lock()
	x := e.log.extent
	e.jmu.Unlock()
	return e.leaving(e.holdersOf(x))
}

func (e *Engine) leaving(stores []block.StoreID) (n int) {
	for _, s := range stores {
		if site := e.Placer.Site(s); site.Node != "" && !site.Takes {
			n++
		}
	}
	return n
}

// openLeaves tells whether the open extent has a member on a store that takes no new copies, and another extent could do without.
func (e *Engine) openLeaves() bool {
	now := e.openAway()
	if now == 0 {
		return false
	}
	members, alive := e.pick(block.ExtentID{Volume: e.spec.ID, N: ^uint32(0)}, e.copies())
	live, _ := e.liveMembers()
	if alive < live || e.leaving(members) >= now {
		return false
	}
	return e.mayRoll()
}

// network is the layout as a plan sees it.
type network struct{ e *Engine }

var _ upkeep.Network = network{}

// Places implements upkeep.Network.
func (n network) Places(x block.ExtentID, k int) []block.StoreID {
	return n.e.Placer.Places(x.Key(), k)
}

// Candidates implements upkeep.Network.
func (n network) Candidates(x block.ExtentID) []block.StoreID {
	return n.e.Placer.Candidates(x.Key())
}

// Site implements upkeep.Network.
func (n network) Site(s block.StoreID) upkeep.Site { return n.e.Placer.Site(s) }

// Ready implements upkeep.Network.
func (n network) Ready(s block.StoreID) bool {
	if !n.e.believedAlive(s) {
		return false
	}
	n.e.mu.RLock()
	defer n.e.mu.RUnlock()
	return n.e.stock.held[s] != nil && !n.e.stock.full(s, n.e.Env.Now())
}

// Gone implements upkeep.Network.
func (n network) Gone(s block.StoreID) bool {
	n.e.mu.RLock()
	defer n.e.mu.RUnlock()
	since, gone := n.e.stock.goneSince[s]
	grace := n.e.grace()
	if !n.e.Placer.Site(s).Member {
		grace = min(grace, DefaultGrace) // the layout has given it up already
	}
	return gone && n.e.Env.Now()-since >= grace
}

// ExtentStatus is one closed extent of the directory.
type ExtentStatus struct {
	ID      block.ExtentID
	Seq     uint64 // of its last record
	Hash    block.Hash
	Members []block.StoreID
	Bytes   int64
}

// Directory lists the closed extents that the volume consists of.
func (e *Engine) Directory() (out []ExtentStatus) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, x := range e.cat.extents.all() {
		if x.State != blockmap.ExtentClosed {
			continue
		}
		id := extentID(e.spec.ID, x)
		out = append(out, ExtentStatus{id, x.LastSeq, x.LastHash, slices.Clone(e.membersLocked(id, x)), int64(x.DataBytes) + int64(x.LogBytes)})
	}
	return out
}
