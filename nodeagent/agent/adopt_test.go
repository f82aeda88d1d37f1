package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/codes"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
)

// orphans lists the ids of orphans.
func (c *cluster) orphans(on string) map[string]*agentv1.Orphan {
	c.tb.Helper()
	r, err := c.node[on].api.ListOrphans(c.tb.Context(), &agentv1.ListOrphansRequest{})
	check(c.tb, err)
	out := map[string]*agentv1.Orphan{}
	for _, o := range r.Orphans {
		out[o.Volume] = o
	}
	return out
}

// TestAdopt: volumes whose entries are gone are listed, kept, and are volumes again under the names that they are given; one that was deleted is
// not among them.
func TestAdopt(t *testing.T) {
	c := newCluster(t, 3, false)
	ctx, api := t.Context(), c.node["a"].api
	vol, twin, _ := c.family(t)
	ids := map[string]string{}
	list, err := api.ListVolumes(ctx, &agentv1.ListVolumesRequest{})
	check(t, err)
	for _, v := range list.Volumes {
		ids[v.Name] = v.Id
	}
	gone := c.create("a", "gone", 4*mib)
	newModel(t, 24, 4*mib).write(c.attach("a", "gone"), 10)
	c.detach("a", "gone")
	_, err = api.DeleteVolume(ctx, &agentv1.DeleteVolumeRequest{Volume: "gone"})
	check(t, err)
	if o := c.orphans("b"); len(o) != 0 {
		t.Fatalf("orphans though nothing is lost: %v", o)
	}
	for _, id := range []string{ids["vol"], ids["twin"], gone.Id} {
		check(t, os.Remove(filepath.Join(c.dir, "registry", id+".json")))
	}
	o := c.orphans("b")
	if len(o) != 2 || o[ids["vol"]] == nil || o[ids["twin"]] == nil || o[ids["twin"]].Parent != ids["vol"] || o[ids["vol"]].Size != 8*mib || len(o[ids["vol"]].Snapshots) != 2 || o[ids["vol"]].Problem != "" {
		t.Fatalf("%v", o)
	}
	_, err = api.AdoptVolume(ctx, &agentv1.AdoptVolumeRequest{Volume: "twin", Name: "x"})
	wantCode(t, err, codes.InvalidArgument, "32 hexadecimal digits")
	_, err = api.AdoptVolume(ctx, &agentv1.AdoptVolumeRequest{Volume: gone.Id, Name: "x"})
	wantCode(t, err, codes.NotFound, "deleted")
	_, err = api.AdoptVolume(ctx, &agentv1.AdoptVolumeRequest{Volume: ids["twin"], Name: "secret"})
	wantCode(t, err, codes.AlreadyExists, "secret")
	for range 2 {
		v, err := c.node["c"].api.AdoptVolume(ctx, &agentv1.AdoptVolumeRequest{Volume: ids["twin"], Name: "twin2", ClaimNamespace: "shop", ClaimName: "db"})
		check(t, err)
		if v.Name != "twin2" || v.Parent != ids["vol"] || v.ClaimName != "db" {
			t.Fatalf("%v", v)
		}
	}
	_, err = api.AdoptVolume(ctx, &agentv1.AdoptVolumeRequest{Volume: ids["twin"], Name: "other"})
	wantCode(t, err, codes.AlreadyExists, "twin2")
	if o := c.orphans("a"); len(o) != 0 {
		t.Fatalf("left: %v", o)
	}
	for name, m := range map[string]*model{"twin2": twin, "recovered-" + ids["vol"][:8]: vol} {
		_, err := c.tryAttach("b", name, true)
		check(t, err)
		m.verify(c.engine("b", name))
	}
	c.clean(t)
}

// TestCopies: the registry learns how much a volume takes and when its copies change, and is left alone otherwise.
func TestCopies(t *testing.T) {
	c := newCluster(t, 3, false)
	c.create("a", "vol", 8*mib)
	m := newModel(t, 25, 8*mib)
	e := c.attach("a", "vol")
	m.write(e, 50)
	want := func(copies int32) func() error {
		return func() error {
			v, err := c.node["b"].api.InspectVolume(t.Context(), &agentv1.InspectVolumeRequest{Volume: "vol"})
			if err == nil && (v.Copies != copies || v.Used == 0) {
				err = fmt.Errorf("%d copies, %d bytes", v.Copies, v.Used)
			}
			return err
		}
	}
	check(t, want(3)())
	c.stop("c")
	m.write(e, 10)
	eventually(t, "two copies are noted", want(2))
	c.start("c")
	eventually(t, "three copies are noted", want(3))
	before, err := c.node["a"].Volumes().Inspect("vol")
	check(t, err)
	m.write(e, 100)
	c.detach("a", "vol")
	after, err := c.node["a"].Volumes().Inspect("vol")
	check(t, err)
	if after.Used <= before.Used || after.Copies != 3 {
		t.Errorf("%d bytes, then %d after a megabyte; %d copies", before.Used, after.Used, after.Copies)
	}
}
