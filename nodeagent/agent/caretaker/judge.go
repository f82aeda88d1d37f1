package caretaker

import (
	"cmp"
	"slices"
	"sync"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// Place is what is known of a store.
type Place struct {
	Node  string
	Alive bool // it answers
	Takes bool // the layout puts copies there, and its disk is trusted
	Gone  bool // it has not answered for so long that it is given up
}

// Network is the layout, and who answers, at one moment. It does not change.
type Network struct {
	Version uint64
	Stores  map[block.StoreID]Place
	// Candidates lists the stores that the layout has for a key, in its order, on distinct nodes first.
	Candidates func(key block.Hash) []block.StoreID

	print string // what a survey depends on, apart from the data

	mu      sync.Mutex
	wardens map[block.VolumeID]string // that were asked for
}

// places lists where n copies of an extent belong.
func (n *Network) places(x block.ExtentID, want int) (out []block.StoreID) {
	if want == 0 {
		return nil
	}
	for _, s := range n.Candidates(x.Key()) {
		p, known := n.Stores[s]
		if !known || !p.Takes || p.Gone || slices.ContainsFunc(out, func(o block.StoreID) bool { return n.Stores[o].Node == p.Node }) {
			continue
		}
		if out = append(out, s); len(out) == want {
			break
		}
	}
	return out
}

// warden is the node that looks after a volume; empty: there is none.
func (n *Network) warden(v block.VolumeID) (node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	node, ok := n.wardens[v]
	if ok {
		return node
	}
	if n.wardens == nil {
		n.wardens = map[block.VolumeID]string{}
	}
	defer func() { n.wardens[v] = node }()
	for _, s := range n.Candidates(block.ExtentID{Volume: v}.Key()) {
		if p := n.Stores[s]; p.Alive && p.Takes {
			return p.Node
		}
	}
	return ""
}

// Share is what a verdict says about one store.
type Share struct {
	Copies  int // extents of the volume that it holds
	Last    int // of which it has the last whole copy that is known
	Missing int // that belong there, and are not
	Leaving int // that are there, and have to go: the layout has not this store
}

// Verdict is what is known of a volume.
type Verdict struct {
	Layout uint64
	Stores map[block.StoreID]*Share
	Copies int // the fewest whole copies of any extent, on stores that answer or are waited for
	Most   int // the most whole copies of any extent but the newest
	Todo   int // copies to make, and to take away
}

func (v *Verdict) share(s block.StoreID) *Share {
	sh := v.Stores[s]
	if sh == nil {
		sh = &Share{}
		v.Stores[s] = sh
	}
	return sh
}

// holding is a copy of an extent on a store.
type holding struct {
	store block.StoreID
	replica.Holding
}

// judge judges a volume of want copies by what the stores that answer hold of it; 0 copies: it is not known how many there should be, and
// nothing is missed.
func judge(n *Network, want int, held map[block.StoreID][]replica.Holding) *Verdict {
	v := &Verdict{Layout: n.Version, Stores: map[block.StoreID]*Share{}, Copies: -1}
	by := map[block.ExtentID][]holding{}
	var newest block.ExtentID
	for s, list := range held {
		v.share(s).Copies = len(list)
		for _, h := range list {
			by[h.Extent] = append(by[h.Extent], holding{s, h})
			if cmp.Or(cmp.Compare(newest.Epoch, h.Extent.Epoch), cmp.Compare(newest.N, h.Extent.N)) < 0 || newest.IsZero() {
				newest = h.Extent
			}
		}
	}
	for x, copies := range by {
		v.extent(n, x, want, copies, x == newest)
	}
	v.Copies = max(v.Copies, 0)
	return v
}

// taking counts the nodes of stores on which the layout puts copies.
func (n *Network) taking(stores map[block.StoreID]bool) int {
	nodes := map[string]bool{}
	for s := range stores {
		if p := n.Stores[s]; p.Takes && !p.Gone {
			nodes[p.Node] = true
		}
	}
	return len(nodes)
}

// extent judges one extent. The newest one may be written to: its copies differ, and are all taken for whole. Nor does it move while as many
// stores have it as it is to have copies, and the layout puts anything on them: it is followed by one that lies where the layout wants it, and
// moves then. A volume that is open and not written to would else be waited for as long as that is so.
func (v *Verdict) extent(n *Network, x block.ExtentID, want int, copies []holding, newest bool) {
	end := copies[0]
	for _, c := range copies {
		if end.Unknown && !c.Unknown || end.Unknown == c.Unknown && c.Seq > end.Seq {
			end = c
		}
	}
	whole := map[block.StoreID]bool{}
	for _, c := range copies {
		if newest || !c.Unknown && c.Seq == end.Seq && c.Hash == end.Hash {
			whole[c.store] = true
		}
	}
	if !newest {
		v.Most = max(v.Most, len(whole))
	}
	places := n.places(x, want)
	good := len(whole)
	stays := newest && n.taking(whole) >= want
	for _, s := range places {
		switch {
		case whole[s], stays:
		case n.Stores[s].Alive:
			v.share(s).Missing++
			v.Todo++
		default:
			good++ // waited for, with what it has
		}
	}
	for s := range whole {
		p := n.Stores[s]
		if !p.Takes && want > 0 {
			v.share(s).Leaving++
			v.Todo++
		}
		if len(whole) == 1 && (want != 1 || !p.Takes) {
			v.share(s).Last++
		}
	}
	if v.Copies < 0 || good < v.Copies {
		v.Copies = good
	}
}
