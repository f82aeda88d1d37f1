package volume

import (
	"errors"
	"slices"
	"syscall"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/store"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// capacities lists those of a volume's extents on a store, in the order in which they were opened.
func (w *world) capacities(s block.StoreID, v block.VolumeID) (out []uint32) {
	for _, x := range w.node[s].st.Extents(v) {
		if st, ok := w.node[s].st.Stat(x); ok {
			out = append(out, st.Open.Capacity)
		}
	}
	return out
}

// A volume reserves little until it writes: its extents begin small, and one that was filled is followed by one of twice its capacity.
func TestRoomInSteps(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	s.Extent = 8 << 20
	e := w.open(s, Options{})
	reserved := func() int64 {
		u, err := w.node[w.ids[0]].st.Usage()
		must(t, err)
		return u.Reserved
	}
	if r := reserved(); r > 2<<20 {
		t.Errorf("a volume that nobody has written to reserves %d bytes", r)
	}
	m := newModel(1, 24<<20)
	for off := 0; off < len(m.data); off += 1 << 20 {
		must(t, e.Write(ring.ID{}, fill(m.data[off:off+1<<20], uint64(off)), int64(off)))
	}
	must(t, e.Flush())
	want := []uint32{1 << 20, 2 << 20, 4 << 20, 8 << 20, 8 << 20}
	if got := w.capacities(w.ids[0], s.ID); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Errorf("extents of %d bytes, want %d and such", got, want)
	}
	if r := reserved(); r > 10<<20 {
		t.Errorf("one that writes reserves %d bytes", r)
	}
	before := len(w.capacities(w.ids[0], s.ID))
	must(t, e.Close(true))
	e = w.open(s, Options{Force: true})
	defer func() { must(t, e.Close(true)) }()
	got := w.capacities(w.ids[0], s.ID)
	if len(got) != before+1 || got[before] != 1<<20 {
		t.Errorf("extents of %d bytes after it was opened again, %d of them before", got, before)
	}
	m.checkAll(t, e)
}

// The control of the steps: an extent that is left early is followed by one of its own capacity, and the volume's capacity is the most,
// also if it is less than that of a first extent.
func TestNextCapacity(t *testing.T) {
	for name, c := range map[string]struct {
		volume, opened, data, log uint32
		want                      uint32
	}{
		"first of all":             {64 << 20, 0, 0, 0, 4 << 20},
		"first of small ones":      {8 << 20, 0, 0, 0, 1 << 20},
		"first of the least":       {MinExtent, 0, 0, 0, MinExtent},
		"filled":                   {64 << 20, 4 << 20, 4<<20 - 4096, 0, 8 << 20},
		"filled with records":      {64 << 20, 4 << 20, 0, 1 << 20, 8 << 20},
		"left early":               {64 << 20, 4 << 20, 1 << 20, 1 << 10, 4 << 20},
		"filled, of the most":      {64 << 20, 64 << 20, 64 << 20, 0, 64 << 20},
		"filled, near the most":    {9 << 20, 8 << 20, 8 << 20, 0, 9 << 20},
		"filled, of a whole range": {1<<32 - 1, 1 << 31, 1 << 31, 0, 1<<32 - 1},
	} {
		e := &Engine{spec: Spec{Extent: c.volume}}
		e.log.opened, e.log.chain.DataLen, e.log.chain.LogLen = c.opened, c.data, c.log
		if got := e.nextCapacity(); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// occupy opens extents of another volume on a store until not one more of the least capacity finds room, and gives them back.
func (w *world) occupy(s block.StoreID) (free func()) {
	w.t.Helper()
	st, n := w.node[s].st, uint32(0)
	for capacity := uint32(512 << 20); capacity >= 1<<20; {
		n++
		id := block.ExtentID{Volume: block.VolumeID{99}, Epoch: 1, N: n}
		o := journal.Open{Extent: id, Replicas: 1, Quorum: 1, Capacity: capacity, Members: []block.StoreID{s}}
		r := journal.Record{Type: journal.TypeOpen, Body: o.Encode(), Seq: 1, Epoch: block.Epoch{Number: 1, Token: 7}}
		rec, _ := r.Append(nil)
		_, err := st.AppendAs(id, rec, nil, store.ForCleaning)
		if errors.Is(err, store.ErrFull) {
			capacity /= 2
			continue
		}
		must(w.t, err)
	}
	_, err := st.Commit()
	must(w.t, err)
	return func() {
		for _, x := range st.Extents(block.VolumeID{99}) {
			_, err := st.Free(x)
			must(w.t, err)
		}
		_, err := st.Commit()
		must(w.t, err)
	}
}

// A volume that finds no room tells which stores are full, and goes on once there is some; as long as enough stores have room it tells
// nothing (the control).
func TestNoRoom(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	words := make(chan []block.StoreID, 1000)
	opt := Options{NoRoom: func(full []block.StoreID, capacity uint32) {
		if capacity != 1<<20 {
			t.Errorf("for an extent of %d bytes", capacity)
		}
		words <- full
	}}
	one := w.occupy(w.ids[0])
	must(t, w.open(s, opt).Close(true))
	if len(words) != 0 {
		t.Errorf("one full store of three is told: %v", <-words)
	}
	two := w.occupy(w.ids[1])
	opt.Force, opt.Ring = true, make([]byte, 4<<20)
	opened := make(chan error)
	var e *Engine
	go func() {
		var err error
		e, err = Open(w.deps(), s, opt)
		opened <- err
	}()
	for range 2 {
		if full := <-words; len(full) != 2 || full[0] != w.ids[0] || full[1] != w.ids[1] {
			t.Errorf("full are %v, want the first two stores", full)
		}
	}
	one()
	must(t, <-opened)
	must(t, e.Flush())
	must(t, e.Close(true))
	two()
}

// crowd opens extents of another volume on every store until users find no room for another one, and cleaners do.
func (w *world) crowd() {
	w.t.Helper()
	for _, s := range w.ids {
		st, n := w.node[s].st, uint32(0)
		for capacity := uint32(256 << 20); capacity >= 4096; {
			n++
			id := block.ExtentID{Volume: block.VolumeID{99}, Epoch: 1, N: n}
			o := journal.Open{Extent: id, Replicas: 1, Quorum: 1, Capacity: capacity, Members: []block.StoreID{s}}
			r := journal.Record{Type: journal.TypeOpen, Body: o.Encode(), Seq: 1, Epoch: block.Epoch{Number: 1, Token: 7}}
			rec, _ := r.Append(nil)
			_, err := st.Append(id, rec, nil)
			switch {
			case errors.Is(err, store.ErrFull):
				capacity /= 2
			case errors.Is(err, store.ErrBusy): // an engine is at work
				_, err = st.Commit()
				must(w.t, err)
				_, err = st.Tidy(1 << 20)
				must(w.t, err)
			default:
				must(w.t, err)
			}
		}
		_, err := st.Commit()
		must(w.t, err)
	}
}

// Where users find no room, writes wait while cleaning makes some, and are refused only when there is none to be made: then another pass gains nothing either.
// The control: everything lives.
func TestWritesWaitForCleaning(t *testing.T) {
	if testing.Short() {
		t.Skip("some 20,000 writes, one after the other: long with the race detector; \"make test\" has it")
	}
	for _, garbage := range []bool{true, false} {
		w := newWorld(t, 3)
		s := w.create(1)
		s.Extent = 2 << 20
		e := w.open(s, Options{})
		m := newModel(7, 24<<20)
		write := func(page int, seed uint64) error {
			off := page * block.PageSize
			p := fill(make([]byte, block.PageSize), seed)
			err := e.Write(ring.ID{}, p, int64(off))
			if err == nil {
				copy(m.data[off:], p)
			}
			return err
		}
		pages := len(m.data) / block.PageSize
		for i := range pages {
			must(t, write(i, uint64(i)))
		}
		for i := 0; garbage && i < pages; i += 2 { // of each extent a half
			must(t, write(i, uint64(pages+i)))
		}
		must(t, e.Flush())
		rolls := e.Status().Stats.Rolls
		w.crowd()
		var err error
		for i := 0; err == nil && i < pages; i++ { // more than garbage and the reserve have together if nothing is freed
			if err = write(i, uint64(2*pages+i)); err == nil && i%600 == 599 {
				must(t, e.Flush()) // also without room
			}
		}
		st := e.Status().Stats
		left, _ := w.room(w.ids[0])
		t.Logf("garbage %t: %v, %d extents freed, %d opened, %d KiB are left", garbage, err, st.Freed, st.Rolls-rolls, left.Users>>10)
		switch {
		case garbage && (err != nil || st.Freed == 0 || st.Rolls == rolls):
			t.Errorf("with garbage: %v, %d extents freed, %d opened", err, st.Freed, st.Rolls-rolls)
		case !garbage && !errors.Is(err, syscall.ENOSPC):
			t.Errorf("without garbage: %v", err)
		}
		if err != nil {
			c := &cleaner{e: e, victims: make(map[uint32]bool), target: eagerTarget}
			freed, err := e.clean(c)
			must(t, err)
			if gained := freed - c.live; gained >= int64(s.Extent) {
				t.Errorf("garbage %t: refused although %d bytes could be gained", garbage, gained)
			}
		}
		m.checkAll(t, e)
		must(t, e.Flush())
		must(t, e.Close(false))
	}
}
