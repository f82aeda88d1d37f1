package device

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
	"mynetwork.io/mynetwork/nodeagent/export/loop"
	"mynetwork.io/mynetwork/nodeagent/export/mounter"
	"mynetwork.io/mynetwork/nodeagent/export/ublk"
)

// Errors of devices.
var (
	// ErrMounted tells that there is a mount at the device's place: leftovers to clean up, or a live device.
	ErrMounted = mounter.ErrMounted
	// ErrName tells that a name cannot be a directory's.
	ErrName = mounter.ErrName
	// ErrMeta tells that the holder's entry was not written by this package, or by a newer version of it.
	ErrMeta = errors.New("holder's entry is not a device's of a known version")
)

// Keeper is the holder, as its client. See holder.Client.
type Keeper interface {
	Put(ctx context.Context, e *holder.Entry) error
	Get(ctx context.Context, name string) (*holder.Entry, error)
	Drop(ctx context.Context, name string) error
}

var _ Keeper = (*holder.Client)(nil)

// Maker makes and unmakes what the kernel has of a device. See mounter.Local.
type Maker interface {
	Mount(ctx context.Context, name string) (mounter.Mount, error)
	Bind(ctx context.Context, name string) (path string, err error)
	Resize(ctx context.Context, name string) (size int64, err error)
	Unbind(ctx context.Context, name string) error
	Unmount(ctx context.Context, name string) error
}

// Mounter does what takes privilege: in this process (mounter.Local), or in another one (mounter.Client).
type Mounter interface {
	Maker
	Abort(ctx context.Context, name string) error
	Discard(ctx context.Context, name string) error
	List(ctx context.Context) ([]mounter.Found, error)
}

var (
	_ Mounter = (*mounter.Local)(nil)
	_ Mounter = (*mounter.Client)(nil)
)

// Options of a device.
type Options struct {
	Mounter Mounter      // makes the device
	Name    string       // of the volume
	Keeper  Keeper       // nil: the device ends with the process
	Meta    []byte       // the caller's own bytes, kept by the holder
	Memory  []int        // descriptors of shared memory, kept by the holder; the caller's, and open as long as the device
	Fuse    fuse.Options // of the server; without a Transport it is chosen: see Device.Transport
}

// Device is a block device that this process serves: a loop device on FUSE, or one of ublk.
type Device struct {
	opt  Options
	ublk *ublk.Device // nil: FUSE
	path string       // the block device
	fd   int          // /dev/fuse
	num  uint32       // the kernel's number of the connection
	conn [16]byte
	back export.Backend
	srv  *fuse.Server

	serving   bool // srv has started
	transport fuse.Transport
	reason    string

	mu     sync.Mutex // one Resize or Close at a time
	closed bool

	done chan struct{}
	err  error // set before done is closed
	emu  sync.Mutex
	quit bool // Close has begun to end the server
}

var _ export.Device = (*Device)(nil)

// meta is what a device keeps in the holder's entry, as JSON. Version only climbs. Version 2 is written for devices that
// cannot be resumed, so that older servers do not try; version 3 for those of ublk.
type meta struct {
	Version int
	Conn    [16]byte // the identity in request ids
	Path    string
	User    []byte

	Transport fuse.Transport `json:",omitempty"` // since version 2; before it is fuse.DevFuse
	Ublk      *ublk.Kept     `json:",omitempty"` // since version 3; nil: FUSE
}

const (
	metaVersion = 3
	uringMeta   = 2 // what devices over io_uring have
)

// undoTime is how long a device that nobody has seen, or that must be cut off, waits for the mounter.
const undoTime = 10 * time.Second

// Attach makes the device. The backend's size must be a positive multiple of export.BlockSize.
func Attach(ctx context.Context, b export.Backend, o Options) (_ *Device, err error) {
	if err := export.CheckSize(b.Size()); err != nil {
		return nil, err
	}
	if len(o.Name) > holder.MaxName {
		return nil, fmt.Errorf("%w: %d bytes", ErrName, len(o.Name))
	}
	if d, err := attachUblk(ctx, b, o); d != nil || err != nil {
		return d, err
	}
	m, err := o.Mounter.Mount(ctx, o.Name)
	if errors.Is(err, ErrMounted) && o.unkept(ctx) {
		if err = o.Mounter.Discard(ctx, o.Name); err == nil {
			m, err = o.Mounter.Mount(ctx, o.Name)
		}
	}
	if err != nil {
		return nil, err
	}
	d := &Device{opt: o, fd: m.FD, num: m.Conn, back: b, done: make(chan struct{})}
	defer func() {
		if err != nil {
			d.undo()
		}
	}()
	_, _ = rand.Read(d.conn[:]) // never fails
	if err := d.start(ctx); err != nil {
		return nil, err
	}
	if o.Keeper != nil && d.transport == fuse.DevFuse && !d.srv.CanResend() {
		return nil, fuse.ErrNoResend
	}
	if d.path, err = o.Mounter.Bind(ctx, o.Name); err != nil {
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

// unkept tells that the holder knows no device of the name: a mount of it was left by a process that died before it was made.
func (o *Options) unkept(ctx context.Context) bool {
	if o.Keeper == nil {
		return false
	}
	e, err := o.Keeper.Get(ctx, o.Name)
	if err == nil {
		e.Close()
	}
	return errors.Is(err, holder.ErrNotFound)
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
	mt := meta{Version: 1, Conn: d.conn, Path: d.path, User: d.opt.Meta}
	e := &holder.Entry{Name: d.opt.Name, Conn: d.num, Device: []int{d.fd}, Memory: d.opt.Memory}
	switch {
	case d.ublk != nil:
		d.ublkEntry(e, &mt)
	case d.transport != fuse.DevFuse: // nobody could go on with it: let its I/O fail at once
		mt.Version, mt.Transport, e.Device = uringMeta, d.transport, nil
	}
	var err error
	if e.Meta, err = json.Marshal(mt); err != nil {
		return fmt.Errorf("device's meta: %w", err)
	}
	return k.Put(ctx, e)
}

// undo takes back a half-made device that nobody has seen.
func (d *Device) undo() {
	ctx, cancel := context.WithTimeout(context.Background(), undoTime)
	defer cancel()
	if err := d.opt.Mounter.Discard(ctx, d.opt.Name); err != nil || !d.serving {
		_ = unix.Close(d.fd) // ends the connection too, if there is no mounter any more
		return
	}
	go func() { // the descriptor's number must not become another file's under the server's threads
		<-d.srv.Done()
		_ = unix.Close(d.fd)
	}()
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

// Path is the block device's node.
func (d *Device) Path() string { return d.path }

// Done is closed when the device serves no more.
func (d *Device) Done() <-chan struct{} {
	if d.ublk != nil {
		return d.ublk.Done()
	}
	return d.done
}

// Err is why the device ended by itself.
func (d *Device) Err() error {
	if d.ublk != nil {
		return d.ublk.Err()
	}
	d.emu.Lock()
	defer d.emu.Unlock()
	return d.err
}

// IOFlusher tells why the serving threads could not be marked with PR_SET_IO_FLUSHER; nil if they are.
func (d *Device) IOFlusher() error {
	if d.ublk != nil {
		return d.ublk.IOFlusher()
	}
	return d.srv.IOFlusher()
}

// Abort cuts the device off: everything that is asked of it, and all that waits, fails with EIO. It is for a volume that
// answers no more. Close must follow, once the file system on it is unmounted.
func (d *Device) Abort() error {
	if d.ublk != nil {
		return d.ublk.Abort()
	}
	ctx, cancel := context.WithTimeout(context.Background(), undoTime)
	defer cancel()
	return d.opt.Mounter.Abort(ctx, d.opt.Name)
}

// Resize lets the block device take a grown backend's size.
func (d *Device) Resize(ctx context.Context, newSize int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ublk != nil {
		return d.ublk.Resize(ctx, newSize)
	}
	if err := export.CheckSize(newSize); err != nil {
		return err
	}
	now, err := loop.Size(d.path)
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
	if now, err = d.opt.Mounter.Resize(ctx, d.opt.Name); err == nil && now != newSize {
		err = fmt.Errorf("%s has %d bytes after a resize to %d", d.path, now, newSize)
	}
	return err
}

// Close detaches the loop device, unmounts FUSE, has the holder forget the device and stops the server; or what ublk has of that.
func (d *Device) Close(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	if d.ublk != nil {
		return d.closeUblk(ctx)
	}
	if err := d.opt.Mounter.Unbind(ctx, d.opt.Name); err != nil {
		return err
	}
	d.emu.Lock()
	d.quit = true
	d.emu.Unlock()
	if err := d.opt.Mounter.Unmount(ctx, d.opt.Name); err != nil {
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
	return err
}
