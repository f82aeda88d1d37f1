package holder

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export/fuse"
)

// TestEndsByClosing: a holder without privilege, which can not abort a connection by its number, ends a device by closing the last copy
// of its descriptor: the kernel fails what waits. The control is a second copy, with which the device goes on waiting.
func TestEndsByClosing(t *testing.T) {
	r := start(t)
	dir := t.TempDir()
	fd, err := fuse.Mount(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = fuse.Abort(dir)
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	})
	second, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, r.path)
	if err := c.Put(t.Context(), &Entry{Name: "d", Device: []int{fd}}); err != nil { // without a number: nothing to abort by
		t.Fatal(err)
	}
	_ = unix.Close(fd)
	done := make(chan error, 1)
	go func() { done <- unix.Access(dir+"/file", unix.F_OK) }() // waits for an answer to INIT, which nobody gives
	_ = c.Close()
	for ended := false; !ended; {
		select {
		case r.ticks <- time.Time{}:
		case <-r.ended:
			ended = true
		}
	}
	select {
	case err := <-done:
		t.Errorf("it ended although a copy of its descriptor is open: %v", err)
	default:
	}
	_ = unix.Close(second)
	if err := <-done; !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
		t.Errorf("what waited got %v", err)
	}
}

// TestEndIsAsked: what a descriptor does not end is ended by who knows how, by the entry's meta; what that fails with is told.
func TestEndIsAsked(t *testing.T) {
	ended := make(chan error, 1)
	ticks := make(chan time.Time)
	metas := make(chan string, 1)
	path := filepath.Join(t.TempDir(), "h", "s")
	s, err := NewServer(Options{
		Socket: path, Ticks: ticks, Ended: func(_ string, err error) { ended <- err },
		End: func(meta []byte) error { metas <- string(meta); return unix.ENODEV },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	defer func() { cancel(); <-done }()
	c := dial(t, path)
	if err := c.Put(t.Context(), &Entry{Name: "d", Meta: []byte("what it is")}); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	for {
		select {
		case ticks <- time.Time{}:
			continue
		case err := <-ended:
			if got := <-metas; got != "what it is" || !errors.Is(err, unix.ENODEV) {
				t.Errorf("asked with %q, told %v", got, err)
			}
		}
		return
	}
}
