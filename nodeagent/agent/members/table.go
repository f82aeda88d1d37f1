package members

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// Node is a node of the network.
type Node struct {
	Name    string
	Address string // of its peer server
	Zone    string // failure domain; empty: one for all
	Weight  uint64 // share of the data; 0 is 1
}

// Table is who is in the network. The zero value is not usable: see New.
type Table struct {
	self   string
	nodes  []Node
	byName map[string]int
	layout *placement.Layout
	index  []int // layout member → nodes

	mu    sync.RWMutex
	state []state // by node
	owner map[block.StoreID]int
	asked chan struct{} // closed once every node was asked
	left  int           // nodes never asked
}

type state struct {
	asked  bool
	alive  bool
	stores []Store
	err    error // why it is not alive
}

var _ volume.Placer = (*Table)(nil)

// maxReplicas is how many nodes of a shard the layout itself orders; further ones follow by rendezvous.
const maxReplicas = 3

// New makes the table of a network as the node self sees it.
func New(self string, nodes []Node) (*Table, error) {
	t := &Table{self: self, nodes: slices.Clone(nodes), byName: map[string]int{}, state: make([]state, len(nodes)),
		owner: map[block.StoreID]int{}, asked: make(chan struct{}), left: len(nodes)}
	var in []placement.Node
	for i, n := range nodes {
		t.byName[n.Name] = i
		in = append(in, placement.Node{ID: n.Name, Zone: n.Zone, Weight: max(n.Weight, 1)})
	}
	if len(in) == 0 {
		return nil, fmt.Errorf("layout: %w", placement.ErrNoNodes)
	}
	var err error
	t.layout, err = placement.Compute(in, placement.Params{Replicas: min(maxReplicas, len(in))}, nil)
	if err != nil {
		return nil, fmt.Errorf("layout: %w", err)
	}
	for i := range t.layout.Len() {
		t.index = append(t.index, t.byName[t.layout.Member(i).ID])
	}
	return t, nil
}

// Nodes lists the network's nodes.
func (t *Table) Nodes() []Node { return slices.Clone(t.nodes) }

// Address gives the address of a node.
func (t *Table) Address(node string) (string, bool) {
	i, ok := t.byName[node]
	if !ok {
		return "", false
	}
	return t.nodes[i].Address, true
}

// Heard takes what a node says of its stores; it is alive.
func (t *Table) Heard(node string, stores []Store) {
	i, ok := t.byName[node]
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.told(i)
	s := &t.state[i]
	for _, old := range s.stores {
		if t.owner[old.ID] == i {
			delete(t.owner, old.ID)
		}
	}
	s.alive, s.err, s.stores = true, nil, slices.Clone(stores)
	for _, n := range stores {
		t.owner[n.ID] = i
	}
}

// Lost says that a node does not answer. Its stores stay known.
func (t *Table) Lost(node string, why error) {
	i, ok := t.byName[node]
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.told(i)
	t.state[i].alive, t.state[i].err = false, why
}

func (t *Table) told(i int) {
	if !t.state[i].asked {
		t.state[i].asked = true
		if t.left--; t.left == 0 {
			close(t.asked)
		}
	}
}

// Ready waits until every node was asked once, whatever it answered.
func (t *Table) Ready(ctx context.Context) error {
	select {
	case <-t.asked:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the network's nodes were not all asked yet: %w", ctx.Err())
	}
}

// State is what is known of one node.
type State struct {
	Node
	Alive  bool
	Err    error // why it is not
	Stores []Store
}

// States lists what is known of all nodes, in the order of the list.
func (t *Table) States() []State {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]State, len(t.nodes))
	for i, n := range t.nodes {
		s := &t.state[i]
		out[i] = State{Node: n, Alive: s.alive, Err: s.err, Stores: slices.Clone(s.stores)}
	}
	return out
}

// Owner gives the node of a store.
func (t *Table) Owner(s block.StoreID) (node string, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	i, ok := t.owner[s]
	if !ok {
		return "", false
	}
	return t.nodes[i].Name, true
}

// Candidates implements volume.Placer.
func (t *Table) Candidates(key block.Hash) []block.StoreID {
	shard := t.layout.ShardOf(key)
	order := t.layout.Extend(shard, t.layout.Holders(shard, make([]int, 0, t.layout.Len())))
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []block.StoreID
	for round := 0; ; round++ {
		before := len(out)
		for _, m := range order {
			if s := t.state[t.index[m]].stores; round < len(s) {
				// A node's stores take turns by key, so that a node with many disks fills them alike.
				first := binary.LittleEndian.Uint64(key[8:]) % uint64(len(s))
				out = append(out, s[(int(first)+round)%len(s)].ID)
			}
		}
		if len(out) == before {
			return out
		}
	}
}

// Alive implements volume.Placer.
func (t *Table) Alive(id block.StoreID) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	i, ok := t.owner[id]
	if !ok || !t.state[i].alive {
		return false
	}
	for _, s := range t.state[i].stores {
		if s.ID == id {
			return !s.Quarantined
		}
	}
	return false
}

// Version implements volume.Placer.
func (t *Table) Version() uint64 { return t.layout.Version() }

// Ask asks one node for its stores.
type Ask func(ctx context.Context, node string) ([]Store, error)

// Misses is how many questions in a row a node may leave unanswered before it is lost.
const Misses = 2

// Run asks all nodes at an interval until ctx ends; changed, if not nil, is told when a node is heard or lost again.
func (t *Table) Run(ctx context.Context, every time.Duration, ask Ask, changed func(node string, alive bool, err error)) {
	var wg sync.WaitGroup
	for _, n := range t.nodes {
		wg.Go(func() { t.watch(ctx, n.Name, every, ask, changed) })
	}
	wg.Wait()
}

// watch asks one node. A connection that is refused or broken is a loss at once; silence only after Misses questions.
func (t *Table) watch(ctx context.Context, node string, every time.Duration, ask Ask, changed func(string, bool, error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	was, misses := false, 0
	for first := true; ; first = false {
		c, cancel := context.WithTimeout(ctx, max(2*every, time.Second))
		stores, err := ask(c, node)
		silent := c.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return
		}
		switch {
		case err == nil:
			misses = 0
			t.Heard(node, stores)
		default:
			if misses++; !silent || misses >= Misses || first {
				t.Lost(node, err)
			} else {
				err = nil // not yet
			}
		}
		if alive := err == nil; changed != nil && (alive != was || first) && (alive || misses > 0) {
			changed(node, alive, err)
			was = alive
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
