package ublk

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
)

const (
	defaultDepth = 128
	// busyPause is how often a device that somebody has open is tried to be stopped.
	busyPause = 10 * time.Millisecond
	// undoTime bounds how long a half-made device is taken back.
	undoTime = 10 * time.Second
)

// Options of a device.
type Options struct {
	Name  string // of the device, an absolute path that need not exist: Remove and Sweep find it by that
	Keep  bool   // it waits for the next server when this one dies, instead of ending
	Depth int    // requests under way at once; default 128
}

// Kept is what the next server needs, beside the table: see Device.Kept.
type Kept struct {
	Device uint32 // the kernel's number
	Cookie uint64 // tells the device from a later one of the same number
}

// Device is a block device that this process serves.
type Device struct {
	kept  Kept
	back  export.Backend
	safe  bool // the kernel refuses to stop a device that is in use
	conn  [16]byte
	table *table
	srv   *server
	fd    int
	descs []byte

	mu      sync.Mutex // one Resize or Close at a time
	closed  bool
	stopped bool

	done chan struct{}
	emu  sync.Mutex
	quit bool // Close has begun
	err  error
}

var _ export.Device = (*Device)(nil)

// cookieOf is what marks a name's devices in the kernel: the upper half its directory, the lower one the rest.
func cookieOf(name string) uint64 {
	dir, base := filepath.Split(name)
	return dirMark(dir) | uint64(mark("name", base))
}

func dirMark(dir string) uint64 { return uint64(mark("dir", filepath.Clean(dir))) << 32 }

func mark(kind, s string) uint32 {
	h := sha256.Sum256([]byte("mynetwork ublk " + kind + "\x00" + s))
	return binary.LittleEndian.Uint32(h[:])
}

// ErrExists tells that there is a device of the name already, live or left to be resumed.
var ErrExists = errors.New("there is a ublk device of that name already")

// Attach makes the device. The backend's size must be a positive multiple of export.BlockSize. Errors: export.ErrSize, ErrUnavailable,
// ErrExists.
func Attach(ctx context.Context, b export.Backend, o Options) (_ *Device, err error) {
	if err := export.CheckSize(b.Size()); err != nil {
		return nil, err
	}
	if o.Depth <= 0 || o.Depth > maxDepth {
		o.Depth = defaultDepth
	}
	c, err := openControl()
	if err != nil {
		return nil, err
	}
	defer c.close()
	f, err := c.features(ctx)
	if err != nil {
		return nil, err
	}
	cookie := cookieOf(o.Name)
	if err := c.clear(ctx, cookie); err != nil {
		return nil, err
	}
	flags := f & (flagIoctlCodes | flagUpdateSize | flagNoPartitions)
	if o.Keep {
		flags |= flagRecovery | flagReissue
	}
	i, err := c.add(ctx, flags, cookie, o.Depth)
	if err != nil {
		return nil, err
	}
	d := &Device{kept: Kept{i.device, cookie}, back: b, fd: -1, safe: f&flagSafeStop != 0, done: make(chan struct{})}
	_, _ = rand.Read(d.conn[:]) // never fails
	defer func() {
		if err != nil {
			d.undo()
		}
	}()
	if d.table, err = newTable(d.conn, o.Depth); err != nil {
		return nil, err
	}
	if err = d.begin(ctx, c); err != nil {
		return nil, err
	}
	return d, nil
}

// begin serves a new device and has the kernel show it.
func (d *Device) begin(ctx context.Context, c *control) error {
	if err := d.prepare(); err != nil {
		return err
	}
	d.back.Resent() // nobody was there before
	if err := d.srv.start(); err != nil {
		return err
	}
	go d.wait()
	p := newParameters(d.back)
	if err := c.do(ctx, ctlSetParameters, controlCmd{device: d.kept.Device}, bytesOf(&p)); err != nil {
		return fmt.Errorf("set the ublk device's parameters: %w", err)
	}
	if err := c.on(ctx, ctlStart, d.kept.Device, uint64(os.Getpid())); err != nil {
		return fmt.Errorf("start the ublk device: %w", err)
	}
	_ = os.WriteFile(d.scheduler(), []byte("none"), 0) // without that, what a killed server accepted is applied once more
	return nil
}

// prepare opens the device's other side and makes its server.
func (d *Device) prepare() (err error) {
	path := fmt.Sprintf("/dev/ublkc%d", d.kept.Device)
	if d.fd, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("%w: open %s, which the kernel has made: %w", ErrUnavailable, path, err)
	}
	page := os.Getpagesize()
	size := (d.table.tags()*int(unsafe.Sizeof(ioDesc{})) + page - 1) / page * page
	if d.descs, err = unix.Mmap(d.fd, 0, size, unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return fmt.Errorf("map the requests of %s: %w", path, err)
	}
	d.srv, err = newServer(d.fd, d.descs, d.back, d.table)
	return err
}

// Resume serves a device again whose former server is dead: first what that one left unanswered. table is a descriptor of its memory, as
// Device.Table gave it; the device owns it, also if this fails. It waits for the kernel to have done with the former server until ctx ends.
// Errors: export.ErrGone if the device has ended.
func Resume(ctx context.Context, b export.Backend, k Kept, table int) (_ *Device, err error) {
	t, err := openTable(table)
	if err != nil {
		return nil, err
	}
	d := &Device{kept: k, back: b, table: t, conn: t.conn, fd: -1, done: make(chan struct{})}
	c, err := openControl()
	if err != nil {
		t.close()
		return nil, err
	}
	defer c.close()
	defer func() {
		if err != nil {
			d.release() // the kernel's device stays: it can be tried again, or ended
		}
	}()
	f, err := c.features(ctx)
	if err != nil {
		return nil, err
	}
	d.safe = f&flagSafeStop != 0
	i, err := c.startRecovery(ctx, k)
	if err != nil {
		return nil, err
	}
	if int(i.depth) != t.tags() {
		return nil, fmt.Errorf("%w: it has %d tags, the device %d", ErrTable, t.tags(), i.depth)
	}
	if err := d.prepare(); err != nil {
		return nil, err
	}
	d.srv.recover(d.unscheduled())
	if err := d.srv.start(); err != nil {
		return nil, err
	}
	go d.wait()
	if err := c.on(ctx, ctlEndRecovery, k.Device, uint64(os.Getpid())); err != nil {
		return nil, fmt.Errorf("go on with ublk device %d: %w", k.Device, err)
	}
	return d, nil
}

func (d *Device) scheduler() string {
	return fmt.Sprintf("/sys/block/ublkb%d/queue/scheduler", d.kept.Device)
}

// unscheduled reports that requests keep their tags when they are sent again. What the file says cannot change while there are such.
func (d *Device) unscheduled() bool {
	b, err := os.ReadFile(d.scheduler())
	return err == nil && (strings.Contains(string(b), "[none]") || strings.TrimSpace(string(b)) == "none")
}

// Kept is what Resume and End need of the device.
func (d *Device) Kept() Kept { return d.kept }

// Table is the descriptor of the memory that Resume needs. It stays the device's.
func (d *Device) Table() int { return d.table.fd }

// Path is the block device's node.
func (d *Device) Path() string { return fmt.Sprintf("/dev/ublkb%d", d.kept.Device) }

// Done is closed when the device serves no more.
func (d *Device) Done() <-chan struct{} { return d.done }

// Err is why the device ended by itself.
func (d *Device) Err() error {
	d.emu.Lock()
	defer d.emu.Unlock()
	return d.err
}

// IOFlusher tells why the serving thread could not be marked as one that memory reclaim must not wait for; nil if it is.
func (d *Device) IOFlusher() error { return d.srv.flusher }

// Abort cuts the device off: all that waits fails with EIO, and the kernel takes the disk away, so that what is asked of it fails, too. Close
// must follow, once the file system on it is unmounted.
func (d *Device) Abort() error {
	d.srv.abort() // first, as the kernel stops only what has answered all
	ctx, cancel := context.WithTimeout(context.Background(), undoTime)
	defer cancel()
	c, err := openControl()
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.on(ctx, ctlStop, d.kept.Device, 0); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("stop %s: %w", d.Path(), err)
	}
	return nil
}

// wait notes the server's end.
func (d *Device) wait() {
	<-d.srv.ended
	d.emu.Lock()
	if !d.quit {
		d.err = errors.Join(export.ErrGone, d.srv.failure())
	}
	d.emu.Unlock()
	close(d.done)
}

// Resize makes the device as long as the grown backend.
func (d *Device) Resize(ctx context.Context, newSize int64) error {
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
	c, err := openControl()
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.on(ctx, ctlUpdateSize, d.kept.Device, uint64(newSize)>>sectorLog); err != nil {
		return fmt.Errorf("resize %s to %d: %w", d.Path(), newSize, err)
	}
	if now, err = d.size(); err == nil && now != newSize {
		err = fmt.Errorf("%s has %d bytes after a resize to %d", d.Path(), now, newSize)
	}
	return err
}

// size is the block device's, in bytes.
func (d *Device) size() (int64, error) {
	var n int64
	b, err := os.ReadFile(fmt.Sprintf("/sys/block/ublkb%d/size", d.kept.Device))
	if err == nil {
		_, err = fmt.Sscan(string(b), &n)
	}
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", d.Path(), err)
	}
	return n << sectorLog, nil
}

// Close ends the device.
func (d *Device) Close(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	c, err := openControl()
	if err != nil {
		return err
	}
	defer c.close()
	if !d.stopped {
		d.setQuit(true)
		if err := d.stop(ctx, c); err != nil {
			d.setQuit(false)
			return err
		}
		d.stopped = true
	}
	select {
	case <-d.done:
	case <-ctx.Done():
		return fmt.Errorf("requests are still in the volume: %w", ctx.Err())
	}
	d.closed = true
	d.release()
	if err := c.on(ctx, ctlDelete, d.kept.Device, 0); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete ublk device %d: %w", d.kept.Device, err)
	}
	return nil
}

func (d *Device) setQuit(on bool) {
	d.emu.Lock()
	defer d.emu.Unlock()
	d.quit = on
}

// stop has the kernel stop the device, which must not be mounted. Who merely has it open is waited for.
func (d *Device) stop(ctx context.Context, c *control) error {
	for {
		err := d.tryStop(ctx, c)
		switch {
		case err == nil, errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO): // the last ones: it is stopped already
			return nil
		case errors.Is(err, export.ErrBusy):
			return err
		case !errors.Is(err, unix.EBUSY):
			return fmt.Errorf("stop %s: %w", d.Path(), err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: somebody has %s open: %w", export.ErrBusy, d.Path(), ctx.Err())
		case <-time.After(busyPause):
		}
	}
}

// tryStop stops the device. Errors: export.ErrBusy if it is mounted, EBUSY if it is open; a kernel before 7.0 does not tell the second.
func (d *Device) tryStop(ctx context.Context, c *control) error {
	fd, err := unix.Open(d.Path(), unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: %s is mounted, or somebody has it for himself", export.ErrBusy, d.Path())
	}
	if err != nil {
		return err
	}
	if d.safe {
		_ = unix.Close(fd)
		return c.on(ctx, ctlTryStop, d.kept.Device, 0)
	}
	defer unix.Close(fd) // as long as that, nobody mounts it
	return c.on(ctx, ctlStop, d.kept.Device, 0)
}

// release gives back what this process has of the device, after its server has ended or if it was not started.
func (d *Device) release() {
	if d.srv != nil {
		if d.srv.started {
			d.srv.halt()
			<-d.srv.ended
		}
		d.srv.free()
	}
	if d.descs != nil {
		_ = unix.Munmap(d.descs)
	}
	if d.fd >= 0 {
		_ = unix.Close(d.fd)
	}
	if d.table != nil {
		d.table.close()
	}
}

// undo takes back a half-made device that nobody has seen.
func (d *Device) undo() {
	ctx, cancel := context.WithTimeout(context.Background(), undoTime)
	defer cancel()
	_ = End(ctx, d.kept)
	d.release()
}
