package volume

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/upkeep"
)

// sight is the layout as one node knows it: the first from which data is taken off one store is 2.
type sight struct {
	*world
	mu      sync.Mutex
	version uint64
	leaving block.StoreID
	refused atomic.Int64
}

func (s *sight) Version() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

func (s *sight) learn(version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version = version
}

// Takes is asked about members of extents that were proposed under an older layout, by stores that follow this one.
func (s *sight) Takes(id block.StoreID) bool {
	if id != s.leaving || s.Version() < 2 {
		return true
	}
	s.refused.Add(1)
	return false
}

func (s *sight) Site(id block.StoreID) upkeep.Site {
	return upkeep.Site{Node: id.String(), Member: true, Takes: s.Takes(id)}
}

func (s *sight) Candidates(key block.Hash) []block.StoreID {
	list := s.world.Candidates(key)
	if i := slices.Index(list, s.leaving); s.Version() >= 2 && i >= 0 {
		list = append(slices.Delete(list, i, i+1), s.leaving)
	}
	return list
}

func (s *sight) Places(key block.Hash, n int) []block.StoreID {
	list := slices.DeleteFunc(s.Candidates(key), func(id block.StoreID) bool { return !s.Takes(id) })
	return list[:min(n, len(list))]
}

// TestOldLayoutOpens: stores know of a layout that takes all data from one of them, and the writer does not yet. It opens no extent there: with
// others to go to it goes there, without any it waits for the layout. If stores do not know of it either, the leaving one is named.
func TestOldLayoutOpens(t *testing.T) {
	for name, c := range map[string]struct {
		stores int
		know   bool
	}{"others": {4, true}, "no others": {3, true}, "nobody knows": {4, false}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.stores)
			leaving := w.ids[c.stores-1]
			here, there := &sight{world: w, version: 1, leaving: leaving}, &sight{world: w, version: 2, leaving: leaving}
			if c.know {
				for _, id := range w.ids {
					w.node[id].srv.Follow(there)
				}
			}
			spec := w.create(1)
			d := w.deps()
			d.Placer = here
			opened := make(chan *Engine, 1)
			go func() {
				e, err := Open(d, spec, Options{Ring: make([]byte, 4<<20)})
				if err != nil {
					t.Error(err)
				}
				opened <- e
			}()
			if c.know && c.stores == 3 {
				for there.refused.Load() < 9 { // it was told by all three, and tries again
					w.env.Sleep(retryPause)
				}
				select {
				case <-opened:
					t.Fatal("opened on a store that leaves")
				default:
				}
				here.learn(2)
			}
			e := <-opened
			named := false
			for range 8 {
				e.healOpen()
				named = named || slices.Contains(e.holdersOf(e.log.extent), leaving)
			}
			if want := !c.know || c.stores == 3; named != want {
				t.Errorf("the leaving store is named: %v", named)
			}
			if err := e.Close(true); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestFallbackIsNotInPlace: an engine that was in place with a layout is not any more once it opens an extent, for want of others, on a store
// from which that layout takes all data.
func TestFallbackIsNotInPlace(t *testing.T) {
	w := newWorld(t, 4)
	here := &sight{world: w, version: 2, leaving: w.ids[3]}
	d := w.deps()
	d.Placer = here
	e, err := Open(d, w.create(1), Options{Ring: make([]byte, 4<<20)})
	if err != nil {
		t.Fatal(err)
	}
	for e.Upkeep().Synced != 2 {
		e.repair.Notify()
		w.env.Sleep(retryPause / 10)
	}
	e.healOpen()
	if got := e.Upkeep().Synced; got != 2 { // control
		t.Errorf("others are there, in place with %d", got)
	}
	w.setDown(w.ids[0], true)
	e.healOpen()
	if got := e.Upkeep().Synced; got != 0 || !slices.Contains(e.holdersOf(e.log.extent), here.leaving) {
		t.Errorf("the open extent is on %v, in place with %d", e.holdersOf(e.log.extent), got)
	}
	_ = e.Close(false)
}
