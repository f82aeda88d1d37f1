package caretaker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/adaptive"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// errSilent tells that a store that answers otherwise did not.
var errSilent = errors.New("a store did not answer")

// network is what is known now; the same one as long as that does not change.
func (c *Caretaker) network(now time.Time) *Network {
	n := &Network{Version: c.opt.Members.Version(), Stores: map[block.StoreID]Place{}, Candidates: c.opt.Members.Candidates}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := map[string]bool{}
	for _, st := range c.opt.Members.States() {
		known[st.Name] = true
		if st.Alive {
			delete(c.lost, st.Name)
		} else if c.lost[st.Name].IsZero() {
			c.lost[st.Name] = now
		}
		gone := !st.Alive && c.opt.GiveUp && now.Sub(c.lost[st.Name]) >= c.opt.Grace
		for _, s := range st.Stores {
			n.Stores[s.ID] = Place{Node: st.Name, Alive: st.Alive && !s.Quarantined, Takes: c.opt.Members.Site(s.ID).Takes && !s.Quarantined, Gone: gone}
			if s.Quarantined && st.Alive { // it may still be read
				n.Stores[s.ID] = Place{Node: st.Name, Alive: true}
			}
		}
	}
	for name := range c.lost {
		if !known[name] {
			delete(c.lost, name)
		}
	}
	var lines []string
	for s, p := range n.Stores {
		lines = append(lines, fmt.Sprintf("%s %s %v %v %v", s, p.Node, p.Alive, p.Takes, p.Gone))
	}
	slices.Sort(lines)
	n.print = fmt.Sprintf("%d\n%s", n.Version, strings.Join(lines, "\n"))
	if c.now == nil || c.now.print != n.print {
		c.now = n
	}
	return c.now
}

// round surveys all volumes that this node is the warden of, and says to every node what was found.
func (c *Caretaker) round(ctx context.Context, n *Network) error {
	on := map[block.VolumeID][]block.StoreID{}
	for _, s := range n.answering() {
		list, err := c.opt.Client.Volumes(s)
		if err != nil {
			return fmt.Errorf("%w: %w", errSilent, err)
		}
		for _, v := range list {
			if n.warden(v) == c.opt.Node {
				on[v] = append(on[v], s)
			}
		}
	}
	for v := range c.ward {
		if on[v] == nil {
			delete(c.ward, v)
		}
	}
	for v, stores := range on {
		w := c.ward[v]
		if w == nil {
			w = &ward{id: v}
			c.ward[v] = w
		}
		if err := c.survey(ctx, n, w, stores); err != nil {
			return err
		}
	}
	c.surveyed = n.Version
	c.tell(ctx, n)
	return nil
}

// answering lists the stores that answer.
func (n *Network) answering() (out []block.StoreID) {
	for s, p := range n.Stores {
		if p.Alive {
			out = append(out, s)
		}
	}
	return out
}

// survey asks stores what they hold of a volume, and judges.
func (c *Caretaker) survey(ctx context.Context, n *Network, w *ward, stores []block.StoreID) error {
	held := map[block.StoreID][]replica.Holding{}
	for _, s := range stores {
		list, err := c.opt.Client.Holdings(s, w.id)
		if err != nil && !errors.Is(err, replica.ErrQuarantined) {
			return fmt.Errorf("volume %s: %w: %w", w.id, errSilent, err)
		}
		if err == nil && len(list) > 0 {
			held[s] = list
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(held) > 0 && !w.known {
		if err := c.learn(w); err != nil {
			return err
		}
	}
	w.verdict = judge(n, w.copies, held)
	if w.deleted {
		w.verdict.Todo = 0
	}
	return nil
}

// learn asks the registry how many copies a volume is to have.
func (c *Caretaker) learn(w *ward) error {
	r, err := c.opt.Registry.Get(w.id)
	switch {
	case errors.Is(err, registry.ErrNotFound): // an orphan: it is kept as it is
		w.known, w.copies = true, 0
	case err != nil:
		return fmt.Errorf("volume %s: %w", w.id, err)
	default:
		w.known, w.name, w.deleted = true, r.Name, !r.Live()
		w.wants(&r)
		if w.deleted {
			w.copies = 0
		}
	}
	return nil
}

// relearn asks the registry again what volumes are to have, which nobody tells a warden who changes it. What it does not say now stays as it was known.
func (c *Caretaker) relearn(ctx context.Context) {
	for _, w := range c.ward {
		if !w.known || ctx.Err() != nil {
			continue
		}
		if err := c.learn(w); err != nil {
			c.opt.Log.Info("what volumes are to have is not asked again now", "err", err)
			return // one that is away is not waited for again and again
		}
	}
}

// wants notes how many copies a volume is to have.
func (w *ward) wants(r *registry.Record) {
	w.copies, w.least = r.Replicas, 0
	if (adaptive.Bounds{Least: r.Adaptive.Least, Most: r.Adaptive.Most}).On() {
		w.least = max(r.Adaptive.Least, adaptive.Floor(r.Weak, anyZones))
	}
}

// tell says to every storage node what this warden has found of its stores, unless it has been told.
func (c *Caretaker) tell(ctx context.Context, n *Network) {
	by := map[string]*Word{}
	for _, p := range n.Stores {
		if p.Alive && by[p.Node] == nil {
			by[p.Node] = &Word{Layout: c.surveyed, Volumes: map[block.VolumeID]said{}}
		}
	}
	for v, w := range c.ward {
		if w.verdict == nil {
			continue
		}
		for s, sh := range w.verdict.Stores {
			if word := by[n.Stores[s].Node]; word != nil {
				was := word.Volumes[v]
				word.Volumes[v] = said{was.last + uint32(sh.Last), was.missing + uint32(sh.Missing)}
			}
		}
	}
	for node, word := range by {
		b := word.Encode()
		if sortedEqual(b, c.told[node]) {
			continue
		}
		if node == c.opt.Node {
			c.words.put(node, *word)
		} else if err := c.opt.Say(ctx, node, b); err != nil {
			c.opt.Log.Info("a node is not told yet what was found of its stores", "node", node, "err", err)
			continue // it is told with the next word, or when all are told again
		}
		c.told[node] = b
	}
	c.opt.Changed()
}

// sortedEqual compares two words whose entries may stand in any order.
func sortedEqual(a, b []byte) bool {
	if len(a) != len(b) || len(a) < wordHead || !bytes.Equal(a[:wordHead], b[:wordHead]) {
		return false
	}
	x, errX := DecodeWord(a)
	y, errY := DecodeWord(b)
	if errX != nil || errY != nil || len(x.Volumes) != len(y.Volumes) {
		return false
	}
	for v, s := range x.Volumes {
		if y.Volumes[v] != s {
			return false
		}
	}
	return true
}
