package caretaker

import (
	"context"
	"errors"
	"slices"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/core/adaptive"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/clearing"
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
		} else if c.lower(w, adaptive.LowSpace) {
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
