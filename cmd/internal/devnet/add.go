package devnet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// ErrMany tells that a network of one machine has as many nodes as it can have.
var ErrMany = errors.New("the network has as many nodes as it can have")

// Add makes a further node, with an empty store, and takes it into the layout, so that it gets its share of the data. Agents know the
// addresses of others from their settings: those that run are ended and started again one by one, while their devices wait.
func (n *Network) Add(ctx context.Context, program string, say func(string, ...any)) (node string, version uint64, err error) {
	unlock, err := n.Lock()
	if err != nil {
		return "", 0, err
	}
	defer unlock()
	m, at, err := n.vacant()
	if err != nil {
		return "", 0, err
	}
	if err := n.writeLayout(); err != nil { // from now on nobody takes the nodes of his settings for the layout
		return "", 0, err
	}
	others := append([]Node(nil), n.Nodes...)
	n.Nodes = append(append(append([]Node(nil), others[:at]...), m), others[at:]...)
	if err := n.save(); err != nil {
		return "", 0, err
	}
	if err := n.prepare(); err != nil {
		return "", 0, err
	}
	if err := n.launch(ctx, m, program, say); err != nil {
		return m.Name, 0, err
	}
	if err := n.ready(ctx, m.Name); err != nil {
		return m.Name, 0, err
	}
	for _, o := range others {
		if err := n.restart(ctx, o, program, say); err != nil {
			return m.Name, 0, err
		}
	}
	alone, err := members.Layout([]members.Node{{Name: m.Name, Address: m.Address}})
	if err != nil {
		return m.Name, 0, err
	}
	l, err := n.relayout(func(list []placement.Node) []placement.Node { return append(list, alone.Members()...) })
	if err != nil {
		return m.Name, 0, err
	}
	return m.Name, l.Version(), nil
}

// vacant gives the first node that there is not, with an address, and where it stands among the others.
func (n *Network) vacant() (m Node, at int, err error) {
	for at < len(n.Nodes) && n.Nodes[at].Name == nodeName(at) {
		at++
	}
	if at == MaxNodes {
		return m, 0, fmt.Errorf("%w: %d", ErrMany, MaxNodes)
	}
	list, err := addresses(1, 0)
	if err != nil {
		return m, 0, err
	}
	return Node{Name: nodeName(at), Address: list[0]}, at, nil
}

// writeLayout writes the present layout into its file, if there is none.
func (n *Network) writeLayout() error {
	if _, err := os.Stat(n.LayoutFile()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := n.layout()
	if err != nil {
		return err
	}
	b, err := l.AppendBinary(nil)
	if err != nil {
		return err
	}
	return writeFile(n.LayoutFile(), b, 0o600)
}

// restart has a node's agent read its settings again, if it runs.
func (n *Network) restart(ctx context.Context, m Node, program string, say func(string, ...any)) error {
	if p, ok := recorded(n.pidFile(m.Name, "agent")); !ok || !p.alive() {
		return nil
	}
	if _, err := stop(n.pidFile(m.Name, "agent"), grace); err != nil {
		return fmt.Errorf("agent of %s: %w", m.Name, err)
	}
	if err := n.launch(ctx, m, program, say); err != nil {
		return err
	}
	return n.ready(ctx, m.Name)
}
