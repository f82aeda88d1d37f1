package agent

import (
	"fmt"
	"testing"
	"time"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/clearing"
	"mynetwork.io/mynetwork/nodeagent/volume"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// thin makes a fifth of each extent of a volume garbage: too little for it to be cleaned in the ordinary way.
func (m *model) thin(e *volume.Engine) {
	m.tb.Helper()
	for i := range m.want {
		m.want[i] = byte(m.rand.Uint32())
	}
	check(m.tb, e.Write(ring.ID{}, m.want, 0))
	for off := 0; off < len(m.want); off += 5 * 4096 {
		m.want[off]++
		check(m.tb, e.Write(ring.ID{}, m.want[off:off+4096], int64(off)))
	}
	check(m.tb, e.Flush())
	check(m.tb, e.Checkpoint())
}

// bytesOn is what a node's stores hold of a volume.
func (c *cluster) bytesOn(node string, v block.VolumeID) (n int64) {
	for _, s := range c.node[node].stores.All() {
		for _, st := range s.Store.Volumes() {
			if st.Volume == v {
				n += st.Log + st.Data
			}
		}
	}
	return n
}

// TestClearing: a node that is short of space gets back, from a real store and in this order, what a volume has left that was deleted while it was away; then
// garbage that ordinary cleaning leaves; then the copies of a volume that has more than it needs. Nothing of any volume is lost by it.
func TestClearing(t *testing.T) {
	c := newClusterWith(t, 4, false, func(cfg *Config) { cfg.ClearingEvery = 100 * time.Millisecond })
	ctx, api := t.Context(), c.node["a"].api
	ids := map[string]block.VolumeID{}
	models := map[string]*model{}
	for name, v := range map[string]struct {
		size     int64
		replicas int32
	}{"gone": {8 * mib, 4}, "thin": {24 * mib, 4}, "extra": {8 * mib, 4}} {
		made, err := api.CreateVolume(ctx, &agentv1.CreateVolumeRequest{Name: name, Size: v.size, Replicas: v.replicas, ExtentSize: 2 * mib})
		check(t, err)
		id, err := block.ParseVolumeID(made.Id)
		check(t, err)
		ids[name], models[name] = id, newModel(t, 71, v.size)
		e := c.attach("a", name)
		if name == "thin" {
			models[name].thin(e)
		} else {
			models[name].write(e, 200)
		}
	}
	c.modify("a", &agentv1.ModifyVolumeRequest{Volume: "extra", MinReplicas: ptr(int32(3)), MaxReplicas: ptr(int32(4))})
	c.detach("a", "gone")
	if freed, err := c.engine("a", "thin").Clean(); err != nil || freed > 4*mib { // the control: ordinary cleaning leaves it
		t.Fatalf("%d bytes, %v", freed, err)
	}
	c.stop("c")
	eventually(t, "c is lost", func() error {
		if c.node["a"].members.States()[2].Alive {
			return errNot
		}
		return nil
	})
	_, err := api.DeleteVolume(ctx, &agentv1.DeleteVolumeRequest{Volume: "gone"})
	check(t, err)
	c.node["c"].cfg.Clearing = clearing.Rules{Begin: 99, End: 100, Patience: 8, Again: 3600}
	c.start("c")
	type moment struct {
		gone, thin int64
		copies     int
	}
	seen := map[clearing.Stage]moment{}
	var order []clearing.Stage
	within(t, 3*time.Minute, "all stages", func() error {
		stage := c.node["c"].stores.All()[0].Clearing()
		if _, was := seen[stage]; !was {
			seen[stage] = moment{c.bytesOn("c", ids["gone"]), c.bytesOn("c", ids["thin"]), c.engine("a", "extra").Replicas()}
			order = append(order, stage)
		}
		if stage != clearing.Exhausted {
			return fmt.Errorf("%v: %+v", order, seen)
		}
		return nil
	})
	t.Logf("%v: %+v", order, seen)
	if order = order[len(order)-4:]; fmt.Sprint(order) != "[Deleted Unreferenced Surplus Exhausted]" {
		t.Errorf("stages %v", order)
	}
	if m := seen[clearing.Unreferenced]; m.gone != 0 || m.copies != 4 || m.thin < 24*mib {
		t.Errorf("garbage was cleared, or copies given up, before deleted volumes were gone: %+v", m)
	}
	if m := seen[clearing.Surplus]; m.copies != 4 || m.thin > seen[clearing.Unreferenced].thin-2*mib {
		t.Errorf("copies were given up before garbage was cleared: %+v", m)
	}
	if m := seen[clearing.Exhausted]; m.copies != 3 {
		t.Errorf("no copy was given up: %+v", m)
	}
	eventually(t, "copies that were given up go", func() error {
		n := 0
		for _, node := range []string{"a", "b", "c", "d"} {
			if c.bytesOn(node, ids["extra"]) > 0 {
				n++
			}
		}
		if up := c.engine("a", "extra").Upkeep(); up.Surplus > 0 || up.Below > 0 || n < 3 {
			return fmt.Errorf("%+v on %d nodes", up, n)
		}
		return nil
	})
	v, err := api.InspectVolume(ctx, &agentv1.InspectVolumeRequest{Volume: "extra"})
	check(t, err)
	if v.ReplicasReason != "LowSpace" {
		t.Errorf("%v", v)
	}
	for _, name := range []string{"thin", "extra"} {
		models[name].verify(c.engine("a", name))
	}
}

// TestClearingUnused: volumes that nobody uses are cleaned, and give up a copy, for a node that is short of space; before it is, none is opened.
func TestClearingUnused(t *testing.T) {
	c := newClusterWith(t, 4, false, func(cfg *Config) { cfg.ClearingEvery, cfg.Quiet = 100*time.Millisecond, time.Second })
	ids, models := map[string]block.VolumeID{}, map[string]*model{}
	for _, name := range []string{"thin", "extra"} {
		made, err := c.node["a"].api.CreateVolume(t.Context(), &agentv1.CreateVolumeRequest{Name: name, Size: 12 * mib, Replicas: 4, ExtentSize: 2 * mib})
		check(t, err)
		ids[name], err = block.ParseVolumeID(made.Id)
		check(t, err)
		models[name] = newModel(t, 72, 12*mib)
		models[name].thin(c.attach("a", name))
		if name == "extra" {
			c.modify("a", &agentv1.ModifyVolumeRequest{Volume: name, MinReplicas: ptr(int32(3)), MaxReplicas: ptr(int32(4))})
		}
		c.detach("a", name)
	}
	before := c.bytesOn("c", ids["thin"])
	record := func(name string) *agentv1.Volume {
		v, err := c.node["a"].api.InspectVolume(t.Context(), &agentv1.InspectVolumeRequest{Volume: name})
		check(t, err)
		return v
	}
	epoch := record("thin").Epoch
	c.stop("d") // for good: others look at all volumes again, as they do every ten minutes
	c.stop("c")
	c.node["c"].cfg.Clearing = clearing.Rules{Begin: 99, End: 100, Patience: 30, Again: 1}
	if record("thin").Epoch != epoch || record("extra").Replicas != 4 {
		t.Error("a volume was opened, or gave a copy up, while nobody was short of space")
	}
	c.start("c")
	within(t, 3*time.Minute, "the volumes are smaller", func() error {
		if now, v := c.bytesOn("c", ids["thin"]), record("extra"); now > before-mib || v.Replicas != 3 || v.ReplicasReason != "LowSpace" {
			return fmt.Errorf("%d bytes after %d; %d copies", now, before, v.Replicas)
		}
		return nil
	})
	for name, m := range models {
		m.verify(c.attach("b", name))
	}
}
