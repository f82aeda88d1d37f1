package members

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
	"mynetwork.io/mynetwork/nodeagent/core/upkeep"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// ErrNoLayout is returned while no layout of the network is known: nobody can tell where data belongs.
var ErrNoLayout = errors.New("no layout of the network is known here yet: it comes with the first storage node, see the network's status")

// Node is a node of the network.
type Node struct {
	Name    string
	Address string // of its peer server; empty: not known
	Zone    string // failure domain; empty: one for all
	Weight  uint64 // share of the data; 0 is 1
}

// Table is who is in the network. The zero value is not usable: see New.
type Table struct {
	self string

	mu      sync.RWMutex
	byName  map[string]*entry
	sorted  []*entry // by name
	layout  *placement.Layout
	members []*entry // of the layout, by its index
	owner   map[block.StoreID]*entry
	asked   chan struct{} // closed once every node was asked
	left    int           // nodes never asked
	changed chan struct{} // closed, and made anew, when nodes come or go
}

// entry is what is known of one node.
type entry struct {
	Node
	member bool // of the layout
	active bool // and takes new copies
	asked  bool
	alive  bool
	stores []Store
	err    error // why it is not alive
}

var _ volume.Placer = (*Table)(nil)

// maxReplicas is how many nodes of a shard a static layout itself orders; further ones follow by rendezvous.
const maxReplicas = 3

// Layout computes the layout of a network whose nodes are fixed.
func Layout(nodes []Node) (*placement.Layout, error) {
	var in []placement.Node
	for _, n := range nodes {
		in = append(in, placement.Node{ID: n.Name, Zone: n.Zone, Weight: max(n.Weight, 1)})
	}
	if len(in) == 0 {
		return nil, fmt.Errorf("layout: %w", placement.ErrNoNodes)
	}
	l, err := placement.Compute(in, placement.Params{Replicas: min(maxReplicas, len(in))}, nil)
	if err != nil {
		return nil, fmt.Errorf("layout: %w", err)
	}
	return l, nil
}

// New makes the table of a network as the node self sees it. It knows no node and no layout before the first Update.
func New(self string) *Table {
	t := &Table{self: self, byName: map[string]*entry{}, owner: map[block.StoreID]*entry{}, asked: make(chan struct{}), changed: make(chan struct{})}
	close(t.asked)
	return t
}

// Update says which nodes there are, and the layout; a nil layout keeps the present one, as does an older one. Nodes are those
// whose address is known. The layout's members are nodes too, and are known with their last address even if nodes lacks them, so
// that an update never forgets who owns a store while that node is known. A node in neither is forgotten, but for this one.
func (t *Table) Update(nodes []Node, l *placement.Layout) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l != nil && (t.layout == nil || l.Version() >= t.layout.Version()) {
		t.layout = l
	}
	next := map[string]*entry{}
	keep := func(name string) *entry {
		e := next[name]
		if e == nil {
			if e = t.byName[name]; e == nil {
				e = &entry{Node: Node{Name: name}}
			}
			e.member, e.active = false, false
			next[name] = e
		}
		return e
	}
	keep(t.self)
	for _, n := range nodes {
		e := keep(n.Name)
		e.Zone, e.Weight = n.Zone, n.Weight
		if n.Address != "" {
			e.Address = n.Address
		}
	}
	t.members = t.members[:0:0]
	for i := range t.layoutLen() {
		m := t.layout.Member(i)
		e := keep(m.ID)
		e.member, e.active, e.Zone, e.Weight = true, m.State == placement.Active, m.Zone, m.Weight
		t.members = append(t.members, e)
	}
	t.replace(next)
}

func (t *Table) layoutLen() int {
	if t.layout == nil {
		return 0
	}
	return t.layout.Len()
}

// replace takes the nodes of an update into use. The caller holds mu.
func (t *Table) replace(next map[string]*entry) {
	same := len(next) == len(t.byName)
	for name, e := range t.byName {
		if next[name] == nil {
			same = false
			t.disown(e)
		}
	}
	t.byName = next
	if !same {
		t.sorted = make([]*entry, 0, len(next))
		for _, e := range next {
			t.sorted = append(t.sorted, e)
		}
		slices.SortFunc(t.sorted, func(a, b *entry) int { return cmp.Compare(a.Name, b.Name) })
		close(t.changed)
		t.changed = make(chan struct{})
	}
	t.count()
}

// count finds out how many nodes were never asked. The caller holds mu.
func (t *Table) count() {
	before := t.left
	t.left = 0
	for _, e := range t.byName {
		if !e.asked {
			t.left++
		}
	}
	switch {
	case t.left == 0 && before > 0:
		close(t.asked)
	case t.left > 0 && before == 0:
		t.asked = make(chan struct{})
	}
}

// disown forgets the stores of a node. The caller holds mu.
func (t *Table) disown(e *entry) {
	for _, old := range e.stores {
		if t.owner[old.ID] == e {
			delete(t.owner, old.ID)
		}
	}
}

// Nodes lists the network's nodes, by name.
func (t *Table) Nodes() []Node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]Node, len(t.sorted))
	for i, e := range t.sorted {
		out[i] = e.Node
	}
	return out
}

// Address gives the address of a node.
func (t *Table) Address(node string) (string, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.byName[node]
	if e == nil || e.Address == "" {
		return "", false
	}
	return e.Address, true
}

// Heard takes what a node says of its stores; it is alive.
func (t *Table) Heard(node string, stores []Store) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byName[node]
	if e == nil {
		return
	}
	t.disown(e)
	e.alive, e.err, e.stores = true, nil, slices.Clone(stores)
	for _, n := range stores {
		t.owner[n.ID] = e
	}
	t.told(e)
}

// Stored is what the node of a store said of it last.
func (t *Table) Stored(id block.StoreID) (s Store, known bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.owner[id]
	if e == nil {
		return s, false
	}
	i := slices.IndexFunc(e.stores, func(s Store) bool { return s.ID == id })
	if i < 0 {
		return s, false
	}
	return e.stores[i], true
}

// Lost says that a node does not answer. Its stores stay known.
func (t *Table) Lost(node string, why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byName[node]
	if e == nil {
		return
	}
	e.alive, e.err = false, why
	t.told(e)
}

// told notes that a node was asked. The caller holds mu.
func (t *Table) told(e *entry) {
	if !e.asked {
		e.asked = true
		t.count()
	}
}

// Ready waits until every node was asked once, whatever it answered. Without a layout it is ErrNoLayout, at once.
func (t *Table) Ready(ctx context.Context) error {
	for {
		t.mu.RLock()
		asked, left, l := t.asked, t.left, t.layout
		t.mu.RUnlock()
		switch {
		case l == nil:
			return ErrNoLayout
		case left == 0:
			return nil
		}
		select {
		case <-asked:
		case <-ctx.Done():
			return fmt.Errorf("the network's nodes were not all asked yet: %w", ctx.Err())
		}
	}
}

// State is what is known of one node.
type State struct {
	Node
	Alive  bool
	Err    error // why it is not
	Stores []Store
	// Storage tells that data is, or is to be, on it: it is a member of the layout or has stores.
	Storage bool
}

// States lists what is known of all nodes, by name.
func (t *Table) States() []State {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]State, len(t.sorted))
	for i, e := range t.sorted {
		out[i] = State{Node: e.Node, Alive: e.alive, Err: e.err, Stores: slices.Clone(e.stores), Storage: e.member || len(e.stores) > 0}
	}
	return out
}

// Leaving tells whether the layout has taken all data from this node, and whether it has from any.
func (t *Table) Leaving() (here, any bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.layout == nil {
		return false, false
	}
	for _, e := range t.sorted {
		if !e.active && (e.member || len(e.stores) > 0) {
			here, any = here || e.Name == t.self, true
		}
	}
	return here, any
}

// Strict tells whether the layout has no two copies in one zone.
func (t *Table) Strict() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.layout != nil && t.layout.Params().Zones == placement.ZonesStrict
}

// Owner gives the node of a store.
func (t *Table) Owner(s block.StoreID) (node string, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e, ok := t.owner[s]
	if !ok {
		return "", false
	}
	return e.Name, true
}

// Candidates implements volume.Placer. Without a layout there are none. Stores of nodes that are drained are last, and those of nodes
// outside of the layout, as long as they answer.
func (t *Table) Candidates(key block.Hash) []block.StoreID {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.layout == nil {
		return nil
	}
	shard := t.layout.ShardOf(key)
	order := t.layout.Extend(shard, t.layout.Holders(shard, make([]int, 0, t.layout.Len())))
	nodes := make([]*entry, len(order))
	for i, m := range order {
		nodes[i] = t.members[m]
	}
	out := spread(nodes, key, 0)
	var leaving []*entry
	for _, e := range t.sorted {
		if len(e.stores) > 0 && !e.active && (e.member || e.alive) {
			leaving = append(leaving, e)
		}
	}
	out = append(out, spread(leaving, key, 0)...)
	for _, e := range t.sorted { // behind all others: nothing is to be there
		for i := range e.stores {
			if e.stores[i].Quarantined && (e.member || e.alive) {
				out = append(out, e.stores[i].ID)
			}
		}
	}
	return out
}

// trusted lists the stores of a node that are not quarantined.
func (e *entry) trusted() []Store {
	bad := func(s Store) bool { return s.Quarantined }
	if !slices.ContainsFunc(e.stores, bad) {
		return e.stores
	}
	return slices.DeleteFunc(slices.Clone(e.stores), bad)
}

// spread lists the trusted stores of nodes, one of each before the second of any; at most n, unless that is 0.
func spread(nodes []*entry, key block.Hash, n int) (out []block.StoreID) {
	for round := 0; ; round++ {
		before := len(out)
		for _, e := range nodes {
			if s := e.trusted(); round < len(s) {
				// A node's stores take turns by key, so that a node with many disks fills them alike.
				first := binary.LittleEndian.Uint64(key[8:]) % uint64(len(s))
				if out = append(out, s[(int(first)+round)%len(s)].ID); len(out) == n {
					return out
				}
			}
		}
		if len(out) == before {
			return out
		}
	}
}

// Places implements volume.Placer: the layout's own replicas, and if more are wanted those that follow. The place on a node whose stores
// were never heard of is left out.
func (t *Table) Places(key block.Hash, n int) []block.StoreID {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.layout == nil || n <= 0 {
		return nil
	}
	shard := t.layout.ShardOf(key)
	order := t.layout.Holders(shard, make([]int, 0, n))
	nodes := t.usable(order)
	if len(nodes) < n {
		nodes = t.usable(t.layout.Extend(shard, order))
	}
	nodes = nodes[:min(len(nodes), n)]
	if len(nodes) < n {
		return spread(nodes, key, n) // a second copy on a node is better than none
	}
	var out []block.StoreID
	for _, e := range nodes {
		out = append(out, spread([]*entry{e}, key, 1)...)
	}
	return out
}

// usable lists members of the layout, by its indexes, without those none of whose disks is trusted. The caller holds mu.
func (t *Table) usable(order []int) []*entry {
	out := make([]*entry, 0, len(order))
	for _, i := range order {
		if e := t.members[i]; len(e.stores) == 0 || len(e.trusted()) > 0 {
			out = append(out, e)
		}
	}
	return out
}

// Site implements volume.Placer.
func (t *Table) Site(s block.StoreID) upkeep.Site {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e, ok := t.owner[s]
	if !ok {
		return upkeep.Site{}
	}
	return upkeep.Site{Node: e.Name, Zone: e.Zone, Member: e.member, Takes: e.active && !slices.ContainsFunc(e.stores, func(o Store) bool { return o.ID == s && o.Quarantined })}
}

// Takes implements replica.Layout.
func (t *Table) Takes(s block.StoreID) bool { return t.Site(s).Takes }

// Alive implements volume.Placer.
func (t *Table) Alive(id block.StoreID) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e, ok := t.owner[id]
	if !ok || !e.alive {
		return false
	}
	for _, s := range e.stores {
		if s.ID == id {
			return !s.Quarantined
		}
	}
	return false
}

// Version implements volume.Placer. Without a layout it is 0.
func (t *Table) Version() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.layout == nil {
		return 0
	}
	return t.layout.Version()
}
