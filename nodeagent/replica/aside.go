package replica

import (
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// A weak volume's FLUSH is answered by one replica. When a recovery had to go on without that one, what it alone holds was
// acknowledged, and has lost: it is no part of the journal any more, and may be all that is left of somebody's data. So nothing
// of a weak volume is cut or freed that the journal does not have: the copy is set aside under a name of its own first, from where
// a person may read it, until a person removes it.

// setAside copies an extent, as far as it is good, to the name under which it is kept, and waits until that is durable. It may be
// called again after a crash at any point. The extent itself stays as it is.
func (s *Server) setAside(h *Head) error {
	st, ok := s.store.Stat(h.Extent)
	if !ok || st.Chain.LogLen == 0 || h.Extent.IsAside() {
		return nil
	}
	kept := *h
	kept.Extent = h.Extent.Aside()
	log := make([]byte, st.Chain.LogLen)
	if err := s.store.ReadLog(h.Extent, 0, log); err != nil {
		return fmt.Errorf("setting %s aside: %w", h.Extent, err)
	}
	var had []block.Hash // what is kept already, by a former call
	if st, ok := s.store.Stat(kept.Extent); ok {
		var err error
		if had, err = s.hashes(kept.Extent, st.Chain.LogLen, s.localLog); err != nil {
			return fmt.Errorf("%s, which is kept: %w", kept.Extent, err)
		}
	}
	var c journal.Chain
	var failed error
	_ = c.Walk(log, func(r *journal.Record, hash block.Hash) error { // it ends at damage: what comes before it is kept
		if len(had) > 0 {
			if hash != had[0] {
				failed = fmt.Errorf("another copy is kept there, which a person must remove first: %w", ErrGap)
			}
			had = had[1:]
			return failed
		}
		payload := make([]byte, r.Payload)
		if r.Payload > 0 {
			if failed = s.store.ReadData(h.Extent, r.DataOff, payload); failed != nil {
				return failed
			}
			if err := r.CheckPayload(payload); err != nil {
				return err
			}
		}
		err := s.pullAppend(&kept, log[r.LogOff:int(r.LogOff)+r.Size()], payload, nil, pullHow{chosen: true}.use())
		if !errors.Is(err, block.ErrMismatch) { // a seal record that is damaged names another block
			failed = err
		}
		return err
	})
	if failed != nil {
		return fmt.Errorf("setting %s aside: %w", h.Extent, failed)
	}
	return s.durable()
}

// durable waits until everything staged so far is durable.
func (s *Server) durable() error {
	done := s.env.NewEvent()
	var failed error
	s.mu.Lock()
	s.wait(waiting{to: durableFunc(func(st Status, text []byte) {
		failed = ErrorOf(st, text)
		done.Set()
	}), state: func() (State, Status) { return State{}, StatusOK }})
	s.mu.Unlock()
	done.Wait()
	return failed
}

type durableFunc func(st Status, text []byte)

func (f durableFunc) Reply(st Status, parts ...[]byte) {
	var text []byte
	for _, p := range parts {
		text = append(text, p...)
	}
	f(st, text)
}

// freeKept sets a copy aside and then frees it. It starts a task, since that moves up to an extent.
func (s *Server) freeKept(h *Head, to Replier) {
	head := *h
	s.env.Go("set aside", func() {
		s.mu.Lock()
		err := s.admit(&head)
		s.mu.Unlock()
		if err == nil {
			err = s.setAside(&head)
		}
		if err == nil {
			err = s.free(&head, to)
		}
		if err != nil {
			s.refuse(to, err)
		}
	})
}
