package mount_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/csi/agenttest"
	"mynetwork.io/mynetwork/csi/mount"
)

func TestMain(m *testing.M) {
	agenttest.Private()
	os.Exit(m.Run())
}

// real is a mounter on a real directory, with loop devices.
type real struct {
	*mount.Mounter
	t     *testing.T
	root  string
	loops agenttest.Loops
}

func newReal(t *testing.T, run mount.Runner) *real {
	t.Helper()
	if os.Getenv(agenttest.RealEnv) == "" {
		t.Skipf("set %s=1, as root, for tests on real devices", agenttest.RealEnv)
	}
	root := t.TempDir()
	m, err := mount.New(root, run)
	if err != nil {
		t.Fatal(err)
	}
	return &real{m, t, root, agenttest.Loops{Dir: t.TempDir()}}
}

// device makes a loop device of a size.
func (r *real) device(name string, size int64) string {
	r.t.Helper()
	if err := r.loops.Create(name, size); err != nil {
		r.t.Fatal(err)
	}
	dev, err := r.loops.Attach(name)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := r.loops.Detach(dev); err != nil {
			r.t.Error(err)
		}
	})
	return dev
}

func (r *real) dir(name string) string {
	r.t.Helper()
	path := filepath.Join(r.root, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = r.Unmount(path, false) })
	return path
}

func (r *real) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// TestRealLife formats, mounts, binds, grows and unmounts, with both file systems.
func TestRealLife(t *testing.T) {
	for fs, size := range map[string]int64{mount.Ext4: 64 << 20, mount.XFS: 320 << 20} {
		t.Run(fs, func(t *testing.T) {
			r := newReal(t, nil)
			ctx := context.Background()
			dev := r.device("a", size)
			stage, target, block := r.dir("stage"), filepath.Join(r.root, "target"), filepath.Join(r.root, "block")
			r.must(r.Prepare(ctx, dev, fs, false))
			r.must(r.Mount(dev, stage, fs, []string{"noatime,nodev"}))
			r.must(os.WriteFile(filepath.Join(stage, "f"), []byte("content"), 0o600))
			before, err := r.Usage(stage)
			r.must(err)
			r.must(r.loops.Resize("a", dev, 2*size))
			if err := r.Grow(ctx, dev, stage, fs); errors.Is(err, mount.ErrDenied) && fs == mount.Ext4 {
				t.Log("this machine lets nobody grow ext4 while it is mounted; it grows when it is prepared")
				r.must(r.Unmount(stage, false))
				r.must(r.Prepare(ctx, dev, fs, false))
				r.must(r.Mount(dev, stage, fs, nil))
			} else {
				r.must(err)
			}
			r.must(r.Grow(ctx, dev, stage, fs)) // again: nothing to do
			after, err := r.Usage(stage)
			r.must(err)
			if after.Bytes < before.Bytes*3/2 {
				t.Errorf("%d bytes before, %d after the device was doubled", before.Bytes, after.Bytes)
			}
			r.must(r.Bind(stage, target, true))
			if err := os.WriteFile(filepath.Join(target, "g"), nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("write below a read-only target: %v", err)
			}
			if b, err := os.ReadFile(filepath.Join(target, "f")); string(b) != "content" {
				t.Errorf("target shows %q, %v", b, err)
			}
			r.must(r.Bind(dev, block, false))
			d, err := r.Device(block)
			r.must(err)
			if d.Size != 2*size {
				t.Errorf("the device has %d bytes at its target", d.Size)
			}
			list, err := r.List()
			r.must(err)
			want := map[string]string{stage: fs, target: fs, block: ""}
			for _, m := range list {
				if kind, ok := want[m.Path]; !ok || kind != m.FS || m.Device != d.Number || m.ReadOnly != (m.Path == target) {
					t.Errorf("unexpected mount %+v", m)
				}
				delete(want, m.Path)
			}
			if len(want) > 0 {
				t.Errorf("not listed: %v", want)
			}
			for _, path := range []string{target, block} {
				r.must(r.Unmount(path, true))
				if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is there after unmount: %v", path, err)
				}
			}
			f, err := os.Open(filepath.Join(stage, "f"))
			r.must(err)
			if err := r.Unmount(stage, false); !errors.Is(err, mount.ErrBusy) {
				t.Errorf("unmount with an open file: %v, want ErrBusy", err)
			}
			r.must(f.Close())
			r.must(r.Unmount(stage, false))
			r.must(r.Unmount(stage, false)) // again: nothing to do
			r.must(r.Prepare(ctx, dev, fs, false))
			r.must(r.Mount(dev, stage, fs, nil))
			if b, err := os.ReadFile(filepath.Join(stage, "f")); string(b) != "content" {
				t.Errorf("after a second Prepare the file holds %q, %v: it was formatted again", b, err)
			}
		})
	}
}

// TestRealClone: a volume and its clone, which carry one XFS UUID, are mounted side by side.
func TestRealClone(t *testing.T) {
	r := newReal(t, nil)
	a := r.device("a", 320<<20)
	r.must(r.Prepare(context.Background(), a, mount.XFS, false))
	unix.Sync()
	r.must(r.loops.Copy("a", "b", 320<<20))
	b, err := r.loops.Attach("b")
	r.must(err)
	t.Cleanup(func() { r.must(r.loops.Detach(b)) })
	r.must(r.Mount(a, r.dir("a"), mount.XFS, nil))
	r.must(r.Prepare(context.Background(), b, mount.XFS, false))
	if err := r.Mount(b, r.dir("b"), mount.XFS, nil); err == nil { // control
		t.Error("without nouuid the clone was mounted")
	}
	r.must(r.Mount(b, r.dir("b"), mount.XFS, []string{"nouuid"}))
}

func write(t *testing.T, path string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestRealForeign: whatever is on a device, it is not formatted.
func TestRealForeign(t *testing.T) {
	const size = 64 << 20
	ctx := context.Background()
	for name, put := range map[string]func(r *real, dev string){
		"other file system": func(r *real, dev string) { r.must(r.Prepare(ctx, dev, mount.Ext4, false)) },
		"partition table": func(r *real, dev string) {
			mbr := make([]byte, 512)
			copy(mbr[446:], []byte{0x80, 1, 1, 0, 0x83, 1, 1, 1, 0, 8, 0, 0, 0, 0, 1, 0})
			mbr[510], mbr[511] = 0x55, 0xaa
			write(r.t, dev, 0, mbr)
		},
		"LUKS": func(r *real, dev string) {
			write(r.t, dev, 0, append([]byte("LUKS\xba\xbe\x00\x01"), make([]byte, 592)...))
		},
		"data at the start": func(r *real, dev string) { write(r.t, dev, 3*4096, []byte("rows of a database")) },
		"data at the end":   func(r *real, dev string) { write(r.t, dev, size-100, []byte("a trailer")) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newReal(t, nil)
			dev := r.device("a", size)
			put(r, dev)
			before := sum(t, dev)
			if err := r.Prepare(ctx, dev, mount.XFS, false); !errors.Is(err, mount.ErrForeign) {
				t.Errorf("Prepare: %v, want ErrForeign", err)
			}
			if sum(t, dev) != before {
				t.Error("the device was written to")
			}
		})
	}
}

func sum(t *testing.T, dev string) string {
	t.Helper()
	b, err := os.ReadFile(dev)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// liar runs programs, but blkid gives an answer of its own.
type liar struct {
	mount.Exec
	exit int
	err  error
}

func (l liar) Run(ctx context.Context, name string, args ...string) ([]byte, int, error) {
	if name == "blkid" {
		return nil, l.exit, l.err
	}
	return l.Exec.Run(ctx, name, args...)
}

// TestRealDoubt: a blkid that fails, or sees nothing where something is, leads to no format.
func TestRealDoubt(t *testing.T) {
	ctx := context.Background()
	for name, run := range map[string]liar{"fails": {exit: 1}, "in doubt": {exit: 8}, "missing": {exit: -1, err: os.ErrNotExist}, "blind": {exit: 2}} {
		t.Run(name, func(t *testing.T) {
			r := newReal(t, run)
			dev := r.device("a", 64<<20)
			honest, err := mount.New(r.root, nil)
			r.must(err)
			r.must(honest.Prepare(ctx, dev, mount.Ext4, false))
			before := sum(t, dev)
			if err := r.Prepare(ctx, dev, mount.Ext4, false); err == nil {
				t.Error("Prepare succeeded")
			}
			if sum(t, dev) != before {
				t.Error("the device was written to")
			}
		})
	}
}

// killer runs programs, but ends mkfs after a while, as the death of the node plugin would.
type killer struct {
	mount.Exec
	after time.Duration
}

func (k killer) Run(ctx context.Context, name string, args ...string) ([]byte, int, error) {
	if len(name) > 5 && name[:5] == "mkfs." {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, k.after)
		defer cancel()
	}
	return k.Exec.Run(ctx, name, args...)
}

// TestRealInterrupted: a format that was interrupted at any time is done again, and the file system is sound.
func TestRealInterrupted(t *testing.T) {
	ctx := context.Background()
	for fs, size := range map[string]int64{mount.Ext4: 256 << 20, mount.XFS: 320 << 20} {
		t.Run(fs, func(t *testing.T) {
			r := newReal(t, nil)
			cut := 0
			for i := range 12 {
				name := fmt.Sprint("v", i)
				dev := r.device(name, size)
				k, err := mount.New(r.root, killer{after: time.Duration(i*i) * 500 * time.Microsecond})
				r.must(err)
				if k.Prepare(ctx, dev, fs, false) != nil {
					cut++
				}
				r.must(r.Prepare(ctx, dev, fs, false))
				dir := r.dir(name)
				r.must(r.Mount(dev, dir, fs, nil))
				r.must(os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600))
				r.must(r.Unmount(dir, false))
				r.must(r.Prepare(ctx, dev, fs, false))
				r.must(r.Mount(dev, dir, fs, nil))
				if _, err := os.Stat(filepath.Join(dir, "f")); err != nil {
					t.Errorf("formatted again after it was mounted: %v", err)
				}
				r.must(r.Unmount(dir, false))
			}
			if cut == 0 {
				t.Error("no format was interrupted: the test shows nothing")
			}
			t.Logf("%d of 12 formats were interrupted", cut)
		})
	}
}
