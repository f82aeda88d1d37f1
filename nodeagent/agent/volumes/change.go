package volumes

import (
	"context"
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// CreateRequest says what to make.
type CreateRequest struct {
	Name        string
	Size        int64 // bytes
	Replicas    int   // 0: 3, or as many as there are nodes
	Weak        bool
	Extent      uint32
	Compression block.Compression
	Key         []byte // 32 bytes; empty: not encrypted
	Claim       registry.Claim
}

// defaultReplicas is R of a volume that does not say.
const defaultReplicas = 3

// keySize is the size of an encryption key in bytes.
const keySize = 32

// Extents' capacities in bytes, between which a volume may choose.
const (
	minExtent = 1 << 20
	maxExtent = 1 << 30
)

// Create makes a volume. Repeating an equal request gives the one that is there; another one of that name is ErrExists.
func (m *Manager) Create(req CreateRequest) (Info, error) {
	if req.Replicas == 0 {
		req.Replicas = defaultReplicas
	}
	switch nodes := len(m.storageNodes()); {
	case nodes == 0:
		return Info{}, fmt.Errorf("volume %q: %w", req.Name, members.ErrNoLayout)
	case req.Replicas > nodes:
		return Info{}, fmt.Errorf("volume %q: %d replicas on %d nodes; ask for at most that many: %w", req.Name, req.Replicas, nodes, ErrInvalid)
	case len(req.Key) != 0 && len(req.Key) != keySize:
		return Info{}, fmt.Errorf("volume %q: a key of %d bytes, AES-256 needs %d: %w", req.Name, len(req.Key), keySize, ErrKey)
	case req.Extent != 0 && (req.Extent < minExtent || req.Extent > maxExtent || req.Extent%block.PageSize != 0):
		return Info{}, fmt.Errorf("volume %q: extents of %d bytes, from %d to %d are possible: %w", req.Name, req.Extent, minExtent, maxExtent, ErrInvalid)
	}
	r := registry.Record{ID: block.VolumeID(newID()), Name: req.Name, Size: req.Size, Replicas: req.Replicas, Weak: req.Weak, Extent: req.Extent,
		Compression: req.Compression, Created: now(), Claim: req.Claim}
	if len(req.Key) > 0 {
		r.Encrypted, r.KeyCheck = true, keyCheck(req.Key, r.ID)
	}
	return m.create(r, func(have *registry.Record) bool {
		return have.Parent.IsZero() && have.Size == r.Size && have.Replicas == r.Replicas && have.Weak == r.Weak && have.Extent == r.Extent &&
			have.Compression == r.Compression && CheckKey(have, req.Key) == nil
	})
}

// create makes r, or gives the volume of its name if that is the same.
func (m *Manager) create(r registry.Record, same func(have *registry.Record) bool) (Info, error) {
	err := m.opt.Registry.Create(r)
	if errors.Is(err, registry.ErrExists) {
		have, ferr := m.find(r.Name)
		if ferr == nil && same(&have) {
			return m.info(have), nil
		}
	}
	if err != nil {
		return Info{}, err
	}
	m.opt.Events.Info("Created", r.Name, "volume %s of %d bytes with %d replicas is made", r.ID, r.Size, r.Replicas)
	return m.Inspect(r.ID.String())
}

// Resize grows a volume, and its device if it is attached here. claim is how many bytes its claim asks for now, if fewer than size; else 0.
func (m *Manager) Resize(ctx context.Context, name string, size, claim int64, key []byte) (out Info, err error) {
	err = m.locked(name, func(r *registry.Record, s *slot) error {
		if size <= 0 || size%block.PageSize != 0 {
			return fmt.Errorf("volume %q: resize to %d bytes, want a positive multiple of %d: %w", r.Name, size, block.PageSize, ErrInvalid)
		}
		if err := writable(r); err != nil {
			return err
		}
		if err := m.claimed(r, size, claim); err != nil {
			return err
		}
		err := m.withEngine(ctx, r, s, key, func(e *volume.Engine) error {
			if size < e.Size() {
				return fmt.Errorf("volume %q has %d bytes: it does not shrink to %d: %w", r.Name, e.Size(), size, ErrInvalid)
			}
			if size > e.Size() {
				if err := e.Resize(size); err != nil {
					return err
				}
			}
			if s.open != nil && s.open.device() != nil {
				return s.open.device().Resize(ctx, size)
			}
			return nil
		})
		if err != nil {
			return err
		}
		out, err = m.Inspect(r.ID.String())
		return err
	})
	return out, err
}

// claimed keeps how many bytes the claim asks for of a volume that is to have size bytes. It comes before the volume grows: until then
// that is more than it has, which says nothing, and if it never grows, nothing wrong is said.
func (m *Manager) claimed(r *registry.Record, size, claim int64) error {
	if r.Claim.Name == "" || r.Claim.Size == claim || size < r.Size {
		return nil
	}
	_, err := m.opt.Registry.Update(r.ID, func(r *registry.Record) error {
		r.Claim.Size = claim
		return nil
	})
	return err
}

// CreateSnapshot keeps the volume's content as it is now. Repeating it with a name that is there gives that snapshot.
// With the token of a hold it is of the moment that is held, or an error.
func (m *Manager) CreateSnapshot(ctx context.Context, name, snapshot, hold string, key []byte) (out journal.SnapshotRoot, id block.VolumeID, err error) {
	if snapshot == "" || len(snapshot) > journal.MaxName || snapshot == registry.SealName {
		return out, id, fmt.Errorf("snapshot name %q: 1 to %d bytes, and not %q: %w", snapshot, journal.MaxName, registry.SealName, ErrInvalid)
	}
	err = m.locked(name, func(r *registry.Record, s *slot) error {
		id = r.ID
		return m.withEngine(ctx, r, s, key, func(e *volume.Engine) error {
			var ok bool
			if out, ok = snapshotNamed(e, snapshot); ok {
				if known, is := r.FindSnapshot(fmt.Sprintf("%x", out.ID)); is && known.Kept {
					return fmt.Errorf("snapshot %q of volume %q was deleted and is kept for its clones; take another name: %w", snapshot, r.Name, registry.ErrExists)
				}
				return s.sameMoment(r, snapshot, hold)
			}
			if hold == "" { // what is held cannot be written back
				defer m.freeze(ctx, r, s)()
			}
			made := journal.Snapshot{ID: newID(), Created: now(), Name: snapshot}
			if err := s.heldSnapshot(r, hold, made, e); err != nil {
				return err
			}
			if out, ok = snapshotNamed(e, snapshot); !ok {
				return fmt.Errorf("snapshot %q of volume %q is gone again: %w", snapshot, r.Name, registry.ErrNotFound)
			}
			m.opt.Events.Info("SnapshotCreated", r.Name, "snapshot %q is made", snapshot)
			return nil
		})
	})
	return out, id, err
}

// DeleteSnapshot ends a snapshot that has no clones. Repeating it succeeds. One that has is refused, or, with keep, kept for them alone.
func (m *Manager) DeleteSnapshot(ctx context.Context, name, snapshot string, keep bool, key []byte) error {
	return m.locked(name, func(r *registry.Record, s *slot) error {
		return m.withEngine(ctx, r, s, key, func(e *volume.Engine) error {
			snap, ok := snapshotNamed(e, snapshot)
			if !ok {
				return nil
			}
			if snap.Name == registry.SealName {
				return fmt.Errorf("snapshot %q of volume %q is what its readers show; delete the volume: %w", snapshot, r.Name, ErrSealed)
			}
			m.note(r, e) // the registry knows it, so that it can be marked
			err := m.mark(r, snap.ID, func(s *registry.Snapshot) { s.Dying = true })
			if keep && errors.Is(err, registry.ErrClones) {
				m.opt.Events.Info("SnapshotKept", r.Name, "snapshot %q is deleted, and kept until the clones are gone that start from it", snap.Name)
				return m.mark(r, snap.ID, func(s *registry.Snapshot) { s.Kept = true })
			}
			if err != nil {
				return err
			}
			if err := e.DeleteSnapshot(snap.ID); err != nil && !errors.Is(err, volume.ErrNotFound) {
				return err
			}
			m.opt.Events.Info("SnapshotDeleted", r.Name, "snapshot %q is deleted", snap.Name)
			return nil
		})
	})
}

// mark changes what the registry says of a snapshot. One that dies is cloned by nobody, and one that somebody has cloned does not: ErrClones.
func (m *Manager) mark(r *registry.Record, id [16]byte, change func(s *registry.Snapshot)) error {
	_, err := m.opt.Registry.Update(r.ID, func(r *registry.Record) error {
		if s, ok := r.FindSnapshot(fmt.Sprintf("%x", id)); ok {
			change(s)
		}
		return nil
	})
	return err
}

// Rollback makes the content that of a snapshot. The volume must not be attached: what a file system has in memory would
// be written over it.
func (m *Manager) Rollback(ctx context.Context, name, snapshot string, key []byte) (out Info, err error) {
	err = m.locked(name, func(r *registry.Record, s *slot) error {
		if s.open != nil {
			return fmt.Errorf("volume %q: detach it before the rollback: %w", r.Name, ErrAttached)
		}
		if err := writable(r); err != nil {
			return err
		}
		err := m.withEngine(ctx, r, s, key, func(e *volume.Engine) error {
			snap, ok := snapshotNamed(e, snapshot)
			if !ok {
				return fmt.Errorf("snapshot %q of volume %q: %w", snapshot, r.Name, registry.ErrNotFound)
			}
			if known, is := r.FindSnapshot(fmt.Sprintf("%x", snap.ID)); is && known.Kept {
				return fmt.Errorf("snapshot %q of volume %q was deleted and is kept for its clones alone: %w", snapshot, r.Name, registry.ErrNotFound)
			}
			return e.Rollback(snap.ID)
		})
		if err != nil {
			return err
		}
		m.opt.Events.Info("RolledBack", r.Name, "content is that of snapshot %q", snapshot)
		out, err = m.Inspect(r.ID.String())
		return err
	})
	return out, err
}
