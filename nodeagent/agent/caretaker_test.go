package agent

import (
	"fmt"
	"os"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/store"
)

// without gives all agents that run a layout without one node, as the operator does when a node has been dead for too long.
func (c *cluster) without(gone string) { c.relayout(gone, false) }

// relayout gives all agents that run a layout without one node, or one in which that is drained.
func (c *cluster) relayout(gone string, drained bool) {
	c.tb.Helper()
	var nodes []members.Node
	var left []placement.Node
	for _, m := range c.list {
		n := members.Node{Name: m.Node, Address: m.Address}
		nodes = append(nodes, n)
		switch p := (placement.Node{ID: m.Node, Weight: 1}); {
		case m.Node != gone:
			left = append(left, p)
		case drained:
			p.State = placement.Draining
			left = append(left, p)
		}
	}
	first, err := members.Layout(nodes)
	check(c.tb, err)
	next, err := placement.Compute(left, placement.Params{Replicas: 3}, first)
	check(c.tb, err)
	for _, n := range c.node {
		if n.Agent != nil {
			n.members.Update(nodes, next)
		}
	}
}

// record gives a volume's record.
func (c *cluster) record(name string) registry.Record {
	c.tb.Helper()
	r, err := registry.Find(c.node["a"].registry, name)
	check(c.tb, err)
	return r
}

// held gives what the store of each agent that runs has of a volume.
func (c *cluster) held(v block.VolumeID) map[string]map[block.ExtentID]store.ExtentStat {
	out := map[string]map[block.ExtentID]store.ExtentStat{}
	for name, n := range c.node {
		if n.Agent == nil {
			continue
		}
		out[name] = map[block.ExtentID]store.ExtentStat{}
		for _, s := range n.stores.All() {
			for _, x := range s.Extents(v) {
				if st, ok := s.Stat(x); ok {
					out[name][x] = st
				}
			}
		}
	}
	return out
}

// copies counts the fewest whole copies of any extent of a volume.
func (c *cluster) copies(v block.VolumeID) int {
	count, end := map[block.ExtentID]int{}, map[block.ExtentID]store.ExtentStat{}
	held := c.held(v)
	for _, of := range held {
		for x, st := range of {
			if have, ok := end[x]; !ok || st.Durable.Seq > have.Durable.Seq {
				end[x] = st
			}
		}
	}
	for _, of := range held {
		for x, st := range of {
			if !st.Unknown && st.Durable.Hash == end[x].Durable.Hash {
				count[x]++
			}
		}
	}
	least := -1
	for _, n := range count {
		if least < 0 || n < least {
			least = n
		}
	}
	return least
}

// tended names the node that looks after a volume; empty: none.
func (c *cluster) tended() string {
	for name, n := range c.node {
		if n.Agent != nil && len(n.Volumes().Tended()) > 0 {
			return name
		}
	}
	return ""
}

// losing makes a volume on four nodes, detaches it, and loses a node that has a part of it for good.
func losing(t *testing.T, change func(*Config)) (c *cluster, m *model, v block.VolumeID, lost string) {
	t.Helper()
	c = newClusterWith(t, 4, false, change)
	m = c.written(t)
	v = c.record("vol").ID
	eventually(t, "three copies of a volume that was detached in order", func() error { // where the machine is slow, a store may have been left out
		if got := c.copies(v); got != 3 {
			return fmt.Errorf("%d copies", got)
		}
		return nil
	})
	most := 0
	for name, of := range c.held(v) {
		if name != "a" && len(of) > most {
			most, lost = len(of), name
		}
	}
	c.stop(lost)
	check(t, os.RemoveAll(c.node[lost].cfg.Stores[0].Path))
	return c, m, v, lost
}

// TestCaretaker: a node is lost for good, and the layout is without it: a volume that nobody has open gets its third copy again by itself, is
// closed then, and the registry knows. Without the caretaker it stays at two.
func TestCaretaker(t *testing.T) {
	for _, on := range []bool{true, false} {
		t.Run(map[bool]string{true: "on", false: "off"}[on], func(t *testing.T) {
			c, m, v, lost := losing(t, func(cfg *Config) { cfg.Quiet, cfg.NoCaretaker = time.Second, !on })
			before := c.record("vol").Fact
			c.without(lost)
			missing := func() (sum int64) {
				for _, n := range c.node {
					if n.Agent != nil {
						sum += n.copyFigures().Missing
					}
				}
				return sum
			}
			if !on {
				eventually(t, "the missing copies are known", func() error {
					if missing() == 0 {
						return errNot
					}
					return nil
				})
				if got := c.copies(v); got != 2 || c.record("vol").Fact.Epoch != before.Epoch {
					t.Fatalf("%d copies, epoch %s after %s", got, c.record("vol").Fact.Epoch, before.Epoch)
				}
				return
			}
			within(t, 3*time.Minute, "three copies", func() error {
				if got := c.copies(v); got != 3 || c.tended() != "" || missing() != 0 {
					return fmt.Errorf("%d copies, looked after by %q, %d missing", got, c.tended(), missing())
				}
				return nil
			})
			if r := c.record("vol"); r.Copies != 3 || r.Holder != "" || !r.Fact.Epoch.Caretaker() {
				t.Errorf("the registry has %d copies, holder %q, epoch %s", r.Copies, r.Holder, r.Fact.Epoch)
			}
			at := "a"
			m.verify(c.attach(at, "vol"))
			c.detach(at, "vol")
			for _, f := range c.fsck(t, false) {
				if f.Node != lost { // that it does not answer
					t.Errorf("finding: %v", f)
				}
			}
		})
	}
}

// TestCaretakerGivesWay: an attach, on the node that looks after the volume or on another one, takes it at once, and is not disturbed.
func TestCaretakerGivesWay(t *testing.T) {
	for _, same := range []bool{true, false} {
		t.Run(map[bool]string{true: "same node", false: "another node"}[same], func(t *testing.T) {
			c, m, _, lost := losing(t, func(cfg *Config) { cfg.Quiet = time.Second })
			c.without(lost)
			keeper := ""
			eventually(t, "caretaking", func() error {
				if keeper = c.tended(); keeper == "" || !c.record("vol").Fact.Epoch.Caretaker() {
					return errNot
				}
				return nil
			})
			at := keeper
			for name, n := range c.node {
				if n.Agent != nil && (name == keeper) == same {
					at = name
				}
			}
			e := c.attach(at, "vol") // not by force
			m.verify(e)
			for range 5 {
				m.write(e, 20)
			}
			eventually(t, "the caretaker is gone", func() error {
				if c.tended() != "" {
					return errNot
				}
				return nil
			})
			m.verify(e)
			if err := e.Err(); err != nil || c.record("vol").Holder != at {
				t.Fatalf("%v, holder %q", err, c.record("vol").Holder)
			}
		})
	}
}

// TestCaretakerIdle: what is as it should be is known to be, and never opened.
func TestCaretakerIdle(t *testing.T) {
	c := newClusterWith(t, 3, false, func(cfg *Config) { cfg.Quiet = time.Second })
	c.written(t)
	before := c.record("vol")
	eventually(t, "all are synced", func() error {
		for name, n := range c.node {
			if st := n.copyFigures(); st.Synced != 1 || st.Missing != 0 || st.Last != 0 || st.Copies == 0 {
				return fmt.Errorf("%s: synced %d, %d missing, %d last, %d copies", name, st.Synced, st.Missing, st.Last, st.Copies)
			}
		}
		return nil
	})
	c.stop("c")
	c.stop("b")
	eventually(t, "the last copies are known", func() error {
		if st := c.node["a"].copyFigures(); st.Last != st.Copies {
			return errNot
		}
		return nil
	})
	c.start("b")
	c.start("c")
	eventually(t, "nothing is missed", func() error {
		for _, n := range c.node {
			if st := n.copyFigures(); st.Missing != 0 || st.Last != 0 {
				return errNot
			}
		}
		return nil
	})
	if after := c.record("vol"); after.Fact.Revision != before.Fact.Revision || after.Fact.Epoch != before.Fact.Epoch {
		t.Errorf("the volume was opened: epoch %s after %s", after.Fact.Epoch, before.Fact.Epoch)
	}
}
