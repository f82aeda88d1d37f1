package volumes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// CloneRequest says what to clone.
type CloneRequest struct {
	Parent, Snapshot string
	Name             string
	Size             int64 // bytes; 0: the snapshot's
	Key              []byte
	Claim            registry.Claim
}

// Clone makes a volume that starts from a snapshot, without waiting until a checkpoint names that: the clone's first opening does.
func (m *Manager) Clone(req CloneRequest) (out Info, err error) {
	parent, snapshot, name, size, key := req.Parent, req.Snapshot, req.Name, req.Size, req.Key
	err = m.locked(parent, func(p *registry.Record, s *slot) error {
		if err := CheckKey(p, key); err != nil {
			return err
		}
		if p.Holder != "" && p.Holder != m.opt.Node && s.open == nil {
			return fmt.Errorf("volume %q is attached on node %s; ask its agent: %w", p.Name, p.Holder, ErrElsewhere)
		}
		unrooted := false
		if s.open != nil {
			if unrooted, err = m.sow(p, s.open.eng, snapshot); err != nil {
				return err
			}
		}
		snap, ok := p.FindSnapshot(snapshot)
		if !ok {
			return fmt.Errorf("snapshot %q of volume %q: %w", snapshot, p.Name, registry.ErrNotFound)
		}
		if size == 0 {
			size = snap.Size
		}
		if size < snap.Size {
			return fmt.Errorf("clone %q of %d bytes, the snapshot has %d: %w", name, size, snap.Size, ErrInvalid)
		}
		r := registry.Record{ID: block.VolumeID(newID()), Name: name, Size: size, Replicas: p.Replicas, Weak: p.Weak, Extent: p.Extent,
			Compression: p.Compression, Encrypted: p.Encrypted, Parent: p.ID, Snapshot: snap.ID, Created: now(), Claim: req.Claim, Unrooted: unrooted}
		if p.Encrypted {
			r.KeyCheck = keyCheck(key, r.ID)
		}
		out, err = m.create(r, func(have *registry.Record) bool {
			return have.Parent == r.Parent && have.Snapshot == r.Snapshot && have.Size == r.Size
		})
		return err
	})
	return out, err
}

// sow sees to it that the registry knows a snapshot of a volume that is open here, and that a checkpoint will name it. It reads p anew. A weak
// volume's snapshot may be lost with the journal's end, so there the checkpoint is waited for.
func (m *Manager) sow(p *registry.Record, eng *volume.Engine, snapshot string) (unrooted bool, err error) {
	if snap, ok := p.FindSnapshot(snapshot); ok && snap.Rooted {
		return false, nil
	}
	if p.Weak {
		if err := eng.Checkpoint(); err != nil {
			return false, err
		}
	}
	m.note(p, eng)
	now, err := m.opt.Registry.Get(p.ID)
	if err != nil {
		return false, err
	}
	*p = now
	if snap, ok := p.FindSnapshot(snapshot); !ok || snap.Rooted {
		return false, nil
	}
	m.wg.Go(func() { m.root(&now, eng) })
	return true, nil
}

// rootLater is root, once, of a volume that was opened here: its former writer may have ended before it got there.
func (m *Manager) rootLater(a *attachment) {
	if slices.ContainsFunc(a.rec.Snapshots, func(s registry.Snapshot) bool { return !s.Rooted }) {
		m.wg.Go(func() { m.root(&a.rec, a.eng) })
	}
}

// root sees to it that a checkpoint names each snapshot of a volume that is open here, and that the registry knows that. What fails is made
// good when a clone is opened, or the volume.
func (m *Manager) root(r *registry.Record, eng *volume.Engine) {
	if slices.ContainsFunc(eng.Snapshots(), func(s journal.SnapshotRoot) bool { return !eng.Rooted(s.ID) }) {
		if err := eng.Checkpoint(); err != nil {
			m.opt.Log.Info("no checkpoint yet for a clone to start from", "volume", r.Name, "err", err)
			return
		}
	}
	m.noteRoots(r, eng)
}

// noteRoots tells the registry which snapshots a durable checkpoint names, if it may not know.
func (m *Manager) noteRoots(r *registry.Record, eng *volume.Engine) {
	if len(eng.Snapshots()) == 0 {
		return
	}
	news := func(s registry.Snapshot) bool { return !s.Rooted && eng.Rooted(s.ID) }
	now, err := m.opt.Registry.Get(r.ID)
	if err == nil && slices.ContainsFunc(now.Snapshots, news) {
		_, err = m.opt.Registry.Update(r.ID, func(r *registry.Record) error {
			for i := range r.Snapshots {
				s := &r.Snapshots[i]
				s.Rooted = s.Rooted || eng.Rooted(s.ID)
			}
			return nil
		})
	}
	if err != nil {
		m.opt.Log.Warn("the registry does not take which snapshots clones can be opened from; told again when one is", "volume", r.Name, "err", err)
	}
}

const (
	// ripenPause is between looks whether the parent's writer on another node has made its checkpoint.
	ripenPause = 200 * time.Millisecond
	// ripenPatience is how long a clone's first opening waits for it.
	ripenPatience = 45 * time.Second
)

// ripen waits until a durable checkpoint of a clone's parent names the snapshot that it starts from. One is made here if the parent is open
// here, or nowhere by all that is known. Its writer elsewhere has begun one when the clone was made; another one makes it when it opens the
// parent. One that is not durable would not do: a recovery may lose it, and give the numbers of its blocks to others.
func (m *Manager) ripen(ctx context.Context, a *attachment) error {
	brought := false
	for deadline := time.Now().Add(ripenPatience); ; {
		p, err := m.opt.Registry.Get(a.rec.Parent)
		if err != nil {
			return err
		}
		snap, ok := p.FindSnapshot(fmt.Sprintf("%x", a.rec.Snapshot))
		switch {
		case !ok:
			return fmt.Errorf("snapshot %x of volume %q: %w", a.rec.Snapshot, p.Name, registry.ErrNotFound)
		case snap.Rooted:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("volume %q, attached on node %q, has made no checkpoint of snapshot %q for %s; \"volume inspect %s\" there says how it is: %w",
				p.Name, p.Holder, snap.Name, ripenPatience, p.Name, ErrPending)
		}
		if p.Holder == "" || m.attachmentOf(p.ID) != nil {
			switch err := m.bringForward(ctx, a); {
			case err == nil && !brought: // it may be asked for once more: the registry may not have taken that it is there
				brought = true
				continue
			case err != nil && !errors.Is(err, ErrBusy):
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ErrClosed
		case <-time.After(ripenPause):
		}
	}
}

// bringForward has a clone's parent, which is open here or nowhere, make a checkpoint. ErrBusy: another operation on it is under way.
func (m *Manager) bringForward(ctx context.Context, a *attachment) error {
	var key []byte
	if a.key != nil {
		key = a.key.B
	}
	return m.locked(a.rec.Parent.String(), func(p *registry.Record, s *slot) error {
		return m.withEngine(ctx, p, s, key, func(e *volume.Engine) error { return e.Checkpoint() })
	})
}
