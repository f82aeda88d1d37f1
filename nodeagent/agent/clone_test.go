package agent

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/registry"
)

// cut takes the other nodes of a away, so that nothing new becomes durable there.
func (c *cluster) cut(away ...string) {
	for _, n := range away {
		c.stop(n)
	}
}

// TestCloneBeforeCheckpoint: a clone does not wait for its parent's checkpoint; its first opening does, on any node, also if the parent's
// writer ends before it has made one.
func TestCloneBeforeCheckpoint(t *testing.T) {
	c := newCluster(t, 3, true)
	api, ctx := c.node["a"].api, t.Context()
	c.create("a", "vol", 4*mib)
	m := newModel(t, 12, 4*mib)
	e := c.attach("a", "vol")
	reg, err := registry.OpenFile(filepath.Join(c.dir, "registry"))
	check(t, err)
	wait := func(of string) (unrooted, rooted bool) { // as the registry has it
		t.Helper()
		clone, err := registry.Find(reg, "of-"+of)
		check(t, err)
		vol, err := registry.Find(reg, "vol")
		check(t, err)
		s, ok := vol.FindSnapshot(of)
		return clone.Unrooted, ok && s.Rooted
	}
	for _, name := range []string{"one", "two"} {
		m.write(e, 30)
		atSnap, before := m.clone(), uint64(0)
		for try := 0; ; try++ { // a snapshot makes a checkpoint due, and on a slow machine it may be there before the stores are away
			before = e.Status().Stats.Checkpoints
			_, err := api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "vol", Name: name})
			check(t, err)
			c.cut("b", "c") // no checkpoint from here on
			if e.Status().Stats.Checkpoints == before {
				break
			}
			if try == 20 {
				t.Fatal("a checkpoint is always faster than the end of two agents")
			}
			c.start("b")
			c.start("c")
			_, err = api.DeleteSnapshot(ctx, &agentv1.DeleteSnapshotRequest{Volume: "vol", Snapshot: name})
			check(t, err)
		}
		_, err = api.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: "vol", Snapshot: name, Name: "of-" + name})
		check(t, err)
		if got := e.Status().Stats.Checkpoints; got != before {
			t.Fatalf("%d checkpoints were made with one store of three", got-before)
		}
		if unrooted, rooted := wait(name); !unrooted || rooted {
			t.Fatalf("the clone waits: %t, and the snapshot is rooted: %t", unrooted, rooted)
		}
		if name == "two" {
			c.stop("a")
			c.start("a")
		}
		c.start("b")
		c.start("c")
		atSnap.verify(c.attach("b", "of-"+name))
		if unrooted, rooted := wait(name); unrooted || !rooted {
			t.Fatalf("the clone is open; it waits: %t, and the snapshot is rooted: %t", unrooted, rooted)
		}
		eventually(t, "the parent to be open on a", func() error {
			if e = c.node["a"].Volumes().Engine("vol"); e == nil {
				return context.DeadlineExceeded
			}
			return nil
		})
		m.verify(e)
		c.detach("b", "of-"+name)
	}
}

// TestCloneOfDetached: a parent that ended without a checkpoint, and that nobody has open, is opened for its clone.
func TestCloneOfDetached(t *testing.T) {
	c := newCluster(t, 3, false)
	api, ctx := c.node["a"].api, t.Context()
	c.create("a", "vol", 4*mib)
	m := newModel(t, 13, 4*mib)
	e := c.attach("a", "vol")
	m.write(e, 30)
	_, err := api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "vol", Name: "s"})
	check(t, err)
	c.cut("b", "c")
	_, err = api.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: "vol", Snapshot: "s", Name: "twin"})
	check(t, err)
	_, err = api.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: "vol", Snapshot: "none", Name: "twin2"})
	wantCode(t, err, codes.NotFound, "none")
	forced, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	check(t, c.node["a"].Volumes().Detach(forced, "vol", true))
	c.start("b")
	c.start("c")
	m.verify(c.attach("c", "twin"))
	m.verify(c.attach("b", "vol"))
}

// TestCloneWaitsForRoot: a clone is not opened from a checkpoint of which nobody has said that it is durable, although it can be read.
func TestCloneWaitsForRoot(t *testing.T) {
	c := newCluster(t, 3, false)
	api, ctx := c.node["a"].api, t.Context()
	c.create("a", "vol", 4*mib)
	m := newModel(t, 14, 4*mib)
	e := c.attach("a", "vol")
	m.write(e, 30)
	_, err := api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "vol", Name: "s"})
	check(t, err)
	check(t, e.Checkpoint())
	_, err = api.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: "vol", Snapshot: "s", Name: "twin"})
	check(t, err)
	reg, err := registry.OpenFile(filepath.Join(c.dir, "registry"))
	check(t, err)
	say := func(name string, change func(r *registry.Record)) {
		t.Helper()
		r, err := registry.Find(reg, name)
		check(t, err)
		_, err = reg.Update(r.ID, func(r *registry.Record) error { change(r); return nil })
		check(t, err)
	}
	say("vol", func(r *registry.Record) { r.Snapshots[0].Rooted = false })
	say("twin", func(r *registry.Record) { r.Unrooted = true })
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err = c.node["b"].api.AttachVolume(short, &agentv1.AttachVolumeRequest{Volume: "twin", Kind: agentv1.DeviceKind_DEVICE_KIND_NONE})
	if err == nil || c.node["b"].Volumes().Engine("twin") != nil {
		t.Fatalf("it was opened (%v)", err)
	}
	say("vol", func(r *registry.Record) { r.Snapshots[0].Rooted = true })
	m.verify(c.attach("b", "twin"))
}
