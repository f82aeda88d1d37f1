package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
	"mynetwork.io/mynetwork/nodeagent/export/mounter"
	"mynetwork.io/mynetwork/nodeagent/export/ublk"
)

// Ublk is the transport of a device without FUSE: the kernel's ublk driver. It takes a kernel that has it and a mounter in this process.
const Ublk fuse.Transport = "ublk"

// ErrFar tells that a mounter of another process makes no ublk devices.
var ErrFar = errors.New("ublk devices are made by a process with privilege, and this one has its mounts made by another")

// resumeTime is how long the kernel may take to have done with a killed server.
const resumeTime = time.Minute

// placer is a mounter in this process: its directory and a name together are unique on the machine.
type placer interface {
	Place(name string) (string, error)
}

var _ placer = (*mounter.Local)(nil)

// offersUblk tells why a mounter's process can make no ublk devices; nil if it can.
func offersUblk(m Mounter) error {
	if _, ok := m.(placer); !ok {
		return ErrFar
	}
	return ublk.Available()
}

// wantsUblk decides whether a new device is one of ublk, and says why. An error is a demand that cannot be met.
func wantsUblk(demanded fuse.Transport, offered func() error) (want bool, reason string, err error) {
	switch demanded {
	case Ublk:
		return true, demandedReason, offered()
	case "":
		if err := offered(); err != nil {
			return false, "", nil
		}
		return true, "the kernel has it: no loop device, and a flush holds nothing back", nil
	default:
		return false, "", nil
	}
}

// attachUblk makes the device, unless another transport is demanded or the kernel has none: then it is nil.
func attachUblk(ctx context.Context, b export.Backend, o Options) (*Device, error) {
	want, reason, err := wantsUblk(o.Fuse.Transport, func() error { return offersUblk(o.Mounter) })
	if err != nil || !want {
		return nil, err
	}
	name, err := o.Mounter.(placer).Place(o.Name)
	if err != nil {
		return nil, err
	}
	opt := ublk.Options{Name: name, Keep: o.Keeper != nil}
	u, err := ublk.Attach(ctx, b, opt)
	if errors.Is(err, ublk.ErrExists) {
		if !o.unkept(ctx) {
			return nil, fmt.Errorf("%w: %w", ErrMounted, err)
		}
		if err = ublk.Remove(ctx, name); err == nil {
			u, err = ublk.Attach(ctx, b, opt)
		}
	}
	if errors.Is(err, ublk.ErrUnavailable) && o.Fuse.Transport == "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d := &Device{opt: o, ublk: u, path: u.Path(), back: b, transport: Ublk, reason: reason}
	if o.Keeper == nil {
		return d, nil
	}
	if err := d.keep(ctx, o.Keeper); err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), undoTime)
		defer cancel()
		return nil, errors.Join(err, u.Close(ctx))
	}
	return d, nil
}

// ublkEntry fills an entry for the holder: it has nothing to hold the device by, which the kernel keeps, but what End needs, and the table.
func (d *Device) ublkEntry(e *holder.Entry, mt *meta) {
	k := d.ublk.Kept()
	mt.Version, mt.Transport, mt.Ublk = metaVersion, Ublk, &k
	e.Conn, e.Device, e.Memory = 0, nil, append(append([]int(nil), d.opt.Memory...), d.ublk.Table())
}

// takeUblk finds the table in an entry's memory.
func (k *Kept) takeUblk() error {
	n := len(k.Memory)
	if k.m.Ublk == nil || n == 0 {
		return fmt.Errorf("%w: %s has %d pieces of memory", ErrMeta, k.name, n)
	}
	k.device, k.Memory = k.Memory[n-1:], k.Memory[:n-1]
	return nil
}

func (k *Kept) resumeUblk(b export.Backend) (*Device, error) {
	ctx, cancel := context.WithTimeout(context.Background(), resumeTime)
	defer cancel()
	u, err := ublk.Resume(ctx, b, *k.m.Ublk, k.device[0])
	if err != nil {
		return nil, err
	}
	return &Device{
		opt:  Options{Mounter: k.mounter, Name: k.name, Keeper: k.keeper, Meta: k.Meta, Memory: k.Memory},
		ublk: u, path: u.Path(), back: b, transport: Ublk, reason: "it was made so",
	}, nil
}

// closeUblk ends the device and has the holder forget it.
func (d *Device) closeUblk(ctx context.Context) error {
	if err := d.ublk.Close(ctx); err != nil {
		return err
	}
	d.closed = true
	if d.opt.Keeper == nil {
		return nil
	}
	if err := d.opt.Keeper.Drop(ctx, d.opt.Name); !errors.Is(err, holder.ErrNotFound) {
		return err
	}
	return nil
}

// End ends what of a device the kernel keeps although the holder has closed its descriptors: for holder.Options.End. raw is an entry's meta;
// what this package has not written, it leaves alone.
func End(raw []byte) error {
	var m meta
	if err := json.Unmarshal(raw, &m); err != nil || m.Ublk == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), undoTime)
	defer cancel()
	return ublk.End(ctx, *m.Ublk)
}

// SweepUblk ends the ublk devices of a mounter's directory that nobody serves and whose names are not among those that the holder keeps: left by a
// server that died together with its holder, they would wait for ever. all ends those that are served, too.
func SweepUblk(ctx context.Context, m Mounter, kept []string, all bool) error {
	p, ok := m.(placer)
	if !ok {
		return nil
	}
	at, err := p.Place("any")
	if err != nil {
		return err
	}
	return ublk.Sweep(ctx, filepath.Dir(at), kept, all)
}

// cleanupUblk ends the ublk devices of a name.
func cleanupUblk(ctx context.Context, m Mounter, name string) error {
	p, ok := m.(placer)
	if !ok {
		return nil
	}
	at, err := p.Place(name)
	if err != nil {
		return err
	}
	return ublk.Remove(ctx, at)
}
