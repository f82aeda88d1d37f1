package volume

import (
	"errors"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// What only time tells is looked at by one task of an engine, which wakes the others: twice a second while anything is to be expected, and else when the
// lease is to be renewed or something falls due. A volume that rests wakes its process once in renewEvery, at the same moment as all others of it, so that
// what they send to a store goes in a few writes. What ends the rest calls stir: a record that is appended, and all that wakes the healer. What happens
// without either, by an order of nobody, is seen at the next renewal.
const (
	glance     = healPause / 2
	renewEvery = Lease / 4
	early      = 100 * time.Millisecond // a long wait may end so much before its time (task)
	never      = time.Duration(1<<63 - 1)
)

// keepLoop renews the lease, finds slow replicas, and wakes tendLoop and healLoop. It waits for nothing, so that it can tell when something else does.
func (e *Engine) keepLoop() {
	beat, healed := e.Env.Now()/renewEvery, e.Env.Now()
	for {
		stirred := e.keep.WaitFor(e.untilLook(e.Env.Now()))
		if e.Err() != nil {
			return
		}
		now := e.Env.Now()
		e.failSlow(now)
		if stirred { // what replicas lack is noted; the rest is looked at with the next glance, and not beside the first write
			continue
		}
		e.compare(now)
		e.lookAtRoom()
		if n := now / renewEvery; n != beat {
			beat = n
			e.renew()
		}
		if e.comeToRest(now) {
			continue
		}
		if now-healed >= healPause-early {
			healed = now
			e.heal.Notify()
		}
		if e.tendDue(now) {
			e.tend.Notify()
		}
	}
}

// untilLook is how long it is until something is to be looked at.
func (e *Engine) untilLook(now time.Duration) time.Duration {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if !e.rests {
		return glance - now%glance
	}
	return min(renewEvery-now%renewEvery, e.tendAt()-now)
}

// comeToRest notes, and tells, whether nothing is to be expected before the next renewal, but for what tendAt says.
func (e *Engine) comeToRest(now time.Duration) bool {
	sight := uint64(0)
	e.mu.RLock()
	calm := e.calm(now)
	e.mu.RUnlock()
	if calm {
		sight = e.sight()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rests = calm && e.calm(now) && sight == e.stock.sight
	return e.rests
}

// calm tells whether every replica has everything, all copies are in place, and nothing falls due now. The caller holds mu.
func (e *Engine) calm(now time.Duration) bool {
	if e.failed != nil || e.progress == nil || e.busy || e.regain || e.reloading || e.full || len(e.flushes) > 0 {
		return false
	}
	xs := e.progress.Extents()
	if len(xs) != 1 || len(xs[0].Members) < e.spec.Replicas {
		return false
	}
	for i := range xs[0].Members {
		if m := &xs[0].Members[i]; m.Failed || m.Durable < xs[0].Last {
			return false
		}
	}
	for _, p := range e.suspects {
		if p.suspected(now) {
			return false
		}
	}
	return e.siblings.Calm(now) && e.stock.rests(e.Placer.Version()) && e.cat.degraded() == 0 && e.tendAt() > now
}

// rests tells whether the last audit has found all copies in place, under this layout, and nothing has happened since that another one would find.
func (i *inventory) rests(layout uint64) bool {
	r := &i.report
	return r.Synced == layout && r.Version == layout && r.Settled() && r.Waiting == 0 && !r.Rolls && !i.again && len(i.goneSince) == 0
}

// stir ends the rest.
func (e *Engine) stir() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stirred()
}

// stirred is stir for who holds mu.
func (e *Engine) stirred() {
	if e.rests {
		e.rests = false
		e.keep.Notify()
	}
}

// resting tells whether the engine rests.
func (e *Engine) resting() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.rests
}

// tendDue tells whether a checkpoint, cleaning, or moving the anchor is due.
func (e *Engine) tendDue(now time.Duration) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.tendAt() <= now
}

// tendAt is when tendLoop has something to do, if nothing happens until then: when checkpointDue, cleanDue or anchorDue will say so. The caller holds mu.
func (e *Engine) tendAt() time.Duration {
	at := never
	if e.progress != nil && len(e.progress.Extents()) > 0 {
		current := e.progress.Current().ID
		switch {
		case e.dirty > checkpointBytes || len(e.view.layers) > 1:
			at = 0
		case e.dirty > 0 || e.replayFrom != current:
			at = e.lastCheck + checkpointAge + 1
		}
		if e.anchor.Anchor.Extent != current {
			at = min(at, e.anchored+checkpointAge+1)
		}
	}
	t := &e.tidy
	clean := never
	switch {
	case e.wanting() || t.tight.due():
		return 0
	case t.more || t.garbage > cleanWorth:
		clean = 0
	case t.garbage > 0:
		clean = t.began + 12*cleanPause + 1
	}
	if t.left {
		clean = min(clean, t.began+leftPause+1)
	}
	return min(at, max(clean, t.next))
}

// renewal is one round of questions to the replicas of the open extent.
type renewal struct {
	e     *Engine
	asked time.Duration
	of    int // members
	left  int // that have not answered
	good  int // that have promised
	over  bool
}

// renew tells the replicas of the open extent that this writer lives, and learns whether it is fenced. It waits for nothing: answers are counted as
// they come, and those to the question of before the last one are not waited for any more.
func (e *Engine) renew() {
	e.jmu.Lock()
	x := e.log.extent
	e.jmu.Unlock()
	members := e.holdersOf(x)
	r := &renewal{e: e, asked: e.Env.Now(), of: len(members), left: len(members)}
	late := e.renewals[0]
	e.renewals[0], e.renewals[1] = e.renewals[1], r
	if late != nil {
		late.close()
	}
	epoch := e.epochNow()
	for _, s := range members {
		e.Client.AskPromise(s, epoch, x, func(err error) { r.heard(s, x, err) })
	}
}

// heard takes one answer. It is called from whatever brings it, and does not block.
func (r *renewal) heard(s block.StoreID, x block.ExtentID, err error) {
	e := r.e
	if !errors.Is(err, replica.ErrUnsure) {
		r.count(s, err)
		return
	}
	e.startLive("renew", func() { // the registry settles it
		_, err := e.promiseTo(s, x)
		r.count(s, err)
	})
}

// count takes the outcome of one question.
func (r *renewal) count(s block.StoreID, err error) {
	e := r.e
	var f *replica.FencedError
	if errors.As(err, &f) {
		e.fencedBy(s, f.Promised)
	}
	e.mu.Lock()
	r.left--
	if err == nil {
		r.good++
	}
	good := r.good
	enough := !r.over && good >= replication.Majority(r.of)
	none := !r.over && r.left == 0
	if enough {
		e.lastQuorum = e.Env.Now()
	}
	r.over = r.over || enough
	e.mu.Unlock()
	switch {
	case enough:
		e.confirmedBy(good, r.of, r.asked) // a majority: nobody is asked
	case none:
		r.close()
	}
}

// close ends the round with the answers that are there.
func (r *renewal) close() {
	e := r.e
	e.mu.Lock()
	over, good := r.over, r.good
	r.over = true
	e.mu.Unlock()
	if !over && e.weak() && good >= e.structure(r.of) {
		e.startLive("renew", func() { e.confirmedBy(good, r.of, r.asked) }) // the registry is asked
	}
}
