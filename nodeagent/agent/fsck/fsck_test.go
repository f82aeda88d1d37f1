package fsck

import (
	"testing"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// TestStill: what one walk alone has found is not told; what stays is, once for each place.
func TestStill(t *testing.T) {
	f := func(kind, store, extent string, offset int64) *agentv1.Finding {
		g := finding(kind, block.VolumeID{1}, "page %d", offset)
		g.Store, g.Extent, g.Offset = store, extent, offset
		return g
	}
	stays := []*agentv1.Finding{f(kindLeaf, "s1", "x1", 4096), f(kindReplicas, "", "x2", 0)}
	first := append([]*agentv1.Finding{f(kindReference, "", "", 7)}, stays...)
	second := append([]*agentv1.Finding{f(kindReference, "", "", 8), f(kindLeaf, "s2", "x1", 4096), f(kindLeaf, "s1", "x1", 8192)}, stays...)
	got := still(first, second)
	if len(got) != 2 || got[0] != stays[0] || got[1] != stays[1] {
		t.Errorf("%v", got)
	}
	if got := still(first, nil); got != nil {
		t.Errorf("%v of a walk that found nothing", got)
	}
}
