package driver_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/driver"
	"mynetwork.io/mynetwork/csi/mount"
	"mynetwork.io/mynetwork/csi/node"
	"mynetwork.io/mynetwork/csi/request"
)

func (c *client) mkdir(name string) {
	c.t.Helper()
	c.must(os.MkdirAll(c.path(name), 0o755))
}

// TestStageWaits: a volume that another node holds is waited for, the holder is named at once, and it is staged when it
// is free. Meanwhile another call for it is refused, and one for another volume is not.
func TestStageWaits(t *testing.T) {
	notices := make(chan node.Notice, 10)
	c := dial(t, func(c *driver.Config) {
		c.Retry, c.Notify = time.Millisecond, func(n node.Notice) { notices <- n }
	})
	id := c.create("v")
	c.attach("n2", id)
	done := make(chan error, 1)
	go func() { done <- c.stage(c.ctx, id) }()
	n := <-notices
	if n.Volume != id || n.Reason != node.ReasonHeld || !strings.Contains(n.Message, "n2") {
		t.Errorf("notice %+v", n)
	}
	c.want(codes.Aborted, "another call", c.stage(c.ctx, id))
	other := c.create("w")
	_, err := c.NodeStageVolume(c.ctx, &csi.NodeStageVolumeRequest{VolumeId: other, StagingTargetPath: c.path("other"), VolumeCapability: writer(true)})
	c.must(err)
	_, err = c.agent("n2").DetachVolume(c.ctx, &agentv1.DetachVolumeRequest{Volume: own(id)})
	c.must(err)
	c.must(<-done)
	if v := c.inspect(id); v.HolderNode != "n1" {
		t.Errorf("the volume is held by %q", v.HolderNode)
	}
	if len(notices) > 0 {
		t.Errorf("the holder was named twice: %+v", <-notices)
	}
}

// TestStageGivesUp: the answer comes within the caller's time, names the holder, and nothing is left.
func TestStageGivesUp(t *testing.T) {
	for name, wait := range map[string]time.Duration{"own limit": 30 * time.Millisecond, "caller's deadline": time.Hour} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, func(c *driver.Config) { c.Retry, c.Wait = time.Millisecond, wait })
			id := c.create("v")
			c.attach("n2", id)
			ctx, cancel := context.WithTimeout(c.ctx, 3*time.Second)
			defer cancel()
			c.want(codes.DeadlineExceeded, "by node n2", c.stage(ctx, id))
			if v := c.inspect(id); v.HolderNode != "n2" {
				t.Errorf("the volume is held by %q", v.HolderNode)
			}
			if list, _ := c.mounts.List(); len(list) > 0 {
				t.Errorf("mounted: %+v", list)
			}
		})
	}
}

// TestStageWithoutRoom: what an agent says of full stores reaches the caller at once, in its words, and with a code that tells that it may
// go otherwise later.
func TestStageWithoutRoom(t *testing.T) {
	c := dial(t, func(c *driver.Config) { c.Wait = time.Hour })
	var full atomic.Bool
	c.net.Fault = func(_ context.Context, _, method, _ string, after bool) error {
		if full.Load() && !after && method == "AttachVolume" {
			return status.Error(codes.ResourceExhausted, "store 1 on node n2 lacks 5 MiB")
		}
		return nil
	}
	id := c.create("v")
	full.Store(true)
	c.want(codes.ResourceExhausted, "store 1 on node n2 lacks 5 MiB", c.stage(c.ctx, id))
	full.Store(false)
	c.must(c.stage(c.ctx, id))
}

// TestStageTakesOver: what a dead node held is taken at once.
func TestStageTakesOver(t *testing.T) {
	c := dial(t, nil)
	id := c.create("v")
	c.attach("n2", id)
	c.net.Kill("n2")
	c.must(c.stage(c.ctx, id))
	if v := c.inspect(id); v.HolderNode != "n1" {
		t.Errorf("the volume is held by %q", v.HolderNode)
	}
}

// TestStageUndone: a volume that cannot be staged does not stay attached, as nobody would unstage it.
func TestStageUndone(t *testing.T) {
	c := dial(t, nil)
	id := c.create("v")
	c.mounts.Fault = func(step, _ string, _ bool) error {
		if step == "prepare" {
			return mount.ErrForeign
		}
		return nil
	}
	c.want(codes.FailedPrecondition, "something else", c.stage(c.ctx, id))
	if v := c.inspect(id); v.HolderNode != "" {
		t.Errorf("the volume stays with %q", v.HolderNode)
	}
	c.mounts.Fault = nil
	c.must(c.stage(c.ctx, id)) // control
	if v := c.inspect(id); v.HolderNode != "n1" {
		t.Errorf("a staged volume is held by %q", v.HolderNode)
	}
	// Staged and mounted: a later failure takes nothing away.
	c.mounts.Fault = func(step, _ string, _ bool) error {
		if step == "grow" {
			return errors.New("no")
		}
		return nil
	}
	c.want(codes.Internal, "no", c.stage(c.ctx, id))
	if v := c.inspect(id); v.HolderNode != "n1" {
		t.Error("a mounted volume was detached")
	}
}

// TestUnstage: a published volume is not pulled away; one that is not here is no error.
func TestUnstage(t *testing.T) {
	c := dial(t, nil)
	id := c.create("v")
	c.must(c.stage(c.ctx, id))
	publish := &csi.NodePublishVolumeRequest{VolumeId: id, StagingTargetPath: c.path("stage"), TargetPath: c.path("target"), VolumeCapability: writer(false)}
	_, err := c.NodePublishVolume(c.ctx, publish)
	c.must(err)
	unstage := func() error {
		_, err := c.NodeUnstageVolume(c.ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: c.path("stage")})
		return err
	}
	c.want(codes.FailedPrecondition, c.path("target"), unstage())
	publish.Readonly = true
	_, err = c.NodePublishVolume(c.ctx, publish)
	c.want(codes.AlreadyExists, "read-only false", err)
	_, err = c.NodeUnpublishVolume(c.ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: c.path("target")})
	c.must(err)
	c.must(unstage())
	if v := c.inspect(id); v.HolderNode != "" {
		t.Errorf("after unstage it is held by %q", v.HolderNode)
	}
	c.attach("n2", id)
	c.must(unstage())
	if v := c.inspect(id); v.HolderNode != "n2" {
		t.Errorf("another node's volume was detached; holder %q", v.HolderNode)
	}
	_, err = c.NodePublishVolume(c.ctx, publish)
	c.want(codes.FailedPrecondition, "not attached", err)
}

// TestExpandAndStats: a volume grows while it is published, its file system follows, and statistics are of its own path only.
func TestExpandAndStats(t *testing.T) {
	c := dial(t, nil)
	id := c.create("v")
	c.must(c.stage(c.ctx, id))
	node := &csi.NodeExpandVolumeRequest{VolumeId: id, VolumePath: c.path("stage"), CapacityRange: &csi.CapacityRange{RequiredBytes: 100 << 20}}
	_, err := c.NodeExpandVolume(c.ctx, node)
	c.want(codes.FailedPrecondition, "controller has to expand", err)
	expand := &csi.ControllerExpandVolumeRequest{VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: 100 << 20}, VolumeCapability: writer(false)}
	for range 2 {
		r, err := c.ControllerExpandVolume(c.ctx, expand)
		c.must(err)
		if r.CapacityBytes != 100<<20 || !r.NodeExpansionRequired {
			t.Errorf("expanded: %v", r)
		}
		n, err := c.NodeExpandVolume(c.ctx, node)
		c.must(err)
		if n.CapacityBytes != 100<<20 {
			t.Errorf("the device has %d bytes", n.CapacityBytes)
		}
	}
	if _, size := c.mounts.FS(c.inspect(id).Device); size != 100<<20 {
		t.Errorf("the file system was grown to %d", size)
	}
	expand.CapacityRange = &csi.CapacityRange{RequiredBytes: 50 << 20, LimitBytes: 80 << 20}
	_, err = c.ControllerExpandVolume(c.ctx, expand)
	c.want(codes.OutOfRange, "already", err)
	expand.CapacityRange, expand.VolumeCapability = &csi.CapacityRange{RequiredBytes: 200 << 20}, writer(true)
	r, err := c.ControllerExpandVolume(c.ctx, expand)
	c.must(err)
	if r.NodeExpansionRequired {
		t.Error("a raw device needs no expansion on the node")
	}
	other := c.create("w")
	for _, bad := range []*csi.NodeGetVolumeStatsRequest{{VolumeId: other, VolumePath: c.path("stage")}, {VolumeId: id, VolumePath: c.path("elsewhere")}, {VolumeId: id, VolumePath: "/etc"}} {
		_, err := c.NodeGetVolumeStats(c.ctx, bad)
		c.want(codes.NotFound, "", err)
	}
	s, err := c.NodeGetVolumeStats(c.ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: c.path("stage")})
	c.must(err)
	if len(s.Usage) != 2 || s.Usage[0].Total == 0 || s.Usage[1].Unit != csi.VolumeUsage_INODES {
		t.Errorf("statistics %v", s)
	}
}

// TestRouting: what changes a volume is asked of the node that holds it.
func TestRouting(t *testing.T) {
	c := dial(t, nil)
	id := c.create("v")
	c.attach("n3", id)
	asked := map[string]string{}
	c.net.Fault = func(_ context.Context, node, method, _ string, after bool) error {
		if after {
			asked[method] = node
		}
		return nil
	}
	_, err := c.ControllerExpandVolume(c.ctx, &csi.ControllerExpandVolumeRequest{VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: 100 << 20}})
	c.must(err)
	s, err := c.CreateSnapshot(c.ctx, &csi.CreateSnapshotRequest{SourceVolumeId: id, Name: "s"})
	c.must(err)
	_, err = c.DeleteSnapshot(c.ctx, &csi.DeleteSnapshotRequest{SnapshotId: s.Snapshot.SnapshotId})
	c.must(err)
	for _, m := range []string{"ResizeVolume", "CreateSnapshot", "DeleteSnapshot"} {
		if asked[m] != "n3" {
			t.Errorf("%s was asked of %q", m, asked[m])
		}
	}
	if asked["ListVolumes"] == "" {
		t.Error("control: no call was seen")
	}
	_, err = c.DeleteVolume(c.ctx, &csi.DeleteVolumeRequest{VolumeId: id})
	c.want(codes.FailedPrecondition, "n3", err)
	c.net.Kill("n3")
	_, err = c.ControllerExpandVolume(c.ctx, &csi.ControllerExpandVolumeRequest{VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: 200 << 20}})
	c.want(codes.Unavailable, "n3", err)
}

// TestHealth: what is wrong is said by controller and node, and goes when it is right again.
func TestHealth(t *testing.T) {
	c := dial(t, nil)
	id := c.create("v")
	c.must(c.stage(c.ctx, id))
	look := func() (controller, node, list int) {
		t.Helper()
		a, err := c.ControllerGetVolumeHealth(c.ctx, &csi.ControllerGetVolumeHealthRequest{VolumeId: id})
		c.must(err)
		b, err := c.NodeGetVolumeHealth(c.ctx, &csi.NodeGetVolumeHealthRequest{VolumeId: id, StagingTargetPath: c.path("stage")})
		c.must(err)
		l, err := c.ControllerListVolumeHealth(c.ctx, &csi.ControllerListVolumeHealthRequest{})
		c.must(err)
		return len(a.VolumeHealth.HealthStatuses), len(b.VolumeHealth.HealthStatuses), len(l.Entries)
	}
	check := func(wc, wn, wl int) {
		t.Helper()
		if a, b, l := look(); a != wc || b != wn || l != wl {
			t.Errorf("controller %d, node %d, list %d; want %d, %d, %d", a, b, l, wc, wn, wl)
		}
	}
	check(0, 0, 0)
	c.net.Hurt(own(id), 3, "")
	check(1, 1, 1)
	c.net.Hurt(own(id), 3, "fenced")
	check(2, 2, 1)
	c.net.Hurt(own(id), 0, "")
	check(0, 0, 0)
	_, err := c.agent("n1").DetachVolume(c.ctx, &agentv1.DetachVolumeRequest{Volume: own(id)}) // behind the driver's back
	c.must(err)
	c.attach("n2", id)
	check(0, 1, 0) // mounted here, but n2 writes
	s, err := c.NodeGetStorageHealth(c.ctx, &csi.NodeGetStorageHealthRequest{})
	c.must(err)
	if len(s.BackendHealth) != 0 {
		t.Errorf("storage health %v", s)
	}
	c.net.Kill("n1")
	s, err = c.NodeGetStorageHealth(c.ctx, &csi.NodeGetStorageHealthRequest{})
	c.must(err)
	if len(s.BackendHealth) != 1 || s.BackendHealth[0].Reason != request.ReasonAgentUnreachable {
		t.Errorf("storage health with a dead agent %v", s)
	}
}
