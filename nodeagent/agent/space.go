package agent

import (
	"context"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/agent/space"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/clearing"
	"mynetwork.io/mynetwork/nodeagent/store"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// startSpace makes what gets space back when a store is short of it.
func (a *Agent) startSpace() {
	a.space = space.New(space.Options{Rules: a.cfg.Clearing, Every: a.cfg.ClearingEvery, Own: a.ownSpace, Stages: a.stages, Deletions: a.deletions, Pending: a.unswept.Load,
		Compact: a.compact, GiveUp: a.demand.GiveUp, Changed: a.tell, Events: a.events, Log: a.cfg.Log})
}

// ownSpace measures the stores here.
func (a *Agent) ownSpace() (out []space.Store) {
	for _, s := range a.stores.All() {
		if s.Quarantined() != nil {
			continue
		}
		u, err := s.Usage()
		if err != nil {
			continue // its state says so
		}
		out = append(out, space.Store{ID: s.ID, Path: s.Path, Total: u.Total, Used: u.Used, Freed: s.Load().Freed, Clear: s.Clear})
	}
	return out
}

// roomOf is what a store of any node has left, as far as is known here: of one of this node as it was a moment ago, of others as they said last.
func (a *Agent) roomOf(id block.StoreID) (r volume.Room, known bool) {
	if r, known = a.stores.Room(id); known {
		return r, true
	}
	s, known := a.members.Stored(id)
	if known = known && s.Capacity > 0 && !s.Quarantined; known {
		r.Used = s.Used
		r.Users, r.Cleaners = store.LeftOf(s.Capacity, s.Used)
	}
	return r, known
}

// stages tells what stores of all nodes that answer get back at the moment.
func (a *Agent) stages() map[block.StoreID]clearing.Stage {
	out := map[block.StoreID]clearing.Stage{}
	for _, n := range a.members.States() {
		for _, s := range n.Stores {
			if n.Alive && s.Clearing != clearing.Idle {
				out[s.ID] = s.Clearing
			}
		}
	}
	return out
}

// deletions brings deletions through, and tells whether some are not.
func (a *Agent) deletions(ctx context.Context) (waits bool) {
	err := a.volumes.Sweep(ctx)
	if err != nil && ctx.Err() == nil {
		a.cfg.Log.Warn("deletions are not through yet, and a store is short of space", "err", err)
	}
	a.unswept.Store(err != nil)
	return err != nil
}

// compact makes a pass over each volume that is open here and has copies on one of the stores.
func (a *Agent) compact(ctx context.Context, on []block.StoreID) (gained int64) {
	for _, i := range a.volumes.Open() {
		e := a.volumes.Engine(i.ID.String())
		if e == nil || e.Err() != nil || ctx.Err() != nil {
			continue
		}
		held := copiesOf(e)
		if !slices.ContainsFunc(on, func(s block.StoreID) bool { return held[s] > 0 }) {
			continue
		}
		n, err := e.Compact(on)
		if err != nil {
			if e.Err() == nil {
				a.cfg.Log.Info("a volume could not be cleaned for a store that is short of space; tried again", "volume", i.Name, "err", err)
			}
			continue
		}
		if gained += n; n > 0 {
			a.cfg.Log.Info("a volume was cleaned, because stores are short of space", "volume", i.Name, "bytes_less", n)
		}
	}
	return gained
}
