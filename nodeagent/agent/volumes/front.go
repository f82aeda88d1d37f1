package volumes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/device"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
	"mynetwork.io/mynetwork/nodeagent/export/nbd"
)

// Kind says what a volume is attached as.
type Kind string

// The kinds.
const (
	None Kind = "none" // an open engine without a device
	Fuse Kind = "fuse" // a loop device on a FUSE file
	NBD  Kind = "nbd"  // an NBD server on a unix socket
)

// ErrKind is returned for a kind of device that there is not.
var ErrKind = errors.New("no such kind of device: fuse, nbd or none")

// Keeper is the holder, as its client; nil: devices end with the process.
type Keeper interface {
	Put(ctx context.Context, e *holder.Entry) error
	Get(ctx context.Context, name string) (*holder.Entry, error)
	Drop(ctx context.Context, name string) error
	List(ctx context.Context) ([]holder.Listed, error)
}

var _ Keeper = (*holder.Client)(nil)

// meta is what the manager keeps in the holder's entry.
type meta struct {
	Version int    `json:"version"`
	Node    string `json:"node"`
	Volume  string `json:"volume"`
	Kind    Kind   `json:"kind"`
	Key     bool   `json:"key"`    // the second memory descriptor is the encryption key
	Record  []byte `json:"record"` // the registry's, as it was at the attach: to resume while the registry is away
}

const metaVersion = 1

// entryName is the name of a volume's entry at the holder: "ID.kind".
func entryName(id string, k Kind) string { return id + "." + string(k) }

// parseEntryName reads what entryName wrote.
func parseEntryName(name string) (id string, k Kind, ok bool) {
	id, kind, ok := strings.Cut(name, ".")
	k = Kind(kind)
	return id, k, ok && len(id) == 32 && (k == None || k == Fuse || k == NBD)
}

// kept is what the holder had of a volume.
type kept struct {
	meta   meta
	memory []int
	device *device.Kept // nil: there is none to resume
	ended  bool
	why    string // ended
}

// makeDevice makes a volume's device and has the holder keep it with its memory.
func (m *Manager) makeDevice(ctx context.Context, b export.Backend, name string, mt meta, fds []int) (export.Device, error) {
	raw, err := json.Marshal(mt)
	if err != nil {
		return nil, fmt.Errorf("device's meta: %w", err)
	}
	if mt.Kind == Fuse {
		o := device.Options{Mounter: m.opt.Mounter, Name: name, Meta: raw, Memory: fds, Fuse: fuse.Options{Transport: m.opt.FuseTransport}}
		if m.opt.Keeper != nil {
			o.Keeper = m.opt.Keeper
		}
		d, err := device.Attach(ctx, b, o)
		if err != nil {
			return nil, err // not d: a nil pointer in an interface is not nil
		}
		return d, nil
	}
	if m.opt.Keeper != nil {
		if err := m.opt.Keeper.Put(ctx, &holder.Entry{Name: name, Meta: raw, Memory: fds}); err != nil {
			return nil, err
		}
	}
	d, err := m.serveSocket(b, name, mt.Kind)
	if err != nil && m.opt.Keeper != nil {
		err = errors.Join(err, m.opt.Keeper.Drop(ctx, name))
	}
	return d, err
}

// TransportOf says how a device's requests travel, and why so; empty for those that have no choice.
func TransportOf(d export.Device) string {
	f, ok := d.(*device.Device)
	if !ok {
		return ""
	}
	t, why := f.Transport()
	return fmt.Sprintf("%s (%s)", t, why)
}

// serveSocket makes the device of a kind whose descriptors the holder need not keep.
func (m *Manager) serveSocket(b export.Backend, name string, k Kind) (export.Device, error) {
	held := &heldDevice{name: name, keeper: m.opt.Keeper}
	switch k {
	case None:
		held.Device = &bare{done: make(chan struct{})}
	case NBD:
		s, err := nbd.Serve(b, nbd.Options{Socket: filepath.Join(m.opt.DeviceDir, name+".sock")})
		if err != nil {
			return nil, err
		}
		held.Device = s
	default:
		return nil, fmt.Errorf("%q: %w", k, ErrKind)
	}
	return held, nil
}

// recoverDevice takes an entry over from the holder.
func (m *Manager) recoverDevice(ctx context.Context, name string, k Kind) (*kept, error) {
	out := &kept{}
	raw := []byte(nil)
	if k == Fuse {
		d, err := device.Recover(ctx, m.opt.Keeper, m.opt.Mounter, name)
		if err != nil {
			return nil, err
		}
		out.device, out.memory, out.ended, out.why, raw = d, d.Memory, d.Ended, d.Why, d.Meta
	} else {
		e, err := m.opt.Keeper.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		out.memory, raw = e.Memory, e.Meta // an ended entry lost no device: it had none
	}
	if err := json.Unmarshal(raw, &out.meta); err != nil || out.meta.Version != metaVersion || out.meta.Kind != k {
		return out, fmt.Errorf("holder's entry %s was not made by this version of the agent", name)
	}
	return out, nil
}

// resumeDevice serves a recovered device again.
func (m *Manager) resumeDevice(b export.Backend, name string, k *kept) (export.Device, error) {
	if k.meta.Kind == Fuse {
		d, err := k.device.Resume(b, fuse.Options{})
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	b.Resent() // over a socket nothing is sent again
	return m.serveSocket(b, name, k.meta.Kind)
}

// heldDevice has the holder forget a device's entry when it is closed.
type heldDevice struct {
	export.Device
	name   string
	keeper Keeper
}

// Close implements export.Device.
func (h *heldDevice) Close(ctx context.Context) error {
	if err := h.Device.Close(ctx); err != nil || h.keeper == nil {
		return err
	}
	if err := h.keeper.Drop(ctx, h.name); err != nil && !errors.Is(err, holder.ErrNotFound) {
		return err
	}
	return nil
}

// bare is the device of kind None.
type bare struct{ done chan struct{} }

var _ export.Device = (*bare)(nil)

func (*bare) Path() string                        { return "" }
func (*bare) Resize(context.Context, int64) error { return nil }
func (d *bare) Done() <-chan struct{}             { return d.done }
func (*bare) Err() error                          { return nil }

func (d *bare) Close(context.Context) error {
	select {
	case <-d.done:
	default:
		close(d.done)
	}
	return nil
}
