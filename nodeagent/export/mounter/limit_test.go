package mounter

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
)

// A file system that nobody thaws goes on at its limit.
func TestFreezeLimit(t *testing.T) {
	l, ctx := New(t.TempDir()), t.Context()
	m, err := l.Mount(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	s := fuse.New(m.FD, [16]byte{1}, exporttest.Volume(t, 32<<20), fuse.Options{Transport: fuse.DevFuse})
	if err := errors.Join(s.Start(), s.Ready(ctx)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(l.Unbind(context.Background(), "a"), l.Unmount(context.Background(), "a")); err != nil {
			t.Error(err)
		}
		<-s.Done()
		_ = unix.Close(m.FD)
	}()
	path, err := l.Bind(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mnt := t.TempDir()
	if err := unix.Mount(path, mnt, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(mnt, 0) }()
	f, err := NewFreezer(l)
	if err != nil {
		t.Fatal(err)
	}
	f.limit = 50 * time.Millisecond
	if is, err := f.Freeze(ctx, "a"); !is || err != nil {
		t.Fatalf("frozen: %v, %v", is, err)
	}
	if err := os.WriteFile(filepath.Join(mnt, "a"), []byte("x"), 0o600); err != nil { // waits for the limit
		t.Fatal(err)
	}
	for {
		if is, err := f.Thaw(ctx, "a"); is || err != nil {
			t.Errorf("it stood still until now: %v, %v", is, err)
		}
		if _, err := os.Stat(filepath.Join(l.dir, frozenDir, "a")); errors.Is(err, os.ErrNotExist) {
			break // forgotten
		}
	}
}
