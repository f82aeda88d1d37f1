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
func bound(t *testing.T, dir string) Bound {
	t.Helper()
	file := filepath.Join(dir, "volume")
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|unix.O_DIRECT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	path, err := Attach(int(f.Fd()), file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Look(path)
	if err != nil || b.File != file || b.Seq == 0 {
		t.Fatalf("a device that was bound to %s: %+v, %v", file, b, err)
	}
	t.Cleanup(func() {
		if err := Detach(context.Background(), b); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestLifetime(t *testing.T) {
	dir := t.TempDir()
	b := bound(t, dir)
	path, file := b.Path, b.File
	if l, err := List(dir); err != nil || len(l) != 1 || l[0] != b {
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
		if err := Detach(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if f, err := File(path); err != nil || f == file {
		t.Errorf("still bound to %q, %v", f, err)
	}
}

// A device that is bound to another file than the caller thinks, or was bound anew since, is left alone.
func TestForeign(t *testing.T) {
	b := bound(t, t.TempDir())
	for name, other := range map[string]Bound{"file": {b.Path, b.File + "2", b.Seq}, "sequence": {b.Path, b.File, b.Seq - 1}, "free": {b.Path, "", b.Seq}} {
		if err := errors.Join(Detach(t.Context(), other), Abandon(other)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if now, err := Look(b.Path); err != nil || now != b {
		t.Errorf("the device of another was ended: %+v, %v", now, err)
	}
}

func TestClaimed(t *testing.T) {
	b := bound(t, t.TempDir())
	fd, err := unix.Open(b.Path, unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0) // as a mount does
	if err != nil {
		t.Fatal(err)
	}
	if err := Detach(t.Context(), b); !errors.Is(err, export.ErrBusy) {
		t.Errorf("got %v", err)
	}
	_ = unix.Close(fd)
}

func TestNoLoop(t *testing.T) {
	if _, err := attach(filepath.Join(t.TempDir(), "none"), 0, "f"); !errors.Is(err, ErrNoDevice) {
		t.Errorf("got %v", err)
	}
}
