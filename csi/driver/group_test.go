package driver_test

import (
	"context"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/agenttest"
	"mynetwork.io/mynetwork/csi/driver"
	"mynetwork.io/mynetwork/csi/handle"
)

// breaker ends a hold between two snapshots of a group.
type breaker struct {
	agenttest.Set
	after  int // snapshots; -1: never
	victim string
	taken  int
	over   bool // releases say that the hold was over
}

func (b *breaker) Release(ctx context.Context, h handle.Volume, token string) error {
	err := b.Set.Release(ctx, h, token)
	if b.over && h.ID == b.victim {
		return status.Error(codes.FailedPrecondition, "the hold is over")
	}
	return err
}

// TestGroupReleased: a group whose holds were over before they were released does not exist, and the next attempt takes all snapshots anew.
func TestGroupReleased(t *testing.T) {
	b := &breaker{after: -1, over: true}
	c := dial(t, func(c *driver.Config) { b.Set = c.Agents.(agenttest.Set); c.Barrier = b })
	ids := []string{c.create("a"), c.create("b")}
	b.victim = own(ids[0])
	r := &csi.CreateVolumeGroupSnapshotRequest{Name: "g", SourceVolumeIds: ids}
	_, err := c.CreateVolumeGroupSnapshot(c.ctx, r)
	c.want(codes.FailedPrecondition, "may not show one moment", err)
	for _, id := range ids {
		if left := c.inspect(id).Snapshots; len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	}
	b.over = false
	taken := b.taken
	g, err := c.CreateVolumeGroupSnapshot(c.ctx, r)
	c.must(err)
	if len(g.GroupSnapshot.Snapshots) != 2 || b.taken != taken+2 {
		t.Errorf("a group of %d after %d snapshots", len(g.GroupSnapshot.Snapshots), b.taken-taken)
	}
}

func (b *breaker) Snapshot(ctx context.Context, h handle.Volume, token, name string, key []byte) (*agentv1.Snapshot, error) {
	if b.taken == b.after {
		b.Set[0].Break(b.victim)
	}
	b.taken++
	return b.Set.Snapshot(ctx, h, token, name, key)
}

// TestGroup: all snapshots of a group are of one moment, or there is no group.
func TestGroup(t *testing.T) {
	b := &breaker{after: 1}
	c := dial(t, func(c *driver.Config) { b.Set = c.Agents.(agenttest.Set); c.Barrier = b })
	ids := []string{c.create("a"), c.create("b"), c.create("c")}
	b.victim = own(ids[2])
	r := &csi.CreateVolumeGroupSnapshotRequest{Name: "g", SourceVolumeIds: ids}
	_, err := c.CreateVolumeGroupSnapshot(c.ctx, r)
	c.want(codes.FailedPrecondition, "moved", err)
	before := c.inspect(ids[0]).Snapshots[0].Id // of the attempt that failed
	b.after = -1
	g, err := c.CreateVolumeGroupSnapshot(c.ctx, r)
	c.must(err)
	if len(g.GroupSnapshot.Snapshots) != 3 || !g.GroupSnapshot.ReadyToUse || c.inspect(ids[0]).Snapshots[0].Id == before {
		t.Errorf("a group of %d, with a snapshot of the attempt before: %t", len(g.GroupSnapshot.Snapshots), c.inspect(ids[0]).Snapshots[0].Id == before)
	}
	taken := b.taken
	again, err := c.CreateVolumeGroupSnapshot(c.ctx, r)
	c.must(err)
	if again.GroupSnapshot.GroupSnapshotId != g.GroupSnapshot.GroupSnapshotId || b.taken != taken {
		t.Error("a repeated request took other snapshots")
	}
	r.SourceVolumeIds = ids[:2]
	_, err = c.CreateVolumeGroupSnapshot(c.ctx, r)
	c.want(codes.AlreadyExists, "other volumes", err)
	var members []string
	for _, s := range g.GroupSnapshot.Snapshots {
		if s.GroupSnapshotId != g.GroupSnapshot.GroupSnapshotId {
			t.Errorf("snapshot says it is of group %q", s.GroupSnapshotId)
		}
		members = append(members, s.SnapshotId)
	}
	_, err = c.DeleteSnapshot(c.ctx, &csi.DeleteSnapshotRequest{SnapshotId: members[0]})
	c.want(codes.FailedPrecondition, "group", err)
	id := g.GroupSnapshot.GroupSnapshotId
	_, err = c.GetVolumeGroupSnapshot(c.ctx, &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: id, SnapshotIds: members})
	c.must(err)
	_, err = c.GetVolumeGroupSnapshot(c.ctx, &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: id, SnapshotIds: members[:2]})
	c.want(codes.InvalidArgument, "too", err)
	for range 2 {
		_, err = c.DeleteVolumeGroupSnapshot(c.ctx, &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: id, SnapshotIds: members})
		c.must(err)
	}
	_, err = c.GetVolumeGroupSnapshot(c.ctx, &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: id})
	c.want(codes.NotFound, "", err)
	if n := len(c.inspect(ids[0]).Snapshots); n != 0 {
		t.Errorf("%d snapshots stay", n)
	}
}
