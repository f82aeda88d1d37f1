package device

import (
	"context"
	"crypto/rand"
	"encoding/json"
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
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
	"mynetwork.io/mynetwork/nodeagent/export/loop"
)

// Errors of devices.
var (
	// ErrMounted tells that there is a mount at the device's place: leftovers to clean up, or a live device.
	ErrMounted = errors.New("the device's directory is a mount already")
	// ErrName tells that a name cannot be a directory's.
	ErrName = errors.New("not a device's name")
	// ErrMeta tells that the holder's entry was not written by this package, or by a newer version of it.
	ErrMeta = errors.New("holder's entry is not a device's of a known version")
)

// busyPoll is how often an unmount is tried again while the kernel still puts away the loop device's file.
const busyPoll = 5 * time.Millisecond

// Keeper is the holder, as its client. See holder.Client.
type Keeper interface {
	Put(ctx context.Context, e *holder.Entry) error
	Get(ctx context.Context, name string) (*holder.Entry, error)
	Drop(ctx context.Context, name string) error
}

var _ Keeper = (*holder.Client)(nil)

// Options of a device.
type Options struct {
	Dir    string       // where devices are mounted; made if missing
	Name   string       // of the volume; the mount is Dir/Name
	Keeper Keeper       // nil: the device ends with the process
	Meta   []byte       // the caller's own bytes, kept by the holder
	Memory []int        // descriptors of shared memory, kept by the holder; the caller's, and open as long as the device
	Fuse   fuse.Options // of the server
}

// Device is a loop device that this process serves.
type Device struct {
	opt  Options
	dir  string // the mount
	path string // the loop device
	fd   int    // /dev/fuse
	conn [16]byte
	back export.Backend
	srv  *fuse.Server

	mu     sync.Mutex // one Resize or Close at a time
	closed bool

	done chan struct{}
	err  error // set before done is closed
	emu  sync.Mutex
	quit bool // Close has begun to end the server
}

var _ export.Device = (*Device)(nil)

// meta is what a device keeps in the holder's entry, as JSON. Version only climbs.
type meta struct {
	Version int
	Conn    [16]byte // the identity in request ids
	Dir     string
	Path    string
	User    []byte
}

const metaVersion = 1

// Attach makes the device. The backend's size must be a positive multiple of export.BlockSize.
func Attach(ctx context.Context, b export.Backend, o Options) (_ *Device, err error) {
	if err := export.CheckSize(b.Size()); err != nil {
		return nil, err
	}
	d, err := place(b, o)
	if err != nil {
		return nil, err
	}
	var conn [16]byte
	_, _ = rand.Read(conn[:]) // never fails
	if d.fd, err = fuse.Mount(d.dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.undo()
		}
	}()
	d.conn = conn
	d.srv = fuse.New(d.fd, conn, b, o.Fuse)
	if err := d.srv.Start(); err != nil {
		return nil, err
	}
	if err := d.srv.Ready(ctx); err != nil {
		return nil, err
	}
	if o.Keeper != nil && !d.srv.CanResend() {
		return nil, fuse.ErrNoResend
	}
	if d.path, err = bind(d.file()); err != nil {
		return nil, err
	}
	if o.Keeper != nil {
		if err := d.keep(ctx, o.Keeper); err != nil {
			return nil, err
		}
	}
	go d.wait()
	return d, nil
}

// place checks that the device's directory can be mounted on, and makes it.
func place(b export.Backend, o Options) (*Device, error) {
	if o.Name == "" || strings.ContainsRune(o.Name, filepath.Separator) || strings.HasPrefix(o.Name, ".") || len(o.Name) > holder.MaxName {
		return nil, fmt.Errorf("%w: %q", ErrName, o.Name)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the devices' directory: %w", err)
	}
	dir, err := filepath.EvalSymlinks(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("devices' directory: %w", err)
	}
	if o.Dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("devices' directory: %w", err)
	}
	d := &Device{opt: o, dir: filepath.Join(o.Dir, o.Name), fd: -1, back: b, done: make(chan struct{})}
	if _, err := fuse.ConnOf(d.dir); err == nil {
		return nil, fmt.Errorf("%w: %s", ErrMounted, d.dir)
	} else if !errors.Is(err, fuse.ErrNotMounted) {
		return nil, err
	}
	if err := os.Mkdir(d.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the mount's directory: %w", err)
	}
	return d, nil
}

func (d *Device) file() string { return filepath.Join(d.dir, fuse.FileName) }

// bind opens the volume's file for the loop driver. It does so without package os, whose files are made known to epoll: that
// asks FUSE (POLL) from inside the Go scheduler, where waiting for this process's own answer is a deadlock.
func bind(file string) (string, error) {
	fd, err := unix.Open(file, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open the volume's file: %w", err)
	}
	defer unix.Close(fd)
	return loop.Attach(fd, file)
}

// Keep gives the device to a holder again: to another one after the first has ended (a holder is updated by starting
// another one while the server lives), or to the same one over a new connection after the first was lost.
func (d *Device) Keep(ctx context.Context, k Keeper) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	err := d.keep(ctx, k)
	if errors.Is(err, holder.ErrExists) { // own it, and replace what the watchdog may have ended
		var e *holder.Entry
		if e, err = take(ctx, k, d.opt.Name); err != nil {
			return err
		}
		e.Close()
		if err := k.Drop(ctx, d.opt.Name); err != nil {
			return err
		}
		err = d.keep(ctx, k)
	}
	if err == nil {
		d.opt.Keeper = k
	}
	return err
}

func (d *Device) keep(ctx context.Context, k Keeper) error {
	num, err := fuse.ConnOf(d.dir)
	if err != nil {
		return err
	}
	m, err := json.Marshal(meta{Version: metaVersion, Conn: d.conn, Dir: d.opt.Dir, Path: d.path, User: d.opt.Meta})
	if err != nil {
		return fmt.Errorf("device's meta: %w", err)
	}
	return k.Put(ctx, &holder.Entry{
		Name: d.opt.Name, Meta: m, Conn: num, Device: []int{d.fd}, Memory: d.opt.Memory,
	})
}

// undo takes back a half-made device that nobody has seen.
func (d *Device) undo() {
	if d.path != "" {
		_ = loop.Abandon(d.path, d.file())
	}
	_ = fuse.Unmount(d.dir, true)
	_ = unix.Close(d.fd)
	_ = os.Remove(d.dir)
}

// wait notes the server's end.
func (d *Device) wait() {
	<-d.srv.Done()
	d.emu.Lock()
	if !d.quit {
		d.err = errors.Join(export.ErrGone, d.srv.Err())
	}
	d.emu.Unlock()
	close(d.done)
}

// Path is the loop device's node.
func (d *Device) Path() string { return d.path }

// Done is closed when the device serves no more.
func (d *Device) Done() <-chan struct{} { return d.done }

// Err is why the device ended by itself.
func (d *Device) Err() error {
	d.emu.Lock()
	defer d.emu.Unlock()
	return d.err
}

// IOFlusher tells why the serving threads could not be marked with PR_SET_IO_FLUSHER; nil if they are.
func (d *Device) IOFlusher() error { return d.srv.IOFlusher() }

// Abort cuts the device off: everything that is asked of it, and all that waits, fails with EIO. It is for a volume that
// answers no more. Close must follow, once the file system on it is unmounted.
func (d *Device) Abort() error { return fuse.Abort(d.dir) }

// Resize lets the loop device take a grown backend's size.
func (d *Device) Resize(_ context.Context, newSize int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := export.CheckSize(newSize); err != nil {
		return err
	}
	now, err := d.size()
	if err != nil {
		return err
	}
	switch have := d.back.Size(); {
	case newSize < now:
		return fmt.Errorf("%w: from %d to %d", export.ErrShrink, now, newSize)
	case newSize != have:
		return fmt.Errorf("%w: the volume has %d bytes, not %d", export.ErrSize, have, newSize)
	}
	if err := d.srv.InvalidateSize(); err != nil {
		return err
	}
	if _, err := os.Stat(d.file()); err != nil { // the kernel learns the size
		return fmt.Errorf("look at the volume's file: %w", err)
	}
	if err := loop.SetCapacity(d.path); err != nil {
		return err
	}
	if now, err = d.size(); err == nil && now != newSize {
		err = fmt.Errorf("%s has %d bytes after a resize to %d", d.path, now, newSize)
	}
	return err
}

// size is the block device's, in bytes.
func (d *Device) size() (int64, error) {
	b, err := os.ReadFile(filepath.Join("/sys/class/block", filepath.Base(d.path), "size"))
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", d.path, err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", d.path, err)
	}
	return n * 512, nil
}

// Close detaches the loop device, unmounts FUSE, has the holder forget the device and stops the server.
func (d *Device) Close(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	if err := loop.Detach(ctx, d.path, d.file()); err != nil {
		return err
	}
	d.emu.Lock()
	d.quit = true
	d.emu.Unlock()
	if err := unmount(ctx, d.dir); err != nil {
		return err
	}
	var err error // from here on there is no way back: finish, then tell
	if k := d.opt.Keeper; k != nil {
		if e := k.Drop(ctx, d.opt.Name); !errors.Is(e, holder.ErrNotFound) {
			err = e
		}
	}
	select {
	case <-d.done:
	case <-ctx.Done():
		return errors.Join(err, fmt.Errorf("requests are still in the volume: %w", ctx.Err()))
	}
	d.closed = true
	_ = unix.Close(d.fd)
	if e := os.Remove(d.dir); e != nil && !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, fmt.Errorf("remove the mount's directory: %w", e))
	}
	return err
}

// unmount waits for the kernel to put away the file of a detached loop device.
func unmount(ctx context.Context, dir string) error {
	tick := time.NewTicker(busyPoll)
	defer tick.Stop()
	for {
		err := fuse.Unmount(dir, false)
		if err == nil || !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", export.ErrBusy, err)
		case <-tick.C:
		}
	}
}
