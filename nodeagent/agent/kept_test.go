package agent

import (
	"testing"

	"google.golang.org/grpc/codes"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
)

// TestKeptSnapshot: a snapshot with clones can be deleted all the same, if that is asked for: it stays for them alone, whoever looks, over other
// changes and another holder, and goes when it is deleted again after them.
func TestKeptSnapshot(t *testing.T) {
	c := newCluster(t, 3, false)
	api, ctx := c.node["a"].api, t.Context()
	c.create("a", "vol", 4*mib)
	m := newModel(t, 7, 4*mib)
	e := c.attach("a", "vol")
	m.write(e, 30)
	_, err := api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "vol", Name: "s"})
	check(t, err)
	atSnap := m.clone()
	m.write(e, 30)
	_, err = api.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: "vol", Snapshot: "s", Name: "twin"})
	check(t, err)
	drop := func(on string, keep bool) error {
		_, err := c.node[on].api.DeleteSnapshot(ctx, &agentv1.DeleteSnapshotRequest{Volume: "vol", Snapshot: "s", Keep: keep})
		return err
	}
	wantCode(t, drop("a", false), codes.FailedPrecondition, "twin")
	want := func(kept bool) {
		t.Helper()
		for _, on := range []string{"a", "b"} {
			v, err := c.node[on].api.InspectVolume(ctx, &agentv1.InspectVolumeRequest{Volume: "vol"})
			check(t, err)
			if len(v.Snapshots) == 0 || v.Snapshots[0].Name != "s" || v.Snapshots[0].Kept != kept {
				t.Fatalf("on %s: %v, want s first, kept: %t", on, v.Snapshots, kept)
			}
		}
	}
	want(false)
	for range 2 {
		check(t, drop("a", true))
	}
	want(true)
	_, err = api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "vol", Name: "s"})
	wantCode(t, err, codes.AlreadyExists, "another name")
	_, err = api.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: "vol", Snapshot: "s", Name: "twin2"})
	wantCode(t, err, codes.NotFound, "being deleted")
	_, err = api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "vol", Name: "s2"})
	check(t, err)
	m.write(e, 30)
	c.detach("a", "vol")
	want(true)
	_, err = c.node["b"].api.RollbackVolume(ctx, &agentv1.RollbackVolumeRequest{Volume: "vol", Snapshot: "s"})
	wantCode(t, err, codes.NotFound, "clones alone")
	m.verify(c.attach("b", "vol"))
	want(true)
	atSnap.verify(c.attach("c", "twin"))
	c.detach("c", "twin")
	check(t, drop("b", true))
	want(true)
	_, err = c.node["c"].api.DeleteVolume(ctx, &agentv1.DeleteVolumeRequest{Volume: "twin"})
	check(t, err)
	check(t, drop("b", true))
	v, err := c.node["a"].api.InspectVolume(ctx, &agentv1.InspectVolumeRequest{Volume: "vol"})
	check(t, err)
	if len(v.Snapshots) != 1 || v.Snapshots[0].Name != "s2" {
		t.Fatalf("left: %v", v.Snapshots)
	}
	m.verify(c.engine("b", "vol"))
}
