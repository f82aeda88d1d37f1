package volume

import (
	"errors"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
)

// tendLoop makes checkpoints and cleans, when keepLoop tells it to.
func (e *Engine) tendLoop() {
	for e.Err() == nil {
		e.tend.Wait()
		if e.Err() != nil {
			return
		}
		now := e.Env.Now()
		due, lagging := e.checkpointDue(now)
		var err error
		switch {
		case e.cleanDue(now):
			err = e.Tidy()
		case due:
			err = e.Checkpoint()
		case lagging && e.anchorDue(now):
			e.moveAnchor()
		default:
			continue
		}
		if err != nil && e.Err() == nil {
			e.Logf("volume %s: checkpoint or cleaning: %v (tried again)", e.spec.ID, err)
		}
		pause := glance
		if err == nil && e.pressed() {
			pause = aside
			e.tend.Notify()
		}
		e.failedSet.WaitFor(pause)
	}
}

// aside is the time between passes that follow each other for want of room: who waits for the end of one goes first.
const aside = 10 * time.Millisecond

// pressed tells that a pass is to follow at once, for want of room.
func (e *Engine) pressed() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.wanting() || e.tidy.tight.due()
}

// anchorDue tells whether to try again to move the anchor, and notes that this was tried.
func (e *Engine) anchorDue(now time.Duration) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now-e.anchored <= checkpointAge {
		return false
	}
	e.anchored = now
	return true
}

// checkpointDue tells whether a checkpoint is due: much has been written, some a while ago, or the journal has rolled, so
// that extents before it wait to become old. lagging tells that the anchor is behind.
func (e *Engine) checkpointDue(now time.Duration) (due, lagging bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.checkpointDueLocked(now)
}

func (e *Engine) checkpointDueLocked(now time.Duration) (due, lagging bool) {
	if e.progress == nil || len(e.progress.Extents()) == 0 {
		return false, false
	}
	current := e.progress.Current().ID
	rolled := e.replayFrom != current
	due = e.dirty > checkpointBytes || ((e.dirty > 0 || rolled) && now-e.lastCheck > checkpointAge) || len(e.view.layers) > 1
	return due, e.anchor.Anchor.Extent != current
}

type lagKey struct {
	extent block.ExtentID
	store  block.StoreID
}

// lag is what is remembered of a replica that is behind the quorum.
type lag struct {
	durable uint64
	moved   time.Duration // when it last made progress
	filling time.Duration // since when the ring fills up because of it; 0: it does not
}

// failSlow takes out a replica that holds the volume up: it has not moved for slowReplica while a quorum has, the ring
// has been filling up behind it for three times that, or it has not moved for stuckReplica whatever the others do.
func (e *Engine) failSlow(now time.Duration) {
	type slow struct {
		x block.ExtentID
		s block.StoreID
	}
	var out []slow
	e.mu.Lock()
	for k := range e.behind {
		if e.progress == nil || e.progress.Find(k.extent) == nil {
			delete(e.behind, k)
		}
	}
	if e.progress != nil {
		filling := e.ring != nil && e.ring.Used() > e.ring.Size()*3/4
		for _, x := range e.progress.Extents() {
			for i := range x.Members {
				m := &x.Members[i]
				if m.Failed || m.Durable >= x.Last {
					delete(e.behind, lagKey{x.ID, m.Store})
					continue
				}
				l, known := e.behind[lagKey{x.ID, m.Store}]
				if !known || l.durable != m.Durable {
					l.durable, l.moved = m.Durable, now
				}
				ahead := e.progress.Committed() > m.Durable
				if !filling || !ahead {
					l.filling = 0
				} else if l.filling == 0 {
					l.filling = now
				}
				if (ahead && now-l.moved > slowReplica) || now-l.moved > stuckReplica || (l.filling != 0 && now-l.filling > 3*slowReplica) {
					out = append(out, slow{x.ID, m.Store})
					delete(e.behind, lagKey{x.ID, m.Store})
					continue
				}
				e.behind[lagKey{x.ID, m.Store}] = l
			}
		}
	}
	e.mu.Unlock()
	for _, s := range out {
		e.memberFailed(s.x, s.s, errSlow)
	}
}

var errSlow = errors.New("replica does not get on with what it was sent")

// healLoop brings the open extent back to R living replicas, when something has happened, and as often as keepLoop tells it to.
func (e *Engine) healLoop() {
	for e.Err() == nil {
		e.heal.Wait()
		if e.Err() != nil {
			return
		}
		e.stir()
		e.recall()
		live, quorum := e.liveMembers()
		e.mu.RLock()
		full := e.full
		e.mu.RUnlock()
		switch {
		case live < quorum, e.halfRecovered():
			e.healQuorum()
		case live < e.copies() && e.better(live) && (!full || e.spares()):
			e.healOpen()
		case full:
			e.probeSpace()
		case e.openLeaves(), e.openSlow():
			e.healOpen()
		}
		e.repair.Notify()
	}
}

// liveMembers is the lowest number of living replicas over the extents that are not settled. live < quorum tells that one of them
// has lost its quorum: extents may differ in theirs, as R may be changed.
func (e *Engine) liveMembers() (live, quorum int) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	live, quorum = e.spec.Replicas, e.structure(e.spec.Replicas)
	if e.progress == nil {
		return live, quorum
	}
	xs := e.progress.Extents()
	live, short := journal.MaxMembers, -journal.MaxMembers
	for i, x := range xs {
		if i == len(xs)-1 || x.Durable() < x.Last {
			live, short = min(live, x.Live()), max(short, x.Quorum-x.Live())
		}
	}
	return live, live + short
}

// better tells whether a new extent would have more living replicas than live.
func (e *Engine) better(live int) bool {
	_, alive := e.pick(block.ExtentID{Volume: e.spec.ID, N: ^uint32(0)}, e.copies())
	return alive > live
}

// healOpen rolls to an extent with more living replicas. What the old one lacks is restored afterwards.
func (e *Engine) healOpen() {
	if e.pause() != nil {
		return
	}
	_ = e.openNext() // fails only when the engine has ended
	e.resume()
}

// healQuorum is for an open extent that has lost its quorum: once a majority answers again, the tail is recovered.
func (e *Engine) healQuorum() {
	e.interrupt()
	if e.acquire(true) != nil {
		return // the engine has ended
	}
	defer e.regained()
	if live, quorum := e.liveMembers(); live >= quorum && !e.halfRecovered() {
		return
	}
	if err := e.recoverInPlace(); err != nil && e.Err() == nil {
		if errors.Is(err, replication.ErrFenced) || errors.Is(err, ErrLost) || errors.Is(err, ErrCut) {
			e.fail(err)
			return
		}
		e.Logf("volume %s: recovery: %v (tried again)", e.spec.ID, err)
		e.Env.Sleep(retryPause)
		e.heal.Notify()
	}
}

// halfRecovered tells that a recovery in place has begun and failed. Although replicas that were only slow have made up a quorum since, it has
// to be done again: reads and FLUSHes wait for its end (invariant E7).
func (e *Engine) halfRecovered() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.reloading
}

// regained gives the right of a recovery in place back.
func (e *Engine) regained() {
	if r := recover(); r != nil {
		panic(r) // see release
	}
	e.mu.Lock()
	e.regain = false
	e.mu.Unlock()
	e.release()
}

// membersOf lists who holds, or should hold, an extent of this volume.
func (e *Engine) membersOf(x block.ExtentID, ent *blockmap.ExtentEntry) []block.StoreID {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.membersLocked(x, ent)
}

func (e *Engine) membersLocked(x block.ExtentID, ent *blockmap.ExtentEntry) []block.StoreID {
	if m := e.holders[x]; m != nil {
		return m
	}
	return ent.Members[:min(int(ent.Count), blockmap.InlineMembers)]
}
