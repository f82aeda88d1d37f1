package agent

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/core/clearing"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

// TestDiskHangs: the disk of a node does not say how much room it has. The others hear from the node what it says anew. Then it answers nothing at all: the
// node goes on hearing from the others, its status and metrics are told, and what needs no disk goes on.
func TestDiskHangs(t *testing.T) {
	var hangs atomic.Uint32 // 1: in usage; 2: in everything
	entered, release := make(chan struct{}, 1), make(chan struct{})
	c := newClusterWith(t, 3, false, func(cfg *Config) {
		cfg.Stores[0].Capacity = 0
		if cfg.Node != "a" {
			return
		}
		cfg.Stores[0].Wrap = func(d disk.FS) disk.FS {
			return disk.NewFaults(d, func(op disk.Op) disk.Fault {
				if h := hangs.Load(); h == 0 || h == 1 && op.Kind != disk.OpUsage {
					return disk.Fault{}
				}
				return disk.Fault{Wait: func() {
					select {
					case entered <- struct{}{}:
					default:
					}
					<-release
				}}
			})
		}
	})
	c.create("b", "vol", 8*mib)
	m := newModel(t, 61, 8*mib)
	e := c.attach("b", "vol")
	m.write(e, 20)
	hangs.Store(1)
	defer func() { hangs.Store(0); close(release) }()
	<-entered
	a := c.node["a"]
	own := a.stores.All()[0]
	for _, stage := range []clearing.Stage{clearing.Deleted, clearing.Idle, clearing.Deleted} {
		own.Clear(stage)
		eventually(t, "the node's answers reach the others", func() error {
			for _, s := range c.node["b"].members.States() {
				if s.Name == "a" && s.Alive && len(s.Stores) == 1 && s.Stores[0].Clearing == stage {
					return nil
				}
			}
			return errNot
		})
	}
	hangs.Store(2)
	m.write(e, 20) // by the others
	for range 3 {
		a.tells(t)
		c.hears(t, "a", "b")
	}
	if text := own.Silence(time.Now().Add(time.Minute)); !strings.Contains(text, "does not answer") {
		t.Errorf("told: %q", text)
	}
	m.verify(e)
}

// tells asks an agent for all that it says of its store.
func (n *node) tells(t *testing.T) {
	t.Helper()
	st, err := n.api.Status(t.Context(), &agentv1.StatusRequest{})
	check(t, err)
	if len(st.Stores) != 1 || st.Stores[0].Capacity == 0 || st.Stores[0].Quarantined != "" {
		t.Errorf("the status tells %v", st.Stores)
	}
	_, err = n.api.Report(t.Context(), &agentv1.ReportRequest{})
	_, err2 := n.api.Metrics(t.Context(), &agentv1.MetricsRequest{})
	check(t, errors.Join(err, err2))
	n.stores.Acknowledge()
}

// hears waits until a node has heard something new from another one, and takes none for away.
func (c *cluster) hears(t *testing.T, node, other string) {
	t.Helper()
	st := c.node[other].stores.All()[0]
	news := clearing.Deleted - st.Clearing()
	st.Clear(news)
	eventually(t, "the others' answers reach the node", func() error {
		for _, s := range c.node[node].members.States() {
			if !s.Alive {
				t.Errorf("node %s counts as away on the node whose disk hangs", s.Name)
			}
			if s.Name == other && len(s.Stores) == 1 && s.Stores[0].Clearing == news {
				return nil
			}
		}
		return errNot
	})
}
