package sim

import (
	"fmt"
	"slices"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/store"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// Changes of the layout, and what is required of the copies that have to move because of them.

// actives counts the nodes that take new copies.
func (w *World) actives() (n int) {
	for _, o := range w.nodes {
		if o.role == active && !o.lost {
			n++
		}
	}
	return n
}

func (n *node) become(r role) bool {
	n.role = r
	n.w.relayout()
	n.w.s.tracef("layout %d: %s is %s", n.w.version, n.name, r)
	return true
}

// String is the role's name.
func (r role) String() string { return [...]string{"active", "drained", "absent"}[r] }

func addNode(_ *World, n *node) bool {
	return n.role == absent && !n.lost && n.become(active)
}

func drainNode(w *World, n *node) bool {
	return n.role == active && !n.lost && w.actives() > w.cfg.Replicas && n.become(drained)
}

func cancelDrain(_ *World, n *node) bool {
	return n.role == drained && !n.lost && n.become(active)
}

func reweigh(w *World, n *node) bool {
	n.weight = 1 + w.s.rng.IntN(4)
	return n.become(n.role)
}

// removeNode takes a drained node away that holds nothing any more, and that no volume needs for its journal: that is so once
// all have been in place with the present layout. It comes back, if it does, with an empty disk.
func removeNode(w *World, n *node) bool {
	if n.role != drained || n.lost || n.st == nil {
		return false
	}
	for _, v := range n.st.Volumes() {
		if v.Extents > 0 {
			return false
		}
	}
	for _, v := range w.vols {
		used := !w.reg.facts[v.spec.ID].Anchor.Extent.IsZero()
		if used && (v.seat == nil || v.seat.over || v.seat.e.Upkeep().Synced != w.version) {
			return false
		}
	}
	w.cover("drained node removed", "store")
	n.end(false)
	n.role = absent
	n.newDisk()
	return true
}

// loseNode is the end of a node and its disk. Some time later it is taken out of the layout.
func loseNode(w *World, n *node) bool {
	if n.lost || n.role != active || w.actives() <= w.cfg.Replicas || !w.damage(n) {
		return false
	}
	n.die(false)
	n.lost, n.ghost = true, nil
	return w.later(20*time.Second, func() { n.become(absent) })
}

// buryLost takes lost nodes out of the layout.
func (w *World) buryLost() {
	for _, n := range w.nodes {
		if n.lost && n.role != absent {
			n.become(absent)
		}
	}
}

// disk is the store as it is, or as it was when its process ended; nil: the disk is gone.
func (n *node) disk() *store.Store {
	if n.st != nil {
		return n.st
	}
	return n.ghost
}

// holdsWhole tells whether a node's store has all of an extent.
func (n *node) holdsWhole(x *volume.ExtentStatus) bool {
	d := n.disk()
	if d == nil || n.lost {
		return false
	}
	st, ok := d.Stat(x.ID)
	return ok && !st.Unknown && st.Durable.Seq == x.Seq && st.Durable.Hash == x.Hash
}

// freeing checks an order to free that a store is about to take: of an extent that the newest writer counts on, another whole copy has
// to be there (promise 6).
func (w *World) freeing(n *node, r *request) {
	if w.failure != nil || n.st == nil {
		return
	}
	if _, err := replication.Admit(n.st.Promised(r.extent.Volume), r.epoch); err != nil {
		return
	}
	for _, v := range w.vols {
		if v.spec.ID != r.extent.Volume || v.seat == nil || v.seat.over || v.seat.e.Err() != nil {
			continue
		}
		list := v.seat.e.Directory()
		i := slices.IndexFunc(list, func(x volume.ExtentStatus) bool { return x.ID == r.extent })
		if i < 0 || !n.holdsWhole(&list[i]) {
			continue
		}
		others := 0
		for _, o := range w.nodes {
			if o != n && o.holdsWhole(&list[i]) {
				others++
			}
		}
		if others == 0 {
			w.violate(6, "v%d: %s is told to free the last good copy of extent %d.%d", v.spec.ID[0], n.name, r.extent.Epoch, r.extent.N)
		}
	}
}

// misplaced says which closed extent of a volume is not exactly where the layout wants it, and what drained nodes still hold.
func (w *World) misplaced(v *vol, s *seat) string {
	if up := s.e.Upkeep(); up.Synced != w.version {
		return fmt.Sprintf("in place with layout %d, not %d: %+v", up.Synced, w.version, up)
	}
	place := placer{s.n}
	list := s.e.Directory()
	for i := range list {
		x := &list[i]
		want := place.Places(x.ID.Key(), v.spec.Replicas)
		for _, n := range w.nodes {
			if has := n.st != nil && n.holdsWhole(x); has != slices.Contains(want, n.store) {
				return fmt.Sprintf("extent %d.%d: on %s: %v; its places are %v, its members %v", x.ID.Epoch, x.ID.N, n.name, has, w.names(want), w.names(x.Members))
			}
		}
	}
	for _, n := range w.nodes {
		if n.role != active && n.st != nil && len(n.st.Extents(v.spec.ID)) > 0 {
			return fmt.Sprintf("%s is %s and holds %d extents", n.name, n.role, len(n.st.Extents(v.spec.ID)))
		}
	}
	return ""
}

func (w *World) names(stores []block.StoreID) (out []string) {
	for _, s := range stores {
		if n := w.byStore[s]; n != nil {
			out = append(out, n.name)
		} else {
			out = append(out, s.String())
		}
	}
	return out
}
