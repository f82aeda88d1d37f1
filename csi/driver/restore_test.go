package driver_test

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"mynetwork.io/mynetwork/csi/request"
)

// claimed makes a volume for a claim that asks for so many bytes.
func (c *client) claimed(name string, asks int64, from *csi.VolumeContentSource) *csi.Volume {
	c.t.Helper()
	r := creation(name, false)
	r.CapacityRange.RequiredBytes, r.VolumeContentSource = asks, from
	r.Parameters[request.KubernetesPrefix+"pvc/namespace"], r.Parameters[request.KubernetesPrefix+"pvc/name"] = "shop", name
	v, err := c.CreateVolume(c.ctx, r)
	c.must(err)
	return v.Volume
}

// told is the size that a new snapshot is told to have, which all calls must agree on.
func (c *client) told(id, name string) (snapshot string, size int64) {
	c.t.Helper()
	s, err := c.CreateSnapshot(c.ctx, &csi.CreateSnapshotRequest{SourceVolumeId: id, Name: name})
	c.must(err)
	snapshot = s.Snapshot.SnapshotId
	c.agrees(snapshot, s.Snapshot.SizeBytes)
	return snapshot, s.Snapshot.SizeBytes
}

func (c *client) agrees(snapshot string, size int64) {
	c.t.Helper()
	one, err := c.GetSnapshot(c.ctx, &csi.GetSnapshotRequest{SnapshotId: snapshot})
	c.must(err)
	list, err := c.ListSnapshots(c.ctx, &csi.ListSnapshotsRequest{SnapshotId: snapshot})
	c.must(err)
	if one.Snapshot.SizeBytes != size || len(list.Entries) != 1 || list.Entries[0].Snapshot.SizeBytes != size {
		c.t.Errorf("snapshot %s: got with %d bytes, listed as %v, want %d", snapshot, one.Snapshot.SizeBytes, list.Entries, size)
	}
}

// TestRestoredByTheSameClaim: what Kubernetes is told of a snapshot's size lets a claim like that of its volume be restored from it, however sizes
// were rounded up, and still has one refused that asks for less. The provisioner compares the claim with that size before it asks for the volume.
func TestRestoredByTheSameClaim(t *testing.T) {
	c := dial(t, nil)
	for name, x := range map[string]struct{ asks, has int64 }{
		"less-than-the-least": {1 << 20, 16 << 20},
		"in-decimal-units":    {10_000_000_000, 9537 << 20},
		"exactly":             {64 << 20, 64 << 20},
	} {
		v := c.claimed(name, x.asks, nil)
		snap, told := c.told(v.VolumeId, name)
		if v.CapacityBytes != x.has || told != x.asks {
			t.Errorf("%s: a claim of %d bytes has %d, its snapshot is told to have %d", name, x.asks, v.CapacityBytes, told)
		}
		restored := c.claimed(name+"-restored", x.asks, fromSnapshot(snap))
		if restored.CapacityBytes != x.has {
			t.Errorf("%s: restored to %d bytes, the snapshot has %d", name, restored.CapacityBytes, x.has)
		}
		if _, told = c.told(restored.VolumeId, name+"-again"); told != x.asks {
			t.Errorf("%s: the restored volume's snapshot is told to have %d bytes", name, told)
		}
	}
	// A group's snapshots are told alike.
	ids := []string{c.claimed("a", 1<<20, nil).VolumeId, c.claimed("b", 2<<20, nil).VolumeId}
	g, err := c.CreateVolumeGroupSnapshot(c.ctx, &csi.CreateVolumeGroupSnapshotRequest{Name: "g", SourceVolumeIds: ids})
	c.must(err)
	for i, s := range g.GroupSnapshot.Snapshots {
		if s.SizeBytes != int64(i+1)<<20 {
			t.Errorf("snapshot %d of the group is told to have %d bytes", i, s.SizeBytes)
		}
		c.agrees(s.SnapshotId, s.SizeBytes)
	}
}

// TestRestoredAfterGrowth: a claim that has grown is restored by one like it as it is now. Of a snapshot from before, nothing is told that might be
// of another claim; and where nobody says which claim it is for, the size is what it is.
func TestRestoredAfterGrowth(t *testing.T) {
	c := dial(t, nil)
	v := c.claimed("v", 1_000_000_000, nil)
	before, told := c.told(v.VolumeId, "before")
	if told != 1_000_000_000 {
		t.Errorf("told %d bytes", told)
	}
	_, err := c.ControllerExpandVolume(c.ctx, &csi.ControllerExpandVolumeRequest{VolumeId: v.VolumeId, CapacityRange: &csi.CapacityRange{RequiredBytes: 2_000_000_000}})
	c.must(err)
	if _, told = c.told(v.VolumeId, "after"); told != 2_000_000_000 {
		t.Errorf("a claim that has grown to 2,000,000,000 bytes: its snapshot is told to have %d", told)
	}
	c.agrees(before, v.CapacityBytes)
	r := creation("nobody's", false)
	r.CapacityRange.RequiredBytes = 1_000_000_000
	w, err := c.CreateVolume(c.ctx, r)
	c.must(err)
	if _, told = c.told(w.Volume.VolumeId, "nobody's"); told != w.Volume.CapacityBytes {
		t.Errorf("a volume of %d bytes for no claim: its snapshot is told to have %d", w.Volume.CapacityBytes, told)
	}
}
