package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/store"
)

func (s *Server) append(typ Type, h *Head, rest []byte, to Replier, own bool) error {
	r, rec, payload, err := splitAppend(h, rest)
	if err != nil {
		return err
	}
	if !own {
		if err := check(&r, payload, to); err != nil {
			return err
		}
	}
	if r.Type == journal.TypeOpen {
		if err := s.checkOpen(h, &r); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	use := useOf(typ, own)
	if s.isBlocked(h.Extent) {
		s.block(use, h, rest, to)
		return nil
	}
	lent, _ := to.(store.Keeper)
	err = s.stage(use, h, &r, rec, payload, to, lent)
	switch {
	case !errors.Is(err, store.ErrBusy):
		return err
	case s.stopped:
		return errStopped // nobody makes room any more
	default:
		s.block(use, h, rest, to)
		s.commit.Notify()
		s.tidy.Notify()
		s.hurry.Notify()
		return nil
	}
}

// useOf is what an append is for. A writer reads from the store of its own process, so another one's pages are read if that
// one fails.
func useOf(typ Type, own bool) (use store.Use) {
	if typ == TypeAppendGC {
		use |= store.ForCleaning
	}
	if !own {
		use |= store.Unread
	}
	return use
}

// splitAppend takes the rest of an append request apart.
func splitAppend(h *Head, rest []byte) (r journal.Record, rec, payload []byte, err error) {
	if len(rest) < 4 {
		return r, nil, nil, fmt.Errorf("append of %d bytes: %w", len(rest), ErrBad)
	}
	n := binary.LittleEndian.Uint32(rest)
	rest = rest[4:]
	if uint64(n) > uint64(len(rest)) {
		return r, nil, nil, fmt.Errorf("append: record of %d bytes in %d: %w", n, len(rest), ErrBad)
	}
	rec, payload = rest[:n], rest[n:]
	r, size, err := journal.Parse(rec)
	if err != nil {
		return r, nil, nil, err
	}
	if size != len(rec) || r.Epoch != h.Epoch {
		return r, nil, nil, fmt.Errorf("append of seq %d: %d of %d bytes, record of epoch %s sent under %s: %w", r.Seq, size, len(rec), r.Epoch, h.Epoch, ErrBad)
	}
	return r, rec, payload, nil
}

// stage admits one append and hands it to the store. The caller holds s.mu.
func (s *Server) stage(use store.Use, h *Head, r *journal.Record, rec, payload []byte, to Replier, lent store.Keeper) error {
	if err := s.admit(h); err != nil {
		return err
	}
	if st, ok := s.store.Stat(h.Extent); ok && st.Chain.Seq == r.Seq && st.Chain.Hash == journal.HashOf(rec) {
		s.wait(waiting{to: to, seq: r.Seq}) // sent again: durable with the next commit at the latest
		return nil
	}
	if err := s.checkLayout(r); err != nil {
		return err
	}
	lsn, err := s.store.AppendKept(h.Extent, rec, payload, use, lent)
	if err != nil {
		return fmt.Errorf("seq %d of %s: %w", r.Seq, h.Extent, err)
	}
	s.wait(waiting{lsn: lsn, to: to, seq: r.Seq, payload: len(payload)})
	return nil
}

func (s *Server) isBlocked(x block.ExtentID) bool {
	for i := range s.blocked {
		if s.blocked[i].head.Extent == x {
			return true
		}
	}
	return false
}

func (s *Server) block(use store.Use, h *Head, rest []byte, to Replier) {
	s.blocked = append(s.blocked, blocked{use, *h, append([]byte(nil), rest...), to})
}

// unblock tries again, in order, the appends that the store had no room for.
func (s *Server) unblock() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.blocked) > 0 {
		b := &s.blocked[0]
		r, rec, payload, err := splitAppend(&b.head, b.body)
		if err == nil {
			err = s.stage(b.use, &b.head, &r, rec, payload, b.to, nil)
		}
		if errors.Is(err, store.ErrBusy) {
			return
		}
		if err != nil {
			s.refuse(b.to, err)
		}
		s.blocked[0] = blocked{}
		s.blocked = s.blocked[1:]
	}
	s.blocked = nil
}

// checkOpen makes sure that an extent is opened on the stores that its open record lists and on no other: who is not
// on the literal list has no vote (PROTOCOL 2).
func (s *Server) checkOpen(h *Head, r *journal.Record) error {
	o, err := journal.DecodeOpen(r.Body)
	if err != nil {
		return err
	}
	if o.Extent != h.Extent || !slices.Contains(o.Members, s.id) {
		return fmt.Errorf("open record of %s on %v sent for %s to %s: %w", o.Extent, o.Members, h.Extent, s.id, ErrBad)
	}
	return nil
}
