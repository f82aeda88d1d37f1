package sim

import (
	"errors"
	"fmt"
	"sort"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/upkeep"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

var errAway = errors.New("the API server does not answer")

// registry is the cluster's one place for compare-and-set.
type registry struct {
	w     *World
	facts map[block.VolumeID]volume.Fact
	old   map[block.VolumeID][]volume.Fact // all that were ever stored
	rev   int
	away  bool
}

func (r *registry) create(v block.VolumeID) {
	r.rev++
	r.facts[v] = volume.Fact{Revision: fmt.Sprint(r.rev)}
	r.old[v] = []volume.Fact{r.facts[v]}
}

// restore brings back a copy of some time ago. Revisions go on from where they are.
func (r *registry) restore(v block.VolumeID) {
	list := r.old[v]
	// A volume that was opened stays opened: nobody backs up before the first open and then loses all of it.
	first := 0
	for first < len(list)-1 && list[first].Anchor.Extent.IsZero() {
		first++
	}
	f := list[first+r.w.s.rng.IntN(len(list)-first)]
	if r.freed(f) {
		r.w.cover("registry restored", "freed anchor")
	}
	r.rev++
	r.w.s.tracef("registry of v%d restored: epoch %d anchor %d.%d", v[0], f.Epoch.Number, f.Anchor.Extent.Epoch, f.Anchor.Extent.N)
	f.Revision = fmt.Sprint(r.rev)
	r.facts[v] = f
}

// freed tells whether no quorum holds a fact's anchor any more.
func (r *registry) freed(f volume.Fact) bool {
	held := 0
	for _, m := range f.Anchor.Members {
		if n := r.w.byStore[m]; n != nil {
			if n.st == nil {
				held++ // it may
			} else if _, ok := n.st.Stat(f.Anchor.Extent); ok {
				held++
			}
		}
	}
	return held < len(f.Anchor.Members)/2+1
}

// registryClient is the registry as a process sees it.
type registryClient struct {
	w *World
	p *proc
}

var _ volume.Registry = registryClient{}

func (c registryClient) travel() error {
	c.p.Sleep(c.w.s.between(200*time.Microsecond, 5*time.Millisecond))
	if c.w.reg.away {
		c.p.Sleep(c.w.s.between(100*time.Millisecond, 2*time.Second))
		return errAway
	}
	return nil
}

// Load implements volume.Registry.
func (c registryClient) Load(v block.VolumeID) (volume.Fact, error) {
	if err := c.travel(); err != nil {
		return volume.Fact{}, err
	}
	f, ok := c.w.reg.facts[v]
	if !ok {
		return f, volume.ErrNotFound
	}
	f.Anchor.Members = append([]block.StoreID(nil), f.Anchor.Members...)
	return f, c.back()
}

func (c registryClient) back() error {
	c.p.Sleep(c.w.s.between(200*time.Microsecond, 5*time.Millisecond))
	if c.w.reg.away {
		c.p.Sleep(time.Second)
		return errAway // it may have happened
	}
	return nil
}

// Swap implements volume.Registry.
func (c registryClient) Swap(v block.VolumeID, f volume.Fact) (string, error) {
	if err := c.travel(); err != nil {
		return "", err
	}
	r := c.w.reg
	cur, ok := r.facts[v]
	switch {
	case !ok:
		return "", volume.ErrNotFound
	case cur.Revision != f.Revision:
		return "", volume.ErrConflict
	}
	r.rev++
	f.Revision = fmt.Sprint(r.rev)
	f.Anchor.Members = append([]block.StoreID(nil), f.Anchor.Members...)
	r.facts[v] = f
	r.old[v] = append(r.old[v], f)
	c.w.s.tracef("registry v%d: epoch %d anchor %d.%d", v[0], f.Epoch.Number, f.Anchor.Extent.Epoch, f.Anchor.Extent.N)
	return f.Revision, c.back()
}

// placer proposes stores as a node sees the network.
type placer struct{ n *node }

var _ volume.Placer = placer{}

// Candidates implements volume.Placer by highest random weight. Stores that take no new copies are last.
func (p placer) Candidates(key block.Hash) []block.StoreID {
	w := p.n.w
	return append(w.ranked(w.layout, key), w.ranked(w.leaving, key)...)
}

// Places implements volume.Placer.
func (p placer) Places(key block.Hash, n int) []block.StoreID {
	list := p.n.w.ranked(p.n.w.layout, key)
	return list[:min(n, len(list))]
}

// Site implements volume.Placer. Each node is a zone.
func (p placer) Site(s block.StoreID) upkeep.Site {
	o := p.n.w.byStore[s]
	if o == nil {
		return upkeep.Site{}
	}
	return upkeep.Site{Node: o.name, Zone: o.name, Member: o.role != absent, Takes: o.role == active}
}

// ranked orders stores for a key. A store of weight n draws n times.
func (w *World) ranked(stores []block.StoreID, key block.Hash) []block.StoreID {
	type weighed struct {
		w uint64
		s block.StoreID
	}
	list := make([]weighed, 0, len(stores))
	for _, s := range stores {
		h := uint64(14695981039346656037)
		for i := range 16 {
			h = (h ^ uint64(key[i])) * 1099511628211
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h ^= h >> 29
		best := h
		for range w.byStore[s].weight - 1 {
			h = (h ^ h>>31) * 0x9e3779b97f4a7c15
			best = max(best, h)
		}
		list = append(list, weighed{best, s})
	}
	sort.Slice(list, func(i, j int) bool { return list[i].w > list[j].w })
	out := make([]block.StoreID, len(list))
	for i := range list {
		out[i] = list[i].s
	}
	return out
}

// Alive implements volume.Placer: seen within two seconds.
func (p placer) Alive(s block.StoreID) bool {
	o := p.n.w.byStore[s]
	return o != nil && p.n.w.s.now-p.n.seen[o.idx] < 2*time.Second
}

// Version implements volume.Placer.
func (p placer) Version() uint64 { return p.n.w.version }

// Takes implements replica.Layout.
func (p placer) Takes(s block.StoreID) bool { return p.Site(s).Takes }

// probe is what keeps beliefs about other nodes: every half second of virtual time.
func (w *World) probe() {
	for _, a := range w.nodes {
		for _, b := range w.nodes {
			if a.proc != nil && b.proc != nil && b.srv != nil && b.proc.frozen <= w.s.now && !w.blocked(a, b) && !w.blocked(b, a) {
				a.seen[b.idx] = w.s.now
			}
		}
	}
	w.s.after(500*time.Millisecond, w.probe)
}

func (w *World) relayout() {
	w.version++
	w.layout, w.leaving = w.layout[:0], w.leaving[:0]
	for _, n := range w.nodes {
		switch {
		case n.store.IsZero() || n.role == absent:
		case n.role == active:
			w.layout = append(w.layout, n.store)
		default:
			w.leaving = append(w.leaving, n.store)
		}
	}
}
