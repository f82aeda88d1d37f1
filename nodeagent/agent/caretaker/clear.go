package caretaker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/core/adaptive"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/clearing"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/task"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// errandPause is the time after which a volume that nobody uses is opened once more for stores that are short of space: as long as all stages of
// core/clearing take. settling is how long it stays open until the copies that it gave up are gone.
const (
	errandPause = 10 * time.Minute
	settling    = time.Minute
)

// clear opens one volume that nobody uses and that has copies on stores which are short of space, and does there what whoever has a volume attached
// does: cleans it, or has it want one copy fewer.
func (c *Caretaker) clear(ctx context.Context) {
	if c.opt.Stages == nil || c.opt.Tender == nil {
		return
	}
	stages := c.opt.Stages()
	if len(stages) == 0 {
		return
	}
	for _, w := range c.ward {
		now := time.Now()
		stage, on := w.errand(stages, now)
		if len(on) == 0 || w.verdict.Todo > 0 || w.deleted || w.copies == 0 || now.Before(w.ask) || ctx.Err() != nil {
			continue
		}
		if !c.unused(w) {
			w.ask = now.Add(c.opt.Quiet + time.Second) // it takes so long to find out
			continue
		}
		w.done[stage] = now
		if stage == clearing.Unreferenced {
			if errors.Is(c.compact(ctx, w, on), volumes.ErrGaveWay) { // somebody wants it, or did a moment ago
				delete(w.done, stage)
				w.ask = now.Add(firstTry)
			}
		} else if c.lower(w) {
			c.settle(ctx, w)
		}
		w.seen, w.silent = "", time.Time{} // its fact has changed
		return
	}
}

// errand gives the stage for which the volume is to be opened, and the stores in it; none if it was lately.
func (w *ward) errand(stages map[block.StoreID]clearing.Stage, now time.Time) (clearing.Stage, []block.StoreID) {
	if w.done == nil {
		w.done = map[clearing.Stage]time.Time{}
	}
	for _, stage := range []clearing.Stage{clearing.Unreferenced, clearing.Surplus} {
		if on := w.on(stages, stage); len(on) > 0 && now.Sub(w.done[stage]) >= errandPause {
			return stage, on
		}
	}
	return clearing.Idle, nil
}

// on lists the stores in a stage that have copies of the volume.
func (w *ward) on(stages map[block.StoreID]clearing.Stage, stage clearing.Stage) (out []block.StoreID) {
	if w.verdict == nil {
		return nil
	}
	for s, sh := range w.verdict.Stores {
		if sh.Copies > 0 && stages[s] == stage {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b block.StoreID) int { return slices.Compare(a[:], b[:]) })
	return out
}

// compact cleans a volume until nothing is gained by it.
func (c *Caretaker) compact(ctx context.Context, w *ward, on []block.StoreID) error {
	total := int64(0)
	err := c.opt.Tender.Tend(ctx, w.id, w.seen, func(ctx context.Context, e *volume.Engine) error {
		for ctx.Err() == nil {
			n, err := e.Compact(on)
			if err != nil || n == 0 {
				return err
			}
			total += n
		}
		return ctx.Err()
	})
	c.opt.Log.Info("a volume that nobody uses was cleaned, because stores are short of space", "volume", w.name, "bytes_less", total, "err", err)
	return err
}

// anyZones is for what is asked where the failure domains are not known: a volume keeps what it needs with any number of them.
const anyZones = math.MaxInt

var errNothing = errors.New("it has no more copies than it needs, or somebody uses it")

// lower has a volume want one copy fewer, if it has bounds and more than it needs. Nobody has it: the registry is told, and the next engine knows.
func (c *Caretaker) lower(w *ward) bool {
	if r, err := c.opt.Registry.Get(w.id); err != nil || !spare(&r, w.seen) {
		return false
	}
	now, err := c.opt.Registry.Update(w.id, func(r *registry.Record) error {
		if !spare(r, w.seen) {
			return fmt.Errorf("volume %q: %w", r.Name, errNothing)
		}
		r.Replicas--
		r.Adaptive.Why, r.Adaptive.Changed = string(adaptive.LowSpace), time.Now().Unix()
		return nil
	})
	if err != nil {
		c.opt.Log.Info("the copies of a volume that nobody uses are not lowered yet", "volume", w.name, "err", err)
		return false
	}
	w.copies = now.Replicas
	c.opt.Events.Info("CopiesAdapted", w.name, "%d copies instead of %d, nobody uses the volume: %s", now.Replicas, now.Replicas+1, adaptive.LowSpace.Words())
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
			if u := e.Upkeep(); e.Err() != nil || u.Version > 0 && u.Settled() {
				return e.Err()
			}
		}
		return ctx.Err()
	})
	if err != nil {
		c.opt.Log.Info("copies that a volume does not want any more are not gone yet: they go when it is opened next", "volume", w.name, "err", err)
	}
}
