package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"syscall"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// Finding is a range of a stream that is not what the chain says. A log can be read only up to its first bad record, so
// such a finding reaches to the end of the log.
type Finding struct {
	Extent block.ExtentID
	Log    bool   // of the log stream, else of the data stream
	Off    uint32 // bytes
	Len    uint32
	Seq    uint64 // data: of the record whose page it is
	Err    error  // ErrCorrupt, ErrMismatch, block.ErrMismatch or ErrIO
}

// Scrub reads all of an extent as far as it is committed, checks the chain and each page against its leaf, and gives
// what is wrong to found. The error is for what kept it from looking.
func (s *Store) Scrub(id block.ExtentID, found func(Finding)) error {
	return s.ScrubPaced(id, func(int) error { return nil }, found)
}

// ScrubPaced is Scrub by somebody who has time: pace is told after each record how many bytes were read for it, and may
// wait as long as it likes; what it returns ends the scrub.
func (s *Store) ScrubPaced(id block.ExtentID, pace func(bytes int) error, found func(Finding)) error {
	x, end, err := s.committedInFiles(id)
	if err != nil {
		return err
	}
	log, err := s.files.get(&x.log, x, sufLog)
	if err != nil {
		found(Finding{Extent: id, Log: true, Len: end.LogLen, Err: fmt.Errorf("%w: %w", ErrIO, err)})
		return nil
	}
	defer s.files.put(&x.log)
	s.mu.Lock()
	whole, logCRC := x.footer && end.Closed, x.logCRC
	s.mu.Unlock()
	var c, stop = journal.Chain{}, error(nil)
	var good uint32       // up to here the record after it vouches for the log
	var pending []Finding // pages of a record for which nothing vouches yet
	flush := func() {
		for _, f := range pending {
			found(f)
		}
		pending = pending[:0]
	}
	buf := make([]byte, journal.MaxPayload)
	err = walkLog(log, end.LogLen, &c, func(r *journal.Record, _ block.Hash) error {
		at := good
		good = r.LogOff
		flush()
		if stop = pace(int(good-at) + int(r.Payload)); stop != nil {
			return errStop
		}
		if r.Payload > 0 {
			s.scrubPages(x, r, buf[:r.Payload], func(f Finding) { pending = append(pending, f) })
		}
		return nil
	})
	if stop != nil {
		return stop
	}
	if err == nil && c != end {
		err = fmt.Errorf("log ends in seq %d %s, want %d %s: %w", c.Seq, c.Hash, end.Seq, end.Hash, ErrMismatch)
	}
	if err == nil {
		flush()
		if whole {
			err = checkSum(log, end.LogLen, logCRC)
		}
	}
	if err != nil && whole {
		good = 0 // a keyed hash before the place may be wrong too, which only the checksum of all tells
	}
	if err != nil && s.stillHeld(x) {
		found(Finding{Extent: id, Log: true, Off: good, Len: end.LogLen - good, Err: err})
	}
	return s.alive()
}

// committedInFiles gives an extent and what is committed of it, after it has brought all of that into its files.
func (s *Store) committedInFiles(id block.ExtentID) (x *extent, end journal.Chain, err error) {
	if x, err = s.hold(id); err != nil {
		return nil, end, err
	}
	defer x.mu.Unlock()
	s.mu.Lock()
	end = x.durable
	s.mu.Unlock()
	return x, end, s.toFile(x)
}

// checkSum checks a closed log against its footer: the chain does not cover the keyed hashes, the footer does.
func checkSum(log io.ReaderAt, size, want uint32) error {
	sum, err := checksum(log, size)
	if err == nil && sum != want {
		err = fmt.Errorf("checksum of the log: %w", ErrMismatch)
	}
	return err
}

// stillHeld reports whether x was neither freed nor cut meanwhile; otherwise what was read proves nothing.
func (s *Store) stillHeld(x *extent) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.extents[x.id] == x && x.freed == 0 && x.cut <= s.durable
}

// scrubPages checks the pages of one record.
func (s *Store) scrubPages(x *extent, r *journal.Record, buf []byte, found func(Finding)) {
	whole := s.ReadData(x.id, r.DataOff, buf)
	off := r.DataOff
	for i := range int(r.Rows) {
		row := r.Row(i)
		p := buf[off-r.DataOff:][:row.Len]
		err := whole
		if whole != nil {
			err = s.ReadData(x.id, off, p)
		}
		if err == nil && row.Len > 0 {
			err = row.Check(p)
		}
		if errors.Is(err, ErrNotHeld) {
			return // cut meanwhile
		}
		if err != nil && row.Len > 0 {
			found(Finding{Extent: x.id, Off: off, Len: uint32(row.Len), Seq: r.Seq, Err: err})
		}
		off += uint32(row.Len)
	}
}

// RepairData overwrites whole pages of the data stream with bytes that were fetched from elsewhere, after it has checked
// each against its leaf (block.ErrMismatch), and makes them durable.
func (s *Store) RepairData(id block.ExtentID, off uint32, good []byte) error {
	x, err := s.hold(id)
	if err != nil {
		return err
	}
	defer x.mu.Unlock()
	if err := s.toFile(x); err != nil {
		return fmt.Errorf("repair of %s: %w", id, err)
	}
	if err := s.checkPages(x, off, good); err != nil {
		return fmt.Errorf("repair of %s at %d: %w", id, off, err)
	}
	if err := s.writeTo(x, &x.dat, sufDat, [][]byte{good}, int64(off), false); err != nil {
		return err
	}
	return s.files.sync(&x.dat)
}

// checkPages checks that good is a run of whole pages of x's data stream from off; x.mu is held.
func (s *Store) checkPages(x *extent, off uint32, good []byte) error {
	s.mu.Lock()
	limit := x.chain.LogLen
	s.mu.Unlock()
	log, err := s.files.get(&x.log, x, sufLog)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIO, err)
	}
	defer s.files.put(&x.log)
	var c journal.Chain
	err = walkLog(log, limit, &c, func(r *journal.Record, _ block.Hash) error {
		at := r.DataOff
		for i := 0; i < int(r.Rows) && len(good) > 0; i++ {
			row := r.Row(i)
			if at == off && row.Len > 0 {
				if int(row.Len) > len(good) {
					return block.ErrMismatch
				}
				if err := row.Check(good[:row.Len]); err != nil {
					return err
				}
				good, off = good[row.Len:], off+uint32(row.Len)
			}
			at += uint32(row.Len)
		}
		if len(good) == 0 {
			return errStop
		}
		return nil
	})
	switch {
	case errors.Is(err, errStop):
		return nil
	case err == nil:
		return fmt.Errorf("no page begins there: %w", block.ErrMismatch)
	}
	return err
}

// RepairLog overwrites a range of the log stream with bytes that were fetched from elsewhere, after it has checked that
// the whole log then leads to the end that the store knows (ErrMismatch), and makes them durable. The range must cover
// all that is wrong; a Finding's range does.
func (s *Store) RepairLog(id block.ExtentID, off uint32, good []byte) error {
	x, err := s.hold(id)
	if err != nil {
		return err
	}
	defer x.mu.Unlock()
	if err := s.toFile(x); err != nil {
		return fmt.Errorf("repair of %s: %w", id, err)
	}
	s.mu.Lock()
	end, whole, logCRC := x.chain, x.footer, x.logCRC
	s.mu.Unlock()
	if uint64(off)+uint64(len(good)) > uint64(end.LogLen) {
		return fmt.Errorf("repair of %s: %d bytes at %d of %d: %w", id, len(good), off, end.LogLen, ErrNotHeld)
	}
	f, err := s.files.get(&x.log, x, sufLog)
	if err != nil {
		return fmt.Errorf("repair of %s: %w: %w", id, ErrIO, err)
	}
	defer s.files.put(&x.log)
	log := make([]byte, end.LogLen)
	copy(log[off:], good)
	for _, part := range [][2]uint32{{0, off}, {off + uint32(len(good)), end.LogLen}} {
		if p := log[part[0]:part[1]]; len(p) > 0 {
			if err := readFull(f, p, int64(part[0])); err != nil {
				return fmt.Errorf("repair of %s: %w", id, err)
			}
		}
	}
	var c journal.Chain
	if err := c.Walk(log, func(*journal.Record, block.Hash) error { return nil }); err != nil || c != end {
		return fmt.Errorf("repair of the log of %s: %w: %v", id, ErrMismatch, err)
	}
	if whole && crc32.Checksum(log, castagnoli) != logCRC {
		return fmt.Errorf("repair of the log of %s: its checksum: %w", id, ErrMismatch)
	}
	if err := s.writeTo(x, &x.log, sufLog, [][]byte{good}, int64(off), false); err != nil {
		return err
	}
	return s.files.sync(&x.log)
}

// ReplaceExtent makes the store hold an extent with exactly these streams instead of one that ends in seen (Stat; zero if it holds none), and makes
// them durable. All is verified first: the chain (journal.ErrChain, journal.ErrFormat) and each page (block.ErrMismatch). ErrBusy if it
// does not end there any more, or not durably. An Unknown extent is known afterwards. ErrFull leaves it Unknown, and the store in use.
func (s *Store) ReplaceExtent(id block.ExtentID, seen journal.Chain, log, data []byte) error {
	fresh, err := verified(id, log, data)
	if err != nil {
		return fmt.Errorf("replacement of %s: %w", id, err)
	}
	s.tidying.Lock()
	defer s.tidying.Unlock()
	s.committing.Lock()
	defer s.committing.Unlock()
	fresh.mu.Lock()
	defer fresh.mu.Unlock()
	s.mu.Lock()
	old := s.extents[id]
	s.mu.Unlock()
	if old != nil { // an append that is under way ends first, and is seen
		old.mu.Lock()
		defer old.mu.Unlock()
		if err := s.toFile(old); err != nil { // later it would go to a file of this name that is another
			return fmt.Errorf("replacement of %s: %w", id, err)
		}
	}
	if err := s.Measure(); err != nil {
		return err
	}
	if err := s.displace(old, fresh, seen); err != nil {
		return err
	}
	defer s.filesMade(fresh.space)
	err = s.putFiles(fresh, log, data)
	if old != nil {
		s.files.drop(&old.log)
		s.files.drop(&old.dat)
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrFull) { // it has no vote until it is replaced again
		_ = s.fs.Remove(fresh.path(sufDat) + sufNew)
		_ = s.fs.Remove(fresh.path(sufLog) + sufNew)
		return fmt.Errorf("replacement of %s: %w", id, ErrFull)
	} else if err != nil {
		return s.fail(err)
	}
	s.mu.Lock()
	fresh.unknown = false
	if fresh.closed != nil {
		fresh.queued = true
		s.closing = append(s.closing, fresh)
	}
	s.mu.Unlock()
	if err := s.writeState(nil); err != nil {
		return s.fail(err)
	}
	return nil
}

// verified makes the index's entry of an extent from its streams.
func verified(id block.ExtentID, log, data []byte) (*extent, error) {
	x := newExtent(id)
	err := x.chain.Walk(log, func(r *journal.Record, _ block.Hash) error {
		if err := x.learn(r); err != nil {
			return err
		}
		if uint64(r.DataOff)+uint64(r.Payload) > uint64(len(data)) {
			return fmt.Errorf("data of %d bytes: %w", len(data), block.ErrMismatch)
		}
		return r.CheckPayload(data[r.DataOff:][:r.Payload])
	})
	if err == nil && (len(log) == 0 || int(x.chain.DataLen) != len(data)) {
		err = fmt.Errorf("log of %d bytes names %d of %d bytes: %w", len(log), x.chain.DataLen, len(data), block.ErrMismatch)
	}
	return x, err
}

// displace puts x, as Unknown, in the place of what the index has, durably: until its files are whole it has no vote. old.mu is held.
func (s *Store) displace(old, x *extent, seen journal.Chain) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.dead != nil:
		return s.dead
	case s.extents[x.id] != old, old == nil && seen != (journal.Chain{}), old != nil && (old.freed != 0 || old.newest > s.durable || old.chain != seen):
		return fmt.Errorf("replacement of %s, which has changed meanwhile: %w", x.id, ErrBusy)
	case old == nil && s.st.tombs[x.id.Volume] != nil:
		return fmt.Errorf("replacement of %s: %w", x.id, ErrDeleted)
	}
	if old != nil {
		s.forget(old)
	}
	total, used, err := s.space()
	if err == nil && used+x.footprint() > total/100*gcMark {
		err = fmt.Errorf("replacement of %s: %d of %d bytes in use: %w", x.id, used, total, ErrFull)
	}
	if err != nil {
		if old != nil {
			s.insert(old)
		}
		return err
	}
	x.unknown, x.durable, x.synced, x.upTo = true, x.chain, x.chain, s.durable
	s.insert(x)
	s.unmade += x.space
	return nil
}

// putFiles replaces the files of x.
func (s *Store) putFiles(x *extent, log, data []byte) error {
	dir := shardDir(x.shard)
	if err := s.fs.MkdirAll(dir); err != nil {
		return err
	}
	if err := s.fs.SyncDir("ext"); err != nil {
		return err
	}
	if err := s.writeState(nil); err != nil {
		return err
	}
	if err := s.fs.Remove(x.path(sufFooter)); err == nil {
		if err := s.fs.SyncDir(dir); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeWhole(s.fs, dir, x.path(sufDat), data); err != nil {
		return err
	}
	if err := writeWhole(s.fs, dir, x.path(sufLog), log); err != nil || x.closed != nil {
		return err
	}
	h, err := s.files.get(&x.dat, x, sufDat)
	if err != nil {
		return err
	}
	defer s.files.put(&x.dat)
	_ = h.Allocate(int64(x.open.Capacity)) // on a full disk appends to it fail later
	return nil
}
