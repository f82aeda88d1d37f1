package volumes

import (
	"context"
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/registry"
)

// Detach ends the device, makes everything durable and closes the volume. With force it does not wait for a quorum: what
// no flush covered may be lost. It may be repeated; when ctx ends first it goes on (ErrPending).
func (m *Manager) Detach(ctx context.Context, name string, force bool) error {
	r, err := m.findOpen(name)
	if err != nil {
		return err
	}
	m.mu.Lock()
	if s := m.slots[r.ID]; s != nil && s.join != nil && (s.join.detach || force) {
		p := s.join
		m.mu.Unlock()
		if force {
			p.cancel()
		}
		err := wait(ctx, p, "detach of volume "+r.Name)
		if p.detach && !force || errors.Is(err, ErrPending) {
			return err
		}
		return m.Detach(ctx, name, force) // what was under way has ended, this way or that
	}
	m.mu.Unlock()
	s, err := m.acquire(r.ID)
	if err != nil {
		return err
	}
	a := s.open
	if a == nil {
		m.release(r.ID)
		if r.Holder != "" && r.Holder != m.opt.Node {
			return fmt.Errorf("volume %q is attached on node %s; ask its agent: %w", r.Name, r.Holder, ErrElsewhere)
		}
		return nil
	}
	p := &pending{detach: true, done: make(chan struct{}), cancel: func() { _ = a.eng.Close(false) }}
	m.mu.Lock()
	s.join = p
	m.mu.Unlock()
	m.wg.Go(func() {
		p.err = m.detach(s, a, force)
		m.release(r.ID)
		close(p.done)
	})
	return wait(ctx, p, "detach of volume "+r.Name)
}

// findOpen is find, but a volume that is open here is found although the registry is away or has lost it.
func (m *Manager) findOpen(name string) (registry.Record, error) {
	r, err := m.find(name)
	if err == nil {
		return r, nil
	}
	if a := m.openNamed(name); a != nil {
		return a.rec, nil
	}
	return r, err
}

func (m *Manager) detach(s *slot, a *attachment, force bool) error {
	a.gate.Break()
	if d := a.device(); d != nil {
		if force && a.eng.Err() == nil {
			m.opt.Log.Warn("detaching without waiting for a quorum", "volume", a.rec.Name)
		}
		if err := d.Close(context.Background()); err != nil {
			return fmt.Errorf("end the device of volume %q: %w", a.rec.Name, err)
		}
		a.setDevice(nil)
	}
	err := m.closeEngine(a, !force, func() { m.setOpen(s, nil) })
	if err == nil {
		m.opt.Events.Info("Detached", a.rec.Name, "volume is detached")
	}
	return err
}

// closeEngine ends a's engine, releases its epoch and lets its memory go; then gone is called, if not nil. What it could
// not make durable is an error, but the volume is closed nevertheless.
func (m *Manager) closeEngine(a *attachment, flush bool, gone func()) error {
	a.mu.Lock()
	a.closing = true
	a.mu.Unlock()
	was := a.eng.Err()
	epoch := a.eng.Status().Epoch
	if was == nil {
		m.note(&a.rec, a.eng)
	}
	err := a.eng.Close(flush && was == nil)
	m.noteRoots(&a.rec, a.eng)
	a.cut.End()
	a.env.Wait()
	if gone != nil {
		gone()
	}
	a.free()
	m.releaseEpoch(a, epoch)
	m.clearHolder(a, epoch)
	if err != nil {
		return fmt.Errorf("volume %q is closed, but what no flush covered may be lost: %w", a.rec.Name, err)
	}
	return nil
}

// releaseEpoch moves the registry past an epoch whose writer has ended: the replicas' leases for it then protect nothing.
// It is safe at any time, as numbers only rise; if it fails, the next attach elsewhere waits for the lease to end.
func (m *Manager) releaseEpoch(a *attachment, epoch block.Epoch) {
	f, err := m.opt.Registry.Load(a.rec.ID)
	if err == nil && f.Epoch.Number == epoch.Number && f.Epoch.Token == epoch.Token {
		f.Epoch = block.Epoch{Number: epoch.Number + 1, Token: m.env.Rand() | 1}
		_, err = m.opt.Registry.Swap(a.rec.ID, f)
	}
	if err != nil && !errors.Is(err, registry.ErrConflict) && !errors.Is(err, registry.ErrDeleted) {
		m.opt.Log.Warn("the epoch was not released; its lease ends by itself", "volume", a.rec.Name, "err", err)
	}
}

// Close ends the manager. With leave, volumes whose ring the holder keeps stay as they are for the next process; all
// others are detached. When ctx ends, engines that wait for a quorum are ended without.
func (m *Manager) Close(ctx context.Context, leave bool) error {
	m.mu.Lock()
	m.closed = true
	var joins []*pending
	for _, s := range m.slots {
		if s.join != nil {
			joins = append(joins, s.join)
		}
		if s.tend != nil {
			joins = append(joins, s.tend)
		}
	}
	m.mu.Unlock()
	m.stop()
	for _, p := range joins {
		p.cancel()
		<-p.done
	}
	var open []*attachment
	m.mu.Lock()
	for _, s := range m.slots {
		if s.open != nil {
			open = append(open, s.open)
		}
	}
	m.mu.Unlock()
	var err error
	for _, a := range open {
		if leave && m.opt.Keeper != nil {
			m.abandon(a)
			continue
		}
		stop := context.AfterFunc(ctx, func() { _ = a.eng.Close(false) })
		a.gate.Break()
		if d := a.device(); d != nil {
			err = errors.Join(err, d.Close(ctx))
		}
		err = errors.Join(err, m.closeEngine(a, true, nil))
		stop()
	}
	m.wg.Wait()
	m.env.Wait()
	return err
}

// abandon ends the engine as a crash would: the holder has the ring and the device. Requests that are under way are never
// answered: the next process gets them again. The memory stays mapped, because they may still be at it; it ends with the process.
func (m *Manager) abandon(a *attachment) {
	a.frozen.Store(true)
	a.mu.Lock()
	a.closing = true
	a.mu.Unlock()
	_ = a.eng.Close(false)
	a.cut.End()
	a.env.Wait()
}
