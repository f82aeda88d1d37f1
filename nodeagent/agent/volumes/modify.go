package volumes

import (
	"context"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/registry"
)

// ModifyRequest says what to change of a volume; nil leaves it.
type ModifyRequest struct {
	Volume         string
	Replicas       *int
	Weak           *bool
	Compression    *block.Compression
	IOPS           *int64 // 0: no limit
	BytesPerSecond *int64 // 0: no limit
}

// minRate is the least limit of bytes per second: a request of a megabyte must not take minutes.
const minRate = 1 << 20

// check refuses what can not be, for the volume as it is now.
func (q *ModifyRequest) check(r *registry.Record, nodes int) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("volume %q: %s: %w", r.Name, fmt.Sprintf(format, args...), ErrInvalid)
	}
	switch {
	case q.Replicas != nil && (*q.Replicas < 1 || *q.Replicas > journal.MaxMembers):
		return bad("%d replicas, 1 to %d are possible", *q.Replicas, journal.MaxMembers)
	case q.Replicas != nil && *q.Replicas > nodes:
		return bad("%d replicas on %d nodes; ask for at most that many", *q.Replicas, nodes)
	case q.Weak != nil && *q.Weak != r.Weak:
		return bad("when a flush is answered is fixed at a volume's creation; make a new one and copy")
	case q.Compression != nil && *q.Compression > block.CompressionZstd:
		return bad("unknown compression %d", *q.Compression)
	case q.IOPS != nil && *q.IOPS < 0:
		return bad("a limit of %d I/Os a second; 0 is no limit", *q.IOPS)
	case q.BytesPerSecond != nil && *q.BytesPerSecond != 0 && *q.BytesPerSecond < minRate:
		return bad("a limit of %d bytes a second, at least %d is possible; 0 is no limit", *q.BytesPerSecond, minRate)
	}
	return nil
}

// apply enters the changes.
func (q *ModifyRequest) apply(r *registry.Record) {
	if q.Replicas != nil {
		r.Replicas = *q.Replicas
	}
	if q.Compression != nil {
		r.Compression = *q.Compression
	}
	if q.IOPS != nil {
		r.Limits.IOPS = *q.IOPS
	}
	if q.BytesPerSecond != nil {
		r.Limits.BytesPerSecond = *q.BytesPerSecond
	}
}

// Modify changes what may change of a volume, also while it is in use: the registry has it first, so it holds for every later
// attach. It must be asked where the volume is attached. Repeating it succeeds.
func (m *Manager) Modify(_ context.Context, req ModifyRequest) (out Info, err error) {
	err = m.locked(req.Volume, func(r *registry.Record, s *slot) error {
		if s.open == nil && r.Holder != "" && r.Holder != m.opt.Node {
			return fmt.Errorf("volume %q is attached on node %s; ask its agent: %w", r.Name, r.Holder, ErrElsewhere)
		}
		if err := req.check(r, len(m.opt.Members.States())); err != nil {
			return err
		}
		now, err := m.opt.Registry.Update(r.ID, func(r *registry.Record) error {
			req.apply(r)
			return nil
		})
		if err != nil {
			return err
		}
		if a := s.open; a != nil {
			a.gate.SetLimits(now.Limits.IOPS, now.Limits.BytesPerSecond)
			if err := a.eng.Modify(now.Replicas, now.Compression); err != nil {
				return err
			}
		}
		m.opt.Events.Info("Modified", r.Name, "%d replicas, compression %d, limits %d I/Os and %d bytes a second (0: none)",
			now.Replicas, now.Compression, now.Limits.IOPS, now.Limits.BytesPerSecond)
		out, err = m.Inspect(r.ID.String())
		return err
	})
	return out, err
}
