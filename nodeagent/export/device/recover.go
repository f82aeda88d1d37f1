package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
	"mynetwork.io/mynetwork/nodeagent/export/mounter"
)

// Kept is a device that a former process has left to the holder, and that this process owns now.
type Kept struct {
	Meta   []byte // the caller's own, as given to Attach
	Memory []int  // the caller's descriptors, which are now this caller's
	Ended  bool   // the device has ended; only the memory is left
	Why    string // it has ended

	keeper  Keeper
	mounter Mounter
	name    string
	m       meta
	num     uint32
	device  []int
}

// ownedPoll is how often a device is asked for again whose former process still runs, or ends.
const ownedPoll = 20 * time.Millisecond

// Recover takes a device over, which m, or one like it, has made. Its I/O waits until Resume. While the former process lives,
// it waits until ctx ends. Errors: holder.ErrNotFound, holder.ErrOwned, ErrMeta.
func Recover(ctx context.Context, k Keeper, m Mounter, name string) (*Kept, error) {
	e, err := take(ctx, k, name)
	if err != nil {
		return nil, err
	}
	kept := &Kept{Memory: e.Memory, Ended: e.State == holder.Ended, keeper: k, mounter: m, name: name, num: e.Conn, device: e.Device}
	if err := json.Unmarshal(e.Meta, &kept.m); err != nil || kept.m.Version > metaVersion || kept.m.Version < 1 {
		e.Close()
		return nil, fmt.Errorf("%w: %s", ErrMeta, name)
	}
	switch {
	case kept.Ended:
		kept.Why = "no process served it for longer than the holder's patience"
	case kept.m.Transport == fuse.Uring:
		kept.Ended, kept.Why = true, "FUSE over io_uring ends with the process that serves it"
	}
	if kept.m.Transport == Ublk {
		if err := kept.takeUblk(); err != nil {
			e.Close()
			return nil, err
		}
		kept.Meta = kept.m.User
		return kept, nil
	}
	if !kept.Ended && len(e.Device) != 1 {
		e.Close()
		return nil, fmt.Errorf("%w: %s has %d descriptors", ErrMeta, name, len(e.Device))
	}
	kept.Meta = kept.m.User
	return kept, nil
}

func take(ctx context.Context, k Keeper, name string) (*holder.Entry, error) {
	tick := time.NewTicker(ownedPoll)
	defer tick.Stop()
	for {
		e, err := k.Get(ctx, name)
		if !errors.Is(err, holder.ErrOwned) {
			return e, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, ctx.Err())
		case <-tick.C:
		}
	}
}

// Resume serves the device again: first what the former process left unanswered. Errors: export.ErrGone if the device
// has ended, fuse.ErrNoResend.
func (k *Kept) Resume(b export.Backend, o fuse.Options) (*Device, error) {
	if k.Ended {
		return nil, fmt.Errorf("%w: %s: %s", export.ErrGone, k.name, k.Why)
	}
	if k.m.Transport == Ublk {
		return k.resumeUblk(b)
	}
	d := &Device{
		opt:  Options{Mounter: k.mounter, Name: k.name, Keeper: k.keeper, Meta: k.Meta, Memory: k.Memory, Fuse: o},
		path: k.m.Path, fd: k.device[0], num: k.num, conn: k.m.Conn, back: b, done: make(chan struct{}),
	}
	d.transport, d.reason = fuse.DevFuse, outlives
	d.srv = fuse.New(d.fd, k.m.Conn, b, o)
	if err := d.srv.Resume(); err != nil {
		return nil, err
	}
	go d.wait()
	return d, nil
}

// Cleanup ends what a dead process has left of a device: the holder's entry, its connection, its loop devices, its
// mount. I/O on it fails with EIO. It may be repeated. A device that another live process owns in the holder is left alone
// (holder.ErrOwned); without a holder (k nil) the caller must know that no other process serves it. While somebody has
// the loop device mounted, it fails with export.ErrBusy, and succeeds once that is unmounted. One of ublk is gone at once.
func Cleanup(ctx context.Context, k Keeper, m Mounter, name string) error {
	if err := forget(ctx, k, name); err != nil {
		return err
	}
	if err := cleanupUblk(ctx, m, name); err != nil {
		return err
	}
	return m.Discard(ctx, name)
}

// Sweep ends devices that were left by former processes of this user, and whose holder has ended too: of what was found (Mounter.List) before this
// process made any, that which is still the same and is none of those that a holder keeps. It goes on after a failure; one
// that somebody has mounted fails with export.ErrBusy.
func Sweep(ctx context.Context, m Mounter, found []mounter.Found, kept []string) (ended []string, err error) {
	if len(found) == 0 {
		return nil, nil
	}
	now, err := m.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		if slices.Contains(kept, f.Name) || !slices.Contains(now, f) {
			continue
		}
		if derr := m.Discard(ctx, f.Name); derr != nil {
			err = errors.Join(err, fmt.Errorf("device %s: %w", f.Name, derr))
			continue
		}
		ended = append(ended, f.Name)
	}
	return ended, err
}

// forget has the holder end and drop an entry.
func forget(ctx context.Context, k Keeper, name string) error {
	if k == nil {
		return nil
	}
	e, err := k.Get(ctx, name)
	if errors.Is(err, holder.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	e.Close()
	return k.Drop(ctx, name)
}

// Release gives back what Recover took, without ending the device: the caller closes its connection to the holder.
func (k *Kept) Release() {
	for _, fd := range append(k.device, k.Memory...) {
		_ = unix.Close(fd)
	}
	k.device, k.Memory = nil, nil
}
