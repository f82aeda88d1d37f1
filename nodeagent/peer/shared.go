package peer

import "sync/atomic"

// Shared is memory that several requests end in, maybe on several connections. It is counted by who uses it; each of them, the one
// that made it included, calls Release once. B must not change meanwhile.
type Shared struct {
	B    []byte
	uses atomic.Int32
	free func()
}

// Init begins the use of b by the caller; free runs when the last use has ended, on the goroutine that ended it. It must not block.
func (s *Shared) Init(b []byte, free func()) {
	if s.uses.Add(1) != 1 {
		panic("peer: shared memory is taken while it is used")
	}
	s.B, s.free = b, free
}

// Hold begins another use; the caller has one.
func (s *Shared) Hold() {
	if s.uses.Add(1) < 2 {
		panic("peer: shared memory is held that nobody uses")
	}
}

// Release ends a use.
func (s *Shared) Release() {
	switch n := s.uses.Add(-1); {
	case n < 0:
		panic("peer: shared memory is released twice")
	case n == 0:
		s.free()
	}
}
