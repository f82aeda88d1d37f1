package replica

import (
	"encoding/binary"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// A node leaves the network once no journal names its stores. Engines say when that is so for the extents that they have opened; a writer
// that has not heard of the new layout yet may open another one there meanwhile. So stores first acknowledge, durably, that they know the
// new layout, and from then on take no open record that was made under an older one and names a store that the new one puts nothing on. A
// list that names none is as good under any layout, and is taken: a writer that can not learn of the new layout goes on.

// Layout is what a store's node knows of where data belongs.
type Layout interface {
	// Version is that of the newest layout, 0 if none is known.
	Version() uint64
	// Takes tells whether new copies are put on a store. Of one that is not known it is false.
	Takes(s block.StoreID) bool
}

// LayoutError is why an extent was not opened: the writer's layout is older than Version, which puts nothing on Leaving. Without any, the
// store has forgotten what that layout says.
type LayoutError struct {
	Version uint64
	Leaving []block.StoreID
}

// Error says what the writer does not know.
func (e *LayoutError) Error() string {
	return fmt.Sprintf("layout %d is in use, which puts nothing on %v: the extent was proposed under an older one", e.Version, e.Leaving)
}

// encode gives the body of StatusLayout: version u64, then the stores.
func (e *LayoutError) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, e.Version)
	for i := range e.Leaving {
		b = append(b, e.Leaving[i][:]...)
	}
	return b
}

// DecodeLayoutError reads the body of StatusLayout.
func DecodeLayoutError(b []byte) *LayoutError {
	e := &LayoutError{}
	if len(b) < 8 {
		return e
	}
	e.Version = binary.LittleEndian.Uint64(b)
	for b = b[8:]; len(b) >= 16; b = b[16:] {
		e.Leaving = append(e.Leaving, block.StoreID(b[:16]))
	}
	return e
}

// layoutKey is where the version is kept, u64, that was acknowledged.
const layoutKey = "layout"

// Follow has opens judged by a layout. It is called before requests are taken; without it all are taken.
func (s *Server) Follow(l Layout) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.layout = l
	if b := s.store.Meta(layoutKey); len(b) == 8 {
		s.noted = binary.LittleEndian.Uint64(b)
		s.acknowledged.Store(s.noted)
	}
}

// Acknowledge begins to note, durably, that opens are judged by the present layout, unless that was noted. It gives the version that is noted
// by now: from no older one an extent is opened any more on a store that this layout puts nothing on. It does not wait, not even for an append that
// a disk holds up: then a task does. Not to be called after Stop.
func (s *Server) Acknowledge() uint64 {
	if s.mu.TryLock() {
		defer s.mu.Unlock()
		s.note()
	} else if s.noting.CompareAndSwap(false, true) {
		s.env.Go("note a layout", func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.noting.Store(false)
			s.note()
		})
	}
	return s.acknowledged.Load()
}

// note begins to note the present layout. The caller holds s.mu.
func (s *Server) note() {
	if s.layout == nil {
		return
	}
	v := s.layout.Version()
	if v <= s.noted || s.stopped {
		return
	}
	lsn, err := s.store.SetMeta(layoutKey, binary.LittleEndian.AppendUint64(nil, v))
	if err != nil {
		return // as of a disk that has failed, and votes on nothing
	}
	s.noted = v
	s.wait(waiting{lsn: lsn, to: noted{s, v}})
}

// noted takes the answer that an acknowledgement is durable.
type noted struct {
	s       *Server
	version uint64
}

// Reply implements Replier.
func (n noted) Reply(st Status, _ ...[]byte) {
	if st != StatusOK {
		return
	}
	for was := n.s.acknowledged.Load(); was < n.version && !n.s.acknowledged.CompareAndSwap(was, n.version); was = n.s.acknowledged.Load() {
	}
}

// checkLayout refuses an open record that a layout in use forbids. The caller holds s.mu.
func (s *Server) checkLayout(r *journal.Record) error {
	if r.Type != journal.TypeOpen || s.layout == nil {
		return nil
	}
	o, err := journal.DecodeOpen(r.Body)
	if err != nil {
		return err
	}
	v := s.layout.Version()
	if o.Layout >= max(v, s.noted) {
		return nil
	}
	e := &LayoutError{Version: max(v, s.noted)}
	if v < s.noted { // what it said is not known here any more, or not yet again
		return e
	}
	for _, m := range o.Members {
		if !s.layout.Takes(m) {
			e.Leaving = append(e.Leaving, m)
		}
	}
	if e.Leaving == nil {
		return nil
	}
	return e
}
