package disk_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/disk"
	"mynetwork.io/mynetwork/nodeagent/disk/disktest"
)

func openOS(t *testing.T) *disk.OS {
	t.Helper()
	o, err := disk.OpenOS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

// TestConformance runs the one suite over every implementation.
func TestConformance(t *testing.T) {
	t.Run("os", func(t *testing.T) { disktest.Run(t, func(t *testing.T) disk.FS { return openOS(t) }) })
	t.Run("metered", func(t *testing.T) {
		disktest.Run(t, func(t *testing.T) disk.FS { return disk.NewMetered(openOS(t), &disk.Meter{}) })
	})
	t.Run("mem", func(t *testing.T) { disktest.Run(t, func(t *testing.T) disk.FS { return disk.NewMem(16 << 20) }) })
	t.Run("mem unlimited", func(t *testing.T) { disktest.Run(t, func(t *testing.T) disk.FS { return disk.NewMem(0) }) })
	t.Run("mem after crash", func(t *testing.T) {
		disktest.Run(t, func(t *testing.T) disk.FS { return disk.NewMem(16 << 20).Crash(source(1)) })
	})
	t.Run("faults over mem", func(t *testing.T) {
		disktest.Run(t, func(t *testing.T) disk.FS { return disk.NewFaults(disk.NewMem(0), nil) })
	})
	t.Run("faults over os", func(t *testing.T) {
		disktest.Run(t, func(t *testing.T) disk.FS {
			return disk.NewFaults(openOS(t), func(disk.Op) disk.Fault { return disk.Fault{} })
		})
	})
}

// TestConformanceRefuses is the suite's negative control: each broken file system fails the cases it must fail.
func TestConformanceRefuses(t *testing.T) {
	on := func(kind disk.OpKind, ft disk.Fault) func() disk.FS {
		return func() disk.FS {
			return disk.NewFaults(disk.NewMem(16<<20), func(op disk.Op) disk.Fault {
				if op.Kind == kind {
					return ft
				}
				return disk.Fault{}
			})
		}
	}
	for name, c := range map[string]struct {
		fresh func() disk.FS
		fails string
	}{
		"read flips":        {on(disk.OpRead, disk.Fault{Action: disk.Flip, At: 3}), "bytes"},
		"write flips":       {on(disk.OpWrite, disk.Fault{Action: disk.Flip, At: 3}), "bytes"},
		"read zeros":        {on(disk.OpRead, disk.Fault{Action: disk.Zero}), "create and open"},
		"write lost":        {on(disk.OpWrite, disk.Fault{Action: disk.Lose}), "create and open"},
		"write torn":        {on(disk.OpWrite, disk.Fault{Action: disk.Torn, Mask: 1}), "bytes"},
		"write misdirected": {on(disk.OpWrite, disk.Fault{Action: disk.Misdirect, At: 512}), "holes read as zeros"},
		"short read":        {on(disk.OpRead, disk.Fault{Action: disk.Short, At: 1}), "bytes"},
		"truncate ignored":  {on(disk.OpTruncate, disk.Fault{Action: disk.Lose}), "truncate"},
		"allocate ignored":  {on(disk.OpAllocate, disk.Fault{Action: disk.Lose}), "allocate"},
		"punch ignored":     {on(disk.OpPunch, disk.Fault{Action: disk.Lose}), "punch hole"},
		"rename ignored":    {on(disk.OpRename, disk.Fault{Action: disk.Lose}), "rename"},
		"remove ignored":    {on(disk.OpRemove, disk.Fault{Action: disk.Lose}), "remove"},
		"mkdir ignored":     {on(disk.OpMkdir, disk.Fault{Action: disk.Lose}), "directories"},
		"sync fails":        {on(disk.OpSync, disk.Fault{Err: syscall.EIO}), "sync"},
		"usage fails":       {on(disk.OpUsage, disk.Fault{Err: syscall.EIO}), "usage"},
	} {
		if got := disktest.Failures(c.fresh); !slices.Contains(got, c.fails) {
			t.Errorf("%s: case %q passed; failed were %q", name, c.fails, got)
		}
	}
	if got := disktest.Failures(func() disk.FS { return disk.NewMem(0) }); len(got) != 0 {
		t.Errorf("a sound file system fails %q", got)
	}
}

// TestOSSymlink: a symbolic link does not lead out of the directory.
func TestOSSymlink(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := openOS(t)
	if err := os.Symlink(outside, o.Path("link")); err != nil {
		t.Fatal(err)
	}
	if f, err := o.Open("link"); err == nil {
		f.Close()
		t.Fatal("a link out of the root was followed")
	}
}

// TestOSAllocate: space is really taken and really given back.
func TestOSAllocate(t *testing.T) {
	o := openOS(t)
	f, err := o.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	blocks := func() int64 {
		st, err := os.Stat(o.Path("a"))
		if err != nil {
			t.Fatal(err)
		}
		return st.Sys().(*syscall.Stat_t).Blocks * 512
	}
	if err := f.Allocate(1 << 20); err != nil {
		t.Fatal(err)
	}
	if got := blocks(); got < 1<<20 {
		t.Fatalf("allocated %d bytes", got)
	}
	if err := f.PunchHole(0, 1<<20); err != nil {
		t.Fatal(err)
	}
	if got := blocks(); got >= 1<<20 {
		t.Fatalf("after the hole still %d bytes", got)
	}
}

// TestFaults: what each fault reports, beyond what the suite's negative control shows.
func TestFaults(t *testing.T) {
	m := disk.NewMem(0)
	var next disk.Fault
	var ops []disk.Op
	d := disk.NewFaults(m, func(op disk.Op) disk.Fault {
		ops = append(ops, op)
		ft := next
		next = disk.Fault{}
		return ft
	})
	f, err := d.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	next = disk.Fault{Err: syscall.EIO}
	if _, err := d.Open("a"); !errors.Is(err, syscall.EIO) {
		t.Fatalf("open: %v", err)
	}
	next = disk.Fault{Err: syscall.ENOSPC}
	if n, err := f.WriteAt([]byte("x"), 0); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("write: %d, %v", n, err)
	}
	if n, _ := f.Size(); n != 0 {
		t.Fatalf("a refused write left %d bytes", n)
	}
	next = disk.Fault{Action: disk.Short, At: 2, Err: syscall.EIO}
	if _, err := f.WriteAt([]byte("abcd"), 0); !errors.Is(err, syscall.EIO) {
		t.Fatalf("short write: %v", err)
	}
	if n, _ := f.Size(); n != 2 {
		t.Fatalf("a short write left %d bytes", n)
	}
	steps := 0
	next = disk.Fault{Wait: func() { steps++ }}
	if err := f.Sync(); err != nil || steps != 1 {
		t.Fatalf("wait: %v, %d", err, steps)
	}
	next = disk.Fault{Err: syscall.EIO}
	if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, syscall.EIO) {
		t.Fatalf("read: %v", err)
	}
	last := ops[len(ops)-1]
	if last.N != uint64(len(ops)) || last.Kind != disk.OpRead || last.Name != "a" || last.Len != 1 {
		t.Fatalf("operation: %+v", last)
	}
}

// TestStuck: an operation that is stuck holds no lock: others go on, and it ends when released.
func TestStuck(t *testing.T) {
	entered, release, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	d := disk.NewFaults(disk.NewMem(0), func(op disk.Op) disk.Fault {
		if op.Kind == disk.OpSync {
			return disk.Fault{Wait: func() { close(entered); <-release }}
		}
		return disk.Fault{}
	})
	f, err := d.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- f.Sync() }()
	<-entered
	if _, err := f.WriteAt([]byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestMemCapacity: growth beyond the capacity is refused whole, and space comes back.
func TestMemCapacity(t *testing.T) {
	m := disk.NewMem(64 << 10)
	f, err := m.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Allocate(60 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 8<<10), 60<<10); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("write beyond the capacity: %v", err)
	}
	if err := f.Allocate(70 << 10); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("allocate beyond the capacity: %v", err)
	}
	if n, _ := f.Size(); n != 60<<10 {
		t.Fatalf("size after refusal: %d", n)
	}
	if _, err := f.WriteAt(make([]byte, 60<<10), 0); err != nil {
		t.Fatalf("write into reserved space: %v", err)
	}
	used := func(want int64) {
		t.Helper()
		if _, got, _ := m.Usage(); got != want {
			t.Fatalf("used %d, want %d", got, want)
		}
	}
	used(60 << 10)
	f.PunchHole(4096, 8192)
	used(52 << 10)
	f.Truncate(4096)
	used(4096)
	m.Remove("a")
	used(4096) // still open
	f.Close()
	used(0)
	if _, err := m.Open("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}
