package store

import (
	"errors"
	"hash/crc32"
	"io"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// Tidy does background work: footers of closed extents, sync of the extents that hold back the oldest segment of the
// log, and the segment's release. It syncs about budget bytes of extents and reports whether work is left. The owner
// calls it regularly, and when a call gives ErrBusy. ErrFull: the disk has no room for a few KiB; frees make it.
func (s *Store) Tidy(budget int64) (more bool, err error) {
	s.tidying.Lock()
	defer s.tidying.Unlock()
	if err := s.alive(); err != nil {
		return false, err
	}
	s.refill()
	if err := s.mark(); err != nil {
		return false, s.fail(err)
	}
	if err := s.tidyTails(); errors.Is(err, ErrFull) {
		return true, err
	} else if err != nil {
		return false, s.fail(err)
	}
	left, err := s.foot(budget)
	if err == nil && left <= 0 {
		return true, nil
	}
	if err == nil {
		more, err = s.recycle(left)
	}
	if errors.Is(err, ErrFull) {
		return true, err // nothing has changed: frees make room
	}
	if err != nil {
		return false, s.fail(err)
	}
	return more, nil
}

func (s *Store) alive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

// mark follows the last batch by an empty one if nothing else did, as proof that it was acknowledged: without it, damage
// that looks like sectors never written can not be told from a torn batch. The mark itself needs no sync.
func (s *Store) mark() error {
	s.committing.Lock()
	defer s.committing.Unlock()
	s.mu.Lock()
	if s.dead != nil || s.spare == nil || s.marked == s.next-1 || s.cur.entries > 0 || s.pos+int64(s.o.Align) > s.o.SegmentSize {
		s.mu.Unlock()
		return nil
	}
	b := s.spare
	b.first = s.lsn + 1
	clear(s.scratch[:prologue])
	b.put(s.scratch[:prologue])
	at, err := s.claim(b)
	s.marked = at.batch
	s.mu.Unlock()
	if err == nil {
		err = s.log(b, at, false)
	}
	b.reset()
	return err
}

// foot writes footers while the budget lasts and returns what is left of it.
func (s *Store) foot(budget int64) (int64, error) {
	for budget > 0 {
		s.mu.Lock()
		if len(s.closing) == 0 {
			s.mu.Unlock()
			break
		}
		x := s.closing[0]
		s.closing = slices.Delete(s.closing, 0, 1)
		x.queued = false
		s.mu.Unlock()
		n, err := s.finalise(x)
		if err != nil {
			s.mu.Lock()
			x.queued = true
			s.closing = append(s.closing, x)
			s.mu.Unlock()
			return 0, err
		}
		budget -= n + page
	}
	return budget, nil
}

// finalise trims a closed extent and writes its footer. It returns how many bytes it synced.
func (s *Store) finalise(x *extent) (int64, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s.mu.Lock()
	ready := x.freed == 0 && x.durable.Closed && x.chain.Closed && x.cut <= s.durable && !x.footer && !x.unknown
	s.mu.Unlock()
	if !ready {
		return 0, nil
	}
	n, err := s.syncExtent(x)
	if err != nil {
		return n, err
	}
	s.mu.Lock()
	ft := footer{extent: x.id, lsn: x.upTo, chain: x.synced, open: x.open, closed: *x.closed}
	s.mu.Unlock()
	if !ft.chain.Closed {
		return n, nil
	}
	for _, p := range []struct {
		f      *file
		suffix string
		size   uint32
	}{{&x.log, sufLog, ft.chain.LogLen}, {&x.dat, sufDat, ft.chain.DataLen}} {
		h, err := s.files.get(p.f, x, p.suffix)
		if err != nil {
			return n, err
		}
		err = h.Truncate(int64(p.size))
		var rotten bool
		if err == nil && p.suffix == sufLog {
			ft.logCRC, rotten, err = vouch(h, &ft.chain, x.sum)
		}
		s.files.wrote(p.f)
		if rotten { // a footer would vouch for what is wrong: the extent is made anew from a good copy
			s.mu.Lock()
			x.unknown = true
			s.mu.Unlock()
			return n, nil
		}
		if err == nil {
			err = s.files.sync(p.f)
		}
		if err != nil {
			return n, err
		}
	}
	if err := s.replace(shardDir(x.shard), x.path(sufFooter), ft.encode()); err != nil {
		return n, err
	}
	s.mu.Lock()
	x.footer, x.logCRC = true, ft.logCRC
	s.mu.Unlock()
	return n, nil
}

// vouch gives the checksum of a log that leads to end; rotten tells that it does not. A log that is still what known is of leads there, as its
// records did when they came: they need not be hashed again.
func vouch(h io.ReaderAt, end *journal.Chain, known logSum) (sum uint32, rotten bool, err error) {
	sum, err = checksum(h, end.LogLen)
	switch {
	case errors.Is(err, ErrCorrupt):
		return 0, true, nil
	case err != nil || known == (logSum{end.LogLen, sum}):
		return sum, false, err
	}
	var c journal.Chain
	err = walkLog(h, end.LogLen, &c, func(*journal.Record, block.Hash) error { return nil })
	if errors.Is(err, ErrCorrupt) || (err == nil && c != *end) {
		return 0, true, nil
	}
	return sum, false, err
}

func checksum(h interface {
	ReadAt([]byte, int64) (int, error)
}, size uint32) (sum uint32, err error) {
	buf := make([]byte, min(64<<10, size))
	for at := uint32(0); at < size; {
		p := buf[:min(uint32(len(buf)), size-at)]
		if err := readFull(h, p, int64(at)); err != nil {
			return 0, err
		}
		sum = crc32.Update(sum, castagnoli, p)
		at += uint32(len(p))
	}
	return sum, nil
}

// syncExtent makes x's files durable up to its committed end, whose bytes were written before they were staged; appends
// go on meanwhile. Tidying is held. It returns how many bytes that were.
func (s *Store) syncExtent(x *extent) (int64, error) {
	s.mu.Lock()
	end, upTo := x.durable, s.durable
	n := int64(end.LogLen) - int64(x.synced.LogLen) + int64(end.DataLen) - int64(x.synced.DataLen)
	s.mu.Unlock()
	if err := s.toFile(x); err != nil {
		return 0, err
	}
	for _, f := range []*file{&x.dat, &x.log} {
		if err := s.files.sync(f); err != nil {
			return 0, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x.synced, x.upTo = end, upTo
	switch {
	case x.oldest == 0:
	case x.newest <= upTo:
		x.oldest = 0
		if i := slices.Index(s.dirty, x); i >= 0 {
			s.dirty = slices.Delete(s.dirty, i, i+1)
		}
	default:
		x.oldest = max(x.oldest, upTo+1)
	}
	return max(n, 0), nil
}

// recycle frees the oldest segments of the log while the budget lasts. What is in flight is in the newest.
func (s *Store) recycle(budget int64) (more bool, err error) {
	for {
		s.mu.Lock()
		n := len(s.segs)
		oldest := (s.slot - s.live + 1 + n) % n
		seg := &s.segs[oldest]
		if s.live == 1 {
			s.mu.Unlock()
			return false, nil
		}
		x := s.holdsBack(seg.last)
		start := s.segs[(oldest+1)%n].first
		s.mu.Unlock()
		if x != nil {
			if budget <= 0 {
				return true, nil
			}
			n, err := s.syncExtent(x)
			if err != nil {
				return false, err
			}
			budget -= n + page
			continue
		}
		if err := s.writeState(&start); err != nil {
			return false, err
		}
		s.mu.Lock()
		s.live--
		s.mu.Unlock()
	}
}

// holdsBack finds an extent with entries up to lsn that are only in the log; mu is held.
func (s *Store) holdsBack(lsn LSN) *extent {
	for _, x := range s.dirty {
		if x.oldest <= lsn && (x.freed == 0 || x.freed > s.durable) {
			return x
		}
	}
	return nil
}

// writeState replaces the state file, moving the start of the log if start is given.
func (s *Store) writeState(start *place) error {
	s.stating.Lock()
	defer s.stating.Unlock()
	for shard := range s.unsynced {
		s.mu.Lock()
		sync := s.unsynced[shard]
		s.unsynced[shard] = false
		s.mu.Unlock()
		if sync {
			if err := s.fs.SyncDir(shardDir(uint8(shard))); err != nil {
				return err
			}
		}
	}
	s.mu.Lock()
	if start != nil {
		s.st.start = *start
	}
	s.st.lsn = s.durable
	clear(s.st.open)
	for _, x := range s.extents {
		if !x.footer && (x.synced.LogLen > 0 || x.unknown) {
			s.st.open[x.id] = openExtent{x.synced.LogLen, x.synced.Hash, x.upTo, x.unknown}
		}
	}
	b := s.st.encode()
	s.mu.Unlock()
	return s.replace(".", fileState, twice(b))
}

// checkpoint makes the extent files and the state hold everything that is committed, so that the log is empty.
func (s *Store) checkpoint() error {
	s.tidying.Lock()
	defer s.tidying.Unlock()
	s.committing.Lock()
	defer s.committing.Unlock()
	if _, err := s.foot(1 << 62); err != nil {
		return s.fail(err)
	}
	for {
		s.mu.Lock()
		x := s.holdsBack(s.durable)
		at := place{s.next, uint32(s.slot), uint32(s.pos / sectorSize), s.durable + 1}
		s.mu.Unlock()
		if x == nil {
			if err := s.writeState(&at); err != nil {
				return s.fail(err)
			}
			return nil
		}
		if _, err := s.syncExtent(x); err != nil {
			return s.fail(err)
		}
	}
}

// footer is what the index needs of a closed extent.
type footer struct {
	extent block.ExtentID
	lsn    LSN
	chain  journal.Chain
	logCRC uint32
	open   journal.Open
	closed journal.Closed
}

func (ft *footer) encode() []byte {
	var e enc
	e.extent(ft.extent)
	e.u64(uint64(ft.lsn))
	e.u64(ft.chain.Seq)
	e.raw(ft.chain.Hash[:])
	e.epoch(ft.chain.Epoch)
	e.u32(ft.chain.LogLen)
	e.u32(ft.chain.DataLen)
	e.u32(ft.logCRC)
	e.long(ft.open.Encode())
	e.long(ft.closed.Encode())
	return seal(magicFooter, e.b)
}

func decodeFooter(b []byte) (ft footer, err error) {
	body, err := unseal(magicFooter, b)
	if err != nil {
		return ft, err
	}
	d := dec{b: body}
	ft.extent, ft.lsn = d.extent(), LSN(d.u64())
	ft.chain = journal.Chain{Seq: d.u64(), Hash: d.hash(), Epoch: d.epoch(), LogLen: d.u32(), DataLen: d.u32(), Closed: true}
	ft.logCRC = d.u32()
	open, closed := d.long(), d.long()
	if err := d.done("footer"); err != nil {
		return ft, err
	}
	if ft.open, err = journal.DecodeOpen(open); err != nil {
		return ft, err
	}
	ft.closed, err = journal.DecodeClosed(closed)
	return ft, err
}
