package store

import (
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// Placed is payloads that lie behind the end of an extent, where they belong, and are durable there; no record names them yet.
type Placed struct {
	x    *extent
	off  int64
	n    int
	turn uint64
}

// Place writes the payloads of records that are to be appended next, in one piece and past the log, and makes them durable. It holds up neither a commit nor appends
// to other extents, so what is copied goes this way: however small its records are, the log gets no payload of them, and the commit that names them has nothing
// of theirs to sync. AppendPlaced appends the records. If something else is written to the extent before, these are refused.
//
// The payload begins where the extent's data ends: else journal.ErrChain. It does not check the payload, as Append does not.
func (s *Store) Place(id block.ExtentID, off uint32, payload []byte) (Placed, error) {
	x, err := s.hold(id)
	if err != nil {
		return Placed{}, err
	}
	defer x.mu.Unlock()
	p := Placed{x: x, off: int64(off), n: len(payload)}
	if err := s.admitPlaced(x, &p); err != nil {
		return Placed{}, err
	}
	x.turn++
	p.turn = x.turn
	t := &x.dat.tail
	t.mu.Lock()
	t.cutTo(p.off)
	t.mu.Unlock()
	if err := s.writeTo(x, &x.dat, sufDat, [][]byte{payload}, p.off, wholePages(payload, p.off)); err != nil {
		return Placed{}, err
	}
	return p, s.files.sync(&x.dat)
}

// admitPlaced checks whether p may be written to x.
func (s *Store) admitPlaced(x *extent, p *Placed) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.dead != nil:
		return s.dead
	case x.cut > s.durable:
		return fmt.Errorf("payload for %s: a cut is not committed: %w", x.id, ErrBusy)
	case int64(x.chain.DataLen) != p.off || x.chain.Closed:
		return fmt.Errorf("payload for %d of %s, whose data ends at %d: %w", p.off, x.id, x.chain.DataLen, journal.ErrChain)
	case x.open.Capacity > 0 && p.off+int64(p.n) > int64(x.open.Capacity):
		return fmt.Errorf("payload for %s: %d bytes more than %d: %w", x.id, p.n, x.open.Capacity, ErrExtentFull)
	}
	return nil
}

// AppendPlaced is Append for a record whose payload has been placed. journal.ErrChain: something else was written there since.
func (s *Store) AppendPlaced(id block.ExtentID, rec []byte, at *Placed) (LSN, error) {
	return s.append(id, rec, &body{size: -1, at: at})
}

// has tells whether p is what was placed in x last, and the payload of r is in it; x.mu is held.
func (p *Placed) has(x *extent, r *journal.Record) error {
	off := int64(r.DataOff)
	if p.x != x || p.turn != x.turn || off < p.off || off+int64(r.Payload) > p.off+int64(p.n) {
		return fmt.Errorf("the payload of seq %d of %s is not what was placed there last: %w", r.Seq, x.id, journal.ErrChain)
	}
	return nil
}
