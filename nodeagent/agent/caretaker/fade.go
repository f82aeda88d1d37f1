package caretaker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/adaptive"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/task"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// inUse is how long a volume with more copies than it needs, that somebody uses, is not asked for again.
const inUse = 10 * time.Minute

// fade has one volume that nobody has used for long want a copy fewer, if it has bounds and more than it needs: what is not open is not read.
// Whoever has a volume open sees to that himself.
func (c *Caretaker) fade(ctx context.Context) {
	if c.opt.Tender == nil {
		return
	}
	for _, w := range c.ward {
		now := time.Now()
		if w.least == 0 || w.verdict == nil || max(w.copies, w.verdict.Most) <= w.least || w.verdict.Todo > 0 || w.deleted || now.Before(w.fade) || ctx.Err() != nil {
			continue
		}
		if !c.unused(w) {
			w.fade = now.Add(min(inUse, c.opt.Idle))
			if now.Sub(w.since) < c.opt.Quiet {
				w.fade = now.Add(c.opt.Quiet + time.Second) // it takes so long to find out
			}
			continue
		}
		left := w.verdict.Most > w.copies // by a settling that was cut short
		if idle := now.Sub(w.since); idle < c.opt.Idle && !left {
			w.fade = now.Add(c.opt.Idle - idle)
			continue
		}
		w.fade = now.Add(min(inUse, c.opt.Idle))
		if left || c.lower(w, adaptive.Unused) {
			c.settle(ctx, w)
		}
		w.seen, w.silent = "", time.Time{} // its fact has changed
		return
	}
}

// anyZones is for what is asked where the failure domains are not known: a volume keeps what it needs with any number of them.
const anyZones = math.MaxInt

var errNothing = errors.New("it has no more copies than it needs, or somebody uses it")

// lower has a volume want one copy fewer, if it has bounds and more than it needs. Nobody has it: the registry is told, and the next engine knows.
func (c *Caretaker) lower(w *ward, why adaptive.Reason) bool {
	if r, err := c.opt.Registry.Get(w.id); err != nil || !spare(&r, w.seen) {
		return false
	}
	now, err := c.opt.Registry.Update(w.id, func(r *registry.Record) error {
		if !spare(r, w.seen) {
			return fmt.Errorf("volume %q: %w", r.Name, errNothing)
		}
		r.Replicas--
		r.Adaptive.Why, r.Adaptive.Changed = string(why), time.Now().Unix()
		return nil
	})
	if err != nil {
		c.opt.Log.Info("the copies of a volume that nobody uses are not lowered yet", "volume", w.name, "err", err)
		return false
	}
	w.wants(&now)
	c.opt.Events.Info("CopiesAdapted", w.name, "%d copies instead of %d, nobody uses the volume: %s", now.Replicas, now.Replicas+1, why.Words())
	return true
}

// spare tells whether a volume can do with one copy fewer, and nobody has taken it since its fact had the revision seen. Who reads a sealed one is not known here.
func spare(r *registry.Record, seen string) bool {
	b := adaptive.Bounds{Least: r.Adaptive.Least, Most: r.Adaptive.Most}
	_, sealed := r.Sealed()
	return r.Live() && b.On() && !sealed && !r.Encrypted && r.Fact.Revision == seen && r.Replicas > max(b.Least, adaptive.Floor(r.Weak, anyZones))
}

// settle opens a volume until the copies that it does not want any more are gone.
func (c *Caretaker) settle(ctx context.Context, w *ward) {
	err := c.opt.Tender.Tend(ctx, w.id, w.seen, func(ctx context.Context, e *volume.Engine) error {
		for end := time.Now().Add(settling); task.Pause(ctx, check) && time.Now().Before(end); {
			if u := e.Upkeep(); e.Err() != nil {
				return e.Err()
			} else if u.Version == 0 || !u.Settled() {
				continue
			}
			n := c.network(time.Now())
			if err := c.survey(ctx, n, w, n.answering()); err == nil && w.verdict.Most <= w.copies {
				return nil // the engine may be settled before it knows what is wanted now
			}
		}
		return ctx.Err()
	})
	if err != nil {
		c.opt.Log.Info("copies that a volume does not want any more are not gone yet: they go when it is opened next", "volume", w.name, "err", err)
	}
}
