package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

const uid = "0f0e0d0c-1111-2222-3333-444455556666"

// rig is a host below a temporary directory.
type rig struct {
	*Host
	t        *testing.T
	dir      string
	networks []v1alpha1.MyNetwork
	failure  error
	mu       sync.Mutex
	served   []string
	told     []Problem
	changed  chan struct{}
	used     bool  // the mounter has devices
	usedErr  error // or nobody knows
	ended    int   // mounters
}

func (r *rig) Networks(context.Context) ([]v1alpha1.MyNetwork, error) { return r.networks, r.failure }
func (r *rig) Changed() <-chan struct{}                               { return r.changed }
func (r *rig) Chosen(_ context.Context, n *v1alpha1.MyNetwork, _ string) (bool, error) {
	return n.Name != "elsewhere", nil
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), changed: make(chan struct{}, 1)}
	for _, d := range []string{"run", "root", "root/kubelet", "dev"} {
		if err := os.Mkdir(filepath.Join(r.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"dev/fuse", "dev/loop-control"} {
		if err := os.WriteFile(filepath.Join(r.dir, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.networks = []v1alpha1.MyNetwork{network("main", uid)}
	r.fresh()
	return r
}

// fresh is a process that was started anew.
func (r *rig) fresh() {
	r.Host = New(Config{
		Paths: Paths{Run: filepath.Join(r.dir, "run"), Root: filepath.Join(r.dir, "root"), Kubelet: "/kubelet", Dev: filepath.Join(r.dir, "dev"), SELinux: filepath.Join(r.dir, "none")},
		Node:  "n1", Cluster: r, Log: slog.New(slog.DiscardHandler),
		Serve: func(ctx context.Context, socket, devices string) error {
			r.mu.Lock()
			r.served = append(r.served, socket+" "+devices)
			r.mu.Unlock()
			r.changed <- struct{}{}
			<-ctx.Done()
			r.mu.Lock()
			r.ended++
			r.mu.Unlock()
			return nil
		},
		Used: func(context.Context, string) (bool, error) { return r.used, r.usedErr },
		Tell: func(_ Network, p Problem) { r.told = append(r.told, p) },
	})
}

func network(name, uid string) v1alpha1.MyNetwork {
	return v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid)},
		Spec: v1alpha1.MyNetworkSpec{Storage: v1alpha1.StorageSpec{Path: "/var/lib/mynetwork", ReservePercent: 20}}}
}

func (r *rig) reconcile() {
	r.t.Helper()
	if err := r.Reconcile(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// look describes a file: mode, owner and group.
func (r *rig) look(name string) string {
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(r.dir, name), &st); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%o %d %d", st.Mode, st.Uid, st.Gid)
}

func (r *rig) reasons() (out []string) {
	for _, p := range r.told {
		out = append(out, p.Reason)
	}
	return out
}

// TestPrepare: all directories are there, with their owners, however often it is done, and what is in them stays.
func TestPrepare(t *testing.T) {
	r := newRig(t)
	r.networks = append(r.networks, network("elsewhere", "1f0e0d0c-1111-2222-3333-444455556666"))
	r.reconcile()
	<-r.changed
	want := map[string]string{
		"run/devices":                              "40711 0 0",
		"run/devices/" + uid:                       "40700 0 0",
		"run/" + uid:                               "40711 0 0",
		"run/" + uid + "/control":                  "40700 64646 64646",
		"run/" + uid + "/holder":                   "40700 64646 64646",
		"run/" + uid + "/mounter":                  "40750 0 64646",
		"run/" + uid + "/name":                     "100644 0 0",
		"root/var/lib/mynetwork":                   "40755 0 0",
		"root/var/lib/mynetwork/" + uid:            "40700 64646 64646",
		"root/var/lib/mynetwork/" + uid + "/store": "40700 64646 64646",
		"root/var/lib/mynetwork/" + uid + "/agent": "40700 64646 64646",
	}
	for name, is := range want {
		if got := r.look(name); got != is {
			t.Errorf("%s is %q, want %q", name, got, is)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(r.dir, "run")); len(left) != 2 {
		t.Errorf("a network of other nodes was prepared: %v", left)
	}
	if b, err := os.ReadFile(filepath.Join(r.dir, "run", uid, "name")); err != nil || string(b) != "main\n" {
		t.Errorf("name %q, %v", b, err)
	}
	precious := filepath.Join(r.dir, "root/var/lib/mynetwork", uid, "store", "superblock")
	if err := errors.Join(os.WriteFile(precious, []byte("data"), 0o600), os.Chmod(filepath.Join(r.dir, "run", uid, "mounter"), 0o777),
		os.Chmod(filepath.Join(r.dir, "root/var/lib/mynetwork"), 0o700)); err != nil {
		t.Fatal(err)
	}
	r.reconcile()
	want["root/var/lib/mynetwork"] = "40700 0 0" // not ours to change
	for name, is := range want {
		if got := r.look(name); got != is {
			t.Errorf("again: %s is %q, want %q", name, got, is)
		}
	}
	if b, err := os.ReadFile(precious); err != nil || string(b) != "data" {
		t.Errorf("data %q, %v", b, err)
	}
	if len(r.served) != 1 || len(r.told) != 0 {
		t.Errorf("served %q, told %+v", r.served, r.told)
	}
}

// TestSymlinks: no link is followed, nothing appears where it leads, and it is told once.
func TestSymlinks(t *testing.T) {
	for _, at := range []string{"root/var", "root/var/lib/mynetwork", "root/var/lib/mynetwork/" + uid, "root/var/lib/mynetwork/" + uid + "/store",
		"run/devices", "run/" + uid, "run/" + uid + "/control"} {
		r := newRig(t)
		elsewhere := t.TempDir()
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(r.dir, at)), 0o755), os.Symlink(elsewhere, filepath.Join(r.dir, at))); err != nil {
			t.Fatal(err)
		}
		was := r.lookAt(elsewhere)
		r.reconcile()
		r.reconcile()
		if !slices.Equal(r.reasons(), []string{ReasonDirectory}) || !strings.Contains(r.told[0].Err.Error(), "symbolic link") {
			t.Errorf("%s: told %+v", at, r.told)
		}
		if left, err := os.ReadDir(elsewhere); err != nil || len(left) > 0 || r.lookAt(elsewhere) != was {
			t.Errorf("%s: followed: %v, %v", at, left, err)
		}
	}
}

func (r *rig) lookAt(path string) string {
	rel, err := filepath.Rel(r.dir, path)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.look(rel)
}

// TestLacks: what a node lacks is told once, when it changes, and no more when it is there.
func TestLacks(t *testing.T) {
	r := newRig(t)
	if err := errors.Join(os.Remove(filepath.Join(r.dir, "dev/fuse")), os.Remove(filepath.Join(r.dir, "dev/loop-control"))); err != nil {
		t.Fatal(err)
	}
	r.networks[0].Spec.Storage.ReservePercent = 5 // on the file system of the kubelet
	r.reconcile()
	<-r.changed // all the same, what works is served
	r.reconcile()
	if got := r.reasons(); !slices.Equal(got, []string{ReasonNoFuse, ReasonNoLoop, ReasonShared}) {
		t.Errorf("told %q", got)
	}
	agents := func() string {
		text, err := os.ReadFile(filepath.Join(r.dir, "run", string(r.networks[0].UID), filepath.Dir(v1alpha1.PlaceMounter), v1alpha1.NameLacks))
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	if got := agents(); strings.Count(got, "\n") != 2 || !strings.HasPrefix(got, ReasonNoFuse+": no volume can be attached: ") || !strings.Contains(got, "(modprobe fuse)\n"+ReasonNoLoop) {
		t.Errorf("the agent is told %q: want two lines of what is missing and what to do, and nothing of the disk", got)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "dev/loop-control"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "dev/fuse"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.reconcile()
	if got := agents(); got != "" {
		t.Errorf("all is there, and the agent is told %q", got)
	}
	if err := os.Remove(filepath.Join(r.dir, "dev/fuse")); err != nil {
		t.Fatal(err)
	}
	r.reconcile()
	if got := r.reasons(); !slices.Equal(got[3:], []string{ReasonNoFuse}) {
		t.Errorf("told then %q", got)
	}
}

// TestSmallDisk: a disk that is too small is told.
func TestSmallDisk(t *testing.T) {
	r := newRig(t)
	disk := filepath.Join(r.dir, "root", "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=16m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, 0) })
	r.networks[0].Spec.Storage.Path = "/disk"
	r.reconcile()
	if got := r.reasons(); !slices.Equal(got, []string{ReasonSpace}) {
		t.Errorf("told %q", got)
	}
	<-r.changed
}

// TestWithoutAPI: what was prepared before is served without the API.
func TestWithoutAPI(t *testing.T) {
	r := newRig(t)
	r.reconcile()
	<-r.changed
	r.fresh()
	r.failure = errors.New("the API is away")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	for {
		r.mu.Lock()
		n := len(r.served)
		r.mu.Unlock()
		if n == 2 {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("not served")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if r.served[1] != r.served[0] {
		t.Errorf("served %q", r.served)
	}
}

// TestForgotten: what a deleted network had below /run goes when nobody uses it any more, not before, and its data stay. A network that comes back is
// prepared anew, without a restart.
func TestForgotten(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("directories are given to the agents' user by root")
	}
	r := newRig(t)
	r.reconcile()
	<-r.changed
	was := r.networks
	sockets := filepath.Join(r.dir, "run", uid)
	outside := filepath.Join(r.dir, "outside")
	if err := errors.Join(os.WriteFile(outside, nil, 0o600), os.Symlink(r.dir, filepath.Join(sockets, "holder", "link")),
		os.MkdirAll(filepath.Join(r.dir, "run", "devices", uid, ".loops"), 0o700)); err != nil {
		t.Fatal(err)
	}
	there := func(want bool, when string) {
		t.Helper()
		for _, dir := range []string{sockets, filepath.Join(r.dir, "run", "devices", uid)} {
			if _, err := os.Stat(dir); (err == nil) != want {
				t.Errorf("%s: %s: %v", when, dir, err)
			}
		}
	}
	r.failure = errors.New("no API")
	if err := r.Reconcile(t.Context()); err == nil {
		t.Error("no error without API")
	}
	there(true, "without API")
	r.failure, r.networks = nil, nil
	for _, socket := range []string{v1alpha1.PlaceControl, v1alpha1.PlaceHolder} {
		t.Chdir(filepath.Join(sockets, filepath.Dir(socket))) // the path is too long for a socket
		ln, err := net.Listen("unix", filepath.Base(socket))
		if err != nil {
			t.Fatal(err)
		}
		ln.(*net.UnixListener).SetUnlinkOnClose(false)
		r.reconcile()
		there(true, "while "+socket+" answers")
		_ = ln.Close()
	}
	t.Chdir(r.dir)
	r.used = true
	r.reconcile()
	there(true, "with devices")
	r.used, r.usedErr = false, errors.New("who knows")
	r.reconcile()
	there(true, "while nobody knows of devices")
	if r.ended != 0 {
		t.Error("the mounter has ended")
	}
	r.usedErr = nil
	r.reconcile()
	there(false, "unused")
	if r.ended != 1 {
		t.Errorf("%d mounters have ended", r.ended)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "root", was[0].Spec.Storage.Path, uid, "store")); err != nil {
		t.Errorf("data: %v", err)
	}
	r.networks = was
	r.reconcile()
	<-r.changed
	there(true, "come back")
}
