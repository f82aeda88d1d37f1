package store

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

var errStop = errors.New("stop")

// walkLog visits the records in the first limit bytes of a log, checking their chain; it moves c along, which ends at
// the last good record. Records borrow from a buffer that is used again.
func walkLog(f io.ReaderAt, limit uint32, c *journal.Chain, visit func(r *journal.Record, h block.Hash) error) error {
	buf := make([]byte, min(int64(limit), 2*journal.MaxRecord))
	for c.LogLen < limit {
		start := c.LogLen
		p := buf[:min(int64(len(buf)), int64(limit-start))]
		if err := readFull(f, p, int64(start)); err != nil {
			// What comes before the place that can not be read still counts: a record at a time.
			if p, err = readRecord(f, limit, start, buf); err != nil {
				return err
			}
			if err := c.Walk(p, visit); err != nil {
				return walkError(c, err)
			}
			continue
		}
		if err := c.Walk(p, visit); err != nil && (c.LogLen == start || !errors.Is(err, journal.ErrShort)) {
			return walkError(c, err)
		} // else the rest comes with the next buffer
	}
	return nil
}

func walkError(c *journal.Chain, err error) error {
	if errors.Is(err, errStop) {
		return err
	}
	return fmt.Errorf("log at %d: %w: %w", c.LogLen, ErrCorrupt, err)
}

// readRecord reads the one record at an offset.
func readRecord(f io.ReaderAt, limit, at uint32, buf []byte) ([]byte, error) {
	if len(buf) < journal.HeaderSize {
		return nil, fmt.Errorf("log at %d: %w", at, ErrCorrupt)
	}
	if err := readFull(f, buf[:journal.HeaderSize], int64(at)); err != nil {
		return nil, err
	}
	n := le.Uint32(buf[8:])
	if n < journal.HeaderSize || n > limit-at || int(n) > len(buf) {
		return nil, fmt.Errorf("log at %d: record of %d bytes: %w", at, n, ErrCorrupt)
	}
	return buf[:n], readFull(f, buf[:n], int64(at))
}

// found is a batch of which at least one sector is good.
type found struct {
	number uint64
	slot   int
	sector int // of its index 0
	count  int
	good   int
	first  uint32 // low half of its first LSN
}

// scan is what the ring holds.
type scan struct {
	batches []found // live ones, ascending
	highest uint64  // number of any batch, live or not
	bad     map[place]bool
}

// scanLog reads the whole ring.
func (s *Store) scanLog() scan {
	at := map[uint64]*found{}
	sc := scan{bad: map[place]bool{}}
	buf := make([]byte, 1<<20)
	for slot := range s.segs {
		for off := int64(0); off < s.o.SegmentSize; off += int64(len(buf)) {
			p := buf[:min(int64(len(buf)), s.o.SegmentSize-off)]
			whole := readFull(s.segs[slot].f, p, off) == nil
			for i := 0; i < len(p); i += sectorSize {
				sector := int(off)/sectorSize + i/sectorSize
				if !whole && readFull(s.segs[slot].f, p[i:i+sectorSize], off+int64(i)) != nil {
					sc.bad[place{slot: uint32(slot), sector: uint32(sector)}] = true
					continue
				}
				s.note(&sc, at, p[i:i+sectorSize], slot, sector)
			}
		}
	}
	for _, f := range at {
		sc.batches = append(sc.batches, *f)
	}
	slices.SortFunc(sc.batches, func(a, b found) int { return cmp.Compare(a.number, b.number) })
	return sc
}

func (s *Store) note(sc *scan, at map[uint64]*found, p []byte, slot, sector int) {
	kind, in := readSector(p, s.segs[slot].seed, sector)
	if kind == sectorGood {
		sc.highest = max(sc.highest, in.batch)
	}
	switch {
	case kind == sectorEmpty, kind == sectorBad && s.o.trustStamps, kind == sectorGood && in.batch < s.st.start.batch:
		return
	case kind == sectorGood:
		f := at[in.batch]
		if f == nil {
			f = &found{number: in.batch, slot: slot, sector: sector - in.index, count: in.count, first: in.first}
			at[in.batch] = f
		}
		if f.slot == slot && f.sector == sector-in.index && f.count == in.count {
			f.good++
			return
		}
	}
	sc.bad[place{slot: uint32(slot), sector: uint32(sector)}] = true
}

// badIn reports whether one of count sectors is bad.
func (sc *scan) badIn(slot, sector, count int) bool {
	for i := range count {
		if sc.bad[place{slot: uint32(slot), sector: uint32(sector + i)}] {
			return true
		}
	}
	return false
}

// logged is a batch of the live log, in order; one that is damaged has number 0.
type logged struct{ found }

// liveLog decides what of the ring is the log: a list of batches in order. It reports damage. A batch that is missing or
// bad is none if the entries before and after it are consecutive: then it was a mark.
func (s *Store) liveLog(rep *Report) (log []logged, damaged bool) {
	sc := s.scanLog()
	s.next = sc.highest + 1
	want, wantLSN, at := s.st.start.batch, s.st.start.lsn, s.st.start
	var doubts []string
	lose := func() {
		if len(doubts) > 0 && !s.o.trustStamps {
			rep.Damage = append(rep.Damage, doubts...)
			log = append(log, logged{})
			doubts, damaged = nil, true
		}
	}
	doubt := func(number uint64, what string) {
		doubts = append(doubts, fmt.Sprintf("log: batch %x: %s", number, what))
	}
	for i, f := range sc.batches {
		if f.number > want {
			doubt(want, fmt.Sprintf("missing, up to %x", f.number-1))
		}
		want = f.number + 1
		at = place{slot: uint32(f.slot), sector: uint32(f.sector + f.count)}
		stream, err := s.readBatch(f)
		switch {
		case err == nil:
			first, n := LSN(le.Uint64(stream)), LSN(le.Uint32(stream[12:]))
			if first == wantLSN {
				doubts = nil
			}
			lose()
			wantLSN = first + n
			log = append(log, logged{f})
		case i < len(sc.batches)-1:
			doubt(f.number, err.Error())
		case sc.badIn(f.slot, f.sector, f.count):
			doubt(f.number, "the last batch is corrupt")
		default:
			rep.Torn = true
			if f.first == uint32(wantLSN) {
				doubts = nil
			}
		}
	}
	// A last batch of which nothing is good shows as a bad sector where it must begin.
	if sc.badIn(int(at.slot), int(at.sector), 1) || sc.badIn((int(at.slot)+1)%len(s.segs), 0, 1) {
		doubt(want, "corrupt sector where the log ends")
	}
	lose()
	return log, damaged
}

// readBatch gives the stream of a complete batch.
func (s *Store) readBatch(f found) ([]byte, error) {
	if f.good != f.count {
		return nil, fmt.Errorf("%d of %d sectors: %w", f.good, f.count, ErrCorrupt)
	}
	p := make([]byte, f.count*sectorSize)
	if err := readFull(s.segs[f.slot].f, p, int64(f.sector)*sectorSize); err != nil {
		return nil, err
	}
	for i := range f.count {
		kind, in := readSector(p[i*sectorSize:(i+1)*sectorSize], s.segs[f.slot].seed, f.sector+i)
		if kind != sectorGood || in.batch != f.number || in.index != i {
			return nil, fmt.Errorf("sector %d changed while it was read: %w", i, ErrCorrupt)
		}
	}
	stream := unwrap(p)
	return stream, decodeStream(stream, func(*entry) error { return nil })
}
