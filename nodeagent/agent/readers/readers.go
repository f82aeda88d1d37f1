package readers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"mynetwork.io/mynetwork/nodeagent/agent/events"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/export/device"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/mounter"
	"mynetwork.io/mynetwork/nodeagent/peer/grant"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// ErrNotSealed is of a volume that is to be read on many nodes although somebody may write it.
var ErrNotSealed = errors.New("volume is not sealed: seal it first, which makes it read-only for ever, or attach it for writing")

// Options are what Readers work with. They are those of volumes.Options.
type Options struct {
	Node          string
	Registry      registry.Store
	Transport     replica.Transport
	Members       volumes.Members
	Cache         volume.Cache
	Local         func(s block.StoreID) volume.Local
	Grants        volumes.Granter
	Keeper        volumes.Keeper
	DeviceDir     string
	Mounter       device.Mounter
	FuseTransport fuse.Transport
	Events        *events.Log
	Log           *slog.Logger
	// Checkpoint makes the snapshots of a volume that is open here part of a checkpoint, where a view finds them.
	Checkpoint func(v block.VolumeID) error
}

// Readers are the volumes that are read here. Make them with New.
type Readers struct {
	opt  Options
	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	busy   map[block.VolumeID]bool
	open   map[block.VolumeID]*reader
}

// New makes Readers of nothing.
func New(o Options) *Readers {
	if o.Mounter == nil {
		o.Mounter = mounter.New(o.DeviceDir)
	}
	r := &Readers{opt: o, busy: map[block.VolumeID]bool{}, open: map[block.VolumeID]*reader{}}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// take takes the right to operate on a volume, or returns volumes.ErrBusy. Call the result when the operation has ended.
func (rs *Readers) take(v block.VolumeID) (done func(), err error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	switch {
	case rs.closed:
		return nil, volumes.ErrClosed
	case rs.busy[v]:
		return nil, fmt.Errorf("volume %s: %w", v, volumes.ErrBusy)
	}
	rs.busy[v] = true
	rs.wg.Add(1)
	return func() {
		rs.mu.Lock()
		defer rs.mu.Unlock()
		delete(rs.busy, v)
		rs.wg.Done()
	}, nil
}

// of gives what is open of a volume, nil if nothing is.
func (rs *Readers) of(v block.VolumeID) *reader {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.open[v]
}

func (rs *Readers) set(v block.VolumeID, r *reader) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r == nil {
		delete(rs.open, v)
	} else {
		rs.open[v] = r
	}
}

// named gives what is open under a name or an id, nil if nothing is. It asks no registry.
func (rs *Readers) named(name string) *reader {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.open {
		if r.rec.Name == name || r.rec.ID.String() == name {
			return r
		}
	}
	return nil
}

// Info describes a volume that is read here, by name or id; false: it is not.
func (rs *Readers) Info(name string) (volumes.Info, bool) {
	r := rs.named(name)
	if r == nil {
		return volumes.Info{}, false
	}
	return r.info(), true
}

// Open describes the volumes that are read here, by name.
func (rs *Readers) Open() (out []volumes.Info) {
	rs.mu.Lock()
	for _, r := range rs.open {
		out = append(out, r.info())
	}
	rs.mu.Unlock()
	slices.SortFunc(out, func(a, b volumes.Info) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// AttachRequest says what to attach, and how.
type AttachRequest struct {
	Volume string
	Kind   volumes.Kind // volumes.Fuse if empty, or volumes.None
	Key    []byte       // of an encrypted volume; copied
}

// Attach opens a sealed volume here and makes its device. Repeating it gives the device that is there.
func (rs *Readers) Attach(ctx context.Context, q AttachRequest) (volumes.Info, error) {
	if q.Kind == "" {
		q.Kind = volumes.Fuse
	}
	if q.Kind != volumes.Fuse && q.Kind != volumes.None {
		return volumes.Info{}, fmt.Errorf("%q, to read: %w", q.Kind, volumes.ErrKind)
	}
	rec, err := rs.find(q.Volume)
	if err == nil {
		err = volumes.CheckKey(&rec, q.Key)
	}
	if err != nil {
		return volumes.Info{}, err
	}
	if _, ok := rec.Sealed(); !ok {
		return volumes.Info{}, fmt.Errorf("volume %q: %w", rec.Name, ErrNotSealed)
	}
	done, err := rs.take(rec.ID)
	if err != nil {
		return volumes.Info{}, err
	}
	defer done()
	r := rs.of(rec.ID)
	switch {
	case r != nil && r.kind != q.Kind:
		return volumes.Info{}, fmt.Errorf("volume %q is attached here as %s, not %s; detach it first: %w", rec.Name, r.kind, q.Kind, volumes.ErrAttached)
	case r == nil:
		if r, err = rs.attach(ctx, rec, q); err != nil {
			return volumes.Info{}, err
		}
		rs.opt.Events.Info("Attached", rec.Name, "sealed volume is attached as %s %s, to be read", r.kind, r.path())
	}
	return r.info(), nil
}

// find finds a live volume.
func (rs *Readers) find(name string) (registry.Record, error) {
	if name == "" {
		return registry.Record{}, fmt.Errorf("no volume is named: %w", volumes.ErrInvalid)
	}
	rec, err := registry.Find(rs.opt.Registry, name)
	if err == nil && !rec.Live() {
		err = fmt.Errorf("volume %q: %w", name, registry.ErrDeleted)
	}
	return rec, err
}

// attach makes view and device.
func (rs *Readers) attach(ctx context.Context, rec registry.Record, q AttachRequest) (*reader, error) {
	line, err := registry.Lineage(rs.opt.Registry, &rec)
	if err != nil {
		return nil, err
	}
	r, err := rs.prepare(append([]registry.Record{rec}, line...), q.Kind, q.Key)
	if err != nil {
		return nil, err
	}
	if err = rs.openView(ctx, r); err == nil {
		err = rs.makeDevice(ctx, r)
	}
	if err != nil {
		r.end()
		return nil, err
	}
	rs.set(rec.ID, r)
	return r, nil
}

// openView opens what r shows. It waits until ctx ends.
func (rs *Readers) openView(ctx context.Context, r *reader) error {
	seal, _ := r.rec.Sealed()
	v, err := rs.opened(ctx, r, seal.ID)
	if err == nil {
		r.serve(v)
	}
	return err
}

// opened opens a view of a snapshot of r's volume.
func (rs *Readers) opened(ctx context.Context, r *reader, snapshot [16]byte) (*volume.View, error) {
	if err := rs.opt.Members.Ready(ctx); err != nil {
		return nil, err
	}
	for i := range r.line {
		if err := rs.opt.Grants.Ensure(ctx, r.line[i].ID, grant.Read); err != nil {
			return nil, err
		}
	}
	v, err := volume.OpenView(rs.deps(r), r.spec(), snapshot, func() error {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", volumes.ErrMinority, ctx.Err())
		}
		return nil
	})
	if errors.Is(err, volume.ErrNotFound) {
		err = fmt.Errorf("%w; if it was made a moment ago, try again", err)
	}
	return v, err
}

// deps are what a view works with.
func (rs *Readers) deps(r *reader) volume.Deps {
	return volume.Deps{Env: r.env, Client: &replica.Client{Env: r.env, Transport: r.cut}, Registry: remembered{rs.opt.Registry, r.line}, Placer: rs.opt.Members,
		Cache: rs.opt.Cache, Local: func(s block.StoreID) volume.Local { return rs.opt.Local(s) },
		Logf: func(format string, args ...any) { rs.opt.Log.Info(fmt.Sprintf(format, args...)) }}
}

// Detach ends the device of a volume that is read here; false: none is. Repeating it does no harm.
func (rs *Readers) Detach(ctx context.Context, name string) (bool, error) {
	r := rs.named(name)
	if r == nil {
		return false, nil
	}
	done, err := rs.take(r.rec.ID)
	if err != nil {
		return true, err
	}
	defer done()
	if rs.of(r.rec.ID) != r {
		return true, nil // detached meanwhile
	}
	if d := r.device(); d != nil {
		if err := d.Close(ctx); err != nil {
			return true, fmt.Errorf("end the device of volume %q: %w", r.rec.Name, err)
		}
	}
	rs.set(r.rec.ID, nil)
	r.end()
	rs.opt.Events.Info("Detached", r.rec.Name, "volume is detached")
	return true, nil
}

// Close ends all. With leave, what the holder keeps stays for the next process: its reads wait.
func (rs *Readers) Close(ctx context.Context, leave bool) (err error) {
	rs.mu.Lock()
	rs.closed = true
	rs.mu.Unlock()
	rs.stop()
	rs.wg.Wait()
	for _, r := range rs.open { // nobody changes it any more
		if leave && rs.opt.Keeper != nil && r.kind == volumes.Fuse {
			r.frozen.Store(true)
		} else if d := r.device(); d != nil {
			err = errors.Join(err, d.Close(ctx))
		}
		r.stop()
	}
	return err
}
