package agent

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
)

// TestAttachWithoutRoom: an attach, and a snapshot of a volume that is not attached, for which no store has room say which stores are full, on which nodes, how
// much they lack and what to do, and do not wait until their callers give up. Once there is room, the attach succeeds.
func TestAttachWithoutRoom(t *testing.T) {
	c := newClusterWith(t, 3, false, func(cfg *Config) { cfg.Stores[0].Capacity = 64 << 20 })
	ctx, api := t.Context(), c.node["a"].api
	full, err := "", error(nil)
	for i := 0; i < 40 && err == nil; i++ {
		full = fmt.Sprintf("v%d", i)
		_, err = api.CreateVolume(ctx, &agentv1.CreateVolumeRequest{Name: full, Size: 64 << 20, Replicas: 3, ExtentSize: 64 << 20})
		check(t, err)
		_, err = c.tryAttach("a", full, false)
	}
	if full == "v0" {
		t.Fatalf("not one is attached: %v", err)
	}
	says := func(what string, err error) error {
		t.Helper()
		if status.Code(err) != codes.ResourceExhausted {
			t.Fatalf("%s: %v", what, err)
		}
		for _, part := range []string{"store ", "on node a has ", "on node b has ", "on node c has ", " of 64 MiB in use", " and lacks ", "delete volumes or snapshots"} {
			if !strings.Contains(err.Error(), part) {
				return fmt.Errorf("%s: %w\ndoes not say %q", what, err, part)
			}
		}
		return nil
	}
	_ = says("attach", err) // what nodes said last of their stores may be of before
	eventually(t, "an attach that says what is full", func() error {
		_, err := c.tryAttach("a", full, false)
		return says("attach that is repeated", err)
	})

	_, err = api.CreateVolume(ctx, &agentv1.CreateVolumeRequest{Name: "other", Size: 64 << 20, Replicas: 3, ExtentSize: 64 << 20})
	check(t, err)
	_, err = api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "other", Name: "s"})
	check(t, says("snapshot", err))

	for _, name := range []string{"v0", "v1"} {
		c.detach("a", name)
		_, err := api.DeleteVolume(ctx, &agentv1.DeleteVolumeRequest{Volume: name})
		check(t, err)
	}
	eventually(t, "an attach for which there is room now", func() error {
		_, err := c.tryAttach("a", full, false)
		return err
	})
}
