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
		if err := r.CheckPayload(payload); err != nil {
			return err
		}
	}
	if r.Type == journal.TypeOpen {
		if err := s.checkOpen(h, r); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isBlocked(h.Extent) {
		s.block(typ, h, rest, to)
		return nil
	}
	err = s.stage(typ, h, r, rec, payload, to)
	if errors.Is(err, store.ErrBusy) {
		s.block(typ, h, rest, to)
		s.commit.Notify()
		s.tidy.Notify()
		s.hurry.Notify()
		return nil
	}
	return err
}

// splitAppend takes the rest of an append request apart.
func splitAppend(h *Head, rest []byte) (r *journal.Record, rec, payload []byte, err error) {
	if len(rest) < 4 {
		return nil, nil, nil, fmt.Errorf("append of %d bytes: %w", len(rest), ErrBad)
	}
	n := binary.LittleEndian.Uint32(rest)
	rest = rest[4:]
	if uint64(n) > uint64(len(rest)) {
		return nil, nil, nil, fmt.Errorf("append: record of %d bytes in %d: %w", n, len(rest), ErrBad)
	}
	rec, payload = rest[:n], rest[n:]
	got, size, err := journal.Parse(rec)
	if err != nil {
		return nil, nil, nil, err
	}
	if size != len(rec) || got.Epoch != h.Epoch {
		return nil, nil, nil, fmt.Errorf("append of seq %d: %d of %d bytes, record of epoch %s sent under %s: %w", got.Seq, size, len(rec), got.Epoch, h.Epoch, ErrBad)
	}
	return &got, rec, payload, nil
}

// stage admits one append and hands it to the store. The caller holds s.mu.
func (s *Server) stage(typ Type, h *Head, r *journal.Record, rec, payload []byte, to Replier) error {
	if err := s.admit(h); err != nil {
		return err
	}
	if st, ok := s.store.Stat(h.Extent); ok && st.Chain.Seq == r.Seq && st.Chain.Hash == journal.HashOf(rec) {
		s.wait(waiting{to: to, seq: r.Seq}) // sent again: durable with the next commit at the latest
		return nil
	}
	add := s.store.Append
	if typ == TypeAppendGC {
		add = s.store.AppendGC
	}
	lsn, err := add(h.Extent, rec, payload)
	if err != nil {
		return fmt.Errorf("seq %d of %s: %w", r.Seq, h.Extent, err)
	}
	s.wait(waiting{lsn: lsn, to: to, seq: r.Seq})
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

func (s *Server) block(typ Type, h *Head, rest []byte, to Replier) {
	s.blocked = append(s.blocked, blocked{typ, *h, append([]byte(nil), rest...), to})
}

// unblock tries again, in order, the appends that the store had no room for.
func (s *Server) unblock() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.blocked) > 0 {
		b := &s.blocked[0]
		r, rec, payload, err := splitAppend(&b.head, b.body)
		if err == nil {
			err = s.stage(b.typ, &b.head, r, rec, payload, b.to)
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
