package agent

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/export/mounter"
)

// TestLeft: an agent and its holder die together, and the volume is taken elsewhere; the next agent of the node ends what is left of its device.
func TestLeft(t *testing.T) {
	c := newCluster(t, 3, true)
	c.stop("a")
	cmd := c.spawn("a")
	ctx := t.Context()
	c.create("b", "vol", 8*mib)
	_, err := c.node["a"].api.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: "vol", Kind: agentv1.DeviceKind_DEVICE_KIND_FUSE})
	check(t, err)
	path := c.node["a"].cfg.Holder
	c.end("a", cmd, syscall.SIGKILL)
	c.holders["a"]()
	devices := mounter.New(filepath.Join(c.node["a"].cfg.Dir, "devices"))
	left, err := devices.List(ctx)
	if err != nil || len(left) != 1 {
		t.Fatalf("both are dead, and have left %v, %v", left, err)
	}
	c.holders["a"] = c.startHolder(path)
	c.start("a")
	eventually(t, "nothing is left", func() error {
		if left, err := devices.List(ctx); err != nil || len(left) != 0 {
			return fmt.Errorf("%v, %v: %w", left, err, errNot)
		}
		return nil
	})
}
