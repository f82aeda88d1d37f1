package loop

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// bound makes a loop device on a file of its own.
func bound(t *testing.T, dir string) (path, file string) {
	t.Helper()
	file = filepath.Join(dir, "volume")
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|unix.O_DIRECT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	if path, err = Attach(int(f.Fd()), file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Detach(context.Background(), path, file); err != nil {
			t.Error(err)
		}
	})
	return path, file
}

func TestLifetime(t *testing.T) {
	dir := t.TempDir()
	path, file := bound(t, dir)
	if l, err := List(dir); err != nil || len(l) != 1 || l[0] != (Bound{path, file}) {
		t.Errorf("list: %v, %v", l, err)
	}
	if l, err := List(t.TempDir()); err != nil || len(l) != 0 {
		t.Errorf("list of another directory: %v, %v", l, err)
	}
	for what, want := range map[string]string{"queue/logical_block_size": "4096\n", "loop/dio": "1\n"} {
		if b, err := os.ReadFile(filepath.Join(sysBlock, filepath.Base(path), what)); err != nil || string(b) != want {
			t.Errorf("%s is %q, %v", what, b, err)
		}
	}
	for range 2 {
		if err := Detach(t.Context(), path, file); err != nil {
			t.Fatal(err)
		}
	}
	if f, err := File(path); err != nil || f == file {
		t.Errorf("still bound to %q, %v", f, err)
	}
}

// A device that is bound to another file than the caller thinks is left alone.
func TestForeign(t *testing.T) {
	path, file := bound(t, t.TempDir())
	for _, f := range []func() error{
		func() error { return Detach(t.Context(), path, file+"2") },
		func() error { return Abandon(path, file+"2") },
	} {
		if err := f(); err != nil {
			t.Error(err)
		}
	}
	if f, err := File(path); err != nil || f != file {
		t.Errorf("the device of another was ended: %q, %v", f, err)
	}
}

func TestClaimed(t *testing.T) {
	path, file := bound(t, t.TempDir())
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0) // as a mount does
	if err != nil {
		t.Fatal(err)
	}
	if err := Detach(t.Context(), path, file); !errors.Is(err, export.ErrBusy) {
		t.Errorf("got %v", err)
	}
	_ = unix.Close(fd)
}

func TestNoLoop(t *testing.T) {
	if _, err := attach(filepath.Join(t.TempDir(), "none"), 0, "f"); !errors.Is(err, ErrNoDevice) {
		t.Errorf("got %v", err)
	}
}
