package devnet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// Errors of layout changes.
var (
	ErrFew   = errors.New("too few nodes would be left")
	ErrHolds = errors.New("the node still holds data")
	ErrNamed = errors.New("a volume's journal may still name the node")
)

// LayoutFile is where the network's layout is, once it is not that of all nodes alike.
func (n *Network) LayoutFile() string { return n.path("layout") }

// layout reads the present layout.
func (n *Network) layout() (*placement.Layout, error) {
	b, err := os.ReadFile(n.LayoutFile())
	if errors.Is(err, fs.ErrNotExist) {
		var list []members.Node
		for _, m := range n.Nodes {
			list = append(list, members.Node{Name: m.Name, Address: m.Address})
		}
		return members.Layout(list)
	}
	if err != nil {
		return nil, err
	}
	return placement.Decode(b)
}

// relayout computes the layout of changed members and gives it to the agents, which look at the file every second.
func (n *Network) relayout(change func(list []placement.Node) []placement.Node) (*placement.Layout, error) {
	old, err := n.layout()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.LayoutFile(), err)
	}
	list := change(old.Members())
	next, err := placement.Compute(list, old.Params(), old)
	if err != nil {
		return nil, err
	}
	b, err := next.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	return next, writeFile(n.LayoutFile(), b, 0o600)
}

// Drain has, or with undo has no longer, all copies of a node go to the others. It only says so: agents do it, and "node list" tells
// how far they are. Nodes that are left must be as many as copies of the layout, at least; fewer than three is fewer copies of new data.
func (n *Network) Drain(node string, undo bool) (version uint64, err error) {
	if _, err := n.Node(node); err != nil {
		return 0, err
	}
	unlock, err := n.Lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	old, err := n.layout()
	if err != nil {
		return 0, err
	}
	others := 0
	for _, m := range old.Members() {
		if m.ID != node && m.State == placement.Active {
			others++
		}
	}
	if !undo && others < old.Replicas() {
		return 0, fmt.Errorf("%w: %d besides %s, and %d copies are wanted; volumes of fewer copies do not need it, the layout does", ErrFew, others, node, old.Replicas())
	}
	l, err := n.relayout(func(list []placement.Node) []placement.Node {
		for i := range list {
			if list[i].ID == node {
				list[i].State = placement.Draining
				if undo {
					list[i].State = placement.Active
				}
			}
		}
		return list
	})
	if err != nil {
		return 0, err
	}
	return l.Version(), nil
}

// Remove takes a drained node that holds nothing out of the network, ends its processes and removes its directory.
func (n *Network) Remove(ctx context.Context, node string, say func(string, ...any)) error {
	m, err := n.Node(node)
	if err != nil {
		return err
	}
	unlock, err := n.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	l, err := n.layout()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(l.Members(), func(o placement.Node) bool { return o.ID == node && o.State == placement.Draining }) {
		return fmt.Errorf("%w: it is not drained; begin with \"mynetwork node drain %s\"", ErrHolds, node)
	}
	s := n.state(ctx, m)
	switch {
	case !s.Answers:
		return fmt.Errorf("%w, for all that is known: %s; start it, so that it can say", ErrHolds, s.Problem)
	case s.Copies > 0:
		return fmt.Errorf("%w: %d copies of extents; wait until \"mynetwork node list\" says 0", ErrHolds, s.Copies)
	case len(s.Attached) > 0:
		return fmt.Errorf("%w: volumes %v are attached there; detach them first", ErrHolds, s.Attached)
	}
	if err := n.inPlace(ctx, l.Version()); err != nil {
		return fmt.Errorf("%s can not be removed yet: %w", node, err)
	}
	if _, err := n.relayout(func(list []placement.Node) []placement.Node {
		return slices.DeleteFunc(list, func(o placement.Node) bool { return o.ID == node })
	}); err != nil {
		return err
	}
	for _, kind := range []string{"agent", "holder"} {
		if _, err := stop(n.pidFile(node, kind), grace); err != nil {
			return fmt.Errorf("%s of %s: %w", kind, node, err)
		}
	}
	n.Nodes = slices.DeleteFunc(n.Nodes, func(o Node) bool { return o.Name == node })
	if err := n.save(); err != nil {
		return err
	}
	discard(n.path(node), node, say)
	return nil
}

// discard removes the directory of a node that has left. If that fails the node has left all the same, and asked again nobody would know it.
func discard(dir, node string, say func(string, ...any)) {
	if err := os.RemoveAll(dir); err != nil {
		say("%s: left the network; its directory is still there and can be removed by hand: %v", node, err)
		return
	}
	say("%s: left the network; its directory is removed", node)
}

// inPlace tells whether every volume that is open somewhere was in place with a layout. Until then a node that holds nothing may
// still be one of those that a recovery asks.
func (n *Network) inPlace(ctx context.Context, version uint64) error {
	for _, m := range n.Nodes {
		switch s := n.state(ctx, m); {
		case !s.Answers:
			return fmt.Errorf("%w, for all that is known: %s does not answer: %s", ErrHolds, m.Name, s.Problem)
		case s.Synced < version:
			return fmt.Errorf("%w: a volume that is open on %s was in place with layout %d last, not with %d; try again in half a minute", ErrNamed, m.Name, s.Synced, version)
		}
	}
	return nil
}
