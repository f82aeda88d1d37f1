package mounter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/loop"
)

// busyPoll is how often an unmount is tried again while the kernel still puts away the loop device's file.
const busyPoll = 5 * time.Millisecond

// Local mounts in this process, which must be privileged. Make one with New.
type Local struct {
	dir  string // as it was given
	scan func(dir string) ([]loop.Bound, error)

	mu    sync.Mutex
	turns map[string]*turn // of names that calls are at work on
	// Connections of mounts to which nothing is bound, by path: this process made them, or ended the loop device, and bound none since.
	free map[string]uint32
}

// turn is whose turn it is for one name.
type turn struct {
	taken chan struct{} // full while a call is at work
	calls int           // that have or await it
}

// New makes a Local for a directory, which is made when it is first used.
func New(dir string) *Local {
	return &Local{dir: dir, scan: loop.List, turns: map[string]*turn{}, free: map[string]uint32{}}
}

// root makes the directory and gives its path without symbolic links, as the kernel's tables have it.
func (l *Local) root() (string, error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return "", fmt.Errorf("make the devices' directory: %w", err)
	}
	dir, err := filepath.EvalSymlinks(l.dir)
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return "", fmt.Errorf("devices' directory: %w", err)
	}
	return dir, nil
}

// Place is a device's name on the whole machine: this directory's path and the name. Error: ErrName.
func (l *Local) Place(name string) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	root, err := l.root()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, name), nil
}

// turn waits for the turn of a call for name.
func (l *Local) turn(ctx context.Context, name string) (place string, done func(), err error) {
	if err := CheckName(name); err != nil {
		return "", nil, err
	}
	root, err := l.root()
	if err != nil {
		return "", nil, err
	}
	l.mu.Lock()
	t := l.turns[name]
	if t == nil {
		t = &turn{taken: make(chan struct{}, 1)}
		l.turns[name] = t
	}
	t.calls++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if t.calls--; t.calls == 0 {
			delete(l.turns, name)
		}
	}
	at, done := filepath.Join(root, name), func() { <-t.taken; leave() }
	select {
	case t.taken <- struct{}{}: // also if ctx has ended: what need not wait is done
		return at, done, nil
	default:
	}
	select {
	case t.taken <- struct{}{}:
		return at, done, nil
	case <-ctx.Done():
		leave()
		return "", nil, fmt.Errorf("%w: another call for %s is under way", ErrTime, name)
	}
}

// Mount mounts a new connection. Errors: ErrName, ErrMounted, ErrLimit, fuse.ErrNoDevice.
func (l *Local) Mount(ctx context.Context, name string) (Mount, error) {
	at, done, err := l.turn(ctx, name)
	if err != nil {
		return Mount{}, err
	}
	defer done()
	mounts, err := fuse.Mounts(filepath.Dir(at))
	if err != nil {
		return Mount{}, err
	}
	for _, m := range mounts {
		if m.Dir == at {
			return Mount{}, fmt.Errorf("%w: %s", ErrMounted, at)
		}
	}
	if len(mounts) >= MaxDevices {
		return Mount{}, fmt.Errorf("%w: %d devices below %s", ErrLimit, len(mounts), filepath.Dir(at))
	}
	if err := os.Mkdir(at, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return Mount{}, fmt.Errorf("make the mount's directory: %w", err)
	}
	dir, err := unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0) // mount(2) follows symbolic links
	if errors.Is(err, unix.ENOTDIR) {
		return Mount{}, fmt.Errorf("%w: %s is no directory", ErrName, at)
	}
	if err != nil {
		return Mount{}, fmt.Errorf("open the mount's directory: %w", err)
	}
	defer unix.Close(dir)
	fd, err := fuse.Mount(fmt.Sprintf("/proc/self/fd/%d", dir))
	if err != nil {
		return Mount{}, fmt.Errorf("device %s: %w", at, err)
	}
	conn, err := fuse.ConnOf(at)
	if err != nil {
		return Mount{}, errors.Join(err, unix.Close(fd), fuse.Unmount(at, true))
	}
	l.setFree(at, conn)
	return Mount{FD: fd, Conn: conn}, nil
}

// Bind binds a loop device to the file of a mount that is served, or gives the one that is bound. Errors: fuse.ErrNotMounted,
// loop.ErrNoDevice, loop.ErrBuffered, ErrTime.
func (l *Local) Bind(ctx context.Context, name string) (path string, err error) {
	at, done, err := l.turn(ctx, name)
	if err != nil {
		return "", err
	}
	defer done()
	if _, err := fuse.ConnOf(at); err != nil {
		return "", err
	}
	list, err := l.bound(at)
	if err != nil {
		return "", err
	}
	if len(list) > 0 { // one that was found, and not by its record, is recorded
		return list[0].Path, record(at, list[0])
	}
	l.setUsed(at)
	stop := context.AfterFunc(ctx, func() { _ = fuse.Abort(at) }) // whoever waits for an answer gets an error
	path, err = bind(filepath.Join(at, fuse.FileName))
	if err != nil {
		_ = stop()
		return "", errors.Join(err, ctx.Err())
	}
	b, err := loop.Look(path)
	if err == nil {
		err = record(at, b)
	}
	if !stop() {
		err = fmt.Errorf("%w: bind %s: %w", ErrTime, name, ctx.Err())
	}
	if err != nil {
		return "", errors.Join(err, loop.Abandon(b))
	}
	return path, nil
}

// bind opens the volume's file for the loop driver. It does so without package os, whose files are made known to epoll: that
// asks FUSE (POLL) from inside the Go scheduler, where waiting for this process's own answer is a deadlock. A file that its server lets
// nobody write (EROFS) becomes a device that nobody can write.
func bind(file string) (string, error) {
	const how = unix.O_DIRECT | unix.O_CLOEXEC | unix.O_NOFOLLOW
	fd, err := unix.Open(file, unix.O_RDWR|how, 0)
	if errors.Is(err, unix.EROFS) {
		fd, err = unix.Open(file, unix.O_RDONLY|how, 0)
	}
	if err != nil {
		return "", fmt.Errorf("open the volume's file: %w", err)
	}
	defer unix.Close(fd)
	return loop.Attach(fd, file)
}

// Resize lets the loop device take the size of its file, and gives it in bytes. Whoever serves the file has invalidated its
// attributes. Errors: fuse.ErrNotMounted, ErrTime.
func (l *Local) Resize(ctx context.Context, name string) (size int64, err error) {
	at, done, err := l.turn(ctx, name)
	if err != nil {
		return 0, err
	}
	list, err := l.bound(at)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%w: no loop device is bound to %s", fuse.ErrNotMounted, name)
	}
	if err != nil {
		done()
		return 0, err
	}
	type result struct {
		size int64
		err  error
	}
	end := make(chan result, 1)
	go func() { // the file's server may take its time, and the device goes on all the same
		defer done()
		size, err := resize(filepath.Join(at, fuse.FileName), list[0].Path)
		end <- result{size, err}
	}()
	select {
	case r := <-end:
		return r.size, r.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: resize %s: %w", ErrTime, name, ctx.Err())
	}
}

func resize(file, path string) (int64, error) {
	if _, err := os.Lstat(file); err != nil { // the kernel learns the size
		return 0, fmt.Errorf("look at the volume's file: %w", err)
	}
	if err := loop.SetCapacity(path); err != nil {
		return 0, err
	}
	return loop.Size(path)
}

// Unbind ends the loop device. It fails with export.ErrBusy while that is mounted or claimed, and waits until ctx ends for those
// who merely have it open.
func (l *Local) Unbind(ctx context.Context, name string) error {
	at, done, err := l.turn(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	list, err := l.bound(at)
	for _, b := range list {
		err = errors.Join(err, loop.Detach(ctx, b))
	}
	if err == nil {
		err = forget(at)
	}
	if err != nil || len(list) == 0 {
		return err
	}
	if conn, err := fuse.ConnOf(at); err == nil {
		l.setFree(at, conn)
	}
	return nil
}

// Unmount unmounts a device without a loop device, ends its connection and removes its directory. It waits until ctx ends for
// the kernel to put away the loop device's file. Errors: export.ErrBusy.
func (l *Local) Unmount(ctx context.Context, name string) error {
	at, done, err := l.turn(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	list, err := l.bound(at)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		return fmt.Errorf("%w: %s is bound to %s", export.ErrBusy, list[0].Path, name)
	}
	if err := unmount(ctx, at); err != nil {
		return err
	}
	l.setUsed(at)
	return remove(at)
}

// unmount unmounts what nobody uses. The connection is ended by force: a copy of the mount in another namespace would keep it.
func unmount(ctx context.Context, at string) error {
	tick := time.NewTicker(busyPoll)
	defer tick.Stop()
	for {
		// The first call of MNT_EXPIRE unmounts nothing: EAGAIN tells that the mount is not in use.
		err := unix.Unmount(at, unix.MNT_EXPIRE|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EAGAIN) {
			err = unix.Unmount(at, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW)
		}
		switch {
		case err == nil, errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT): // not mounted
			return nil
		case !errors.Is(err, unix.EBUSY):
			return fmt.Errorf("unmount %s: %w", at, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", export.ErrBusy, err)
		case <-tick.C:
		}
	}
}

func remove(at string) error {
	if err := unix.Rmdir(at); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the mount's directory %s: %w", at, err)
	}
	return nil
}

// Abort ends a device's connection: all that is asked of it fails. Unbind and Unmount must follow. A device that is not there
// is fine.
func (l *Local) Abort(_ context.Context, name string) error {
	if err := CheckName(name); err != nil { // it waits for no turn: it frees who has it
		return err
	}
	root, err := l.root()
	if err != nil {
		return err
	}
	return fuse.Abort(filepath.Join(root, name))
}

// Discard ends what is left of a device that nobody serves: I/O on it fails. While somebody has its loop device mounted or open,
// it fails with export.ErrBusy, and succeeds once that has ended. A device that is not there is fine.
func (l *Local) Discard(ctx context.Context, name string) error {
	at, done, err := l.turn(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	list, err := l.bound(at)
	if err != nil {
		return err
	}
	if err := fuse.Abort(at); err != nil {
		return err
	}
	var busy error
	for _, b := range list {
		if err := loop.Abandon(b); err != nil {
			return err
		}
		if now, err := loop.Look(b.Path); err != nil || now == b {
			busy = errors.Join(busy, err, fmt.Errorf("%w: %s", export.ErrBusy, b.Path))
		}
	}
	if busy != nil {
		return busy
	}
	if err := fuse.Unmount(at, true); err != nil {
		return err
	}
	l.setUsed(at)
	return errors.Join(forget(at), remove(at))
}

// List gives the devices that have a mount or a loop device, live ones among them.
func (l *Local) List(context.Context) ([]Found, error) {
	root, err := l.root()
	if err != nil {
		return nil, err
	}
	return l.list(root)
}
