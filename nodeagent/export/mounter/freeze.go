package mounter

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// FreezeLimit is how long a file system stands still at most, whatever becomes of who asked for it.
const FreezeLimit = 10 * time.Second

// frozenDir has an empty file for each device that is frozen, below the devices' directory: a process that is killed over it
// leaves the next one to let it go on.
const frozenDir = ".frozen"

// linux/fs.h: FIFREEZE and FITHAW, _IOWR('X', 119 and 120, int).
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// Freezer lets the file systems on devices stand still, so that a snapshot shows them as if unmounted. Make one with NewFreezer.
type Freezer struct {
	local *Local
	limit time.Duration

	mu     sync.Mutex
	frozen map[string]*frozen // by name
}

// frozen is a file system that stands still.
type frozen struct {
	dir   int // descriptor of its root
	timer *time.Timer
}

// NewFreezer makes a Freezer for the devices of l, and lets go on what a process before it left frozen.
func NewFreezer(l *Local) (*Freezer, error) {
	f := &Freezer{local: l, limit: FreezeLimit, frozen: map[string]*frozen{}}
	root, err := l.root()
	if err != nil {
		return nil, err
	}
	left, err := os.ReadDir(filepath.Join(root, frozenDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list what is frozen: %w", err)
	}
	for _, e := range left {
		if CheckName(e.Name()) != nil {
			continue
		}
		dir, err := f.open(filepath.Join(root, e.Name()))
		if err == nil && dir >= 0 {
			_ = unix.IoctlSetInt(dir, fiThaw, 0) // EINVAL: it was not frozen any more
			_ = unix.Close(dir)
		}
		if err := os.Remove(filepath.Join(root, frozenDir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("forget what was frozen: %w", err)
		}
	}
	return f, nil
}

// Freeze writes back and freezes the file system that is mounted from a device, until Thaw, or for FreezeLimit. It gives false
// if there is none, or none that is written. It takes as long as its dirty pages; if ctx ends before, it is not frozen.
func (f *Freezer) Freeze(ctx context.Context, name string) (bool, error) {
	at, done, err := f.local.turn(ctx, name)
	if err != nil {
		return false, err
	}
	f.mu.Lock()
	already := f.frozen[name] != nil
	f.mu.Unlock()
	if already {
		done()
		return false, fmt.Errorf("%w: the file system on %s is frozen already", export.ErrBusy, name)
	}
	dir, err := f.open(at)
	if err != nil || dir < 0 {
		done()
		return false, err
	}
	note := filepath.Join(filepath.Dir(at), frozenDir, name)
	err = os.MkdirAll(filepath.Dir(note), 0o700)
	if err == nil {
		err = os.WriteFile(note, nil, 0o600)
	}
	if err != nil {
		done()
		_ = unix.Close(dir)
		return false, fmt.Errorf("note what is frozen: %w", err)
	}
	end := make(chan error)
	go func() { // the file system may take its time
		defer done()
		err := unix.IoctlSetInt(dir, fiFreeze, 0)
		select {
		case end <- err:
		case <-ctx.Done():
			if err == nil {
				_ = unix.IoctlSetInt(dir, fiThaw, 0)
			}
			_ = os.Remove(note)
			_ = unix.Close(dir)
		}
	}()
	select {
	case err = <-end:
	case <-ctx.Done():
		return false, fmt.Errorf("%w: freeze %s: %w", ErrTime, name, ctx.Err())
	}
	if err != nil {
		_ = os.Remove(note)
		_ = unix.Close(dir)
		return false, fmt.Errorf("freeze the file system of %s: %w", name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen[name] = &frozen{dir: dir, timer: time.AfterFunc(f.limit, func() { _, _ = f.Thaw(context.Background(), name) })}
	return true, nil
}

// Thaw lets a file system go on. It tells whether it stood still until now.
func (f *Freezer) Thaw(_ context.Context, name string) (bool, error) {
	if err := CheckName(name); err != nil {
		return false, err
	}
	f.mu.Lock()
	z := f.frozen[name]
	delete(f.frozen, name)
	f.mu.Unlock()
	if z == nil {
		return false, nil
	}
	z.timer.Stop()
	err := unix.IoctlSetInt(z.dir, fiThaw, 0)
	_ = unix.Close(z.dir)
	root, rerr := f.local.root()
	if rerr == nil {
		_ = os.Remove(filepath.Join(root, frozenDir, name))
	}
	if errors.Is(err, unix.EINVAL) {
		return false, nil // somebody else let it go on
	}
	if err != nil {
		return false, fmt.Errorf("thaw the file system of %s: %w", name, err)
	}
	return true, nil
}

// open opens the root of the file system on the loop device of the mount at; -1 if nothing is mounted from it for writing.
func (f *Freezer) open(at string) (int, error) {
	list, err := f.local.bound(at)
	if err != nil || len(list) == 0 {
		return -1, err
	}
	var number uint64
	if n, err := strconv.ParseUint(strings.TrimPrefix(filepath.Base(list[0].Path), "loop"), 10, 32); err == nil {
		number = unix.Mkdev(7, uint32(n))
	}
	places, err := mountedFrom(number)
	if err != nil {
		return -1, err
	}
	for _, place := range places {
		fd, err := unix.Open(place, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil && st.Dev == number { // another one may be mounted over it
			return fd, nil
		}
		_ = unix.Close(fd)
	}
	return -1, nil
}

// mountedFrom lists where a device is mounted for writing, from mountinfo (proc_pid_mountinfo(5)).
func mountedFrom(number uint64) (out []string, err error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer file.Close()
	want := fmt.Sprintf("%d:%d", unix.Major(number), unix.Minor(number))
	sc := bufio.NewScanner(file)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		left, right, ok := strings.Cut(sc.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 3 || l[2] != want || strings.HasPrefix(r[2], "ro") {
			continue
		}
		out = append(out, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(l[4]))
	}
	return out, sc.Err()
}
