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
	"mynetwork.io/mynetwork/nodeagent/task"
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

// layoutText is what the layout's file says; nil: there is none.
func (a *Agent) layoutText() ([]byte, error) {
	if a.cfg.Layout == "" {
		return nil, nil
	}
	b, err := os.ReadFile(a.cfg.Layout)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("layout: %w", err)
	}
	return b, nil
}

// machineLayout is the layout of a network on one machine: what the file says that the settings name, else that of all its members.
func (a *Agent) machineLayout() (*placement.Layout, error) {
	b, err := a.layoutText()
	if err != nil {
		return nil, err
	}
	if b != nil {
		return a.readLayout(b)
	}
	var nodes []members.Node
	for _, m := range a.cfg.Members {
		nodes = append(nodes, members.Node{Name: m.Node, Address: m.Address, Zone: m.Zone, Weight: m.Weight})
	}
	return members.Layout(nodes)
}

func (a *Agent) readLayout(b []byte) (*placement.Layout, error) {
	l, err := placement.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("layout %s: %w; restore it, or remove it to go on with that of all members", a.cfg.Layout, err)
	}
	return l, nil
}

// followLayout takes what the layout's file says into use when it changes. Without one nothing changes, and that of all members, which takes
// a millisecond and more to compute, is not computed again.
func (a *Agent) followLayout(ctx context.Context) error {
	var last []byte
	told := ""
	for task.Pause(ctx, task.UntilBeat(layoutLook)) {
		b, err := a.layoutText()
		if err == nil && (b == nil || bytes.Equal(b, last)) {
			continue
		}
		var l *placement.Layout
		if err == nil {
			l, err = a.readLayout(b)
		}
		if err != nil {
			if err.Error() != told {
				told = err.Error()
				a.cfg.Log.Error("the present layout stays in use", "err", err)
			}
			continue
		}
		last = b
		if l.Version() > a.members.Version() {
			a.events.Info("Layout", "", "layout %d is in use", l.Version())
		}
		a.members.Update(a.machineNodes(l), l)
		a.volumes.Look()
	}
	return nil
}
