package agent

import (
	"errors"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

func (c *cluster) fence(on, name, node string, epoch uint64) *agentv1.FenceVolumeResponse {
	c.tb.Helper()
	r, err := c.node[on].api.FenceVolume(c.tb.Context(), &agentv1.FenceVolumeRequest{Volume: name, Node: node, EpochNumber: epoch})
	check(c.tb, err)
	return r
}

// TestFence: a volume is taken from its node without being opened: that node's device answers EIO, and the next one need not wait or force.
// A fence for another node or another epoch does nothing.
func TestFence(t *testing.T) {
	c := newCluster(t, 3, false)
	c.create("a", "vol", 8*mib)
	m := newModel(t, 31, 8*mib)
	old := c.attach("a", "vol")
	m.write(old, 60) // beyond one extent, so that the chain is followed
	number := old.Status().Epoch.Number
	for _, r := range []*agentv1.FenceVolumeResponse{c.fence("b", "vol", "c", number), c.fence("b", "vol", "a", number+1)} {
		if r.Fenced || r.EpochNumber != number {
			t.Fatalf("fenced by a wrong request: %v", r)
		}
	}
	_, err := c.node["b"].api.FenceVolume(t.Context(), &agentv1.FenceVolumeRequest{Volume: "vol", Node: "a"})
	wantCode(t, err, codes.InvalidArgument, "epoch")
	m.write(old, 10)
	m.verify(old)
	first := c.fence("b", "vol", "a", number)
	if !first.Fenced || first.EpochNumber <= number {
		t.Fatal(first)
	}
	page := make([]byte, 4096)
	page[0] = 99
	_ = old.Write(ring.ID{}, page, 0) // taken into the ring, or refused
	if err := old.Flush(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("the fenced writer's flush: %v", err)
	}
	if again := c.fence("c", "vol", "a", number); !again.Fenced || again.EpochNumber != first.EpochNumber {
		t.Fatalf("repeated: %v after %v", again, first)
	}
	v, err := c.node["c"].api.InspectVolume(t.Context(), &agentv1.InspectVolumeRequest{Volume: "vol"})
	check(t, err)
	if v.HolderNode != "" {
		t.Errorf("the registry says that %s has it", v.HolderNode)
	}
	e := c.attach("c", "vol") // neither forced nor held
	m.verify(e)
	m.write(e, 10)
	if again := c.fence("b", "vol", "a", number); !again.Fenced {
		t.Fatal("with a new writer the old one is not fenced")
	}
	m.write(e, 10) // which did not disturb the new one
	m.verify(e)
}

// TestFenceOneAway: a replica that is away does not keep a writer from being fenced.
func TestFenceOneAway(t *testing.T) {
	c := newCluster(t, 3, false)
	c.create("a", "vol", 4*mib)
	m := newModel(t, 32, 4*mib)
	old := c.attach("a", "vol")
	m.write(old, 20)
	number := old.Status().Epoch.Number
	c.stop("c")
	if r := c.fence("b", "vol", "a", number); !r.Fenced {
		t.Fatal(r)
	}
	if err := errors.Join(old.Write(ring.ID{}, make([]byte, 4096), 0), old.Flush()); !errors.Is(err, syscall.EIO) {
		t.Fatalf("the fenced writer: %v", err)
	}
	c.detach("a", "vol")
	e := c.attach("b", "vol")
	m.verify(e)
	c.start("c")
}
