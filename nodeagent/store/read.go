package store

import (
	"errors"
	"fmt"
	"io"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

// ReadLog reads exactly len(p) bytes at off of the extent's log stream, staged bytes included. ErrNotHeld beyond its
// end or for an unknown extent; ErrIO or ErrCorrupt if the disk does not give them. Bytes are not verified.
func (s *Store) ReadLog(id block.ExtentID, off uint32, p []byte) error {
	return s.read(id, off, p, stream{log: true})
}

// ReadData is ReadLog for the data stream. The reader checks each page against its leaf.
func (s *Store) ReadData(id block.ExtentID, off uint32, p []byte) error {
	return s.read(id, off, p, stream{})
}

// ReadLogNow is ReadLog for who must not wait: the error is disk.ErrWouldWait if the disk would have to be waited for.
func (s *Store) ReadLogNow(id block.ExtentID, off uint32, p []byte) error {
	return s.read(id, off, p, stream{log: true, now: true})
}

// ReadDataNow is ReadLogNow for the data stream.
func (s *Store) ReadDataNow(id block.ExtentID, off uint32, p []byte) error {
	return s.read(id, off, p, stream{now: true})
}

// stream says what is read of an extent, and how.
type stream struct {
	log bool // else data
	now bool // without waiting for the disk
}

func (s *Store) read(id block.ExtentID, off uint32, p []byte, how stream) error {
	s.mu.Lock()
	x, err := s.find(id)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	end, f, suffix := x.chain.DataLen, &x.dat, sufDat
	if how.log {
		end, f, suffix = x.chain.LogLen, &x.log, sufLog
	}
	s.mu.Unlock()
	if uint64(off)+uint64(len(p)) > uint64(end) {
		return fmt.Errorf("%s: %d bytes at %d of %d: %w", id, len(p), off, end, ErrNotHeld)
	}
	for _, gap := range f.tail.copyTo(p, int64(off)) {
		for at := gap[0]; at < gap[1]; {
			n, held := f.kept.copyTo(p[at:gap[1]], int64(off)+int64(at))
			if !held {
				if err := s.fromFile(x, f, suffix, p[at:at+n], int64(off)+int64(at), how.now); err != nil {
					return err
				}
			}
			at += n
		}
	}
	return nil
}

func (s *Store) fromFile(x *extent, f *file, suffix string, p []byte, off int64, now bool) error {
	if now {
		return s.fromMemory(x, f, suffix, p, off)
	}
	h, err := s.files.get(f, x, suffix)
	if err != nil {
		return fmt.Errorf("read %s: %w: %w", x.id, ErrIO, err)
	}
	defer s.files.put(f)
	if err := readFull(h, p, off); err != nil {
		return fmt.Errorf("read %s%s: %w", x.id, suffix, err)
	}
	return nil
}

// fromMemory is fromFile without a wait for the disk; opening a file may wait, too.
func (s *Store) fromMemory(x *extent, f *file, suffix string, p []byte, off int64) error {
	h := s.files.opened(f)
	if h == nil {
		return disk.ErrWouldWait
	}
	defer s.files.put(f)
	n, err := disk.ReadNow(h, p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil, errors.Is(err, disk.ErrWouldWait), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return disk.ErrWouldWait // and who waits learns what is wrong, if anything is
	}
	return fmt.Errorf("read %s%s: %d bytes at %d: %w: %w", x.id, suffix, len(p), off, ErrIO, err)
}
