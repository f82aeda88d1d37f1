package driver_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/driver"
)

func as(block bool, mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	c := writer(block)
	c.AccessMode.Mode = mode
	return c
}

const many = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY

// readersOf makes a volume for many readers from a snapshot of one that is written on n1.
func (c *client) readersOf(name string, block bool) *csi.Volume {
	c.t.Helper()
	source := c.create("source-of-" + name)
	c.attach("n1", source)
	s, err := c.CreateSnapshot(c.ctx, &csi.CreateSnapshotRequest{Name: "snapshot-of-" + name, SourceVolumeId: source})
	c.must(err)
	r := creation(name, block)
	r.VolumeCapabilities = []*csi.VolumeCapability{as(block, many)}
	r.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: s.Snapshot.SnapshotId}}}
	v, err := c.CreateVolume(c.ctx, r)
	c.must(err)
	again, err := c.CreateVolume(c.ctx, r)
	c.must(err)
	if again.Volume.VolumeId != v.Volume.VolumeId || !maps.Equal(again.Volume.VolumeContext, v.Volume.VolumeContext) {
		c.t.Errorf("repeated, it is %v, not %v", again.Volume, v.Volume)
	}
	return v.Volume
}

// on is a driver of another node of the same network.
func (c *client) on(node string) *driver.Driver {
	c.t.Helper()
	cfg := c.cfg
	cfg.Controller, cfg.Node, cfg.Retry = false, node, time.Millisecond
	d, err := driver.New(cfg)
	c.must(err)
	return d
}

// TestReaders: a volume for many readers is made from a snapshot, replayed once by whichever node is first, sealed, and mounted read-only on
// three nodes that ask at the same time; a reader's death or leave does not touch the others.
func TestReaders(t *testing.T) {
	for name, block := range map[string]bool{"mount": false, "block": true} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, nil)
			v := c.readersOf("r", block)
			var mu sync.Mutex
			replays := 0
			var wg sync.WaitGroup
			nodes := map[string]*driver.Driver{}
			c.mounts.Fault = func(step, path string, after bool) error {
				mu.Lock()
				defer mu.Unlock()
				if step == "grow" && !after { // only what is mounted for writing grows
					replays++
				}
				return nil
			}
			for _, n := range []string{"n1", "n2", "n3"} {
				nodes[n] = c.on(n)
				c.mkdir(n)
			}
			stage := func(n string) error {
				_, err := nodes[n].Node.NodeStageVolume(c.ctx, &csi.NodeStageVolumeRequest{VolumeId: v.VolumeId, StagingTargetPath: c.path(n),
					VolumeCapability: as(block, many), VolumeContext: v.VolumeContext})
				return err
			}
			for n := range nodes {
				wg.Go(func() {
					if err := stage(n); err != nil {
						t.Errorf("stage on %s: %v", n, err)
					}
				})
			}
			wg.Wait()
			for n, d := range nodes {
				c.must(stage(n)) // again
				_, err := d.Node.NodePublishVolume(c.ctx, &csi.NodePublishVolumeRequest{VolumeId: v.VolumeId, StagingTargetPath: c.path(n), TargetPath: c.path(n + "-pod"),
					VolumeCapability: as(block, many), VolumeContext: v.VolumeContext})
				c.must(err)
			}
			list, err := c.mounts.List()
			c.must(err)
			if want := map[bool]int{false: 6, true: 3}[block]; len(list) != want {
				t.Errorf("mounted: %+v", list)
			}
			for _, m := range list {
				if !m.ReadOnly {
					t.Errorf("%s can be written", m.Path)
				}
			}
			if want := map[bool]int{false: 1, true: 0}[block]; replays != want {
				t.Errorf("the journal was replayed %d times, want %d", replays, want)
			}
			c.net.Kill("n3")
			c.must(stage("n2"))
			for _, n := range []string{"n1", "n2"} {
				_, err := nodes[n].Node.NodeUnpublishVolume(c.ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: v.VolumeId, TargetPath: c.path(n + "-pod")})
				c.must(err)
				_, err = nodes[n].Node.NodeUnstageVolume(c.ctx, &csi.NodeUnstageVolumeRequest{VolumeId: v.VolumeId, StagingTargetPath: c.path(n)})
				c.must(err)
			}
			if got := c.inspect(v.VolumeId); got.State != agentv1.VolumeState_VOLUME_STATE_DETACHED || !got.Sealed {
				t.Errorf("after unstage: %v", got)
			}
			c.mkdir("w")
			_, err = c.NodeStageVolume(c.ctx, &csi.NodeStageVolumeRequest{VolumeId: v.VolumeId, StagingTargetPath: c.path("w"), VolumeCapability: writer(block)})
			c.want(codes.FailedPrecondition, "read-only for ever", err)
			_, err = c.DeleteVolume(c.ctx, &csi.DeleteVolumeRequest{VolumeId: v.VolumeId})
			c.must(err)
		})
	}
}

// TestReadersRefused: what nobody could read, or what is there to be written, is not made into a volume for readers.
func TestReadersRefused(t *testing.T) {
	c := dial(t, nil)
	r := creation("empty", false)
	r.VolumeCapabilities = []*csi.VolumeCapability{as(false, many)}
	_, err := c.CreateVolume(c.ctx, r)
	c.want(codes.InvalidArgument, "dataSource", err)
	r.VolumeCapabilities = append(r.VolumeCapabilities, writer(false))
	_, err = c.CreateVolume(c.ctx, r)
	c.want(codes.InvalidArgument, "ReadOnlyMany alone", err)
	id := c.create("written")
	c.mkdir("s")
	_, err = c.NodeStageVolume(c.ctx, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: c.path("s"), VolumeCapability: as(false, many)})
	c.want(codes.FailedPrecondition, "made to be written", err)
	if v := c.inspect(id); v.Sealed || v.HolderNode != "" {
		t.Errorf("after that: %v", v)
	}
	confirmed := func(v *csi.Volume, caps ...*csi.VolumeCapability) bool {
		t.Helper()
		got, err := c.ValidateVolumeCapabilities(c.ctx, &csi.ValidateVolumeCapabilitiesRequest{VolumeId: v.VolumeId, VolumeContext: v.VolumeContext, VolumeCapabilities: caps})
		c.must(err)
		return got.Confirmed != nil
	}
	v := c.readersOf("r", true)
	if confirmed(&csi.Volume{VolumeId: id}, as(false, many)) || !confirmed(&csi.Volume{VolumeId: id}, writer(false)) || !confirmed(v, as(true, many)) {
		t.Error("wrong uses are confirmed")
	}
	_, err = c.agent("n2").SealVolume(c.ctx, &agentv1.SealVolumeRequest{Volume: own(v.VolumeId)})
	c.must(err)
	if confirmed(v, writer(true)) || !confirmed(&csi.Volume{VolumeId: v.VolumeId}, as(true, many)) {
		t.Error("wrong uses of a sealed volume are confirmed")
	}
	_, err = c.ControllerExpandVolume(c.ctx, &csi.ControllerExpandVolumeRequest{VolumeId: v.VolumeId, CapacityRange: &csi.CapacityRange{RequiredBytes: 2 << 30}})
	c.want(codes.FailedPrecondition, "sealed", err)
}

// TestReadersInterrupted: a replay that breaks off leaves nothing, and the next stage comes to the same end; the file system is never sealed
// with its journal unreplayed.
func TestReadersInterrupted(t *testing.T) {
	for _, at := range []string{"prepare", "mount", "grow", "unmount"} {
		for _, after := range []bool{false, true} {
			c := dial(t, func(c *driver.Config) { c.Retry = time.Millisecond })
			v := c.readersOf("r", false)
			broken := true
			c.mounts.Fault = func(step, _ string, then bool) error {
				if broken && step == at && then == after {
					broken = false
					return errors.New("broken off")
				}
				return nil
			}
			c.mkdir("stage")
			stage := func(ctx context.Context) error {
				_, err := c.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: v.VolumeId, StagingTargetPath: c.path("stage"), VolumeCapability: as(false, many), VolumeContext: v.VolumeContext})
				return err
			}
			c.want(codes.Internal, "broken off", stage(c.ctx))
			if c.inspect(v.VolumeId).Sealed {
				t.Errorf("%s, after %t: it is sealed", at, after)
			}
			c.must(stage(c.ctx))
			list, _ := c.mounts.List()
			if len(list) != 1 || !list[0].ReadOnly || !c.inspect(v.VolumeId).Sealed {
				t.Errorf("%s, after %t: mounted: %+v", at, after, list)
			}
		}
	}
}

// TestSealingWaits: who comes second waits for the first, and takes what it has made.
func TestSealingWaits(t *testing.T) {
	c := dial(t, func(c *driver.Config) { c.Retry = time.Millisecond })
	asked := make(chan struct{}, 100)
	c.net.Fault = func(_ context.Context, node, method, _ string, after bool) error {
		if node == "n1" && method == "AttachVolume" && !after {
			select {
			case asked <- struct{}{}:
			default:
			}
		}
		return nil
	}
	v := c.readersOf("r", true)
	c.attach("n2", v.VolumeId) // it is at the replay
	c.mkdir("stage")
	done := make(chan error, 1)
	for len(asked) > 0 {
		<-asked
	}
	go func() {
		_, err := c.NodeStageVolume(c.ctx, &csi.NodeStageVolumeRequest{VolumeId: v.VolumeId, StagingTargetPath: c.path("stage"), VolumeCapability: as(true, many), VolumeContext: v.VolumeContext})
		done <- err
	}()
	<-asked
	<-asked
	_, err := c.agent("n2").SealVolume(c.ctx, &agentv1.SealVolumeRequest{Volume: own(v.VolumeId)})
	c.must(err)
	c.must(<-done)
}
