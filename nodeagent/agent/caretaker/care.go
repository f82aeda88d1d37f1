package caretaker

import (
	"context"
	"errors"
	"math"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/task"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// care opens a volume, unless somebody uses it, until what is to do is done.
func (c *Caretaker) care(ctx context.Context, w *ward) {
	if !c.unused(w) || ctx.Err() != nil {
		return
	}
	before := w.verdict.Todo
	c.opt.Log.Info("looking after a volume that nobody uses", "volume", w.name, "todo", before)
	err := c.opt.Tender.Tend(ctx, w.id, w.seen, func(ctx context.Context, e *volume.Engine) error { return c.watch(ctx, w, e) })
	w.seen, w.silent = "", time.Time{} // its fact has changed
	switch {
	case ctx.Err() != nil:
	case err == nil:
		w.attempts, w.pause = 0, 0
		c.opt.Events.Info("LookedAfter", w.name, "%d copies were made, moved or taken away while nobody used the volume", before)
	case errors.Is(err, volumes.ErrGaveWay), errors.Is(err, registry.ErrDeleted):
		w.known = false
	default:
		w.attempts++
		w.pause = min(firstTry<<min(w.attempts+3, 8), lastTry)
		c.opt.Log.Info("a volume that nobody uses is not as it should be, and could not be put right yet", "volume", w.name, "todo", w.verdict.Todo, "err", err)
	}
}

// watch waits until the engine of a volume has nothing to do any more. How much is left the engine knows itself; stores are asked once it says
// that nothing is, and now and then, since where there are too few nodes it never says so.
func (c *Caretaker) watch(ctx context.Context, w *ward, e *volume.Engine) error {
	best, since, asked := math.MaxInt, time.Now(), time.Now()
	for task.Pause(ctx, check) {
		if err := e.Err(); err != nil {
			return err
		}
		now := time.Now()
		n, u := c.network(now), e.Upkeep()
		if left := u.Below + u.Misplace + u.Stuck + u.Surplus; u.Version > 0 && left < best {
			best, since = left, now
		}
		stalled := now.Sub(since) >= patience
		if u.Synced != n.Version && now.Sub(asked) < ask && !stalled {
			continue
		}
		asked = now
		before := w.verdict.Todo
		err := c.survey(ctx, n, w, n.answering())
		switch {
		case err == nil && w.verdict.Todo == 0 && e.Status().Degraded == 0:
			return nil
		case stalled:
			return errors.Join(errStalled, err)
		case err == nil && w.verdict.Todo < before:
			c.tell(ctx, n)
		}
	}
	return ctx.Err()
}

// unused tells that nobody uses a volume, as far as can be known without disturbing anybody. It learns the revision of its fact.
func (c *Caretaker) unused(w *ward) bool {
	r, err := c.opt.Registry.Get(w.id)
	now := time.Now()
	if err != nil || !r.Live() {
		w.deleted = err == nil && !r.Live()
		return false
	}
	w.wants(&r)
	if r.Encrypted {
		w.sealed = true
		c.sealed(w, &r)
		return false
	}
	if r.Fact.Revision != w.seen {
		w.seen, w.since, w.silent = r.Fact.Revision, now, time.Time{}
	}
	if now.Sub(w.since) < c.opt.Quiet {
		return false
	}
	if !c.writerSilent(w, &r) {
		w.silent = time.Time{}
		return false
	}
	if w.silent.IsZero() {
		w.silent = now
	}
	return r.Holder == "" || now.Sub(w.silent) >= c.opt.Grace
}

// sealed tells people of an encrypted volume that nobody uses how many copies it has: without its key nothing can be done for it here, since
// the journal's records that name copies are written with the key.
func (c *Caretaker) sealed(w *ward, r *registry.Record) {
	if r.Holder != "" || r.Copies == w.verdict.Copies {
		return
	}
	_, err := c.opt.Registry.Update(w.id, func(r *registry.Record) error {
		if r.Holder == "" { // who has it knows better
			r.Copies = w.verdict.Copies
		}
		return nil
	})
	if err != nil {
		c.opt.Log.Info("the registry does not take how many copies a volume has", "volume", w.name, "err", err)
		return
	}
	if w.verdict.Todo > 0 {
		c.opt.Events.Warn("NotLookedAfter", w.name, "the volume has %d copies of %d, is encrypted, and nobody uses it: what it lacks is made again once it is attached", w.verdict.Copies, w.copies)
	}
}

// writerSilent tells that a majority of the stores that have the volume answer, and none has heard of a writer lately.
func (c *Caretaker) writerSilent(w *ward, r *registry.Record) bool {
	heard := 0
	for s := range w.verdict.Stores {
		l, err := c.opt.Client.Lease(s, w.id)
		if err != nil {
			continue
		}
		if l.Age < volume.Lease && !l.Promised.Caretaker() && l.Promised.Number >= r.Fact.Epoch.Number {
			return false
		}
		heard++
	}
	return heard >= replication.Majority(min(len(w.verdict.Stores), r.Replicas))
}
