package driver_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mynetwork.io/mynetwork/csi/driver"
	"mynetwork.io/mynetwork/csi/mount"
	"mynetwork.io/mynetwork/csi/request"
)

func writer(block bool) *csi.VolumeCapability {
	c := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}}
	if block {
		c.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
	} else {
		c.AccessType = &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: mount.Ext4}}
	}
	return c
}

// creation is a request for a volume of 64 MiB.
func creation(name string, block bool) *csi.CreateVolumeRequest {
	return &csi.CreateVolumeRequest{Name: name, VolumeCapabilities: []*csi.VolumeCapability{writer(block)},
		CapacityRange: &csi.CapacityRange{RequiredBytes: 64 << 20}, Parameters: map[string]string{request.ParamNetwork: network}}
}

// racer is a Kubernetes that repeats, interrupts and mixes up its calls.
type racer struct {
	*world
	current atomic.Pointer[driver.Driver]
	life    *life // of the current one
	overlap bool  // the process before goes on
	dice    sync.Mutex
	rng     *rand.Rand
	mu      sync.Mutex
	ids     map[string]string // name of a volume: handle; two handles for one name are an error
}

// restart ends the process of the driver and starts another one, which knows nothing.
func (r *racer) restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.life != nil && !r.overlap {
		r.life.end()
	}
	r.life = &life{}
	m := mortalMounter{r.life, r.mounts, r.mounts}
	c := r.cfg
	c.Agents, c.Mounter, c.Filesystems = mortalAgents{r.life, c.Agents}, m, m
	d, err := driver.New(c)
	if err != nil {
		r.t.Error(err)
	}
	r.current.Store(d)
}

func (r *racer) id(name, got string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if have := r.ids[name]; got != "" && have != "" && have != got {
		r.t.Errorf("volume %q has two handles: %s and %s", name, have, got)
	}
	if got != "" {
		r.ids[name] = got
	}
	return r.ids[name]
}

func (r *racer) stage(name string) string { return filepath.Join(r.root, "stage-"+name) }
func (r *racer) target(name string, i int) string {
	return filepath.Join(r.root, "pods", fmt.Sprint(i), name)
}

// call makes one call for one of the volumes, with step from 0 to steps-1.
const steps = 8

func (r *racer) call(ctx context.Context, step int, name string, pod int) error {
	d, block := r.current.Load(), name[0] == 'b'
	if step == 0 {
		v, err := d.Controller.CreateVolume(ctx, creation(name, block))
		r.id(name, v.GetVolume().GetVolumeId())
		return err
	}
	id := r.id(name, "")
	if id == "" {
		return nil
	}
	var err error
	switch step {
	case 1:
		_, err = d.Node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: r.stage(name), VolumeCapability: writer(block)})
	case 2:
		_, err = d.Node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: id, StagingTargetPath: r.stage(name), TargetPath: r.target(name, pod), VolumeCapability: writer(block)})
	case 3:
		_, err = d.Controller.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: 96 << 20}})
	case 4:
		var s *csi.CreateSnapshotResponse
		if s, err = d.Controller.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{SourceVolumeId: id, Name: "snap-" + name}); err == nil {
			_, err = d.Controller.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: s.Snapshot.SnapshotId})
		}
	case 5:
		_, err = d.Node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: r.target(name, pod)})
	case 6:
		_, err = d.Node.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: r.stage(name)})
	case 7:
		_, err = d.Node.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: r.target(name, pod)})
	}
	return err
}

// until repeats a call until it succeeds, as Kubernetes does.
func (r *racer) until(step int, name string, pod int) {
	r.t.Helper()
	var err error
	for range 1000 {
		if err = r.call(context.Background(), step, name, pod); err == nil {
			return
		}
	}
	r.t.Fatalf("step %d of volume %q, pod %d does not converge: %v", step, name, pod, err)
}

const pods = 3

// TestRacingCalls: 2,000 calls at once, some cut off, some whose answers are lost, some over a restart of the driver, do
// nothing that nobody may do, and whatever state they leave, the calls that Kubernetes repeats bring it to what is wanted.
func TestRacingCalls(t *testing.T) {
	r := newRacer(t, uint64(time.Now().UnixNano()))
	r.race()
	r.converge()
	if v := r.mounts.Violations(); len(v) > 0 {
		t.Errorf("violations: %q", v)
	}
}

// TestRacingCallsNoticeTwoProcesses is the control: with two processes of the driver at once, which Listen prevents, the
// guard against two calls for one volume is void, and that is seen.
func TestRacingCallsNoticeTwoProcesses(t *testing.T) {
	for range 100 {
		r := newRacer(t, uint64(time.Now().UnixNano()))
		r.overlap = true
		r.race()
		if len(r.mounts.Violations()) > 0 {
			return
		}
	}
	t.Error("nothing was noticed")
}

var volumeNames = []string{"fa", "fb", "bc", "bd"} // with a file system, and block devices

func newRacer(t *testing.T, seed uint64) *racer {
	t.Logf("seed %d", seed)
	w := newWorld(t, func(c *driver.Config) { c.Retry, c.Wait = time.Millisecond, 20*time.Millisecond })
	r := &racer{world: w, ids: map[string]string{}, rng: rand.New(rand.NewPCG(seed, 1))}
	r.restart()
	lost := func(after bool) error {
		if r.roll(12) == 0 {
			return status.Errorf(codes.Unavailable, "fault, after %t", after)
		}
		return nil
	}
	w.net.Fault = func(_ context.Context, _, _, _ string, after bool) error { return lost(after) }
	w.mounts.Fault = func(_, _ string, after bool) error { return lost(after) }
	for _, n := range volumeNames {
		dirs := []string{r.stage(n)}
		for i := range pods {
			dirs = append(dirs, filepath.Dir(r.target(n, i)))
		}
		for _, d := range dirs {
			if err := os.MkdirAll(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	return r
}

func (r *racer) roll(n int) int {
	r.dice.Lock()
	defer r.dice.Unlock()
	return r.rng.IntN(n)
}

// race makes 2,000 calls, eight at a time.
func (r *racer) race() {
	var calls, failed, cut atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 250 {
				ctx, cancel := context.WithCancel(context.Background())
				switch r.roll(10) {
				case 0:
					cancel() // before it begins
				case 1:
					time.AfterFunc(time.Duration(r.roll(2000))*time.Microsecond, cancel)
					cut.Add(1)
				case 2:
					r.restart()
				}
				calls.Add(1)
				if r.call(ctx, r.roll(steps), volumeNames[r.roll(len(volumeNames))], r.roll(pods)) != nil {
					failed.Add(1)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	r.t.Logf("%d calls, %d of them failed, %d were cut off", calls.Load(), failed.Load(), cut.Load())
	if failed.Load() == 0 || failed.Load() == calls.Load() {
		r.t.Error("no mix of success and failure: the test shows nothing")
	}
}

// converge brings every volume up, down, and away, still with faults, and looks at each state.
func (r *racer) converge() {
	names := volumeNames
	for _, n := range names {
		for step := range 3 {
			for i := range pods {
				r.until(step, n, i)
			}
		}
		r.until(3, n, 0)
	}
	if got := len(r.net.Volumes()); got != len(names) {
		r.t.Errorf("%d volumes for %d names", got, len(names))
	}
	if list, _ := r.mounts.List(); len(list) != 2*(pods+1)+2*pods {
		r.t.Errorf("%d mounts, want %d: %+v", len(list), 2*(pods+1)+2*pods, list)
	}
	for _, n := range names {
		for i := range pods {
			r.until(5, n, i)
		}
		r.until(6, n, 0)
		var err error
		for range 1000 {
			if _, err = r.current.Load().Controller.DeleteSnapshot(context.Background(), &csi.DeleteSnapshotRequest{SnapshotId: r.snapshot(n)}); err == nil {
				break
			}
		}
		for range 1000 {
			if _, err = r.current.Load().Controller.DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: r.id(n, "")}); err == nil {
				break
			}
		}
		if err != nil {
			r.t.Errorf("volume %q is not deleted: %v", n, err)
		}
	}
	if list, _ := r.mounts.List(); len(list) > 0 {
		r.t.Errorf("mounts are left: %+v", list)
	}
	if left := r.net.Volumes(); len(left) > 0 {
		r.t.Errorf("volumes are left: %v", left)
	}
}

// snapshot gives the handle of a volume's snapshot, if one is left.
func (r *racer) snapshot(name string) string {
	for _, v := range r.net.Volumes() {
		if v.Name == name && len(v.Snapshots) > 0 {
			return network + "." + v.Id + "." + v.Snapshots[0].Id
		}
	}
	return "none"
}
