package volume

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/disk"
	"mynetwork.io/mynetwork/nodeagent/store"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// smallWorld is three stores in which volumes may fill so many bytes each.
func smallWorld(t testing.TB, users int64) *world {
	const fixed = 3<<20 + 5<<20 // log, and what a store keeps back
	return newWorldOf(t, 3, store.Options{SegmentSize: 1 << 20, Segments: 3, Capacity: (users + fixed) * 100 / 92})
}

// overwriteAtRandom writes so many pages of m at random places.
func overwriteAtRandom(t testing.TB, e *Engine, m *model, pages int, seed uint64) error {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range pages {
		off := int64(r.IntN(len(m.data)/block.PageSize)) * block.PageSize
		p := fill(make([]byte, block.PageSize), r.Uint64())
		if err := e.Write(ring.ID{}, p, off); err != nil {
			return err
		}
		copy(m.data[off:], p)
		if i%500 == 499 {
			if err := e.Flush(); err != nil {
				return err
			}
		}
	}
	return e.Flush()
}

// fillWhole writes all of m, which is random.
func fillWhole(t testing.TB, e *Engine, m *model) {
	t.Helper()
	for off := 0; off < len(m.data); off += 1 << 20 {
		must(t, e.Write(ring.ID{}, fill(m.data[off:off+1<<20], uint64(off)), int64(off)))
	}
	must(t, e.Flush())
}

// A volume whose data is four fifths of what volumes may fill is overwritten at random for ever: no write is refused, and what is written for each byte is bounded. Counted, not timed.
// In theory 3.5 are, as a pass finds extents of which 0.7 live (Rosenblum and Ousterhout, 1992), and a sixth for the checkpoints of passes that have so little room.
func TestFullForEver(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	const users, live = 120 << 20, 96 << 20
	w := smallWorld(t, users)
	e, m := w.small(1, live)
	fillWhole(t, e, m)
	for turn := range 3 {
		before := e.Status().Stats
		must(t, overwriteAtRandom(t, e, m, live/block.PageSize, uint64(turn)))
		after := e.Status().Stats
		written := float64(after.JournalBytes-before.JournalBytes) / float64(after.WrittenBytes-before.WrittenBytes)
		left, _ := w.room(w.ids[0])
		t.Logf("turn %d: %.2f bytes written of each; %d extents cleaned, %d opened, %d checkpoints; %d KiB are left", turn, written, after.Cleaned-before.Cleaned, after.Rolls-before.Rolls,
			after.Checkpoints-before.Checkpoints, left.Users>>10)
		if written > 6 {
			t.Errorf("turn %d: %.2f bytes are written of each", turn, written)
		}
	}
	m.checkAll(t, e)
	must(t, e.Close(true))
}

// small opens a volume of small extents, as for a small disk, and the model of so many bytes of it.
func (w *world) small(v byte, live int) (*Engine, *model) {
	s := w.create(v)
	s.Extent = 8 << 20
	d := w.deps()
	d.Cache = &mapCache{}
	e, err := Open(d, s, Options{Ring: make([]byte, 1<<20)})
	must(w.t, err)
	return e, newModel(uint64(v), live)
}

// Volumes that share stores, and stores that share a file system, share what room there is: none is refused a write, though all clean at once, and lack what is reserved for each other's extents.
func TestFullTogether(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	const users, live = 160 << 20, 104 << 20
	for name, worldOf := range map[string]func(testing.TB, int64) *world{"stores with room of their own": smallWorld, "stores of one file system": sharingWorld} {
		t.Run(name, func(t *testing.T) {
			w := worldOf(t, users)
			const n = 2
			var engines [n]*Engine
			var models [n]*model
			for v := range n {
				engines[v], models[v] = w.small(byte(v+1), live/n)
				fillWhole(t, engines[v], models[v])
			}
			var left atomic.Int32
			left.Store(n)
			var volumes sync.WaitGroup
			for v := range n {
				volumes.Go(func() {
					for turn := uint64(0); turn < 1 || left.Load() > 0; turn++ { // until all have had one
						if err := overwriteAtRandom(t, engines[v], models[v], live/n/block.PageSize, turn); err != nil {
							t.Errorf("volume %d, turn %d: %v", v, turn, err)
							left.Store(0)
							return
						}
						if turn == 0 {
							left.Add(-1)
						}
					}
				})
			}
			volumes.Wait()
			for v := range n {
				models[v].checkAll(t, engines[v])
				must(t, engines[v].Close(true))
			}
		})
	}
}

// Where room is short, a pass ends an open extent for which much more is reserved than one gets now. The control: while there is room, it stays.
func TestGivesBack(t *testing.T) {
	w := smallWorld(t, 240<<20)
	e, m := w.small(1, 48<<20)
	fillWhole(t, e, m)
	open := func() (block.ExtentID, uint32) {
		e.lookAtRoom()
		(&cleaner{e: e, tight: true}).giveBack()
		e.jmu.Lock()
		defer e.jmu.Unlock()
		return e.log.extent, e.log.capacity
	}
	e.healOpen() // the next one is empty, and as large
	before := e.Status().Extent
	if x, capacity := open(); x != before || capacity < 4<<20 {
		t.Errorf("there is room, and extent %v of %d bytes follows %v", x, capacity, before)
	}
	w.crowd()
	if x, capacity := open(); x == before || capacity > 2<<20 {
		t.Errorf("there is little room, and %d bytes are reserved", capacity)
	}
	must(t, e.Close(true))
}

// sharingWorld is smallWorld with stores that share a file system.
func sharingWorld(t testing.TB, users int64) *world {
	const fixed = 3<<20 + 5<<20
	f := &sharedFS{total: 3 * (users + fixed) * 100 / 92}
	return newWorldOn(t, 3, store.Options{SegmentSize: 1 << 20, Segments: 3}, f.share)
}

// sharedFS is a file system that several stores have a folder of.
type sharedFS struct {
	total int64
	all   []*disk.Mem
}

func (f *sharedFS) share(m *disk.Mem) disk.FS {
	f.all = append(f.all, m)
	return folder{m, f}
}

type folder struct {
	disk.FS
	of *sharedFS
}

// Usage implements disk.FS.
func (f folder) Usage() (total, used int64, err error) {
	for _, m := range f.of.all {
		_, n, err := m.Usage()
		if err != nil {
			return 0, 0, err
		}
		used += n
	}
	return f.of.total, used, nil
}

// The control: a volume that has no garbage is refused once it has filled what volumes may, and not before.
func TestFullOfLive(t *testing.T) {
	const users = 48 << 20
	w := smallWorld(t, users)
	s := w.create(1)
	e := w.open(s, Options{Ring: make([]byte, 1<<20)})
	m := newModel(9, users*2)
	var err error
	n := 0
	for ; err == nil && n < len(m.data); n += 1 << 16 {
		err = e.Write(ring.ID{}, fill(m.data[n:n+1<<16], uint64(n)), int64(n))
	}
	if n -= 1 << 16; !errors.Is(err, syscall.ENOSPC) || n < users*8/10 || n > users {
		t.Errorf("%v after %d bytes", err, n)
	}
	m.data = m.data[:n]
	must(t, e.Flush())
	m.checkAll(t, e)
	must(t, e.Close(true))
}

// TestHealsBeyondUsersMark: where users find no room, a replica of the open extent that has failed still gets a successor. The control: with only what the ends of passes need
// left, it does not.
func TestHealsBeyondUsersMark(t *testing.T) {
	w := newWorldOf(t, 4, store.Options{SegmentSize: 1 << 20, Segments: 3, Capacity: 400 << 20})
	e, m := w.small(1, 4<<20)
	fillWhole(t, e, m)
	w.crowd()
	e.lookAtRoom()
	e.mu.Lock()
	e.full = true // as when an extent was opened beyond the mark
	e.mu.Unlock()
	before := e.Status()
	e.memberFailed(before.Extent, before.Members[0].Store, errSlow)
	w.healed(e)
	if after := e.Status().Extent; after == before.Extent {
		t.Error("the open extent is the same, and none of its replicas has failed")
	}
	for left, want := range map[int64]bool{20 << 20: true, 5 << 20: false} {
		e := &Engine{spec: Spec{Extent: 1 << 20}}
		e.tidy.tight.known, e.tidy.tight.room = true, Room{Users: left - 20<<20, Cleaners: left}
		if e.spares() != want {
			t.Errorf("%d bytes are left: spares one %v", left, !want)
		}
	}
	must(t, e.Close(false))
}
