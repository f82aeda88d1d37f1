package driver_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/agents"
	"mynetwork.io/mynetwork/csi/agenttest"
	"mynetwork.io/mynetwork/csi/driver"
	"mynetwork.io/mynetwork/csi/mount"
	"mynetwork.io/mynetwork/csi/request"
)

func TestMain(m *testing.M) {
	agenttest.Private()
	os.Exit(m.Run())
}

// realWorld is a driver on a node of a network whose devices are loop devices on files of dir.
func realWorld(t *testing.T, dir, node string) *world {
	t.Helper()
	w := &world{t: t, net: agenttest.New(network, agenttest.Loops{Dir: dir}, "n1", "n2", "n3"), root: t.TempDir(), logs: &strings.Builder{}}
	t.Cleanup(func() {
		w.net.Close()
		if out, err := exec.Command("losetup", "--list", "--noheadings", "--output", "BACK-FILE").Output(); err != nil || bytes.Contains(out, []byte(dir)) {
			t.Errorf("loop devices are left: %s, %v", out, err)
		}
	})
	m, err := mount.New(w.root, nil)
	if err != nil {
		t.Fatal(err)
	}
	set := agenttest.Set{w.net}
	w.cfg = driver.Config{Agents: set, Controller: true, Node: node, Mounter: m, Filesystems: m, Barrier: set, Modifier: set,
		Topology: true, Log: slog.New(slog.NewTextHandler(w.logs, nil))}
	if w.driver, err = driver.New(w.cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestRealVolume: the life of a volume on a real device: written, expanded while it is mounted, copied to a larger volume,
// moved to another node, and deleted.
func TestRealVolume(t *testing.T) {
	if os.Getenv(agenttest.RealEnv) == "" {
		t.Skipf("set %s=1, as root, for tests on real devices", agenttest.RealEnv)
	}
	for fs, size := range map[string]int64{mount.Ext4: 64 << 20, mount.XFS: 320 << 20} {
		t.Run(fs, func(t *testing.T) {
			w := realWorld(t, t.TempDir(), "n1")
			other := w.cfg
			other.Node = "n2"
			realVolume(t, w, other, fs, size)
		})
	}
}

// devnetEnv is the directory of a network that "mynetwork dev up" has started, for tests against real agents.
const devnetEnv = "CSI_DEVNET"

// devnetWorld is a driver on a node of such a network.
func devnetWorld(t *testing.T, node string) *world {
	t.Helper()
	dev, dir := os.Getenv(devnetEnv), t.TempDir()
	socket := func(node string) string { return filepath.Join(dev, node, "run", "agent.sock") }
	place := filepath.Join(dir, network, agents.SocketName)
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(socket(node), place); err != nil {
		t.Fatal(err)
	}
	a := agents.New(dir, node, func(_ context.Context, _, node string) (agentv1.AgentClient, error) {
		conn, err := grpc.NewClient("unix://"+socket(node), grpc.WithTransportCredentials(insecure.NewCredentials()))
		t.Cleanup(func() { _ = conn.Close() })
		return agentv1.NewAgentClient(conn), err
	})
	t.Cleanup(func() { _ = a.Close() })
	w := &world{t: t, root: t.TempDir(), logs: &strings.Builder{}}
	m, err := mount.New(w.root, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.cfg = driver.Config{Agents: a, Controller: true, Node: node, Mounter: m, Filesystems: m, Log: slog.New(slog.NewTextHandler(w.logs, nil))}
	if w.driver, err = driver.New(w.cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestRealAgents is TestRealVolume with real agents.
func TestRealAgents(t *testing.T) {
	if os.Getenv(agenttest.RealEnv) == "" || os.Getenv(devnetEnv) == "" {
		t.Skipf("set %s=1, as root, and %s to the directory of a network made by \"mynetwork dev up\"", agenttest.RealEnv, devnetEnv)
	}
	for fs, size := range map[string]int64{mount.Ext4: 64 << 20, mount.XFS: 320 << 20} {
		t.Run(fs, func(t *testing.T) {
			w := devnetWorld(t, "n1")
			realVolume(t, w, devnetWorld(t, "n2").cfg, fs, size)
			t.Log(w.logs)
		})
	}
}

func realVolume(t *testing.T, w *world, other driver.Config, fs string, size int64) {
	ctx, d := context.Background(), w.driver
	other.Mounter, other.Filesystems = w.cfg.Mounter, w.cfg.Filesystems // one machine
	other.Wait, other.Retry = 3*time.Second, 10*time.Millisecond
	d2, err := driver.New(other)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	use := &csi.VolumeCapability{AccessMode: writer(false).AccessMode, AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fs, MountFlags: []string{"noatime"}}}}
	create := func(name string, size int64, from *csi.VolumeContentSource) string {
		t.Helper()
		r, err := d.Controller.CreateVolume(ctx, &csi.CreateVolumeRequest{Name: name, VolumeCapabilities: []*csi.VolumeCapability{use}, VolumeContentSource: from,
			CapacityRange: &csi.CapacityRange{RequiredBytes: size}, Parameters: map[string]string{request.ParamNetwork: network}})
		must(err)
		return r.Volume.VolumeId
	}
	path := func(name string) string { return filepath.Join(w.root, name) }
	up := func(d *driver.Driver, id, name string) {
		t.Helper()
		must(os.MkdirAll(path(name), 0o755))
		for range 2 {
			_, err := d.Node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: path(name), VolumeCapability: use})
			must(err)
			_, err = d.Node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: id, StagingTargetPath: path(name), TargetPath: path(name + "-pod"), VolumeCapability: use})
			must(err)
		}
	}
	down := func(d *driver.Driver, id, name string) {
		t.Helper()
		for range 2 {
			_, err := d.Node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: path(name + "-pod")})
			must(err)
			_, err = d.Node.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: path(name)})
			must(err)
		}
	}
	total := func(id, name string) int64 {
		t.Helper()
		s, err := d.Node.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: path(name + "-pod")})
		must(err)
		return s.Usage[0].Total
	}
	holds := func(name string) {
		t.Helper()
		if b, err := os.ReadFile(path(name + "-pod/f")); string(b) != "content" {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
	}

	id := create("a", size, nil)
	up(d, id, "a")
	before := total(id, "a")
	must(os.WriteFile(path("a-pod/f"), []byte("content"), 0o600))
	_, err = d.Controller.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: 2 * size}})
	must(err)
	_, err = d.Node.NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{VolumeId: id, VolumePath: path("a-pod"), StagingTargetPath: path("a")})
	if errors.Is(err, mount.ErrDenied) {
		t.Log("this machine lets nobody grow a mounted ext4; it grows when it is staged again")
		down(d, id, "a")
		up(d, id, "a")
	} else {
		must(err)
	}
	if got := total(id, "a"); got < before*3/2 {
		t.Errorf("%d bytes before, %d after the volume was doubled", before, got)
	}
	unix.Sync()
	copied := create("b", 4*size, fromVolume(id))
	up(d, copied, "b")
	holds("b")
	if got := total(copied, "b"); got < before*3 {
		t.Errorf("the larger copy has %d bytes, the first had %d", got, before)
	}
	must(os.WriteFile(path("b-pod/f"), []byte("other"), 0o600))
	holds("a")
	down(d, copied, "b")
	must(os.MkdirAll(path("c"), 0o755))
	_, err = d2.Node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: path("c"), VolumeCapability: use})
	if request.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "by node n1") {
		t.Errorf("staged on n2 while n1 holds it: %v", err)
	}
	holds("a")
	down(d, id, "a")
	up(d2, id, "c")
	holds("c")
	down(d2, id, "c")
	for _, v := range []string{copied, id} {
		_, err := d.Controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v})
		must(err)
	}
}
