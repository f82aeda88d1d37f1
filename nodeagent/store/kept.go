package store

import "sync"

// maxKept bounds the bytes of payloads that a store keeps where they were received; beyond it appends write theirs themselves.
const maxKept = 8 << 20

// Keeper is memory that its owner lends. Whoever holds it may read it until it releases it, and each Hold has one Release. Neither may
// block or call the store. Once the last use has ended the memory may become something else.
type Keeper interface {
	Hold()
	Release()
}

// piece is a payload where it was received.
type piece struct {
	b    []byte
	off  int64
	past bool // it goes past the page cache
	lent Keeper
}

// kept is what was appended to a data stream and is neither in its file nor in the log: the commit that names it writes it before, in one write
// for what lies in a run. What is in pieces is in the file only when it has left them.
type kept struct {
	mu     sync.Mutex // after extent.mu, before fileSet.mu; not held over a write
	pieces []piece    // in the order of off
	moving int        // of the first of them, that are being written
	moved  sync.Cond
	parts  [][]byte // of one write; of who moves
}

// wait waits until those that are being written have been, or have failed to be; mu is held.
func (k *kept) wait() {
	k.moved.L = &k.mu
	k.moved.Wait()
}

// keep takes the payload of an append that ends x, if it is large, there is room for it, and its space in the file is reserved, so that the disk
// can not be too full for it later. x.mu is held.
func (s *Store) keep(x *extent, p *piece) bool {
	n := int64(len(p.b))
	if p.lent == nil || len(p.b) < s.o.Inline || p.off+n > x.reserved(sufDat) {
		return false
	}
	if s.keeping.Add(n) > maxKept {
		s.keeping.Add(-n)
		return false
	}
	t, k := &x.dat.tail, &x.dat.kept
	t.mu.Lock()
	t.cutTo(p.off)
	t.mu.Unlock()
	p.lent.Hold()
	k.mu.Lock()
	k.pieces = append(k.pieces, *p)
	k.mu.Unlock()
	return true
}

// unkeep takes away what is kept at off and behind it: its append was refused after all.
func (s *Store) unkeep(x *extent, off int64) {
	k := &x.dat.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	for n := len(k.pieces); n > 0 && k.pieces[n-1].off >= off; n = len(k.pieces) {
		if k.moving == n {
			k.wait()
			continue
		}
		s.letGo(k, n-1, n)
	}
}

// letGo takes pieces out; mu is held.
func (s *Store) letGo(k *kept, from, to int) {
	for i := from; i < to; i++ {
		p := &k.pieces[i]
		s.keeping.Add(-int64(len(p.b)))
		p.lent.Release()
	}
	n := from + copy(k.pieces[from:], k.pieces[to:])
	clear(k.pieces[n:])
	k.pieces = k.pieces[:n]
}

// moveKept writes what is kept of x, as it is when this is called, to the data file; it makes nothing durable. On an error it stays.
func (s *Store) moveKept(x *extent) error {
	k := &x.dat.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.moving > 0 {
		k.wait()
	}
	n := len(k.pieces)
	if n == 0 {
		return nil
	}
	err := s.alive() // a failed write is not tried again
	if err == nil {
		k.moving = n
		err = s.unlockedRuns(x, k, k.pieces[:n])
		k.moving = 0
		k.moved.Broadcast()
	}
	if err == nil {
		s.letGo(k, 0, n)
	}
	return err
}

// unlockedRuns writes pieces, one write for each run, without mu, which is held again afterwards.
func (s *Store) unlockedRuns(x *extent, k *kept, pieces []piece) error {
	k.mu.Unlock()
	defer k.mu.Lock()
	for len(pieces) > 0 {
		first, n := &pieces[0], 1
		k.parts = append(k.parts[:0], first.b)
		for end := first.off + int64(len(first.b)); n < len(pieces) && pieces[n].off == end && pieces[n].past == first.past; n++ {
			k.parts = append(k.parts, pieces[n].b)
			end += int64(len(pieces[n].b))
		}
		err := s.writeTo(x, &x.dat, sufDat, k.parts, first.off, first.past)
		clear(k.parts)
		if err != nil {
			return err
		}
		pieces = pieces[n:]
	}
	return nil
}

// dropKept forgets what is kept of an extent of a store that has failed.
func (s *Store) dropKept(x *extent) {
	k := &x.dat.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.moving > 0 {
		k.wait()
	}
	s.letGo(k, 0, len(k.pieces))
}

// failed ends the store for cause, and gives back all memory that it was lent: nothing is written any more, and nothing read.
func (s *Store) failed(cause error) error {
	err := s.fail(cause)
	s.mu.Lock()
	dirty := append([]*extent(nil), s.dirty...)
	s.mu.Unlock()
	for _, x := range dirty {
		s.dropKept(x)
	}
	return err
}

// copyTo tells how many bytes of the begin of p, which lies at off, are alike: kept, and copied to p, or not kept, which are in the file.
func (k *kept) copyTo(p []byte, off int64) (n int, held bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.pieces {
		q := &k.pieces[i]
		switch in := off - q.off; {
		case in < 0:
			return int(min(int64(len(p)), -in)), false
		case in < int64(len(q.b)):
			return copy(p, q.b[in:]), true
		}
	}
	return len(p), false
}
