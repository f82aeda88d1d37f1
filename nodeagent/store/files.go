package store

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"mynetwork.io/mynetwork/nodeagent/disk"
)

// file is one of an extent's files; its descriptors come and go.
type file struct {
	f          disk.File // nil while closed
	past       disk.File // the same file past the page cache; nil until it is asked for, and where there is no such way
	only       bool      // there is none
	refs       int
	dirty      bool // written since the last sync began
	syncing    bool // a sync has begun and not ended
	doomed     bool // to be closed when nobody uses it
	prev, next *file

	tail tail // guarded by its own mutex
	kept kept // of data files; likewise
}

// fileSet bounds the number of open descriptors: the least recently used ones that nobody uses are closed, dirty ones
// after a sync, because an error of write-back is only sure to be reported to a descriptor that was open.
type fileSet struct {
	fs   disk.FS
	max  int
	fail func(error) error // quarantines

	mu     sync.Mutex
	synced sync.Cond // a sync has ended
	broken error     // one has failed: what was written before it may be lost, whatever a later one says
	n      int
	root   file // ring of open files, most recent first
}

func (s *fileSet) init(d disk.FS, limit int, fail func(error) error) {
	s.fs, s.max, s.fail = d, limit, fail
	s.synced.L = &s.mu
	s.root.prev, s.root.next = &s.root, &s.root
}

func (f *file) unlink() {
	f.prev.next, f.next.prev = f.next, f.prev
	f.prev, f.next = nil, nil
}

func (s *fileSet) front(f *file) {
	f.next, f.prev = s.root.next, &s.root
	f.next.prev, f.prev.next = f, f
}

// get opens f if it is closed, and holds it open until put or wrote.
func (s *fileSet) get(f *file, x *extent, suffix string) (disk.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.f == nil {
		if err := s.room(); err != nil {
			return nil, err
		}
	}
	if f.f == nil { // room may have let others in
		opened, err := s.fs.Open(x.path(suffix))
		if err != nil {
			return nil, err
		}
		s.add(f, opened)
		f.refs++
		return f.f, nil
	}
	return s.hold(f), nil
}

// opened is get for a file whose descriptor is open; nil if it is not.
func (s *fileSet) opened(f *file) disk.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.f == nil {
		return nil
	}
	return s.hold(f)
}

// hold keeps an open file open until put or wrote; mu is held.
func (s *fileSet) hold(f *file) disk.File {
	f.unlink()
	s.front(f)
	f.refs++
	return f.f
}

// adopt takes the open descriptor of a file that nobody else knows into the set, and holds it open like get.
func (s *fileSet) adopt(f *file, opened disk.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.room(); err != nil {
		return errors.Join(err, opened.Close())
	}
	s.add(f, opened)
	f.refs++
	return nil
}

func (s *fileSet) add(f *file, opened disk.File) {
	f.f = opened
	s.n++
	s.front(f)
}

// room closes files until another one may be opened; if all are in use, there is one more. It gives mu up while it waits for the disk.
func (s *fileSet) room() error {
	for v := s.root.prev; s.n >= s.max && v != &s.root; {
		switch {
		case v.refs > 0:
			v = v.prev
		case v.dirty:
			if err := s.flush(v); err != nil {
				return err
			}
			v = s.root.prev // others have been here
		default:
			s.close(v)
			v = s.root.prev
		}
	}
	return nil
}

func (s *fileSet) close(f *file) {
	_ = f.f.Close() // nothing is pending in it
	s.n--
	if f.past != nil {
		_ = f.past.Close()
		s.n--
	}
	f.f, f.past, f.only, f.dirty, f.doomed = nil, nil, false, false, false
	f.unlink()
}

// around gives a descriptor of an open file that leaves the page cache out, for what is aligned to pages; the caller holds f by get.
// Where there is none it gives the one that get gave.
func (s *fileSet) around(f *file, x *extent, suffix string) disk.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.past == nil && !f.only && !f.doomed {
		f.only = true
		if opened, err := s.fs.Open(x.path(suffix)); err == nil {
			if d, ok := opened.(disk.Direct); ok && d.Direct(page) == nil {
				f.past, f.only = opened, false
				s.n++
			} else {
				_ = opened.Close()
			}
		}
	}
	if f.past != nil {
		return f.past
	}
	return f.f
}

func (s *fileSet) put(f *file) { s.release(f, false) }

// wrote is put after a change. Only now does f need a sync: one that began before the write has ended does not count.
func (s *fileSet) wrote(f *file) { s.release(f, true) }

func (s *fileSet) release(f *file, dirty bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.dirty = f.dirty || dirty
	s.letGo(f)
}

func (s *fileSet) letGo(f *file) {
	f.refs--
	if f.doomed && f.refs == 0 {
		s.close(f)
	}
}

// drop closes f for good and without a sync, because its file is removed or replaced; after its last user, if it has any.
func (s *fileSet) drop(f *file) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case f.f == nil:
	case f.refs > 0:
		f.doomed = true
	default:
		s.close(f)
	}
}

// sync makes durable what was written to f before. One that is under way may have begun before that, and what it began with is not durable
// before it has ended: it is waited for.
func (s *fileSet) sync(f *file) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f.syncing {
		s.synced.Wait()
	}
	if !f.dirty {
		return s.broken
	}
	return s.flush(f)
}

// flush syncs an open file that no sync is under way of; it gives mu up meanwhile.
func (s *fileSet) flush(f *file) error {
	f.dirty, f.syncing = false, true
	f.refs++
	if err := s.unlocked(f.f.Sync); err != nil {
		s.broken = err
	}
	f.syncing = false
	s.synced.Broadcast()
	s.letGo(f)
	return s.broken
}

// unlocked waits for the disk without mu, which is held again afterwards, however that ends.
func (s *fileSet) unlocked(wait func() error) error {
	s.mu.Unlock()
	defer s.mu.Lock()
	if err := wait(); err != nil {
		return s.fail(err)
	}
	return nil
}

func (s *fileSet) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.root.next != &s.root {
		s.close(s.root.next)
	}
}

// readFull reads exactly p. A file that ends too early has lost bytes.
func readFull(f io.ReaderAt, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%d of %d bytes at %d: %w", n, len(p), off, ErrCorrupt)
	}
	return fmt.Errorf("%d bytes at %d: %w: %w", len(p), off, ErrIO, err)
}
