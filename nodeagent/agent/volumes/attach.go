package volumes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"mynetwork.io/mynetwork/nodeagent/agent/gate"
	"mynetwork.io/mynetwork/nodeagent/agent/memfd"
	"mynetwork.io/mynetwork/nodeagent/agent/transport"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/metered"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/task"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// attachment is a volume that is open here.
type attachment struct {
	rec  registry.Record
	kind Kind
	env  *task.Real
	cut  *transport.Cut
	eng  *volume.Engine
	ring *memfd.Memory
	key  *memfd.Memory // of an encrypted volume, else nil
	gate *gate.Gate    // what the device serves; set with eng
	work metered.Meter
	room room // that the engine waits for

	now     atomic.Pointer[settings] // as last changed while it was open here; nil: as rec has them
	history atomic.Uint64            // number of the epoch of the history that the registry was told of

	mu      sync.Mutex
	dev     export.Device // nil: none yet, or none any more
	closing bool

	frozen atomic.Bool // the device's requests are left to the next process: see backend
}

func (a *attachment) path() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.dev == nil {
		return ""
	}
	return a.dev.Path()
}

func (a *attachment) device() export.Device {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dev
}

func (a *attachment) setDevice(d export.Device) {
	a.mu.Lock()
	a.dev = d
	a.mu.Unlock()
}

func (a *attachment) isClosing() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closing
}

// free lets go of the memory, once the engine has ended and nothing serves from it.
func (a *attachment) free() {
	a.ring.Close()
	if a.key != nil {
		clear(a.key.B)
		a.key.Close()
	}
}

// AttachRequest says how to attach.
type AttachRequest struct {
	Volume string
	Kind   Kind   // empty: the default
	Force  bool   // although the present writer was heard of lately
	Key    []byte // of an encrypted volume; copied
}

// Attach opens a volume here and makes its device. It may be repeated. When ctx ends first, the attach goes on
// (ErrPending) and may be waited for by repeating it; so it does when no store has room for it (replica.ErrFull), which is told at once.
func (m *Manager) Attach(ctx context.Context, req AttachRequest) (Info, error) {
	if req.Kind == "" {
		req.Kind = m.opt.Default
	}
	if req.Kind != None && req.Kind != Fuse && req.Kind != NBD {
		return Info{}, fmt.Errorf("%q: %w", req.Kind, ErrKind)
	}
	r, err := m.find(req.Volume)
	if err != nil {
		return Info{}, err
	}
	if err := errors.Join(writable(&r), CheckKey(&r, req.Key)); err != nil {
		return Info{}, err
	}
	p, err := m.startAttach(&r, req)
	if err != nil {
		return Info{}, err
	}
	if err := wait(ctx, p, "attach of volume "+r.Name); err != nil {
		return Info{}, err
	}
	return m.Inspect(r.ID.String())
}

// wait waits for an operation that goes on without its caller.
func wait(ctx context.Context, p *pending, what string) error {
	select {
	case <-p.done:
		return p.err
	case <-p.room.word():
		return fmt.Errorf("%s: %w", what, p.room.reason())
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, ErrPending)
	}
}

// startAttach starts an attach, or joins the one that runs.
func (m *Manager) startAttach(r *registry.Record, req AttachRequest) (*pending, error) {
	m.mu.Lock()
	if s := m.slots[r.ID]; s != nil && s.join != nil && !s.join.detach {
		defer m.mu.Unlock()
		return s.join, nil
	}
	m.mu.Unlock()
	s, err := m.acquire(r.ID)
	if err != nil {
		return nil, err
	}
	if a := s.open; a != nil && a.kind != req.Kind {
		m.release(r.ID)
		return nil, fmt.Errorf("volume %q is attached here as %s, not %s; detach it first: %w", r.Name, a.kind, req.Kind, ErrAttached)
	}
	a := s.open
	if a == nil {
		if a, err = m.prepare(*r, req); err != nil {
			m.release(r.ID)
			return nil, err
		}
	}
	p := &pending{done: make(chan struct{}), cancel: a.cut.End, room: &a.room}
	m.mu.Lock()
	s.join = p
	m.mu.Unlock()
	m.wg.Go(func() {
		p.err = m.attach(s, a, req.Force)
		m.release(r.ID)
		close(p.done)
	})
	return p, nil
}

// prepare makes what an engine of r needs.
func (m *Manager) prepare(r registry.Record, req AttachRequest) (*attachment, error) {
	a := &attachment{rec: r, kind: req.Kind, env: task.NewReal(), cut: transport.NewCut(m.opt.Transport)}
	var err error
	if a.ring, err = memfd.New("mynetwork ring "+r.ID.String(), m.opt.RingBytes); err != nil {
		return nil, err
	}
	if len(req.Key) > 0 {
		if a.key, err = memfd.New("mynetwork key", len(req.Key)); err != nil {
			a.ring.Close()
			return nil, err
		}
		copy(a.key.B, req.Key)
	}
	return a, nil
}

// spec is what the engine opens with. The engine's key is a copy on the heap, which ends with it.
func (a *attachment) spec() volume.Spec {
	if a.key == nil {
		return a.rec.Spec(nil)
	}
	return a.rec.Spec(append([]byte(nil), a.key.B...))
}

// attach opens a's engine unless it is open, then makes the device unless there is one. The slot is this operation's.
func (m *Manager) attach(s *slot, a *attachment, force bool) error {
	if a.eng == nil {
		if err := m.openEngine(m.ctx, a, force); err != nil {
			a.env.Wait()
			a.free()
			return err
		}
		m.setOpen(s, a)
		m.watch(a)
		m.rootLater(a)
	}
	if a.device() != nil {
		return a.eng.Err()
	}
	if err := a.eng.Err(); err != nil {
		return err
	}
	name := entryName(a.rec.ID.String(), a.kind)
	mt := meta{Version: metaVersion, Node: m.opt.Node, Volume: a.rec.ID.String(), Kind: a.kind, Key: a.key != nil}
	d, err := export.Device(nil), error(nil)
	if mt.Record, err = m.recordNow(a); err == nil {
		d, err = m.makeDevice(m.ctx, a.gate, name, mt, a.descriptors())
	}
	if err != nil {
		err = fmt.Errorf("make the device of volume %q: %w", a.rec.Name, err)
		return errors.Join(err, m.closeEngine(a, true, func() { m.setOpen(s, nil) }))
	}
	a.setDevice(d)
	m.opt.Events.Info("Attached", a.rec.Name, "volume is attached as %s %s in epoch %s", a.kind, d.Path(), a.eng.Status().Epoch)
	if t := TransportOf(d); t != "" {
		m.opt.Log.Info("the device's requests travel", "volume", a.rec.Name, "device", d.Path(), "over", t)
	}
	return nil
}

// recordNow encodes a's record with the fact of this moment.
func (m *Manager) recordNow(a *attachment) ([]byte, error) {
	r := a.rec
	if now, err := m.opt.Registry.Get(r.ID); err == nil {
		r = now
	}
	return registry.Encode(&r)
}

func (a *attachment) descriptors() []int {
	if a.key == nil {
		return []int{a.ring.FD}
	}
	return []int{a.ring.FD, a.key.FD}
}

// openEngine takes the volume over. A writer of this very node that is gone does not protect it: if nobody took an epoch
// since, it was this node's.
func (m *Manager) openEngine(ctx context.Context, a *attachment, force bool) error {
	if err := m.opt.Members.Ready(ctx); err != nil {
		return err
	}
	if err := m.present(ctx, &a.rec); err != nil {
		return err
	}
	r, err := m.opt.Registry.Get(a.rec.ID)
	if err != nil {
		return err
	}
	if r.Unrooted {
		if err := m.ripen(ctx, a); err != nil {
			return fmt.Errorf("volume %q starts from a snapshot of another: %w", r.Name, err)
		}
	}
	own := r.Holder == m.opt.Node && r.HolderEpoch == r.Fact.Epoch.Number
	opt := volume.Options{Ring: a.ring.B, Force: force || own, NoRoom: m.noRoom(a)}
	e, err := volume.Open(m.deps(a.env, a.cut), a.spec(), opt)
	for n := 0; n < takeOvers && m.caretaken(a.rec.ID, err); n++ {
		e, err = volume.Open(m.deps(a.env, a.cut), a.spec(), opt)
	}
	if errors.Is(err, volume.ErrHeld) && r.Holder != "" {
		return fmt.Errorf("volume %q is attached on node %s; detach it there, or force: %w", r.Name, r.Holder, err)
	}
	if err != nil {
		return err
	}
	a.serve(e, &r)
	m.noteHolder(a)
	m.noteHistory(a)
	return nil
}

// serve takes the engine that has been opened, and what the record says of its device.
func (a *attachment) serve(e *volume.Engine, r *registry.Record) {
	a.eng, a.gate = e, gate.New(metered.New(backend{e, &a.frozen}, &a.work))
	a.gate.SetLimits(r.Limits.IOPS, r.Limits.BytesPerSecond)
}

// noteHolder writes who has the volume.
func (m *Manager) noteHolder(a *attachment) {
	epoch, use := a.eng.Status().Epoch.Number, a.eng.Usage()
	_, err := m.opt.Registry.Update(a.rec.ID, func(r *registry.Record) error {
		r.Holder, r.HolderEpoch, r.Used, r.Copies, r.Unrooted = m.opt.Node, epoch, use.Bytes, use.Copies, false
		return nil
	})
	if err != nil {
		m.opt.Log.Warn("the registry does not take the volume's holder", "volume", a.rec.Name, "err", err)
	}
}

// clearHolder takes back what noteHolder wrote.
func (m *Manager) clearHolder(a *attachment, epoch block.Epoch) {
	_, err := m.opt.Registry.Update(a.rec.ID, func(r *registry.Record) error {
		if r.Holder == m.opt.Node && r.HolderEpoch == epoch.Number {
			r.Holder, r.HolderEpoch = "", 0
		}
		return nil
	})
	if err != nil {
		m.opt.Log.Warn("the registry does not take that the volume is detached", "volume", a.rec.Name, "err", err)
	}
}

// watch tells when a's engine ends by itself, and until then the registry when the number of copies has changed.
func (m *Manager) watch(a *attachment) {
	m.wg.Go(func() {
		m.watchCopies(a)
		a.eng.Done().Wait()
		if !a.isClosing() {
			m.opt.Events.Error("EngineEnded", a.rec.Name, "the volume serves no more here, its device answers EIO; detach it: %v", a.eng.Err())
		}
	})
}

// withEngine runs f on the volume's engine: the one that is open here, or one that is opened for it without a device.
// The slot is the caller's.
func (m *Manager) withEngine(ctx context.Context, r *registry.Record, s *slot, key []byte, f func(e *volume.Engine) error) error {
	if a := s.open; a != nil {
		if err := a.eng.Err(); err != nil {
			return fmt.Errorf("volume %q has ended here; detach it first: %w", r.Name, err)
		}
		err := f(a.eng)
		m.note(r, a.eng)
		return err
	}
	if err := CheckKey(r, key); err != nil {
		return err
	}
	a, err := m.prepare(*r, AttachRequest{Kind: None, Key: key})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, a.cut.End)
	a.room.first = a.cut.End // nobody waits for it longer than for this
	err = m.openEngine(ctx, a, false)
	if err != nil {
		stop()
		a.env.Wait()
		a.free()
		switch full := a.room.reason(); {
		case full != nil:
			err = fmt.Errorf("open volume %q: %w", r.Name, full)
		case ctx.Err() != nil:
			err = errors.Join(fmt.Errorf("open volume %q: %w", r.Name, ErrMinority), err)
		case errors.Is(err, volume.ErrHeld):
			err = fmt.Errorf("ask the agent of node %q, where volume %q is attached, as far as is known: %w: %w", r.Holder, r.Name, ErrElsewhere, err)
		}
		return err
	}
	giveUp := context.AfterFunc(ctx, func() { _ = a.eng.Close(false) })
	stop()
	err = f(a.eng)
	err = errors.Join(err, m.closeEngine(a, true, nil))
	giveUp()
	if err != nil && ctx.Err() != nil {
		err = errors.Join(fmt.Errorf("volume %q: %w", r.Name, ErrMinority), err)
	}
	return err
}

// note writes to the registry what the engine knows better: size and snapshots.
func (m *Manager) note(r *registry.Record, e *volume.Engine) {
	if e.Err() != nil {
		return
	}
	size, snaps, use := e.Size(), e.Snapshots(), e.Usage()
	_, err := m.opt.Registry.Update(r.ID, func(r *registry.Record) error {
		r.Size = size
		var list []registry.Snapshot
		for _, s := range snaps {
			n := registry.Snapshot{ID: s.ID, Name: s.Name, Created: s.Created, Size: int64(s.Pages) * 4096, Rooted: e.Rooted(s.ID)}
			if old, ok := r.FindSnapshot(fmt.Sprintf("%x", s.ID)); ok {
				n.Dying, n.Kept, n.Rooted = old.Dying, old.Kept, n.Rooted || old.Rooted
			}
			list = append(list, n)
		}
		r.Snapshots = list
		r.Used, r.Copies = use.Bytes, use.Copies
		return nil
	})
	if err != nil {
		m.opt.Log.Warn("the registry does not take size and snapshots; tried again with the next change", "volume", r.Name, "err", err)
	}
}

// snapshotNamed finds a snapshot of an open volume by name or id.
func snapshotNamed(e *volume.Engine, nameOrID string) (journal.SnapshotRoot, bool) {
	for _, s := range e.Snapshots() {
		if s.Name == nameOrID || fmt.Sprintf("%x", s.ID) == nameOrID {
			return s, true
		}
	}
	return journal.SnapshotRoot{}, false
}
