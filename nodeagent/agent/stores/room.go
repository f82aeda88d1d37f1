package stores

import (
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// Room is what a store of this node has left, as it was measured last, with what it has reserved since; known is false if it is not here. It does not wait for the disk.
func (s *Set) Room(id block.StoreID) (r volume.Room, known bool) {
	s.mu.RLock()
	st := s.byID[id]
	closed := s.closed
	s.mu.RUnlock()
	if st == nil || closed {
		return r, false
	}
	var err error
	r.Users, r.Cleaners, r.Used, err = st.Left()
	return r, err == nil
}
