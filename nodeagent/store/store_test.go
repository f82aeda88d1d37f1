package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

func TestFormatAndOpen(t *testing.T) {
	m := disk.NewMem(0)
	if _, _, err := Open(m, small); !errors.Is(err, ErrNoStore) {
		t.Fatalf("empty directory: %v", err)
	}
	if err := Format(m, testSuper, small); err != nil {
		t.Fatal(err)
	}
	if err := Format(m, testSuper, small); !errors.Is(err, ErrNotEmpty) {
		t.Fatalf("second format: %v", err)
	}
	for want := uint64(1); want < 4; want++ {
		s, rep, err := Open(m, small)
		if err != nil || rep.Generation != want || s.Superblock() != testSuper || len(rep.Damage) > 0 {
			t.Fatalf("open %d: %+v %v", want, rep, err)
		}
	}
}

func TestReplayEqualsCommitted(t *testing.T) {
	m, rng := formatted(t, small), rand.New(rand.NewPCG(1, 1))
	s := opened(t, m, small)
	a, b := newScribe(testID(1, 1)), newScribe(testID(2, 1))
	appendOK(t, s, a.id, a.open(1<<20), nil)
	appendOK(t, s, b.id, b.open(1<<20), nil)
	for i := range 20 {
		w := []*scribe{a, b}[i%2]
		rec, payload := w.pages(1+i%4, rng)
		appendOK(t, s, w.id, rec, payload)
		if i%3 == 0 {
			commitOK(t, s)
		}
	}
	must(t, LSN(0), func() error { _, err := s.Promise(a.id.Volume, block.Epoch{Number: 9, Token: 3}); return err }())
	must(t, LSN(0), func() error { _, err := s.SetMeta("k", []byte("v")); return err }())
	must(t, LSN(0), func() error { _, err := s.DropVolume(block.VolumeID{3}, []byte("signed")); return err }())
	appendOK(t, s, b.id, b.close(), nil)
	requireHeld(t, s, a)
	commitOK(t, s)
	check := func(s *Store) {
		t.Helper()
		requireHeld(t, s, a)
		requireHeld(t, s, b)
		if st, _ := s.Stat(b.id); st.Closed == nil || st.Closed.Next.N != 2 || st.Open.Extent != b.id {
			t.Fatalf("closed: %+v", st)
		}
		if e := s.Promised(a.id.Volume); e.Number != 9 || e.Token != 3 {
			t.Fatal(e)
		}
		if string(s.Meta("k")) != "v" || string(s.Deleted(block.VolumeID{3})) != "signed" {
			t.Fatal("meta or tombstone lost")
		}
		w := newScribe(testID(3, 1))
		if _, err := s.Append(w.id, w.open(1), nil); !errors.Is(err, ErrDeleted) {
			t.Fatalf("open of a deleted volume: %v", err)
		}
	}
	check(s)
	keepNothing := func() uint64 { return 0 }
	c := m.Crash(keepNothing)
	check(opened(t, c, small))
	c = c.Crash(keepNothing)
	s = opened(t, c, small)
	check(s)
	if more, err := s.Tidy(1 << 30); more || err != nil {
		t.Fatal(more, err)
	}
	check(opened(t, c.Crash(keepNothing), small))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, rep, err := Open(c, small)
	if err != nil || rep.Batches != 0 || len(rep.Damage) != 0 {
		t.Fatalf("after close: %+v %v", rep, err)
	}
	check(s)
}

func TestCut(t *testing.T) {
	m, rng := formatted(t, small), rand.New(rand.NewPCG(1, 2))
	s := opened(t, m, small)
	w := newScribe(testID(1, 1))
	appendOK(t, s, w.id, w.open(1<<20), nil)
	for range 5 {
		rec, payload := w.pages(1, rng)
		appendOK(t, s, w.id, rec, payload)
	}
	appendOK(t, s, w.id, w.close(), nil)
	commitOK(t, s)
	if _, err := s.Tidy(1 << 30); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Cut(w.id, 99); !errors.Is(err, ErrNotHeld) {
		t.Fatal(err)
	}
	if _, err := s.Cut(w.id, 3); err != nil {
		t.Fatal(err)
	}
	w.cut(2)
	rec, payload := w.pages(2, rng)
	if _, err := s.Append(w.id, rec, payload); !errors.Is(err, ErrBusy) {
		t.Fatalf("append after a staged cut: %v", err)
	}
	commitOK(t, s)
	appendOK(t, s, w.id, rec, payload)
	commitOK(t, s)
	requireHeld(t, s, w)
	if st, _ := s.Stat(w.id); st.Closed != nil {
		t.Fatal("still closed")
	}
	s = opened(t, m.Crash(func() uint64 { return 0 }), small)
	requireHeld(t, s, w)
}

func TestFreeReturnsSpace(t *testing.T) {
	m := formatted(t, small)
	s := opened(t, m, small)
	before := must(t, Usage{}, nil)
	before, _ = s.Usage()
	_, usedBefore, _ := m.Usage()
	w := newScribe(testID(1, 1))
	appendOK(t, s, w.id, w.open(4<<20), nil)
	commitOK(t, s)
	if u, _ := s.Usage(); u.Used < before.Used+4<<20 || u.Reserved < 4<<20 {
		t.Fatalf("reservation: %+v, before %+v", u, before)
	}
	if _, err := s.Free(w.id); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Stat(w.id); ok {
		t.Fatal("still there")
	}
	if _, err := s.Append(w.id, newScribe(w.id).open(1), nil); !errors.Is(err, ErrBusy) {
		t.Fatalf("open before the free is committed: %v", err)
	}
	commitOK(t, s)
	if u, _ := s.Usage(); u != before {
		t.Fatalf("%+v, want %+v", u, before)
	}
	if _, used, _ := m.Usage(); used != usedBefore {
		t.Fatalf("%d bytes on disk, want %d", used, usedBefore)
	}
	if err := s.ReadLog(w.id, 0, make([]byte, 1)); !errors.Is(err, ErrNotHeld) {
		t.Fatal(err)
	}
	w = newScribe(w.id)
	appendOK(t, s, w.id, w.open(1<<20), nil)
	commitOK(t, s)
	requireHeld(t, opened(t, m.Crash(func() uint64 { return 0 }), small), w)
}

// tidied has the store do its background work.
func tidied(t *testing.T, s *Store) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = s.Tidy(1 << 20); err != nil {
			t.Fatal(err)
		}
	}
}

// Found by a seed of the simulator: with small segments the largest records were refused as ErrBusy for ever.
func TestLargestRecords(t *testing.T) {
	o := small
	o.Inline = journal.MaxPayload
	for _, align := range []int{512, 4096} {
		o.Align = align
		s := opened(t, formatted(t, o), o)
		w := newScribe(testID(1, 1))
		appendOK(t, s, w.id, w.open(8<<20), nil)
		for range 12 {
			rec, payload := w.pages(journal.MaxRecordPages, rand.New(rand.NewPCG(1, 1)))
			_, err := s.Append(w.id, rec, payload)
			if errors.Is(err, ErrBusy) { // the log is full: the caller tidies and tries again
				tidied(t, s)
				_, err = s.Append(w.id, rec, payload)
			}
			if err != nil {
				t.Fatal(err)
			}
			commitOK(t, s)
		}
		tidied(t, s)
		r := w.record(journal.TypeCheckpoint, make([]byte, journal.MaxBody), nil)
		appendOK(t, s, w.id, w.advance(&r, nil), nil)
		commitOK(t, s)
		requireHeld(t, s, w)
	}
}

// Found by a seed of the simulator: a process was killed after a free, the next one began a new log, and then the machine
// lost power: the files were back, and nothing knew that they were freed.
func TestFreedStaysFreed(t *testing.T) {
	for seed := range uint64(20) {
		m := formatted(t, small)
		s := opened(t, m, small)
		w := newScribe(testID(1, 1))
		appendOK(t, s, w.id, w.open(1<<20), nil)
		appendOK(t, s, w.id, w.close(), nil)
		commitOK(t, s)
		tidied(t, s)
		if _, err := s.Free(w.id); err != nil {
			t.Fatal(err)
		}
		commitOK(t, s)
		opened(t, m, small) // the process was killed: what it did is there, but not durable
		rng := rand.New(rand.NewPCG(seed, 1))
		s, rep, err := Open(m.Crash(rng.Uint64), small)
		if err != nil || len(rep.Damage) > 0 {
			t.Fatalf("seed %d: %v %+v", seed, err, rep)
		}
		if _, ok := s.Stat(w.id); ok {
			t.Fatalf("seed %d: the extent is back", seed)
		}
	}
}

func TestMarks(t *testing.T) {
	o := small
	o.Capacity = 20 << 20
	m := formatted(t, o)
	s := opened(t, m, o)
	n := uint32(0)
	fill := func(add func(block.ExtentID, []byte, []byte) (LSN, error)) (opened int) {
		for {
			n++
			w := newScribe(testID(1, n))
			if _, err := add(w.id, w.open(256<<10), nil); errors.Is(err, ErrFull) {
				return opened
			} else if err != nil {
				t.Fatal(err)
			}
			opened++
		}
	}
	forCleaning := func(id block.ExtentID, rec, payload []byte) (LSN, error) {
		return s.AppendAs(id, rec, payload, ForCleaning)
	}
	if user, gc := fill(s.Append), fill(forCleaning); user < 10 || gc < 1 || fill(s.Append) != 0 {
		t.Fatalf("user %d, gc %d", user, gc)
	}
	for _, err := range []error{
		func() error { _, err := s.Promise(block.VolumeID{1}, block.Epoch{Number: 1}); return err }(),
		func() error { _, err := s.Free(testID(1, 1)); return err }(),
		func() error { _, err := s.DropVolume(block.VolumeID{2}, []byte("x")); return err }(),
	} {
		if err != nil {
			t.Fatalf("on a full store: %v", err)
		}
	}
	commitOK(t, s)
	if got := fill(forCleaning); got != 1 {
		t.Fatalf("%d opens after a free", got)
	}
}

// The log goes round many times while one extent is idle and one is busy.
func TestRing(t *testing.T) {
	m, rng := formatted(t, small), rand.New(rand.NewPCG(1, 3))
	s := opened(t, m, small)
	idle, busy := newScribe(testID(1, 1)), newScribe(testID(2, 1))
	appendOK(t, s, idle.id, idle.open(1<<20), nil)
	rec, payload := idle.pages(1, rng)
	appendOK(t, s, idle.id, rec, payload)
	appendOK(t, s, busy.id, busy.open(64<<20), nil)
	refused := 0
	for range 3000 {
		rec, payload := busy.pages(1, rng)
		_, err := s.Append(busy.id, rec, payload)
		for ; errors.Is(err, ErrBusy); _, err = s.Append(busy.id, rec, payload) {
			refused++
			if _, err := s.Tidy(1); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Promise(block.VolumeID{1}, block.Epoch{Number: uint64(refused)}); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		commitOK(t, s)
	}
	if refused == 0 {
		t.Fatal("the log never filled")
	}
	requireHeld(t, s, idle)
	requireHeld(t, s, busy)
	c := m.Crash(func() uint64 { return 0 })
	s, rep, err := Open(c, small)
	if err != nil || len(rep.Damage) > 0 {
		t.Fatal(rep, err)
	}
	requireHeld(t, s, idle)
	requireHeld(t, s, busy)
}

func TestSeal(t *testing.T) {
	s := opened(t, formatted(t, small), small)
	rng := rand.New(rand.NewPCG(1, 4))
	w := newScribe(testID(1, 1))
	appendOK(t, s, w.id, w.open(1<<20), nil)
	from := w.chain.LogLen
	for range 3 {
		rec, payload := w.pages(2, rng)
		appendOK(t, s, w.id, rec, payload)
	}
	sl := journal.Seal{Header: block.Header{Type: block.TypeData, Rows: 6, Payload: 6 * block.PageSize, Volume: w.id.Volume, Number: 1},
		LogOff: from, LogLen: w.chain.LogLen - from}
	rows, err := sl.BlockRows(w.log[from:])
	if err != nil {
		t.Fatal(err)
	}
	sl.ID = block.ID(&sl.Header, rows)
	good := sl
	sl.ID[0] ^= 1
	before := *w
	r := w.record(journal.TypeSeal, sl.Encode(), nil)
	if _, err := s.Append(w.id, w.advance(&r, nil), nil); !errors.Is(err, ErrMismatch) {
		t.Fatalf("wrong id: %v", err)
	}
	*w = before
	r = w.record(journal.TypeSeal, good.Encode(), nil)
	appendOK(t, s, w.id, w.advance(&r, nil), nil)
	requireHeld(t, s, w)
}

func TestRefusals(t *testing.T) {
	s := opened(t, formatted(t, small), small)
	rng := rand.New(rand.NewPCG(1, 5))
	w := newScribe(testID(1, 1))
	open := w.open(block.PageSize)
	rec, payload := w.pages(1, rng)
	if _, err := s.Append(w.id, rec, payload); !errors.Is(err, ErrNotHeld) {
		t.Fatal(err)
	}
	if _, err := s.Append(testID(1, 9), open, nil); !errors.Is(err, journal.ErrFormat) {
		t.Fatal(err)
	}
	appendOK(t, s, w.id, open, nil)
	if _, err := s.Append(w.id, open, nil); !errors.Is(err, journal.ErrChain) {
		t.Fatal(err)
	}
	if _, err := s.Append(w.id, rec, payload[1:]); !errors.Is(err, journal.ErrFormat) {
		t.Fatal(err)
	}
	appendOK(t, s, w.id, rec, payload)
	if _, err := s.Append(w.id, rec, payload); !errors.Is(err, journal.ErrChain) {
		t.Fatal(err)
	}
	full, fullPayload := w.pages(1, rng)
	if _, err := s.Append(w.id, full, fullPayload); !errors.Is(err, ErrExtentFull) {
		t.Fatal(err)
	}
	p := bytes.Repeat([]byte{0xee}, 1)
	if err := s.ReadData(w.id, block.PageSize, p); !errors.Is(err, ErrNotHeld) || p[0] != 0xee {
		t.Fatal(err)
	}
	v := block.VolumeID{1}
	if _, err := s.Promise(v, block.Epoch{Number: 5, Token: 1}); err != nil {
		t.Fatal(err)
	}
	for _, e := range []block.Epoch{{Number: 4, Token: 1}, {Number: 5, Token: 2}} {
		if _, err := s.Promise(v, e); !errors.Is(err, ErrMismatch) {
			t.Fatal(err)
		}
	}
	if _, err := s.SetMeta("k", make([]byte, MaxMeta+1)); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
}

// A disk that has no room for a name is full, not broken: the store goes on once there is room.
func TestNoRoomForNames(t *testing.T) {
	for _, kind := range []disk.OpKind{disk.OpMkdir, disk.OpCreate} {
		full := false
		faults := disk.NewFaults(formatted(t, small), nil)
		s := opened(t, faults, small)
		faults.SetPlan(func(op disk.Op) disk.Fault {
			if full && op.Kind == kind {
				return disk.Fault{Err: syscall.ENOSPC}
			}
			return disk.Fault{}
		})
		full = true
		w := newScribe(testID(1, 1))
		rec := w.open(1 << 20)
		if _, err := s.Append(w.id, rec, nil); !errors.Is(err, ErrFull) {
			t.Errorf("%v: %v", kind, err)
		}
		commitOK(t, s)
		if _, err := s.Tidy(1 << 30); err != nil {
			t.Errorf("%v: tidy: %v", kind, err)
		}
		full = false
		appendOK(t, s, w.id, rec, nil)
		commitOK(t, s)
	}
}

// Others fill the disk to the last byte: deletes, promises and the log's turnover still work.
func TestFullDisk(t *testing.T) {
	m := disk.NewMem(64 << 20)
	o := small
	o.Capacity = 0
	if err := Format(m, testSuper, o); err != nil {
		t.Fatal(err)
	}
	s := opened(t, m, o)
	rng := rand.New(rand.NewPCG(1, 6))
	w, gone := newScribe(testID(1, 1)), newScribe(testID(2, 1))
	appendOK(t, s, w.id, w.open(16<<20), nil)
	appendOK(t, s, gone.id, gone.open(1<<20), nil)
	appendOK(t, s, gone.id, gone.close(), nil)
	commitOK(t, s)
	hog, err := m.Create("hog")
	if err != nil {
		t.Fatal(err)
	}
	for n := int64(64 << 20); n >= 4096; n /= 2 {
		for size, _ := hog.Size(); hog.Allocate(size+n) == nil; size += n {
		}
	}
	late := newScribe(testID(3, 1))
	if _, err := s.Append(late.id, late.open(1<<20), nil); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	for range 1000 { // reserved, so it must work
		rec, payload := w.pages(1, rng)
		for {
			_, err := s.Append(w.id, rec, payload)
			if err == nil {
				break
			} else if !errors.Is(err, ErrBusy) {
				t.Fatal(err)
			}
			commitOK(t, s)
			if _, err := s.Tidy(1 << 30); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := s.Promise(block.VolumeID{1}, block.Epoch{Number: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Free(gone.id); err != nil {
		t.Fatal(err)
	}
	commitOK(t, s)
	if _, err := s.Tidy(1 << 30); err != nil {
		t.Fatal(err)
	}
	if s.mu.Lock(); !s.reserved {
		t.Error("the reserve was not made again")
	}
	s.mu.Unlock()
	requireHeld(t, s, w)
	requireHeld(t, opened(t, m.Crash(func() uint64 { return 0 }), o), w)
}

// The state that lets a segment go says nothing of what is staged: a crash leaves what was committed.
func TestRecycleBesideStaged(t *testing.T) {
	m, rng := formatted(t, small), rand.New(rand.NewPCG(1, 7))
	s := opened(t, m, small)
	w := newScribe(testID(1, 1))
	appendOK(t, s, w.id, w.open(8<<20), nil)
	commitOK(t, s)
	for s.live == 1 {
		rec, payload := w.pages(1, rng)
		appendOK(t, s, w.id, rec, payload)
		commitOK(t, s)
	}
	committed := *w
	committed.log, committed.data = bytes.Clone(w.log), bytes.Clone(w.data)
	rec, payload := w.pages(1, rng)
	appendOK(t, s, w.id, rec, payload)
	if more, err := s.Tidy(1 << 30); more || err != nil || s.live != 1 {
		t.Fatal(more, err, s.live)
	}
	requireHeld(t, opened(t, m.Crash(func() uint64 { return 0 }), small), &committed)
	commitOK(t, s)
	requireHeld(t, opened(t, m.Crash(func() uint64 { return 0 }), small), w)
}
