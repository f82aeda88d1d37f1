package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// TestLayoutFile: agents of one machine take what their layout's file says into use, and keep what they have while it says nothing that can be read.
func TestLayoutFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "layout")
	c := newClusterWith(t, 2, false, func(cfg *Config) { cfg.Layout = file })
	last, err := c.node["a"].machineLayout()
	check(t, err)
	if v := c.node["a"].members.Version(); v != last.Version() {
		t.Fatalf("without a file layout %d is in use, not %d", v, last.Version())
	}
	for _, state := range []placement.State{placement.Draining, placement.Active} {
		check(t, os.WriteFile(file, []byte("rotten"), 0o600))
		next, err := placement.Compute([]placement.Node{{ID: "a", Weight: 1}, {ID: "b", Weight: 1, State: state}}, placement.Params{Replicas: 1}, last)
		check(t, err)
		if next.Version() <= last.Version() {
			t.Fatalf("layout %d after %d", next.Version(), last.Version())
		}
		b, err := next.AppendBinary(nil)
		check(t, err)
		check(t, os.WriteFile(file+".new", b, 0o600))
		check(t, os.Rename(file+".new", file))
		eventually(t, "the layout of the file", func() error {
			for _, n := range c.node {
				if v := n.members.Version(); v != next.Version() {
					return fmt.Errorf("%s has layout %d, want %d", n.cfg.Node, v, next.Version())
				}
			}
			return nil
		})
		last = next
	}
}
