package volumes

import (
	"context"
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// ErrSealed is of what would change a volume that is sealed, or attach it for writing.
var ErrSealed = errors.New("volume is sealed: it is read-only for ever, on any number of nodes; clone it to write")

// Seal ends writing to a volume for ever: its content as it is becomes a snapshot that readers on any number of nodes show. If the volume
// is attached here, its device ends first, which fails while the device is in use; from then to the snapshot nobody else can take the volume.
// Repeating it succeeds.
func (m *Manager) Seal(ctx context.Context, name string, key []byte) (out Info, err error) {
	err = m.locked(name, func(r *registry.Record, s *slot) error {
		if _, ok := r.Sealed(); !ok {
			if err := m.seal(ctx, r, s, key); err != nil {
				return err
			}
			m.opt.Events.Info("Sealed", r.Name, "volume is read-only from now on, on any number of nodes")
		}
		out, err = m.Inspect(r.ID.String())
		return err
	})
	return out, err
}

func (m *Manager) seal(ctx context.Context, r *registry.Record, s *slot, key []byte) error {
	a := s.open
	if a != nil && a.device() != nil {
		a.gate.Break()
		if err := a.device().Close(ctx); err != nil {
			return fmt.Errorf("end the device of volume %q, to seal it: %w", r.Name, err)
		}
		a.setDevice(nil)
	}
	err := m.withEngine(ctx, r, s, key, func(e *volume.Engine) error {
		if _, ok := snapshotNamed(e, registry.SealName); ok {
			return nil // an attempt before got as far as this
		}
		return e.Snapshot(journal.Snapshot{ID: newID(), Created: now(), Name: registry.SealName})
	})
	if a != nil { // also after an error: without its device it is of no use to anybody
		err = errors.Join(err, m.closeEngine(a, true, func() { m.setOpen(s, nil) }))
	}
	if err != nil {
		return err
	}
	now, err := m.opt.Registry.Get(r.ID)
	if err != nil {
		return err
	}
	if _, ok := now.Sealed(); !ok {
		return fmt.Errorf("volume %q: the registry does not take that it is sealed; repeat it: %w", r.Name, registry.ErrAway)
	}
	return nil
}

// writable reports ErrSealed for a volume that is sealed.
func writable(r *registry.Record) error {
	if _, ok := r.Sealed(); ok {
		return fmt.Errorf("volume %q: %w", r.Name, ErrSealed)
	}
	return nil
}
