package volumes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/agent/memfd"
	"mynetwork.io/mynetwork/nodeagent/agent/transport"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/export/device"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/task"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// Recover takes over what a former process of this node left to the holder. It starts one task per volume and returns;
// a volume whose replicas are not there yet opens when they are. A volume that cannot be resumed keeps its entry, so that
// nothing is lost by trying, and an event says why.
func (m *Manager) Recover(ctx context.Context) error {
	if m.opt.Keeper == nil {
		return nil
	}
	list, err := m.opt.Keeper.List(ctx)
	if err != nil {
		return fmt.Errorf("ask the holder: %w", err)
	}
	for _, l := range list {
		id, kind, ok := parseEntryName(l.Name)
		if !ok || l.State == holder.Owned {
			continue
		}
		v, err := block.ParseVolumeID(id)
		if err != nil {
			continue
		}
		if err := m.startResume(ctx, v, l.Name, kind); err != nil {
			m.opt.Events.Error("NotResumed", id, "the holder keeps this volume, but it cannot be resumed: %v", err)
		}
	}
	return nil
}

func (m *Manager) startResume(ctx context.Context, v block.VolumeID, name string, kind Kind) error {
	k, err := m.recoverDevice(ctx, name, kind)
	if err != nil {
		closeFDs(k)
		return err
	}
	if k.meta.Node != m.opt.Node || k.meta.Volume != v.String() {
		closeFDs(k)
		return fmt.Errorf("it belongs to volume %s on node %s", k.meta.Volume, k.meta.Node)
	}
	r, err := m.opt.Registry.Get(v)
	if err != nil { // it is away, or has lost the volume; the ring is no worse for it
		m.opt.Log.Warn("resuming without the registry", "volume", v, "err", err)
		if r, err = registry.Decode(k.meta.Record); err != nil {
			closeFDs(k)
			return err
		}
	}
	a := &attachment{rec: r, kind: kind, env: task.NewReal(), cut: transport.NewCut(m.opt.Transport)}
	if err := a.mapKept(k); err != nil {
		return err
	}
	s, err := m.acquire(v)
	if err != nil {
		a.free()
		return err
	}
	p := &pending{done: make(chan struct{}), cancel: a.cut.End}
	m.mu.Lock()
	s.join = p
	m.mu.Unlock()
	m.wg.Go(func() {
		p.err = m.resume(s, a, k, name)
		if p.err != nil {
			what := "the volume's device stays with the holder"
			if k.ended {
				what = "attach the volume again, what was acknowledged is in it"
			}
			m.opt.Events.Error("NotResumed", r.Name, "%s: %v", what, p.err)
		}
		m.release(v)
		close(p.done)
	})
	return nil
}

func closeFDs(k *kept) {
	if k == nil {
		return
	}
	for _, fd := range k.memory {
		_ = unix.Close(fd)
	}
}

// mapKept maps the ring and the key; it owns their descriptors.
func (a *attachment) mapKept(k *kept) (err error) {
	want := 1
	if k.meta.Key {
		want = 2
	}
	if len(k.memory) != want {
		closeFDs(k)
		return fmt.Errorf("the holder has %d pieces of memory, want %d", len(k.memory), want)
	}
	if a.ring, err = memfd.Map(k.memory[0]); err == nil && k.meta.Key {
		if a.key, err = memfd.Map(k.memory[1]); err != nil {
			a.ring.Close()
		}
	}
	return err
}

// resume opens the engine on the ring that was kept, then serves the device. The slot is this operation's.
func (m *Manager) resume(s *slot, a *attachment, k *kept, name string) error {
	err := m.opt.Members.Ready(m.ctx)
	for err == nil {
		if err = m.resumeEngine(a); err == nil {
			break
		}
		if lost(err) || m.ctx.Err() != nil {
			break
		}
		m.opt.Log.Warn("the volume does not resume yet, its I/O waits", "volume", a.rec.Name, "err", err)
		select {
		case <-time.After(resumePause):
			err = nil
		case <-m.ctx.Done():
		}
	}
	if err != nil {
		a.env.Wait()
		a.free()
		if lost(err) && m.ctx.Err() == nil {
			err = errors.Join(err, m.discard(name, k)) // for good: its I/O must fail, not hang
		}
		return err
	}
	m.setOpen(s, a)
	m.watch(a)
	m.rootLater(a)
	if k.ended {
		err := fmt.Errorf("its device has ended: %s", k.why)
		return errors.Join(err, m.closeEngine(a, true, func() { m.setOpen(s, nil) }), m.discard(name, k))
	}
	d, err := m.resumeDevice(a.gate, name, k)
	if err != nil {
		return err
	}
	a.setDevice(d)
	m.opt.Events.Info("Resumed", a.rec.Name, "volume goes on in epoch %s", a.eng.Status().Epoch)
	return nil
}

// resumeEngine opens the engine on the ring that was kept. What it needs may be away for a while: grants, the registry's record of an
// ancestor, replicas.
func (m *Manager) resumeEngine(a *attachment) error {
	if err := m.present(m.ctx, &a.rec); err != nil {
		return err
	}
	e, err := volume.Open(m.deps(a.env, a.cut), a.spec(), volume.Options{Ring: a.ring.B, Anchor: a.rec.Fact.Anchor, NoRoom: m.noRoom(a)})
	if err == nil {
		a.serve(e, &a.rec)
	}
	return err
}

// resumePause is between attempts to resume a volume.
const resumePause = 2 * time.Second

// lost reports whether a resume can never succeed: another writer has taken the volume, or it is deleted.
func lost(err error) bool {
	return errors.Is(err, replication.ErrFenced) || errors.Is(err, volume.ErrCut) || errors.Is(err, registry.ErrDeleted) || errors.Is(err, replica.ErrDeleted)
}

// discard ends a device that can never be served again, and has the holder forget it.
func (m *Manager) discard(name string, k *kept) error {
	if k.meta.Kind != Fuse {
		return m.opt.Keeper.Drop(m.ctx, name)
	}
	return device.Cleanup(m.ctx, m.opt.Keeper, m.opt.Mounter, name)
}
