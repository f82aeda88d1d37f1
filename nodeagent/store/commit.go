package store

import (
	"errors"
	"fmt"
	"io/fs"
)

// Commit makes everything durable that was staged when it was called. On success each LSN up to the one returned
// survives power loss. It costs one write and one sync of the log, and one sync of each data file that has large
// payloads among them.
func (s *Store) Commit() (LSN, error) {
	s.committing.Lock()
	defer s.committing.Unlock()
	s.mu.Lock()
	b := s.cur
	if s.dead != nil {
		dead := s.dead
		s.mu.Unlock()
		return 0, s.failed(dead)
	}
	if b.entries == 0 {
		defer s.mu.Unlock()
		return s.durable, nil
	}
	s.cur, s.spare = s.spare, nil
	for _, x := range b.touched {
		x.pending, x.batched = x.chain, false
	}
	at, err := s.claim(b)
	s.mu.Unlock()
	if err == nil {
		err = s.before(b)
	}
	if err == nil {
		err = s.log(b, at, true)
	}
	if err != nil {
		return 0, s.failed(err)
	}
	return s.after(b), nil
}

// before makes durable what must be so before the log names it.
func (s *Store) before(b *batch) error {
	for i, x := range b.created {
		if i == 0 || b.created[i-1].shard != x.shard {
			if err := s.fs.SyncDir(shardDir(x.shard)); err != nil {
				return err
			}
		}
	}
	for _, x := range b.syncs {
		if err := s.moveKept(x); err != nil {
			return err
		}
		if err := s.files.sync(&x.dat); err != nil {
			return err
		}
	}
	for _, x := range b.cuts {
		if err := s.unfoot(x); err != nil {
			return err
		}
	}
	return nil
}

// unfoot removes the footer of an extent that a cut opens again. The state names the extent first, so that it always is
// named by one of them.
func (s *Store) unfoot(x *extent) error {
	s.mu.Lock()
	had := x.footer && x.reopens
	if had {
		x.footer = false
	}
	s.mu.Unlock()
	if !had {
		return nil
	}
	if err := s.writeState(nil); err != nil {
		return err
	}
	if err := s.fs.Remove(x.path(sufFooter)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.fs.SyncDir(shardDir(x.shard))
}

// claim finishes a batch and takes its place in the log; mu and committing are held.
func (s *Store) claim(b *batch) (place, error) {
	size := int64(b.finish(s.o.Align)) * sectorSize
	if s.pos+size > s.o.SegmentSize {
		if s.live == len(s.segs) {
			return place{}, fmt.Errorf("no free segment: %w", ErrBusy) // room has seen to that
		}
		s.slot, s.pos = (s.slot+1)%len(s.segs), 0
		s.live++
	}
	at := place{s.next, uint32(s.slot), uint32(s.pos / sectorSize), b.first}
	seg := &s.segs[s.slot]
	if s.pos == 0 {
		seg.first = at
	}
	if b.entries > 0 {
		seg.last = b.last
	}
	s.pos += size
	s.next++
	return at, nil
}

// log writes a batch to its place.
func (s *Store) log(b *batch, at place, sync bool) error {
	seg := &s.segs[at.slot]
	stamp(b.buf, at.batch, seg.seed, int(at.sector))
	if _, err := seg.f.WriteAt(b.buf, int64(at.sector)*sectorSize); err != nil {
		return err
	}
	if !sync {
		return nil
	}
	return seg.f.Sync()
}

// after publishes what a batch has made durable.
func (s *Store) after(b *batch) LSN {
	s.mu.Lock()
	s.durable = b.last
	for _, x := range b.touched {
		x.durable = x.pending
		if x.durable.Closed && !x.footer && !x.queued {
			x.queued = true
			s.closing = append(s.closing, x)
		}
	}
	for _, x := range b.cuts {
		x.unknown, x.reopens = false, false
	}
	s.mu.Unlock()
	for _, x := range b.frees {
		x.mu.Lock()
		s.removeFiles(x)
		s.mu.Lock()
		s.forget(x)
		s.mu.Unlock()
		x.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	durable := s.durable
	b.reset()
	s.spare = b
	return durable
}
