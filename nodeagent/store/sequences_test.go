package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

// act is one operation on a prepared store: extent 1 has two records and is open, extent 2 is closed with a footer.
type act struct {
	name string
	run  func(m *model, a, b *scribe) error
}

// staged notes the version that op makes, and takes it back if op did nothing.
func (m *model) staged(w *scribe, held bool, op func() error) error {
	undo := m.push(w, held)
	err := op()
	if err != nil {
		undo()
	}
	if errors.Is(err, ErrBusy) || errors.Is(err, ErrNotHeld) {
		return nil
	}
	return err
}

func (m *model) write(w *scribe, pages int) error {
	if _, ok := m.s.Stat(w.id); !ok || w.chain.Closed {
		return nil
	}
	saved := *w
	rec, payload := w.pages(pages, m.rng)
	return m.staged(w, true, func() error {
		_, err := m.give(w, rec, payload)
		if err != nil {
			*w = saved
		}
		return err
	})
}

func (m *model) cutTo(w *scribe, i int) error {
	if _, ok := m.s.Stat(w.id); !ok || i >= len(w.ends) {
		return nil
	}
	saved := *w
	w.cut(i)
	return m.staged(w, true, func() error {
		_, err := m.s.Cut(w.id, w.chain.Seq)
		if err != nil {
			*w = saved
		}
		return err
	})
}

func (m *model) free(w *scribe) error {
	return m.staged(w, false, func() error { _, err := m.s.Free(w.id); return err })
}

func (m *model) commit() error {
	m.inFlight = m.s.lsn
	lsn, err := m.s.Commit()
	if err == nil {
		m.acked = lsn
	}
	return err
}

func acts() []act {
	return []act{
		{"small", func(m *model, a, _ *scribe) error { return m.write(a, 1) }},
		{"large", func(m *model, a, _ *scribe) error { return m.write(a, 3) }},
		{"close", func(m *model, a, _ *scribe) error {
			if _, ok := m.s.Stat(a.id); !ok || a.chain.Closed {
				return nil
			}
			saved := *a
			rec := a.close()
			return m.staged(a, true, func() error {
				_, err := m.s.Append(a.id, rec, nil)
				if err != nil {
					*a = saved
				}
				return err
			})
		}},
		{"cut", func(m *model, a, _ *scribe) error { return m.cutTo(a, 1) }},
		{"reopen", func(m *model, _, b *scribe) error { return m.cutTo(b, 1) }},
		{"write reopened", func(m *model, _, b *scribe) error { return m.write(b, 1) }},
		{"free open", func(m *model, a, _ *scribe) error { return m.free(a) }},
		{"free closed", func(m *model, _, b *scribe) error { return m.free(b) }},
		{"open again", func(m *model, a, _ *scribe) error {
			if _, ok := m.s.Stat(a.id); ok {
				return nil
			}
			fresh := newScribe(a.id)
			rec := fresh.open(64 << 10)
			return m.staged(fresh, true, func() error {
				_, err := m.s.Append(a.id, rec, nil)
				if err == nil {
					*a = *fresh
				}
				return err
			})
		}},
		{"promise", func(m *model, a, _ *scribe) error {
			e := block.Epoch{Number: m.s.Promised(a.id.Volume).Number + 1}
			m.promises[a.id.Volume] = append(m.promises[a.id.Volume], step[block.Epoch]{m.s.lsn + 1, e})
			_, err := m.s.Promise(a.id.Volume, e)
			return err
		}},
		{"commit", func(m *model, _, _ *scribe) error { return m.commit() }},
		{"tidy", func(m *model, _, _ *scribe) error { _, err := m.s.Tidy(1 << 30); return err }},
		{"restart", func(m *model, _, _ *scribe) error {
			d := m.s.fs
			m.inFlight = m.s.lsn
			if err := m.s.Close(); err != nil {
				return err
			}
			m.acked = m.inFlight
			s, _, err := Open(d, small)
			m.s = s
			return err
		}},
	}
}

// sequence runs operations and a commit, checking a crash state before each change of the disk.
func sequence(list []act, seed uint64) (states int, failed error) {
	mem := disk.NewMem(0)
	if err := Format(mem, testSuper, small); err != nil {
		return 0, err
	}
	faults := disk.NewFaults(mem, nil)
	s, _, err := Open(faults, small)
	if err != nil {
		return 0, err
	}
	m := newModel(seed)
	m.s = s
	a, b := newScribe(testID(1, 1)), newScribe(testID(1, 2))
	for _, w := range []*scribe{a, b} {
		rec := w.open(64 << 10)
		m.push(w, true)
		if _, err := s.Append(w.id, rec, nil); err != nil {
			return 0, err
		}
		if err := m.write(w, 1); err != nil {
			return 0, err
		}
	}
	rec := b.close()
	m.push(b, true)
	if _, err := s.Append(b.id, rec, nil); err != nil {
		return 0, err
	}
	if err := m.commit(); err != nil {
		return 0, err
	}
	if _, err := s.Tidy(1 << 30); err != nil {
		return 0, err
	}
	rng := rand.New(rand.NewPCG(seed, 8))
	faults.SetPlan(func(op disk.Op) disk.Fault {
		if op.Kind != disk.OpRead && op.Kind != disk.OpSize && op.Kind != disk.OpOpen && op.Kind != disk.OpList && failed == nil {
			states++
			c := mem.Crash(rng.Uint64)
			s, rep, err := Open(c, small)
			if err == nil {
				err = m.compare(s, rep)
			}
			if err != nil {
				failed = fmt.Errorf("before %s of %s: %w", op.Kind, op.Name, err)
			}
		}
		return disk.Fault{}
	})
	for _, c := range list {
		if err := c.run(m, a, b); err != nil || failed != nil {
			return states, errors.Join(failed, err)
		}
	}
	return states, errors.Join(m.commit(), failed)
}

// TestSequences runs all sequences of one and two operations, and of three with STORE_CRASH_STATES set, with a crash
// before each change of the disk.
func TestSequences(t *testing.T) {
	inOneGoroutine(t)
	all, states, runs := acts(), 0, 0
	try := func(list ...act) {
		n, err := sequence(list, uint64(runs))
		runs++
		states += n
		if err != nil {
			var names []string
			for _, c := range list {
				names = append(names, c.name)
			}
			t.Errorf("%v, seed %d: %v", names, runs-1, err)
		}
	}
	for _, x := range all {
		try(x)
		for _, y := range all {
			try(x, y)
			if crashStates(0) > 0 {
				for _, z := range all {
					try(x, y, z)
				}
			}
		}
	}
	t.Logf("%d sequences, %d crash states", runs, states)
}
