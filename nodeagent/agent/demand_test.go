package agent

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/core/adaptive"
)

// quick are rules by which a test sees in seconds what takes hours.
func quick(c *Config) {
	c.Adaptive = adaptive.Rules{Rise: 20, Fall: 2, RiseAfter: 1, FallAfter: 2, Rest: 1, Gap: 5}
	c.AdaptiveEvery = 200 * time.Millisecond
}

// load reads volumes all the time, until the end of the test or a call of stop.
func (c *cluster) load(on string, names ...string) (stop func()) {
	c.tb.Helper()
	end := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	for _, name := range names {
		b, err := c.node[on].Volumes().Backend(name)
		check(c.tb, err)
		wg.Go(func() {
			page := make([]byte, 4096)
			for off := int64(0); ; off = (off + 4096) % mib {
				select {
				case <-end:
					return
				case <-time.After(2 * time.Millisecond):
				}
				if err := b.Read(page, off); err != nil {
					c.tb.Error(err)
					return
				}
			}
		})
	}
	stop = func() { once.Do(func() { close(end) }); wg.Wait() }
	c.tb.Cleanup(stop)
	return stop
}

// TestAdaptive: a volume that is read much gets a copy more of all that is in it, on another node, and loses it when it is not read; that is in the
// registry, an event and the volume's own words. One without bounds, which is read as much, keeps what it has.
func TestAdaptive(t *testing.T) {
	c := newClusterWith(t, 4, false, quick)
	ctx, api := t.Context(), c.node["a"].api
	for _, name := range []string{"hot", "fixed"} {
		c.create("a", name, 4*mib)
		m := newModel(t, 61, 4*mib)
		m.write(c.attach("a", name), 50)
	}
	for text, req := range map[string]*agentv1.ModifyVolumeRequest{
		"say both":         {MinReplicas: ptr(int32(3))},
		"first no more":    {MinReplicas: ptr(int32(4)), MaxReplicas: ptr(int32(3))},
		"are possible":     {MinReplicas: ptr(int32(3)), MaxReplicas: ptr(int32(99))},
		"fewer than 3":     {MinReplicas: ptr(int32(2)), MaxReplicas: ptr(int32(4))},
		"5 copies on 4":    {MinReplicas: ptr(int32(5)), MaxReplicas: ptr(int32(6))},
		"outside of the b": {MinReplicas: ptr(int32(4)), MaxReplicas: ptr(int32(4)), Replicas: ptr(int32(3))},
	} {
		req.Volume = "hot"
		_, err := api.ModifyVolume(ctx, req)
		wantCode(t, err, codes.InvalidArgument, text)
	}
	c.modify("a", &agentv1.ModifyVolumeRequest{Volume: "hot", MinReplicas: ptr(int32(3)), MaxReplicas: ptr(int32(5))})
	stop := c.load("a", "hot", "fixed")
	see := func(name string) *agentv1.Volume {
		v, err := api.InspectVolume(ctx, &agentv1.InspectVolumeRequest{Volume: name})
		check(t, err)
		return v
	}
	eventually(t, "four copies", func() error {
		v := see("hot")
		if v.Replicas != 4 || v.ReplicasReason != "ReadHot" || v.Copies != 4 || v.ReplicasVerdict != adaptive.NoRoom.Words() {
			return fmt.Errorf("%d of %d copies: %s, %s", v.Copies, v.Replicas, v.ReplicasReason, v.ReplicasVerdict)
		}
		return nil
	})
	for name, n := range c.node { // the fourth has a part of it, too
		held := 0
		for _, s := range n.stores.All() {
			held += len(s.Extents(c.engine("a", "hot").Status().Extent.Volume))
		}
		if held == 0 {
			t.Errorf("node %s has nothing of it", name)
		}
	}
	stop()
	eventually(t, "three copies", func() error {
		if v := see("hot"); v.Replicas != 3 || v.ReplicasReason != "Unused" || v.MinReplicas != 3 || v.MaxReplicas != 5 {
			return fmt.Errorf("%d copies: %s", v.Replicas, v.ReplicasReason)
		}
		return nil
	})
	if v := see("fixed"); v.Replicas != 3 || v.ReplicasReason != "" || v.ReplicasVerdict != "" || v.MinReplicas != 0 {
		t.Errorf("without bounds: %v", v)
	}
	eventually(t, "two events", func() error { // each comes after the registry has it
		told := 0
		list, _ := c.node["a"].events.Since(0)
		for _, e := range list {
			if e.Reason == "CopiesAdapted" && e.Volume == "hot" {
				told++
			}
		}
		if told != 2 {
			return fmt.Errorf("%d events", told)
		}
		return nil
	})
	c.modify("a", &agentv1.ModifyVolumeRequest{Volume: "hot", MinReplicas: ptr(int32(0)), MaxReplicas: ptr(int32(0))})
	if v := see("hot"); v.MinReplicas != 0 || v.ReplicasReason != "" || v.Replicas != 3 {
		t.Errorf("without bounds again: %v", v)
	}
}

// TestAdaptiveRules: rules without hysteresis are refused.
func TestAdaptiveRules(t *testing.T) {
	c := newCluster(t, 1, false)
	cfg := c.node["a"].cfg
	cfg.Adaptive = adaptive.Rules{Rise: 10, Fall: 10, RiseAfter: 1, FallAfter: 1, Gap: 1}
	if _, err := New(cfg); !errors.Is(err, ErrConfig) || !errors.Is(err, adaptive.ErrRules) {
		t.Error(err)
	}
}
