package store

import "sync"

// What is appended in small pieces gathers in memory, behind what the file has, and goes there in one write: when it is much, when
// somebody needs it there, and whenever Tidy comes by. The log has it all the while.
const (
	tailLog  = 32 << 10  // bytes of a tail of a log stream
	tailData = 128 << 10 // of a data stream
	maxTails = 64        // of each, in a store: 10 MiB in all; beyond it, appends go to their files
	keptFree = 4         // of each, while they are not needed
)

// tail is the end of a stream that is not in its file yet: b from from on, and before it, while it is on its way, old. What is in neither
// is in the file.
type tail struct {
	mu      sync.Mutex // after extent.mu, before fileSet.mu; not held over a write
	b       []byte     // its capacity does not change; nil: none
	from    int64
	old     []byte // nil: none; it stays if its write fails
	oldFrom int64
	moving  bool // old is being written
	moved   sync.Cond
}

// tails is the memory of a store's tails.
type tails struct {
	mu   sync.Mutex
	out  [2]int
	free [2][][]byte
}

// kindOf tells logs from data.
func kindOf(suffix string) (kind, size int) {
	if suffix == sufLog {
		return 0, tailLog
	}
	return 1, tailData
}

// get gives an empty tail; nil if there are too many.
func (t *tails) get(suffix string) []byte {
	kind, size := kindOf(suffix)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out[kind] == maxTails {
		return nil
	}
	t.out[kind]++
	if n := len(t.free[kind]); n > 0 {
		b := t.free[kind][n-1]
		t.free[kind] = t.free[kind][:n-1]
		return b
	}
	return make([]byte, 0, size)
}

// put takes one back; nil is none.
func (t *tails) put(suffix string, b []byte) {
	if b == nil {
		return
	}
	kind, _ := kindOf(suffix)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out[kind]--
	if len(t.free[kind]) < keptFree {
		t.free[kind] = append(t.free[kind], b[:0])
	}
}

// add appends p to a stream at off, which is where x ends: in memory if it is small and the file's space is reserved, so that the disk can
// not be too full for it later. x.mu is held.
func (s *Store) add(x *extent, f *file, suffix string, p []byte, off int64, past bool) error {
	t := &f.tail
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cutTo(off)
	_, size := kindOf(suffix)
	if len(p) >= s.o.Inline || len(p) > size || off+int64(len(p)) > x.reserved(suffix) {
		return s.unlockedWrite(x, f, suffix, p, off, past)
	}
	if len(t.b) > 0 && (off != t.from+int64(len(t.b)) || len(t.b)+len(p) > cap(t.b)) {
		if err := s.move(x, f, suffix); err != nil {
			return err
		}
	}
	if t.b == nil {
		t.b = s.tails.get(suffix)
	}
	if t.b == nil {
		return s.unlockedWrite(x, f, suffix, p, off, past)
	}
	if len(t.b) == 0 {
		t.from = off
	}
	t.b = append(t.b, p...)
	return nil
}

func (s *Store) unlockedWrite(x *extent, f *file, suffix string, p []byte, off int64, past bool) error {
	f.tail.mu.Unlock()
	defer f.tail.mu.Lock()
	return s.writeTo(x, f, suffix, [][]byte{p}, off, past)
}

// cutTo takes away what lies at off and behind it: its append was refused after all. mu is held.
func (t *tail) cutTo(off int64) {
	t.b = t.b[:min(int64(len(t.b)), max(off-t.from, 0))]
	for t.oldFrom+int64(len(t.old)) > off {
		if !t.moving {
			t.old = t.old[:max(off-t.oldFrom, 0)]
			return
		}
		t.wait() // else its write could come behind the one that is to follow
	}
}

// wait waits until old has been moved, or has failed to be; mu is held.
func (t *tail) wait() {
	t.moved.L = &t.mu
	t.moved.Wait()
}

// move writes what has gathered up to now to the file; mu is held, but for the writes. On an error it stays.
func (s *Store) move(x *extent, f *file, suffix string) error {
	t := &f.tail
	for mine := false; !mine; {
		if t.moving {
			t.wait()
			continue
		}
		if t.old == nil {
			if len(t.b) == 0 {
				return nil
			}
			t.old, t.oldFrom, t.b = t.b, t.from, nil
			mine = true
		}
		t.moving = true
		err := s.unlockedWrite(x, f, suffix, t.old, t.oldFrom, false)
		t.moving = false
		t.moved.Broadcast()
		if err != nil {
			return err
		}
		old := t.old[:0]
		if t.old = nil; t.b == nil {
			t.b, old = old, nil
		}
		s.tails.put(suffix, old)
	}
	return nil
}

// toFile brings everything that was staged of x into its files, and gives the memory back. It makes nothing durable.
func (s *Store) toFile(x *extent) error {
	if err := s.moveKept(x); err != nil {
		return err
	}
	for _, p := range [...]struct {
		f      *file
		suffix string
	}{{&x.dat, sufDat}, {&x.log, sufLog}} {
		t := &p.f.tail
		t.mu.Lock()
		err := s.move(x, p.f, p.suffix)
		if len(t.b) == 0 {
			s.tails.put(p.suffix, t.b)
			t.b = nil
		}
		t.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// dropTails forgets what is not in the files of an extent that ends. Nothing is kept of it: the commit of its end has written that.
func (s *Store) dropTails(x *extent) {
	for _, p := range [...]struct {
		t      *tail
		suffix string
	}{{&x.dat.tail, sufDat}, {&x.log.tail, sufLog}} {
		p.t.mu.Lock()
		for p.t.moving {
			p.t.wait()
		}
		s.tails.put(p.suffix, p.t.b)
		s.tails.put(p.suffix, p.t.old)
		p.t.b, p.t.old = nil, nil
		p.t.mu.Unlock()
	}
}

// copyTo copies what a tail has of the range of p, which begins at off, and tells what it has not, in order: that is in the file.
func (t *tail) copyTo(p []byte, off int64) (gaps [3][2]int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first, end := overlay(p, off, t.old, t.oldFrom)
	then, last := overlay(p, off, t.b, t.from)
	if then == last {
		then, last = len(p), len(p)
	}
	return [3][2]int{{0, first}, {end, then}, {last, len(p)}}
}

// overlay copies to p, which begins at off, what b has of it, and tells which part that is; 0, 0 if none.
func overlay(p []byte, off int64, b []byte, from int64) (lo, hi int) {
	first, last := max(off, from), min(off+int64(len(p)), from+int64(len(b)))
	if first >= last {
		return 0, 0
	}
	lo, hi = int(first-off), int(last-off)
	copy(p[lo:hi], b[first-from:])
	return lo, hi
}

// tidyTails brings what has gathered into the files.
func (s *Store) tidyTails() error {
	s.mu.Lock()
	s.shifting = append(s.shifting[:0], s.dirty...)
	s.mu.Unlock()
	defer func() { clear(s.shifting) }()
	for _, x := range s.shifting {
		if err := s.toFile(x); err != nil {
			return err
		}
	}
	return nil
}
