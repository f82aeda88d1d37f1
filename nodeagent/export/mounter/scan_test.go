package mounter

import (
	"context"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/loop"
)

// counted is a Local that counts how often it looks at all loop devices.
func counted(dir string) (l *Local, scans *int) {
	l, scans = New(dir), new(int)
	l.scan = func(at string) ([]loop.Bound, error) {
		*scans++
		return loop.List(at)
	}
	return l, scans
}

// served mounts a device and serves it until it is unmounted.
func served(t *testing.T, l *Local, name string) {
	t.Helper()
	m, err := l.Mount(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	s := fuse.New(m.FD, [16]byte{1}, exporttest.Volume(t, 1<<20), fuse.Options{})
	if err := errors.Join(s.Start(), s.Ready(t.Context())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Discard(context.Background(), name); err != nil {
			t.Error(err)
		}
		<-s.Done()
		_ = unix.Close(m.FD)
	})
}

// Who made a mount knows what is bound to it, and does not look at every loop device of the machine; who did not, and has no record,
// looks. What was found so is recorded.
func TestScans(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	l, scans := counted(dir)
	for range 2 {
		served(t, l, "a")
		if _, err := l.Bind(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Bind(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l.Unbind(ctx, "a"), l.Unbind(ctx, "a"), l.Unmount(ctx, "a")); err != nil {
			t.Fatal(err)
		}
	}
	if *scans != 0 {
		t.Errorf("attached and detached with %d looks at all loop devices", *scans)
	}

	served(t, l, "a")
	path, err := l.Bind(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	place, err := l.Place("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(recordFile(place)); err != nil { // as if killed before it was written
		t.Fatal(err)
	}
	next, looks := counted(dir)
	for range 2 {
		if again, err := next.Bind(ctx, "a"); err != nil || again != path {
			t.Errorf("bound again: %q, %v; want %q", again, err, path)
		}
	}
	if *looks != 1 {
		t.Errorf("%d looks at all loop devices, want the first alone", *looks)
	}
	if err := errors.Join(next.Unbind(ctx, "a"), next.Unmount(ctx, "a")); err != nil {
		t.Error(err)
	}
	if *looks != 1 {
		t.Errorf("%d looks at all loop devices after the device was ended", *looks)
	}
}

// What a process knows of a mount it knows of no other connection's in its place.
func TestScansForOthersMount(t *testing.T) {
	l := New(t.TempDir())
	served(t, l, "a")
	place, err := l.Place("a")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := fuse.ConnOf(place)
	if err != nil {
		t.Fatal(err)
	}
	if !l.isFree(place, conn) || l.isFree(place, conn+1) {
		t.Errorf("free: %v; as another connection's: %v", l.isFree(place, conn), l.isFree(place, conn+1))
	}
	if _, err := l.Bind(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if l.isFree(place, conn) {
		t.Error("free while it is bound")
	}
}
