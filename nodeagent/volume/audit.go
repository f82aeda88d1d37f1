package volume

import (
	"slices"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// auditPause is how often an engine asks every store what it holds of the volume.
const auditPause = 15 * time.Second

// replaceAfter is how long a store must be gone before its copies are made anew elsewhere.
const replaceAfter = 30 * time.Second

// audit compares what stores say that they hold with what the directory says they should: a closed extent with a copy
// missing, or on a store that has been gone for replaceAfter, is handed to the healer; a copy that nobody counts on any
// more is freed. A store that does not answer is not evidence of anything but time.
func (e *Engine) audit() {
	now := e.Env.Now()
	held := make(map[block.StoreID]map[block.ExtentID]replica.Holding)
	lists := make(map[block.StoreID][]replica.Holding)
	stores := e.everyStore()
	for _, s := range stores {
		ids, err := e.Client.Holdings(s, e.spec.ID)
		e.mu.Lock()
		if err != nil {
			if _, known := e.goneSince[s]; !known {
				e.goneSince[s] = now
			}
			e.mu.Unlock()
			continue
		}
		delete(e.goneSince, s)
		e.mu.Unlock()
		lists[s] = ids
		held[s] = make(map[block.ExtentID]replica.Holding, len(ids))
		for _, x := range ids {
			held[s][x.Extent] = x
		}
	}
	e.flagMissing(now, held)
	for _, s := range stores {
		for _, x := range lists[s] {
			if e.superfluous(s, x.Extent) {
				e.settle(s, x.Extent, e.Client.Free(s, e.epochNow(), x.Extent)) // tried again at the next audit
			}
		}
	}
}

// everyStore lists the layout's stores and all others that hold, or should hold, a part of the volume.
func (e *Engine) everyStore() []block.StoreID {
	out := slices.Clone(e.Placer.Candidates(block.ExtentID{Volume: e.spec.ID}.Key()))
	e.mu.RLock()
	defer e.mu.RUnlock()
	for o := range e.cat.extents {
		x := &e.cat.extents[o]
		if x.State != blockmap.ExtentClosed {
			continue
		}
		for _, s := range e.membersLocked(extentID(e.spec.ID, x), x) {
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// flagMissing marks the extents that lack a copy.
func (e *Engine) flagMissing(now time.Duration, held map[block.StoreID]map[block.ExtentID]replica.Holding) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for o := range e.cat.extents {
		x := &e.cat.extents[o]
		if x.State != blockmap.ExtentClosed || x.Flags&extentDegraded != 0 {
			continue
		}
		if e.lacksCopy(extentID(e.spec.ID, x), x, now, held) {
			ent := *x
			ent.Flags |= extentDegraded
			e.cat.setExtent(uint32(o), ent)
		}
	}
}

// lacksCopy tells whether fewer than R stores hold an extent. The caller holds mu.
func (e *Engine) lacksCopy(id block.ExtentID, x *blockmap.ExtentEntry, now time.Duration, held map[block.StoreID]map[block.ExtentID]replica.Holding) bool {
	members := e.membersLocked(id, x)
	for _, s := range members {
		since, gone := e.goneSince[s]
		if (held[s] != nil && !whole(held[s][id], x)) || (gone && now-since >= replaceAfter) {
			return true
		}
	}
	if len(members) >= int(x.Replicas) {
		return false
	}
	copies := 0 // the directory names three members: count the others
	for _, ids := range held {
		if whole(ids[id], x) {
			copies++
		}
	}
	return copies < int(x.Replicas)
}

// whole tells whether a store holds all of an extent.
func whole(h replica.Holding, x *blockmap.ExtentEntry) bool {
	return h.Seq == x.LastSeq && h.Hash == x.LastHash && !h.Unknown
}

// superfluous tells whether a store's copy of an extent may go. That is so for extents of earlier epochs that the
// journal never named (the directory of a recovered writer is complete, so they hold nothing that was acknowledged), for
// freed ones, for those that a durable checkpoint condemns, and for whole ones, before the anchor and the replay position,
// whose copies are counted elsewhere.
func (e *Engine) superfluous(s block.StoreID, x block.ExtentID) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	o, known := e.cat.byID[x]
	if x.Volume != e.spec.ID || e.failed != nil || e.regain || e.reloading {
		return false // while a recovery in place builds the directory anew, it says nothing of what may go
	}
	if !known {
		return x.Epoch < e.epoch.Number
	}
	ent := &e.cat.extents[o]
	switch ent.State {
	case blockmap.ExtentFreed:
		return true
	case blockmap.ExtentCondemned:
		return !e.cat.dirty[o]
	case blockmap.ExtentClosed:
		members := e.membersLocked(x, ent)
		return o < e.oldest() && ent.Flags&extentDegraded == 0 && len(members) >= int(ent.Replicas) && !slices.Contains(members, s)
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

// substitute finds a living store for the copy of one that has been gone for replaceAfter; itself if there is none.
func (e *Engine) substitute(x block.ExtentID, gone block.StoreID, members []block.StoreID) block.StoreID {
	e.mu.RLock()
	since, known := e.goneSince[gone]
	e.mu.RUnlock()
	if !known || e.Env.Now()-since < replaceAfter {
		return gone
	}
	for _, s := range e.Placer.Candidates(x.Key()) {
		if !slices.Contains(members, s) && e.believedAlive(s) {
			return s
		}
	}
	return gone
}
