package volumes

import (
	"context"
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/adaptive"
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
	Least, Most    *int   // bounds within which Replicas follow how much is read; both 0: none. Both or neither
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
	if err := q.checkBounds(r, nodes); err != nil {
		return bad("%v", err)
	}
	return nil
}

// safeCopies is how many copies a volume needs whose flushes wait for a majority, to go on without any one of them.
const safeCopies = 3

// checkBounds refuses bounds that can not be, and a number of replicas outside of them.
func (q *ModifyRequest) checkBounds(r *registry.Record, nodes int) error {
	if (q.Least == nil) != (q.Most == nil) {
		return errors.New("the least and the most copies go together; say both")
	}
	b := adaptive.Bounds{Least: r.Adaptive.Least, Most: r.Adaptive.Most}
	if q.Least != nil {
		b = adaptive.Bounds{Least: *q.Least, Most: *q.Most}
	}
	switch {
	case b == (adaptive.Bounds{}):
		return nil
	case b.Least < 1 || b.Most < b.Least || b.Most > journal.MaxMembers:
		return fmt.Errorf("%d to %d copies, 1 to %d are possible, the first no more than the second", b.Least, b.Most, journal.MaxMembers)
	case q.Replicas != nil && *q.Replicas != b.Clamp(*q.Replicas):
		return fmt.Errorf("%d replicas are outside of the bounds of its copies, %d to %d; change those too", *q.Replicas, b.Least, b.Most)
	case q.Least == nil: // they were judged before, perhaps with more nodes
		return nil
	case !r.Weak && b.On() && b.Least < safeCopies:
		return fmt.Errorf("a least of %d copies, but a flush waits for a majority of them: with fewer than %d, the loss of one node stops the volume", b.Least, safeCopies)
	case b.Least > nodes:
		return fmt.Errorf("a least of %d copies on %d nodes; ask for at most that many", b.Least, nodes)
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
	if q.Least != nil {
		r.Adaptive.Least, r.Adaptive.Most = *q.Least, *q.Most
	}
	if r.Adaptive.Least == 0 {
		r.Adaptive = registry.Adaptive{}
	} else {
		r.Replicas = adaptive.Bounds{Least: r.Adaptive.Least, Most: r.Adaptive.Most}.Clamp(r.Replicas)
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
		now, err := m.change(s, r.ID, func(r *registry.Record) error {
			req.apply(r)
			return nil
		})
		if err != nil {
			return err
		}
		m.opt.Events.Info("Modified", r.Name, "%d replicas, compression %d, limits %d I/Os and %d bytes a second (0: none)",
			now.Replicas, now.Compression, now.Limits.IOPS, now.Limits.BytesPerSecond)
		out, err = m.Inspect(r.ID.String())
		return err
	})
	return out, err
}

// change changes a record, and has an engine that is open here follow it.
func (m *Manager) change(s *slot, v block.VolumeID, f func(r *registry.Record) error) (registry.Record, error) {
	now, err := m.opt.Registry.Update(v, f)
	if err != nil {
		return now, err
	}
	if a := s.open; a != nil {
		a.gate.SetLimits(now.Limits.IOPS, now.Limits.BytesPerSecond)
		a.now.Store(&settings{now.Replicas, now.Compression, now.Limits, now.Adaptive})
		err = a.eng.Modify(now.Replicas, now.Compression)
	}
	return now, err
}

// settings are what may change of a record while its volume is open.
type settings struct {
	replicas    int
	compression block.Compression
	limits      registry.Limits
	adaptive    registry.Adaptive
}

// put enters them into a record that may be older; nil: nothing has changed.
func (s *settings) put(r *registry.Record) {
	if s != nil {
		r.Replicas, r.Compression, r.Limits, r.Adaptive = s.replicas, s.compression, s.limits, s.adaptive
	}
}

// ErrBounds tells that a number of copies is not within the bounds that people have set meanwhile.
var ErrBounds = errors.New("outside of the bounds of the volume's copies")

// Adapt changes the number of copies of a volume that is open here, for a reason that is not a person's: ErrBounds if people do not want it
// any more.
func (m *Manager) Adapt(v block.VolumeID, copies int, why adaptive.Reason) error {
	return m.locked(v.String(), func(r *registry.Record, s *slot) error {
		if s.open == nil {
			return fmt.Errorf("volume %q is not attached here: %w", r.Name, ErrElsewhere)
		}
		before := 0
		_, err := m.change(s, v, func(r *registry.Record) error {
			b := adaptive.Bounds{Least: r.Adaptive.Least, Most: r.Adaptive.Most}
			if !b.On() || b.Clamp(copies) != copies {
				return fmt.Errorf("volume %q: %d copies: %w", r.Name, copies, ErrBounds)
			}
			before = r.Replicas
			r.Replicas, r.Adaptive.Why, r.Adaptive.Changed = copies, string(why), now()
			return nil
		})
		if err != nil {
			return err
		}
		m.opt.Events.Info("CopiesAdapted", r.Name, "%d copies instead of %d: %s", copies, before, why.Words())
		return nil
	})
}
