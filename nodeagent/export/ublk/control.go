package ublk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/uring"
)

const (
	controlPath = "/dev/ublk-control"
	charClass   = "/sys/class/ublk-char"
	// glance is how often a control command that waits looks whether its caller still does, in ns.
	glance = 50e6
	// quietPoll is how often a device is asked whether the kernel has done with its former server.
	quietPoll = 5 * time.Millisecond
)

// ErrUnavailable tells that this process can make no ublk devices.
var ErrUnavailable = errors.New("the kernel offers no ublk devices with what is needed")

// control is an open /dev/ublk-control.
type control struct{ fd int }

func openControl() (*control, error) {
	fd, err := unix.Open(controlPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, fmt.Errorf("%w: there is no %s: load the module ublk_drv", ErrUnavailable, controlPath)
	case err != nil:
		return nil, fmt.Errorf("%w: open %s: %w", ErrUnavailable, controlPath, err)
	}
	return &control{fd}, nil
}

func (c *control) close() { _ = unix.Close(c.fd) }

// Available tells why this process cannot make ublk devices; nil if it can. It asks the driver.
func Available() error {
	c, err := openControl()
	if err != nil {
		return err
	}
	defer c.close()
	_, err = c.features(context.Background())
	return err
}

// features are the driver's. Error: ErrUnavailable if what is needed is not among them.
func (c *control) features(ctx context.Context) (uint64, error) {
	var f uint64
	if err := c.do(ctx, ctlGetFeatures, controlCmd{device: anyDevice}, bytesOf(&f)); err != nil {
		return 0, fmt.Errorf("%w: ask for its features: %w", ErrUnavailable, err)
	}
	return f, checkFeatures(f, mayAdmin())
}

func checkFeatures(f uint64, admin bool) error {
	if f&needed != needed {
		return fmt.Errorf("%w: its driver has features %#x, needed are %#x, which Linux 6.16 has", ErrUnavailable, f, uint64(needed))
	}
	if !admin {
		return fmt.Errorf("%w: to make them takes CAP_SYS_ADMIN", ErrUnavailable)
	}
	return nil
}

func mayAdmin() bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	return unix.Capget(&h, &d[0]) == nil && d[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// do has the driver carry a command out, with p's bytes to read or to fill. It waits until ctx ends.
func (c *control) do(ctx context.Context, code uint32, cmd controlCmd, p []byte) error {
	runtime.LockOSThread() // the ring's
	defer runtime.UnlockOSThread()
	r, err := uring.New(2)
	if err != nil {
		return err
	}
	defer r.Close()
	mem, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("memory for a control command: %w", err)
	}
	cmd.queue = noQueue
	if len(p) > 0 {
		copy(mem, p)
		cmd.addr, cmd.size = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))), uint16(len(p))
	}
	copy(r.Command(c.fd, code, 0, 0, 0), bytesOf(&cmd))
	for {
		if err := r.Enter(true, glance); err != nil && !errors.Is(err, unix.ETIME) {
			return err // mem stays: the driver may still write to it
		}
		if done, ok := r.Next(); ok {
			copy(p, mem)
			_ = unix.Munmap(mem)
			if done.Res < 0 {
				return unix.Errno(-done.Res)
			}
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// on is do for a device, with an argument.
func (c *control) on(ctx context.Context, code, device uint32, arg uint64) error {
	return c.do(ctx, code, controlCmd{device: device, arg: arg}, nil)
}

func (c *control) info(ctx context.Context, device uint32) (deviceInfo, error) {
	var i deviceInfo
	err := c.do(ctx, ctlGetInfo, controlCmd{device: device}, bytesOf(&i))
	return i, err
}

// add makes a device of which there is no disk yet.
func (c *control) add(ctx context.Context, flags, cookie uint64, depth int) (deviceInfo, error) {
	i := deviceInfo{
		queues: 1, depth: uint16(depth), maxIO: MaxIO, device: anyDevice, pid: int32(os.Getpid()), flags: flags, cookie: cookie,
	}
	if err := c.do(ctx, ctlAdd, controlCmd{device: anyDevice}, bytesOf(&i)); err != nil {
		return i, fmt.Errorf("add a ublk device: %w", err)
	}
	if i.queues != 1 || int(i.depth) != depth || i.flags&flags != flags {
		err := fmt.Errorf("%w: device %d has %d queues of %d and flags %#x, wanted were one of %d and %#x", ErrUnavailable, i.device, i.queues, i.depth, i.flags, depth, flags)
		return i, errors.Join(err, c.on(ctx, ctlDelete, i.device, 0))
	}
	return i, nil
}

// newParameters are what the kernel is told of b.
func newParameters(b export.Backend) parameters {
	p := parameters{
		size: uint32(unsafe.Sizeof(parameters{})), kinds: paramBasic | paramDiscard, attrs: attrCache | attrFUA,
		logical: blockLog, physical: blockLog, opt: blockLog, io: blockLog,
		maxSectors: MaxIO >> sectorLog, sectors: uint64(b.Size()) >> sectorLog,
		discardUnit: export.BlockSize, discardSegments: 1,
		discardSectors: clearLimit >> sectorLog, zeroesSector: clearLimit >> sectorLog,
	}
	if r, ok := b.(export.ReadOnly); ok && r.ReadOnly() {
		p.attrs |= attrReadOnly
	}
	return p
}

// startRecovery takes over a device whose former server is dead. Until the kernel has done with that one, it waits.
func (c *control) startRecovery(ctx context.Context, k Kept) (deviceInfo, error) {
	for {
		i, err := c.info(ctx, k.Device)
		switch {
		case errors.Is(err, unix.ENODEV), err == nil && (i.cookie != k.Cookie || i.state == stateDead):
			return i, fmt.Errorf("%w: ublk device %d is not there any more", export.ErrGone, k.Device)
		case err != nil:
			return i, fmt.Errorf("ask for ublk device %d: %w", k.Device, err)
		}
		err = c.on(ctx, ctlStartRecovery, k.Device, 0)
		if err == nil {
			return i, nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return i, fmt.Errorf("take ublk device %d over: %w", k.Device, err)
		}
		select {
		case <-ctx.Done():
			return i, fmt.Errorf("take ublk device %d over, whose former server has not ended: %w", k.Device, ctx.Err())
		case <-time.After(quietPoll):
		}
	}
}

// Remove ends all devices of a name at once: their I/O fails with EIO, also where they are mounted. It may be repeated. Where there is no
// ublk, there are none.
func Remove(ctx context.Context, name string) error {
	return endAll(ctx, func(i deviceInfo) bool { return i.cookie == cookieOf(name) })
}

// Sweep ends all devices whose names are in a directory, but those of the names that are spared, as Remove does. Those that do not
// wait for a server are ended only if all says so.
func Sweep(ctx context.Context, dir string, spared []string, all bool) error {
	return endAll(ctx, func(i deviceInfo) bool {
		for _, s := range spared {
			if i.cookie == cookieOf(filepath.Join(dir, s)) {
				return false
			}
		}
		return i.cookie&^(1<<32-1) == dirMark(dir) && (all || i.state == stateQuiesced)
	})
}

// endAll ends all devices that are meant.
func endAll(ctx context.Context, meant func(i deviceInfo) bool) error {
	ids, err := devices()
	if err != nil || len(ids) == 0 {
		return err
	}
	c, err := openControl()
	if err != nil {
		return err
	}
	defer c.close()
	var errs []error
	for _, id := range ids {
		switch i, err := c.info(ctx, id); {
		case errors.Is(err, unix.ENODEV): // gone meanwhile
		case err != nil:
			errs = append(errs, fmt.Errorf("ask for ublk device %d: %w", id, err))
		case meant(i):
			errs = append(errs, c.end(ctx, Kept{Device: id, Cookie: i.cookie}))
		}
	}
	return errors.Join(errs...)
}

// End ends one device, if it is still that one: its I/O fails with EIO. It may be repeated.
func End(ctx context.Context, k Kept) error {
	c, err := openControl()
	if err != nil {
		return err
	}
	defer c.close()
	return c.end(ctx, k)
}

// clear removes devices that have ended with their server. Error: ErrExists if there is one that has not.
func (c *control) clear(ctx context.Context, cookie uint64) error {
	ids, err := devices()
	if err != nil {
		return err
	}
	for _, id := range ids {
		i, err := c.info(ctx, id)
		if err != nil || i.cookie != cookie {
			continue // another's, or gone meanwhile
		}
		if i.state != stateDead {
			return fmt.Errorf("%w: device %d", ErrExists, id)
		}
		if err := c.end(ctx, Kept{Device: id, Cookie: cookie}); err != nil {
			return err
		}
	}
	return nil
}

func (c *control) end(ctx context.Context, k Kept) error {
	i, err := c.info(ctx, k.Device)
	if errors.Is(err, unix.ENODEV) || err == nil && i.cookie != k.Cookie {
		return nil
	}
	if err == nil && i.state != stateDead {
		err = c.on(ctx, ctlStop, k.Device, 0)
	}
	if err == nil {
		err = c.on(ctx, ctlDeleteLater, k.Device, 0)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("end ublk device %d: %w", k.Device, err)
	}
	return nil
}

// devices are the numbers of all devices of the driver, also those of others.
func devices() ([]uint32, error) {
	list, err := os.ReadDir(charClass)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list ublk devices: %w", err)
	}
	var out []uint32
	for _, e := range list {
		if n, err := strconv.ParseUint(strings.TrimPrefix(filepath.Base(e.Name()), "ublkc"), 10, 32); err == nil {
			out = append(out, uint32(n))
		}
	}
	return out, nil
}
