package volumes

import (
	"context"
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// ErrGaveWay tells that a caretaker has ended because somebody wants the volume.
var ErrGaveWay = errors.New("somebody uses the volume")

// takeOvers is how often an attach tries again that met a caretaker on its way.
const takeOvers = 8

// caretaken tells whether an open failed because a caretaker came in between.
func (m *Manager) caretaken(v block.VolumeID, err error) bool {
	if !errors.Is(err, volume.ErrConflict) && !errors.Is(err, replication.ErrFenced) {
		return false
	}
	f, lerr := m.opt.Registry.Load(v)
	return lerr == nil && f.Epoch.Caretaker()
}

// Tend opens a volume that nobody uses, without a device, and runs work on it; then it is closed. It does so only if the fact of the volume
// has the revision seen still, so that nobody has taken it since. Any other operation on the volume, here or elsewhere, takes it from the
// caretaker at once: then ctx of work ends, or its engine does, and the error is ErrGaveWay. Nothing is noted in the registry but the epoch,
// and the number of copies if that has changed.
func (m *Manager) Tend(ctx context.Context, v block.VolumeID, seen string, work func(ctx context.Context, e *volume.Engine) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &pending{done: make(chan struct{}), cancel: cancel}
	if err := m.startTend(v, p); err != nil {
		return err
	}
	err := m.tend(ctx, v, seen, work)
	m.release(v)
	close(p.done)
	if ctx.Err() != nil || errors.Is(err, replication.ErrFenced) || errors.Is(err, volume.ErrConflict) || errors.Is(err, volume.ErrHeld) {
		err = fmt.Errorf("%w: %w", ErrGaveWay, errors.Join(err, ctx.Err()))
	}
	return err
}

// startTend takes the right to look after a volume, unless there is anything else.
func (m *Manager) startTend(v block.VolumeID, p *pending) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return ErrClosed
	case m.slots[v] != nil:
		return fmt.Errorf("volume %s: %w", v, ErrGaveWay)
	}
	m.slots[v] = &slot{busy: true, tend: p}
	return nil
}

// tend is Tend while the slot is the caretaker's.
func (m *Manager) tend(ctx context.Context, v block.VolumeID, seen string, work func(ctx context.Context, e *volume.Engine) error) error {
	r, err := m.opt.Registry.Get(v)
	switch {
	case err != nil:
		return err
	case !r.Live():
		return fmt.Errorf("volume %q: %w", r.Name, registry.ErrDeleted)
	case r.Encrypted:
		return fmt.Errorf("volume %q is encrypted, and is looked after only while it is attached: %w", r.Name, ErrKey)
	}
	a, err := m.prepare(r, AttachRequest{Kind: None})
	if err != nil {
		return err
	}
	defer a.free()
	defer a.env.Wait()
	defer a.cut.End()
	stop := context.AfterFunc(ctx, a.cut.End) // what is under way gives up
	defer stop()
	if err := m.opt.Members.Ready(ctx); err != nil {
		return err
	}
	if err := m.present(ctx, &r); err != nil {
		return err
	}
	e, err := volume.Open(m.deps(a.env, a.cut), a.spec(), volume.Options{Ring: a.ring.B, Caretaker: true, Seen: seen})
	if err != nil {
		return err
	}
	gone := context.AfterFunc(ctx, func() { _ = e.Close(false) })
	defer gone()
	err = work(ctx, e)
	if err == nil && e.Err() == nil {
		m.noteCopies(&r, e.Usage())
	}
	return errors.Join(err, e.Close(ctx.Err() == nil && e.Err() == nil))
}

// Tended lists the volumes that are looked after here at the moment.
func (m *Manager) Tended() (out []block.VolumeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for v, s := range m.slots {
		if s.tend != nil {
			out = append(out, v)
		}
	}
	return out
}

// noteCopies tells the registry how many copies there are of a volume, if that is news.
func (m *Manager) noteCopies(r *registry.Record, use volume.Usage) {
	if r.Copies == use.Copies {
		return
	}
	_, err := m.opt.Registry.Update(r.ID, func(r *registry.Record) error {
		r.Used, r.Copies = use.Bytes, use.Copies
		return nil
	})
	if err != nil {
		m.opt.Log.Warn("the registry does not take how many copies a volume has; tried again when they change", "volume", r.Name, "err", err)
	}
}
