package agent

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/volume"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// TestRegistryAway: the API goes away, a replica's node dies, the writer's agent is stopped and started without the API and goes on from its ring,
// then the writer goes for good, and the API is back: another node has every flushed write, and the old writer none of its own.
func TestRegistryAway(t *testing.T) {
	k := newKubeTest(t, 3)
	k.ready()
	k.stop("a")
	k.node["a"].cfg.Holder = filepath.Join(k.dir, "a", "h", "s")
	k.startHolder(k.node["a"].cfg.Holder)
	k.start("a")
	k.create("b", "vol", 8*mib)
	m := newModel(t, 51, 8*mib)
	e := k.attach("a", "vol")
	m.write(e, 20)

	k.down.Store(true)
	_, err := k.tryAttach("b", "vol", true)
	wantCode(t, err, codes.Unavailable, "registry does not answer")
	k.stop("c")
	m.write(e, 20)
	unflushed := m.want[4096:8192]
	copy(unflushed, "in the ring alone")
	check(t, e.Write(ring.ID{}, unflushed, 4096))
	k.stop("a")
	n := k.start("a")
	eventually(t, "the volume goes on without the API", func() error {
		if e = n.Volumes().Engine("vol"); e == nil {
			return errNot
		}
		return e.Err()
	})
	m.verify(e)
	m.write(e, 20)
	v, err := n.api.InspectVolume(t.Context(), &agentv1.InspectVolumeRequest{Volume: "vol"})
	check(t, err)
	if v.State != agentv1.VolumeState_VOLUME_STATE_ATTACHED {
		t.Errorf("inspected without the API: %v", v)
	}
	k.stop("a") // and does not come back before another node has the volume

	k.down.Store(false)
	k.start("c")
	number := k.registryEpoch("b", "vol")
	if r := k.fence("b", "vol", "a", number); !r.Fenced {
		t.Fatal(r)
	}
	e = k.attach("b", "vol")
	m.verify(e)
	m.write(e, 20)
	k.start("a")
	eventually(t, "the old writer's device is given up", func() error {
		if old := k.node["a"].Volumes().Engine("vol"); old != nil && !errors.Is(old.Err(), syscall.EIO) && !errors.Is(old.Err(), volume.ErrClosed) {
			return errNot
		}
		past, _ := k.node["a"].events.Since(0)
		for _, ev := range past {
			if ev.Reason == "NotResumed" {
				return nil
			}
		}
		return errNot
	})
	m.write(e, 10)
	m.verify(e)
}

// registryEpoch is the number of the registry's epoch, as a node reads it.
func (k *kubeTest) registryEpoch(on, name string) uint64 {
	k.tb.Helper()
	i, err := k.node[on].Volumes().Inspect(name)
	check(k.tb, err)
	return i.Fact.Epoch.Number
}
