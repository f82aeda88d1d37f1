package disk_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/disk"
)

// TestReadNow: what is in memory is read as ReadAt does, counted and without an allocation; what is not would have to be waited for, which says nothing of the
// disk. A fault that waits is not waited for.
func TestReadNow(t *testing.T) {
	dir := t.TempDir()
	o, err := disk.OpenOS(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	var m disk.Meter
	faults := disk.NewFaults(o, nil)
	f, err := disk.NewMetered(faults, &m).Create("f")
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("page"), 4096)
	if _, err := f.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4096)
	now := func(off int64) (int, error) { return disk.ReadNow(f, p, off) }
	if n, err := now(8192); n != len(p) || err != nil || !bytes.Equal(p, want[8192:12288]) {
		t.Fatalf("in memory: %d %v", n, err)
	}
	if n, err := now(int64(len(want)) - 100); n > 100 || !errors.Is(err, disk.ErrWouldWait) {
		t.Errorf("across the end: %d %v", n, err)
	}
	if n, err := now(int64(len(want))); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %d %v", n, err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = now(0) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	before := m.Reads.Took.Read().Count
	faults.SetPlan(func(op disk.Op) disk.Fault {
		return disk.Fault{Wait: func() { t.Error("waits, now ", op.Now) }}
	})
	if _, err := now(0); !errors.Is(err, disk.ErrWouldWait) {
		t.Errorf("a slow disk: %v", err)
	}
	faults.SetPlan(nil)
	if m.Reads.Took.Read().Count != before || m.Reads.Errors.Load() != 0 {
		t.Error("what was not read is counted")
	}
	if cold(t, filepath.Join(dir, "f")) {
		if n, err := now(4096); n == len(p) && err == nil {
			t.Log("it was in memory all the same")
		} else if !errors.Is(err, disk.ErrWouldWait) {
			t.Errorf("on the disk only: %d %v", n, err)
		}
	}
	if n, err := f.ReadAt(p, 4096); n != len(p) || err != nil || !bytes.Equal(p, want[4096:8192]) {
		t.Errorf("with a wait: %d %v", n, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := now(0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// cold has the kernel forget what it has in memory of a file, if it does so at all.
func cold(t *testing.T, name string) bool {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return f.Sync() == nil && unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) == nil
}

// TestReadNowElsewhere: a File that knows no such read makes it as ReadAt does.
func TestReadNowElsewhere(t *testing.T) {
	f, err := disk.NewMem(1 << 20).Create("f")
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4)
	if _, err := f.WriteAt([]byte("text"), 0); err != nil {
		t.Fatal(err)
	}
	if n, err := disk.ReadNow(f, p, 0); n != 4 || err != nil || string(p) != "text" {
		t.Errorf("%d %v %q", n, err, p)
	}
}
