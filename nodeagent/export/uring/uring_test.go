package uring

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// open makes a ring for the test's thread and an eventfd with room for its counter.
func open(t *testing.T, n int) (r *Ring, fd int, p []byte) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	r, err := New(n)
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if p, err = unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		_ = unix.Close(fd)
		_ = unix.Munmap(p)
	})
	return r, fd, p
}

// A read completes once there is something to read, with its own data, and not before.
func TestRead(t *testing.T) {
	r, fd, p := open(t, 4)
	for i := range uint64(3 * 4) { // past the queues' ends
		if !r.Read(fd, p[:8], 100+i) || r.Pending() != 1 {
			t.Fatalf("%d pending", r.Pending())
		}
		if err := r.Enter(false, 0); err != nil || r.Pending() != 0 {
			t.Fatalf("%v, %d pending", err, r.Pending())
		}
		if err := r.Enter(true, 1e6); !errors.Is(err, unix.ETIME) {
			t.Fatalf("a wait for nothing: %v", err)
		}
		if c, ok := r.Next(); ok {
			t.Fatalf("completed early: %+v", c)
		}
		if _, err := unix.Write(fd, []byte{byte(i + 1), 0, 0, 0, 0, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
		if err := r.Enter(true, 0); err != nil {
			t.Fatal(err)
		}
		if c, ok := r.Next(); !ok || c.Data != 100+i || c.Res != 8 || p[0] != byte(i+1) {
			t.Fatalf("completion %+v, %v, read %d", c, ok, p[0])
		}
	}
}

// A full queue refuses, and takes again what Enter made room for.
func TestFull(t *testing.T) {
	r, fd, p := open(t, 4)
	for i := range 4 {
		if !r.Read(fd, p[8*i:][:8], 1) {
			t.Fatalf("full after %d", i)
		}
	}
	if r.Read(fd, p, 1) || r.Command(fd, 0, 0, 0, 1) != nil {
		t.Fatal("more than there is room for")
	}
	if err := r.Enter(false, 0); err != nil {
		t.Fatal(err)
	}
	if r.Command(fd, 7, 0, 0, 42) == nil {
		t.Fatal("still full")
	}
	if err := r.Enter(true, 0); err != nil { // an eventfd takes no commands
		t.Fatal(err)
	}
	if c, ok := r.Next(); !ok || c.Data != 42 || c.Res >= 0 {
		t.Errorf("completion %+v, %v", c, ok)
	}
}

// A ring belongs to its thread: the control of what lets the owner go without locks.
func TestOneThread(t *testing.T) {
	r, _, _ := open(t, 4)
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- r.Enter(true, 1e6)
	}()
	if err := <-done; !errors.Is(err, unix.EEXIST) {
		t.Errorf("another thread's Enter: %v", err)
	}
}

func TestNoAllocation(t *testing.T) {
	r, fd, p := open(t, 4)
	one := []byte{1, 0, 0, 0, 0, 0, 0, 0}
	if n := testing.AllocsPerRun(100, func() {
		_, _ = unix.Write(fd, one)
		r.Read(fd, p[:8], 1)
		_ = r.Enter(true, 1e9)
		_, _ = r.Next()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
