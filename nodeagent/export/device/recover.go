package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
	"mynetwork.io/mynetwork/nodeagent/export/loop"
)

// Kept is a device that a former process has left to the holder, and that this process owns now.
type Kept struct {
	Meta   []byte // the caller's own, as given to Attach
	Memory []int  // the caller's descriptors, which are now this caller's
	Ended  bool   // the watchdog has ended the device; only the memory is left

	keeper Keeper
	name   string
	m      meta
	device []int
}

// ownedPoll is how often a device is asked for again whose former process still runs, or ends.
const ownedPoll = 20 * time.Millisecond

// Recover takes a device over. Its I/O waits until Resume. While the former process lives, it waits until ctx ends.
// Errors: holder.ErrNotFound, holder.ErrOwned, ErrMeta.
func Recover(ctx context.Context, k Keeper, name string) (*Kept, error) {
	e, err := take(ctx, k, name)
	if err != nil {
		return nil, err
	}
	kept := &Kept{Memory: e.Memory, Ended: e.State == holder.Ended, keeper: k, name: name, device: e.Device}
	if err := json.Unmarshal(e.Meta, &kept.m); err != nil || kept.m.Version > metaVersion || kept.m.Version < 1 {
		e.Close()
		return nil, fmt.Errorf("%w: %s", ErrMeta, name)
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

// Resume serves the device again: first what the former process left unanswered. Errors: export.ErrGone if the watchdog
// has ended the device, fuse.ErrNoResend.
func (k *Kept) Resume(b export.Backend, o fuse.Options) (*Device, error) {
	if k.Ended {
		return nil, fmt.Errorf("%w: %s", export.ErrGone, k.name)
	}
	d := &Device{
		opt: Options{Dir: k.m.Dir, Name: k.name, Keeper: k.keeper, Meta: k.Meta, Memory: k.Memory, Fuse: o},
		dir: filepath.Join(k.m.Dir, k.name), path: k.m.Path, fd: k.device[0], conn: k.m.Conn, back: b, done: make(chan struct{}),
	}
	d.srv = fuse.New(d.fd, k.m.Conn, b, o)
	if err := d.srv.Resume(); err != nil {
		return nil, err
	}
	go d.wait()
	return d, nil
}

// Leftovers names the devices below dir that have a mount or a loop device, live ones among them.
func Leftovers(dir string) ([]string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("devices' directory: %w", err)
	}
	mounts, err := fuse.Mounts(dir)
	if err != nil {
		return nil, err
	}
	bounds, err := loop.List(dir)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var names []string
	add := func(mount string) {
		if name := filepath.Base(mount); filepath.Dir(mount) == dir && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	for _, m := range mounts {
		add(m.Dir)
	}
	for _, b := range bounds {
		add(filepath.Dir(b.File))
	}
	return names, nil
}

// Cleanup ends what a dead process has left of a device: the holder's entry, its connection, its loop devices, its
// mount. I/O on it fails with EIO. It may be repeated. A device that another live process owns in the holder is left alone
// (holder.ErrOwned); without a holder (k nil) the caller must know that no other process serves it. While somebody has
// the loop device mounted, it fails with export.ErrBusy, and succeeds once that is unmounted.
func Cleanup(ctx context.Context, k Keeper, dir, name string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("devices' directory: %w", err)
	}
	if err := forget(ctx, k, name); err != nil {
		return err
	}
	at := filepath.Join(dir, name)
	bounds, err := loop.List(at)
	if err != nil {
		return err
	}
	if err := fuse.Abort(at); err != nil {
		return err
	}
	var busy error
	for _, b := range bounds {
		if err := loop.Abandon(b.Path, b.File); err != nil {
			return err
		}
		if f, err := loop.File(b.Path); err != nil || f == b.File {
			busy = errors.Join(busy, err, fmt.Errorf("%w: %s", export.ErrBusy, b.Path))
		}
	}
	if busy != nil {
		return busy
	}
	if err := fuse.Unmount(at, true); err != nil {
		return err
	}
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the mount's directory: %w", err)
	}
	return nil
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
