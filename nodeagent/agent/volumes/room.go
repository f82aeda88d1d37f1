package volumes

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/store"
)

// room is what is known of the room that an engine waits for. The zero value knows nothing.
type room struct {
	first func() // called with the first word; nil: nobody. Set before the engine is opened

	mu   sync.Mutex
	why  error         // the last word; nil: none yet
	told chan struct{} // closed with the next word
}

// word gives what is closed with the next word: who asks is not answered with what is out of date. Without a room there is none ever.
func (r *room) word() <-chan struct{} {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.told == nil {
		r.told = make(chan struct{})
	}
	return r.told
}

// reason is the last word, wrapping replica.ErrFull; nil if there was none.
func (r *room) reason() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.why
}

// lacking takes a word; it tells whether that was the first.
func (r *room) lacking(why error) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first = r.why == nil
	r.why = why
	if r.told != nil {
		close(r.told)
		r.told = nil
	}
	return first
}

// noRoom is told by a's engine that stores are full.
func (m *Manager) noRoom(a *attachment) func(full []block.StoreID, capacity uint32) {
	return func(full []block.StoreID, capacity uint32) {
		why := m.fullness(full, capacity)
		if !a.room.lacking(why) {
			return
		}
		m.opt.Log.Warn("the volume waits for room", "volume", a.rec.Name, "err", why)
		if a.room.first != nil {
			a.room.first()
		}
	}
}

// fullness says which stores are full, what each of them lacks for an extent of a capacity, and what to do.
func (m *Manager) fullness(full []block.StoreID, capacity uint32) error {
	var each []string
	for _, s := range m.opt.Members.States() {
		for _, have := range s.Stores {
			if !slices.Contains(full, have.ID) {
				continue
			}
			what := fmt.Sprintf("store %s on node %s has %s of %s in use", have.ID, s.Name, mib(have.Used), mib(have.Capacity))
			if lacks := store.Lacks(have.Capacity, have.Used, capacity); lacks > 0 { // else it is more than it said last
				what += fmt.Sprintf(" and lacks %s for another extent", mib(lacks))
			}
			each = append(each, what)
		}
	}
	if len(each) == 0 {
		for _, s := range full {
			each = append(each, "store "+s.String())
		}
	}
	return fmt.Errorf("%w: %s; delete volumes or snapshots that nobody needs, detach idle volumes, or add a disk or a node",
		replica.ErrFull, strings.Join(each, "; "))
}

// mib gives bytes for people, rounded up.
func mib(bytes int64) string { return fmt.Sprintf("%d MiB", (bytes+1<<20-1)>>20) }
