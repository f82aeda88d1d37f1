package device

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
	"mynetwork.io/mynetwork/nodeagent/export/mounter"
)

// mounted is a device with a mounted ext4, and a mounter's server for it.
func mounted(t *testing.T) (dir, mnt string) {
	t.Helper()
	dir, mnt = t.TempDir(), t.TempDir()
	d, disk := open(t, exporttest.Volume(t, 32*mib), Options{Mounter: mounter.New(dir)})
	_ = disk.Close()
	if err := run("mkfs.ext4", "-q", d.Path()); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(d.Path(), mnt, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, 0); err != nil {
			t.Error(err)
		}
	})
	return dir, mnt
}

// writes writes a file, which waits while the file system stands still.
func writes(mnt, name string) <-chan error {
	return later(func() error { return os.WriteFile(filepath.Join(mnt, name), []byte("x"), 0o600) })
}

// waits tells that the write has not ended; that is proven by freezing again, which a file system that goes on would allow.
func waits(t *testing.T, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		t.Errorf("a write on a frozen file system ended: %v", err)
	default:
	}
}

// A file system stands still between Freeze and Thaw, and not after.
func TestFreeze(t *testing.T) {
	dir, mnt := mounted(t)
	m := served(t, dir).(*mounter.Client)
	ctx := t.Context()
	if is, err := m.Thaw(ctx, "vol"); is || err != nil {
		t.Errorf("thawed what was not frozen: %v, %v", is, err)
	}
	if is, err := m.Freeze(ctx, "vol"); !is || err != nil {
		t.Fatalf("frozen: %v, %v", is, err)
	}
	done := writes(mnt, "a")
	if is, err := m.Freeze(ctx, "vol"); is || !errors.Is(err, export.ErrBusy) {
		t.Errorf("frozen again: %v, %v", is, err)
	}
	waits(t, done)
	if is, err := m.Thaw(ctx, "vol"); !is || err != nil {
		t.Errorf("thawed: %v, %v", is, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, name := range []string{"../vol", "", ".frozen"} {
		if _, err := m.Freeze(ctx, name); !errors.Is(err, mounter.ErrName) {
			t.Errorf("freeze %q: %v", name, err)
		}
	}
	if is, err := m.Freeze(ctx, "none"); is || err != nil {
		t.Errorf("freeze nothing: %v, %v", is, err)
	}
}

// What a killed mounter left frozen goes on with the next one.
func TestFreezeLeft(t *testing.T) {
	dir, mnt := mounted(t)
	first, err := mounter.NewFreezer(mounter.New(dir))
	if err != nil {
		t.Fatal(err)
	}
	if is, err := first.Freeze(t.Context(), "vol"); !is || err != nil {
		t.Fatalf("frozen: %v, %v", is, err)
	}
	done := writes(mnt, "a")
	waits(t, done)
	if _, err := mounter.NewFreezer(mounter.New(dir)); err != nil { // a new process; the first says nothing more
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if is, err := first.Thaw(context.Background(), "vol"); is || err != nil {
		t.Errorf("it stood still until now: %v, %v", is, err)
	}
}
