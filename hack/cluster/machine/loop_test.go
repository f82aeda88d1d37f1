package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	device "mynetwork.io/mynetwork/nodeagent/export/loop"
)

// TestLoopsThatAreLeaving lists and detaches loops while others detach them, as the end of a node's mounts does under a power-off. Whatever
// the kernel says of a device that it is taking away, nobody fails: a power-off once did by ENODEV, which about one in thirty of these gives.
func TestLoopsThatAreLeaving(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loop devices are root's: not tested here; .ci/run runs as root")
	}
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "file"), os.O_CREATE|os.O_RDWR|unix.O_DIRECT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	stop, listed := make(chan struct{}), make(chan error)
	go func() { listed <- listUntil(stop) }()
	for range 150 {
		l := attached(t, f)
		own, err := l.open() // who has it open, and lets it go, is another user
		if err != nil {
			t.Fatal(err)
		}
		left := make(chan error)
		go func() {
			err := errors.Join(unix.IoctlSetInt(int(own.Fd()), unix.LOOP_CLR_FD, 0), own.Close())
			if errors.Is(err, unix.ENXIO) { // the other was first
				err = nil
			}
			left <- err
		}()
		if err := errors.Join(l.detach(time.Minute), <-left); err != nil {
			t.Fatal(err)
		}
		if now, err := lookAt(l.number); err == nil && now == l {
			t.Fatalf("detached, and still there: %+v", now)
		}
	}
	close(stop)
	if err := <-listed; err != nil {
		t.Error(err)
	}
}

// listUntil lists all loops again and again; it tells what failed.
func listUntil(stop chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if _, err := loops(); err != nil {
			return fmt.Errorf("list: %w", err)
		}
	}
}

// attached makes a loop on a file.
func attached(t *testing.T, f *os.File) loop {
	t.Helper()
	path, err := device.Attach(int(f.Fd()), f.Name())
	if err != nil {
		t.Fatal(err)
	}
	var number int
	if _, err := fmt.Sscanf(path, "/dev/loop%d", &number); err != nil {
		t.Fatal(err)
	}
	l, err := lookAt(number)
	if err != nil || l.path != f.Name() {
		t.Fatalf("a loop that was made on %s is %+v, %v", f.Name(), l, err)
	}
	return l
}

// A loop that stays in use is an error that says so, and one that is used anew is left alone.
func TestLoopInUse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loop devices are root's: not tested here; .ci/run runs as root")
	}
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "file"), os.O_CREATE|os.O_RDWR|unix.O_DIRECT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	l := attached(t, f)
	other := l
	other.seq += "0"
	if err := other.detach(time.Minute); err != nil {
		t.Errorf("a device whose use has ended: %v", err)
	}
	if now, err := lookAt(l.number); err != nil || now != l {
		t.Errorf("the next use of the device was ended: %+v, %v", now, err)
	}
	own, err := l.open()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.detach(0); err == nil {
		t.Error("a loop that somebody has open was detached")
	}
	if err := errors.Join(own.Close(), l.detach(time.Minute)); err != nil {
		t.Error(err)
	}
}

func TestLeaving(t *testing.T) {
	for _, err := range []error{unix.ENOENT, unix.ENODEV, unix.ENXIO, &fs.PathError{Op: "read", Path: "x", Err: unix.ENODEV}} {
		if !leaving(err) {
			t.Errorf("%v: not taken for a device that leaves", err)
		}
	}
	for _, err := range []error{nil, unix.EACCES, unix.EIO} {
		if leaving(err) {
			t.Errorf("%v: taken for a device that leaves", err)
		}
	}
	if _, err := attribute(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a file that is not there: %v", err)
	}
	// Writing does not make the file: with a control file that has just gone that would be forbidden.
	name := filepath.Join(t.TempDir(), "abort")
	if err := poke(name); !leaving(err) {
		t.Errorf("abort of a connection that has gone: %v", err)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := poke(name); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "1" {
		t.Errorf("wrote %q, %v", b, err)
	}
}
