package agent

import (
	"fmt"
	"testing"
	"time"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/core/adaptive"
	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// TestFade: a volume that nobody has used for long loses the copies beyond the least, on disks too, and not before. The control, whose bounds do not differ,
// keeps its own.
func TestFade(t *testing.T) {
	rules := adaptive.Default()
	rules.FallAfter = 3
	c := newClusterWith(t, 4, false, func(cfg *Config) { cfg.Quiet, cfg.Survey, cfg.Adaptive = time.Second, 5*time.Second, rules })
	ids, models := map[string]block.VolumeID{}, map[string]*model{}
	var unused time.Time // since when nobody has it
	for name, least := range map[string]int32{"fixed": 4, "unused": 3} {
		made, err := c.node["a"].api.CreateVolume(t.Context(), &agentv1.CreateVolumeRequest{Name: name, Size: 8 * mib, Replicas: 4, ExtentSize: 2 * mib})
		check(t, err)
		ids[name], err = block.ParseVolumeID(made.Id)
		check(t, err)
		models[name] = newModel(t, 73, 8*mib)
		models[name].write(c.attach("a", name), 200)
		c.modify("a", &agentv1.ModifyVolumeRequest{Volume: name, MinReplicas: ptr(least), MaxReplicas: ptr(int32(4))})
		if name == "unused" {
			unused = time.Now()
		}
		c.detach("a", name)
	}
	within(t, 3*time.Minute, "the copy is gone", func() error {
		v, err := c.node["a"].api.InspectVolume(t.Context(), &agentv1.InspectVolumeRequest{Volume: "unused"})
		check(t, err)
		if v.Replicas != 4 && time.Since(unused) < time.Duration(rules.FallAfter)*time.Second {
			t.Errorf("after %s", time.Since(unused))
		}
		if n := c.mostCopies(ids["unused"]); v.Replicas != 3 || n != 3 || v.ReplicasReason != "Unused" {
			return fmt.Errorf("%d copies are wanted, because of %q, and there are %d: %w", v.Replicas, v.ReplicasReason, n, errNot)
		}
		return nil
	})
	v, err := c.node["a"].api.InspectVolume(t.Context(), &agentv1.InspectVolumeRequest{Volume: "fixed"})
	check(t, err)
	if n := c.mostCopies(ids["fixed"]); v.Replicas != 4 || n != 4 {
		t.Errorf("of what nobody uses, and may not have fewer, %d are wanted and %d there", v.Replicas, n)
	}
	for name, m := range models {
		m.verify(c.attach("b", name))
	}
}

// mostCopies is the most copies that any extent of a volume has.
func (c *cluster) mostCopies(v block.VolumeID) (most int) {
	holders := map[block.ExtentID]int{}
	for _, n := range c.node {
		for _, s := range n.stores.All() {
			for _, x := range s.Store.Extents(v) {
				holders[x]++
				most = max(most, holders[x])
			}
		}
	}
	return most
}
