package volumes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/gate"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// ErrDetached is of what needs a volume that is open here.
var ErrDetached = errors.New("volume is not attached here")

// Times of a hold.
const (
	MaxHold     = 10 * time.Second
	defaultHold = 5 * time.Second
)

// Hold holds back the completion of writes to a volume that is open here until Release, at most for d (0: 5 s). Volumes that are
// held at one time show one moment; that they were is certain once Release has succeeded for each.
func (m *Manager) Hold(ctx context.Context, name string, d time.Duration) (token string, err error) {
	if d == 0 {
		d = defaultHold
	}
	if d < 0 || d > MaxHold {
		return "", fmt.Errorf("volume %q: hold writes for %v, at most %v is possible: %w", name, d, MaxHold, ErrInvalid)
	}
	a, err := m.openHere(name)
	if err != nil {
		return "", err
	}
	token = fmt.Sprintf("%x", newID())
	if err := a.gate.Hold(ctx, token, d); err != nil {
		return "", fmt.Errorf("volume %q: %w", a.rec.Name, err)
	}
	return token, nil
}

// Release ends a hold. It fails with gate.ErrOver if the hold has ended before: what was made under it may not show one moment.
func (m *Manager) Release(name, token string) error {
	a, err := m.openHere(name)
	if err != nil {
		return err
	}
	if err := a.gate.Release(token); err != nil {
		return fmt.Errorf("volume %q: %w", a.rec.Name, err)
	}
	return nil
}

// Backend is what the device of a volume that is open here serves.
func (m *Manager) Backend(name string) (export.Backend, error) {
	a, err := m.openHere(name)
	if err != nil {
		return nil, err
	}
	return a.gate, nil
}

// openHere is openNamed, or why there is nothing.
func (m *Manager) openHere(name string) (*attachment, error) {
	if a := m.openNamed(name); a != nil {
		return a, nil
	}
	r, err := m.find(name)
	if err != nil {
		return nil, err
	}
	if r.Holder != "" && r.Holder != m.opt.Node {
		return nil, fmt.Errorf("volume %q is attached on node %s; ask its agent: %w", r.Name, r.Holder, ErrElsewhere)
	}
	return nil, fmt.Errorf("volume %q: %w", r.Name, ErrDetached)
}

// sameMoment tells whether a snapshot that is there already may stand for one under a hold.
func (s *slot) sameMoment(r *registry.Record, snapshot, hold string) error {
	switch {
	case hold == "":
		return nil
	case s.open == nil:
		return fmt.Errorf("volume %q: %w: %w", r.Name, ErrDetached, gate.ErrOver)
	case !s.open.gate.Noted(hold, snapshot):
		return fmt.Errorf("volume %q has a snapshot %q of another moment; delete it first: %w", r.Name, snapshot, registry.ErrExists)
	}
	return nil
}

// heldSnapshot takes a snapshot. One that was asked for under a hold which ended meanwhile goes again.
func (s *slot) heldSnapshot(r *registry.Record, hold string, made journal.Snapshot, e *volume.Engine) error {
	if hold == "" {
		return e.Snapshot(made)
	}
	if s.open == nil {
		return fmt.Errorf("volume %q: %w: %w", r.Name, ErrDetached, gate.ErrOver)
	}
	g := s.open.gate
	if err := g.Check(hold); err != nil {
		return fmt.Errorf("volume %q: %w", r.Name, err)
	}
	if err := e.Snapshot(made); err != nil {
		return err
	}
	g.Note(hold, made.Name)
	if err := g.Check(hold); err != nil {
		return errors.Join(fmt.Errorf("snapshot %q of volume %q: %w", made.Name, r.Name, err), e.DeleteSnapshot(made.ID))
	}
	return nil
}
