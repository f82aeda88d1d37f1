package store

import "fmt"

// Marks of use, in percent of the capacity: up to where opens are accepted.
const (
	userMark = 92
	gcMark   = 97
)

// Lacks is how many bytes a store of total bytes, of which used are in use, lacks for another extent of a capacity, up to the mark for
// cleaning: beyond it nothing is opened. 0: it has room.
func Lacks(total, used int64, capacity uint32) int64 {
	x := extent{}
	x.open.Capacity = capacity
	return max(0, used+x.footprint()-total/100*gcMark)
}

// Usage is a store's space in bytes.
type Usage struct {
	Total    int64 // capacity
	Used     int64 // occupied or reserved by the store, and by others on the same file system
	Reserved int64 // of Used: promised to open extents and not yet written
	Live     int64 // bytes of all streams
	UserFree int64 // what opens of users may still reserve
}

// figure is what the file system last said of its room.
type figure struct {
	question    uint64 // the number of the question that it answers
	total, used int64
	grown       int64 // of Store.grown: so much of it is in used, or is gone again
	err         error
}

// Measure asks the file system for its room, and waits for it; the store waits for nobody meanwhile. A store with a capacity of its own does not ask.
func (s *Store) Measure() error {
	if s.o.Capacity > 0 {
		return nil
	}
	s.mu.Lock()
	s.questions++
	f := figure{question: s.questions, grown: s.grown - s.unmade}
	s.mu.Unlock()
	if f.total, f.used, f.err = s.fs.Usage(); f.err != nil {
		f.err = fmt.Errorf("usage: %w: %w", ErrIO, f.err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.question > s.figure.question { // else a later question was answered before
		s.figure = f
	}
	return f.err
}

// Usage tells the space, without waiting for the disk: as it was when it was measured last, by Open, Measure or the open of an extent, with what the
// store has reserved since. What was given back on the file system since is not known before the next one. By volume: see Volumes.
func (s *Store) Usage() (u Usage, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil {
		return u, s.dead
	}
	if u.Total, u.Used, err = s.space(); err != nil {
		return u, err
	}
	for _, x := range s.extents {
		live := int64(x.chain.LogLen) + int64(x.chain.DataLen)
		u.Live += live
		u.Reserved += max(0, x.space-live)
	}
	u.UserFree = max(0, u.Total/100*userMark-u.Used)
	return u, nil
}

// Left is what extents may still take, up to the mark for users and up to that for cleaning, and what is in use, as Usage tells it; below 0: by how much a mark is passed.
func (s *Store) Left() (users, cleaners, used int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil {
		return 0, 0, 0, s.dead
	}
	total, used, err := s.space()
	users, cleaners = LeftOf(total, used)
	return users, cleaners, used, err
}

// LeftOf is Left of a store of total bytes, of which used are in use.
func LeftOf(total, used int64) (users, cleaners int64) {
	return total/100*userMark - used, total/100*gcMark - used
}

// space gives the capacity, and what of it is spoken for; mu is held.
func (s *Store) space() (total, used int64, err error) {
	used = s.own + s.o.SegmentSize*int64(s.o.Segments) + reserveSize + 1<<20
	switch f := &s.figure; {
	case s.o.Capacity > 0:
		return s.o.Capacity, used, nil
	case f.err != nil:
		return 0, 0, f.err
	case f.total == 0: // without limit
		return 1 << 60, used, nil
	default:
		return f.total, max(used, f.used+s.grown-f.grown), nil
	}
}

// account brings own up to date with x; mu is held.
func (s *Store) account(x *extent) {
	n := x.footprint()
	s.own += n - x.space
	s.grown += max(0, n-x.space)
	x.space = n
}

// filesMade notes that the files for which n bytes were reserved are there, or will not be: the next question finds what they take.
func (s *Store) filesMade(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unmade -= n
}
