package readers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/agent/gate"
	"mynetwork.io/mynetwork/nodeagent/agent/memfd"
	"mynetwork.io/mynetwork/nodeagent/agent/transport"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/task"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// reader is a volume that is read here.
type reader struct {
	rec  registry.Record
	line []registry.Record // rec and its ancestors
	kind volumes.Kind
	env  *task.Real
	cut  *transport.Cut
	key  *memfd.Memory // of an encrypted volume, else nil
	view *volume.View
	gate *gate.Gate // what the device serves; set with view

	mu  sync.Mutex
	dev export.Device // nil: none yet

	frozen atomic.Bool // requests are left to the next process
}

// prepare makes what a view needs. line begins with the volume's own record.
func (rs *Readers) prepare(line []registry.Record, kind volumes.Kind, key []byte) (*reader, error) {
	r := &reader{rec: line[0], line: line, kind: kind, env: task.NewReal(), cut: transport.NewCut(rs.opt.Transport)}
	if len(key) == 0 {
		return r, nil
	}
	var err error
	if r.key, err = memfd.New("mynetwork key", len(key)); err == nil {
		copy(r.key.B, key)
	}
	return r, err
}

// spec is what the view opens with. Its key is a copy on the heap, which ends with it.
func (r *reader) spec() volume.Spec {
	if r.key == nil {
		return r.rec.Spec(nil)
	}
	return r.rec.Spec(slices.Clone(r.key.B))
}

func (r *reader) serve(v *volume.View) {
	r.view = v
	r.gate = gate.New(backend{v, &r.frozen})
	r.gate.SetLimits(r.rec.Limits.IOPS, r.rec.Limits.BytesPerSecond)
}

func (r *reader) device() export.Device {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dev
}

func (r *reader) setDevice(d export.Device) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dev = d
}

func (r *reader) path() string {
	if d := r.device(); d != nil {
		return d.Path()
	}
	return ""
}

func (r *reader) info() volumes.Info {
	i := volumes.Info{Record: r.rec, State: volumes.Attached, Kind: r.kind, Device: r.path()}
	i.Size = r.view.Size()
	if d := r.device(); d != nil {
		i.Transport = volumes.TransportOf(d)
		if i.Err = d.Err(); i.Err != nil {
			i.State = volumes.Failed
		}
	}
	return i
}

// stop ends the view. Its memory stays: requests may still be at it, and it ends with the process.
func (r *reader) stop() {
	if r.view != nil {
		r.view.Close()
	}
	r.cut.End()
	r.env.Wait()
}

// end is stop for a view whose device has ended: nothing is at the memory any more.
func (r *reader) end() {
	r.stop()
	if r.key != nil {
		clear(r.key.B)
		r.key.Close()
	}
}

// backend is a view as a front end sees it. Once frozen is set, no request is answered any more, and none fails: the next process of this
// agent gets them again.
type backend struct {
	v      *volume.View
	frozen *atomic.Bool
}

var (
	_ export.Backend  = backend{}
	_ export.ReadOnly = backend{}
)

// errReadOnly is the answer to all changes.
var errReadOnly = fmt.Errorf("volume is sealed: %w", unix.EROFS)

// ReadOnly implements export.ReadOnly.
func (backend) ReadOnly() bool { return true }

// Size implements export.Backend.
func (b backend) Size() int64 { return b.v.Size() }

// TryRead implements export.Backend.
func (b backend) TryRead(p []byte, off int64, turn export.Turn) (bool, error) {
	ok, err := b.v.TryRead(p, off, turn)
	return ok && !b.frozen.Load(), err
}

// Read implements export.Backend.
func (b backend) Read(p []byte, off int64) error {
	err := b.v.Read(p, off)
	if b.frozen.Load() {
		select {}
	}
	return err
}

// TryWrite implements export.Backend.
func (backend) TryWrite(export.RequestID, []byte, int64) (bool, error) { return true, errReadOnly }

// Write implements export.Backend.
func (backend) Write(export.RequestID, []byte, int64) error { return errReadOnly }

// Discard implements export.Backend.
func (backend) Discard(export.RequestID, int64, int64) error { return errReadOnly }

// WriteZeroes implements export.Backend.
func (backend) WriteZeroes(export.RequestID, int64, int64) error { return errReadOnly }

// Flush implements export.Backend: there is nothing that is not durable.
func (backend) Flush() error { return nil }

// Accepted implements export.Backend.
func (backend) Accepted(export.RequestID) bool { return false }

// Answered implements export.Backend.
func (backend) Answered(export.RequestID) {}

// Resent implements export.Backend.
func (backend) Resent() {}

// remembered is a registry that answers from what was read before while it is away: a sealed volume's journal moves only when somebody
// cleans it, and its end is found from an older place too.
type remembered struct {
	registry.Store
	line []registry.Record
}

// Load implements volume.Registry.
func (m remembered) Load(v block.VolumeID) (volume.Fact, error) {
	f, err := m.Store.Load(v)
	if err == nil || errors.Is(err, registry.ErrNotFound) || errors.Is(err, registry.ErrDeleted) {
		return f, err
	}
	for i := range m.line {
		if m.line[i].ID == v {
			return m.line[i].Fact, nil
		}
	}
	return f, err
}

// Backend is what the device of a volume that is read here serves.
func (rs *Readers) Backend(name string) (export.Backend, error) {
	if r := rs.named(name); r != nil {
		return r.gate, nil
	}
	return nil, fmt.Errorf("volume %q is not read here: %w", name, volumes.ErrDetached)
}

// bare is the device of kind None.
type bare struct{ done chan struct{} }

var _ export.Device = (*bare)(nil)

func (*bare) Path() string                        { return "" }
func (*bare) Resize(context.Context, int64) error { return nil }
func (d *bare) Done() <-chan struct{}             { return d.done }
func (*bare) Err() error                          { return nil }
func (*bare) Close(context.Context) error         { return nil }
