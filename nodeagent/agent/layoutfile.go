package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// layoutLook is how often the layout's file is looked at.
const layoutLook = time.Second

// machineNodes are the nodes of a network on one machine that a layout has.
func (a *Agent) machineNodes(l *placement.Layout) (nodes []members.Node) {
	in := map[string]bool{a.cfg.Node: true}
	for _, m := range l.Members() {
		in[m.ID] = true
	}
	for _, m := range a.cfg.Members {
		if in[m.Node] {
			nodes = append(nodes, members.Node{Name: m.Node, Address: m.Address, Zone: m.Zone, Weight: m.Weight})
		}
	}
	return nodes
}

// machineLayout is the layout of a network on one machine: what the file says that the settings name, else that of all its members.
func (a *Agent) machineLayout() (*placement.Layout, []byte, error) {
	b, err := []byte(nil), fs.ErrNotExist
	if a.cfg.Layout != "" {
		b, err = os.ReadFile(a.cfg.Layout)
	}
	if errors.Is(err, fs.ErrNotExist) {
		var nodes []members.Node
		for _, m := range a.cfg.Members {
			nodes = append(nodes, members.Node{Name: m.Node, Address: m.Address, Zone: m.Zone, Weight: m.Weight})
		}
		l, err := members.Layout(nodes)
		return l, nil, err
	}
	if err != nil {
		return nil, nil, fmt.Errorf("layout: %w", err)
	}
	l, err := placement.Decode(b)
	if err != nil {
		return nil, nil, fmt.Errorf("layout %s: %w; restore it, or remove it to go on with that of all members", a.cfg.Layout, err)
	}
	return l, b, nil
}

// followLayout takes what the layout's file says into use when it changes.
func (a *Agent) followLayout(ctx context.Context) error {
	tick := time.NewTicker(layoutLook)
	defer tick.Stop()
	var last []byte
	told := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		l, b, err := a.machineLayout()
		if err != nil {
			if err.Error() != told {
				told = err.Error()
				a.cfg.Log.Error("the present layout stays in use", "err", err)
			}
			continue
		}
		if b == nil || bytes.Equal(b, last) {
			continue
		}
		last = b
		if l.Version() > a.members.Version() {
			a.events.Info("Layout", "", "layout %d is in use", l.Version())
		}
		a.members.Update(a.machineNodes(l), l)
	}
}
