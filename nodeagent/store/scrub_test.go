package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

// filled is a store with one extent of ten records, closed with a footer or open.
func filled(t testing.TB, closed bool) (*disk.Mem, *Store, *scribe) {
	m, rng := formatted(t, small), rand.New(rand.NewPCG(3, 1))
	s := opened(t, m, small)
	w := newScribe(testID(1, 1))
	appendOK(t, s, w.id, w.open(1<<20), nil)
	for i := range 10 {
		rec, payload := w.pages(1+i%3, rng)
		appendOK(t, s, w.id, rec, payload)
	}
	if closed {
		appendOK(t, s, w.id, w.close(), nil)
	}
	commitOK(t, s)
	if _, err := s.Tidy(1 << 30); err != nil {
		t.Fatal(err)
	}
	return m, s, w
}

func findings(t testing.TB, s *Store, id block.ExtentID) (out []Finding) {
	t.Helper()
	if err := s.Scrub(id, func(f Finding) { out = append(out, f) }); err != nil {
		t.Fatal(err)
	}
	return out
}

func pathOf(w *scribe, suffix string) string { return newExtent(w.id).path(suffix) }

// Every byte of both streams is covered: a flip anywhere is found, and repaired from the good copy of the finding's range.
func TestScrubAndRepair(t *testing.T) {
	m, s, w := filled(t, true)
	if got := findings(t, s, w.id); got != nil {
		t.Fatal(got)
	}
	for _, suffix := range []string{sufLog, sufDat} {
		good := map[string][]byte{sufLog: w.log, sufDat: w.data}[suffix]
		for off := 0; off < len(good); off += 37 {
			if err := m.FlipBit(pathOf(w, suffix), int64(off), 3); err != nil {
				t.Fatal(err)
			}
			got := findings(t, s, w.id)
			if len(got) != 1 || got[0].Log != (suffix == sufLog) || int(got[0].Off) > off || int(got[0].Off+got[0].Len) <= off {
				t.Fatalf("flip at %s %d: %+v", suffix, off, got)
			}
			f := got[0]
			fix, bad := s.RepairData, block.ErrMismatch
			if f.Log {
				fix, bad = s.RepairLog, ErrMismatch
			}
			wrong := append([]byte(nil), good[f.Off:f.Off+f.Len]...)
			wrong[len(wrong)/2] ^= 1
			if err := fix(w.id, f.Off, wrong); !errors.Is(err, bad) {
				t.Fatalf("wrong repair: %v", err)
			}
			if err := fix(w.id, f.Off, good[f.Off:f.Off+f.Len]); err != nil {
				t.Fatal(err)
			}
		}
	}
	requireHeld(t, s, w)
	requireHeld(t, opened(t, m.Crash(func() uint64 { return 0 }), small), w)
	if err := s.RepairData(w.id, 1, w.data[1:2]); !errors.Is(err, block.ErrMismatch) {
		t.Fatalf("not a page: %v", err)
	}
}

func TestReplaceExtent(t *testing.T) {
	for _, closed := range []bool{true, false} {
		m, s, w := filled(t, closed)
		data := append([]byte(nil), w.data...)
		data[5] ^= 1
		if err := s.ReplaceExtent(w.id, endOf(s, w.id), w.log, data); !errors.Is(err, block.ErrMismatch) {
			t.Fatalf("wrong data: %v", err)
		}
		if err := s.ReplaceExtent(w.id, endOf(s, w.id), w.log[:100], w.data); !errors.Is(err, journal.ErrShort) {
			t.Fatalf("wrong log: %v", err)
		}
		if err := m.FlipBit(pathOf(w, sufLog), 300, 1); err != nil {
			t.Fatal(err)
		}
		if err := s.ReplaceExtent(w.id, endOf(s, w.id), w.log, w.data); err != nil {
			t.Fatal(err)
		}
		requireHeld(t, s, w)
		if got := findings(t, s, w.id); got != nil {
			t.Fatal(got)
		}
		requireHeld(t, opened(t, m.Crash(func() uint64 { return 0 }), small), w)
		fresh := opened(t, formatted(t, small), small)
		if err := fresh.ReplaceExtent(w.id, endOf(fresh, w.id), w.log, w.data); err != nil {
			t.Fatal(err)
		}
		requireHeld(t, fresh, w)
		if !closed {
			rec, payload := w.pages(1, rand.New(rand.NewPCG(1, 1)))
			appendOK(t, s, w.id, rec, payload)
			commitOK(t, s)
			requireHeld(t, opened(t, m.Crash(func() uint64 { return 0 }), small), w)
		}
	}
}

// endOf is where an extent ends as the store says; zero if it holds none.
func endOf(s *Store, id block.ExtentID) journal.Chain {
	st, _ := s.Stat(id)
	return st.Chain
}

// A replacement by somebody who has not seen the extent's end takes nothing away.
func TestReplaceExtentChanged(t *testing.T) {
	_, s, w := filled(t, false)
	seen, log, data := endOf(s, w.id), bytes.Clone(w.log), bytes.Clone(w.data)
	rng := rand.New(rand.NewPCG(7, 7))
	rec, payload := w.pages(1, rng)
	appendOK(t, s, w.id, rec, payload)
	for _, end := range []journal.Chain{seen, endOf(s, w.id), {}} { // before the commit: the second is not durable
		if err := s.ReplaceExtent(w.id, end, log, data); !errors.Is(err, ErrBusy) {
			t.Errorf("staged, seen to seq %d: %v", end.Seq, err)
		}
	}
	commitOK(t, s)
	if err := s.ReplaceExtent(w.id, seen, log, data); !errors.Is(err, ErrBusy) {
		t.Errorf("committed: %v", err)
	}
	requireHeld(t, s, w)
	if err := s.ReplaceExtent(w.id, endOf(s, w.id), w.log, w.data); err != nil {
		t.Error(err) // control
	}
}

// While an extent grows it is replaced again and again, by what it was seen to hold: nothing is lost.
func TestReplaceExtentBesideAppends(t *testing.T) {
	m, s, w := filled(t, false)
	rng := rand.New(rand.NewPCG(8, 8))
	done, replaced := make(chan struct{}), 0
	go func() {
		defer close(done)
		for range 300 {
			seen := endOf(s, w.id)
			log, data := make([]byte, seen.LogLen), make([]byte, seen.DataLen)
			if s.ReadLog(w.id, 0, log) != nil || s.ReadData(w.id, 0, data) != nil {
				continue
			}
			switch err := s.ReplaceExtent(w.id, seen, log, data); {
			case err == nil:
				replaced++
			case !errors.Is(err, ErrBusy) && !errors.Is(err, block.ErrMismatch) && !errors.Is(err, journal.ErrChain): // read while it was replaced
				t.Error(err)
				return
			}
		}
	}()
	for range 40 {
		rec, payload := w.pages(1, rng)
		for {
			_, err := s.Append(w.id, rec, payload)
			if err == nil {
				break
			}
			if !errors.Is(err, ErrBusy) {
				t.Fatal(err)
			}
		}
		commitOK(t, s)
	}
	<-done
	if replaced == 0 {
		t.Error("it was never replaced")
	}
	requireHeld(t, s, w)
	requireHeld(t, opened(t, m.Crash(func() uint64 { return 0 }), small), w)
}

// A replacement that a full disk ends leaves an extent without a vote, and a store that goes on; it succeeds once there is room.
func TestReplaceExtentFull(t *testing.T) {
	for _, kind := range []disk.OpKind{disk.OpMkdir, disk.OpCreate, disk.OpWrite} {
		_, _, w := filled(t, true)
		m := formatted(t, small)
		faults := disk.NewFaults(m, nil)
		s := opened(t, faults, small)
		faults.SetPlan(func(op disk.Op) disk.Fault {
			if op.Kind == kind && strings.HasPrefix(op.Name, "ext") {
				return disk.Fault{Err: syscall.ENOSPC}
			}
			return disk.Fault{}
		})
		if err := s.ReplaceExtent(w.id, endOf(s, w.id), w.log, w.data); !errors.Is(err, ErrFull) {
			t.Fatalf("%v: %v", kind, err)
		}
		for _, s := range []*Store{s, opened(t, m.Crash(func() uint64 { return 0 }), small)} {
			if st, ok := s.Stat(w.id); ok && !st.Unknown {
				t.Errorf("%v: %+v of what is not there", kind, st)
			}
		}
		faults.SetPlan(func(disk.Op) disk.Fault { return disk.Fault{} })
		if err := s.ReplaceExtent(w.id, endOf(s, w.id), w.log, w.data); err != nil {
			t.Fatalf("%v: with room: %v", kind, err)
		}
		requireHeld(t, s, w)
		requireHeld(t, opened(t, m.Crash(func() uint64 { return 0 }), small), w)
	}
}

// A crash at any moment of a replacement leaves the old extent, the new one, or an extent without a vote.
func TestReplaceExtentCrash(t *testing.T) {
	for _, closed := range []bool{true, false} {
		m, _, w := filled(t, closed)
		faults := disk.NewFaults(m, nil)
		s := opened(t, faults, small)
		rng := rand.New(rand.NewPCG(5, 5))
		states := 0
		faults.SetPlan(func(disk.Op) disk.Fault {
			for range 3 {
				states++
				s := opened(t, m.Crash(rng.Uint64), small)
				if st, ok := s.Stat(w.id); !ok {
					t.Fatal("gone")
				} else if !st.Unknown {
					requireHeld(t, s, w)
				}
			}
			return disk.Fault{}
		})
		if err := s.ReplaceExtent(w.id, endOf(s, w.id), w.log, w.data); err != nil || states < 20 {
			t.Fatal(err, states)
		}
	}
}

// An Unknown extent takes the records that follow its last valid one, and has a vote again after a cut.
func TestUnknownIsSettledByACut(t *testing.T) {
	m, s, w := filled(t, false)
	if err := m.FlipBit(pathOf(w, sufLog), int64(w.ends[5].LogLen)+200, 1); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	s, rep, err := Open(m, small)
	if err != nil || len(rep.Unknown) != 1 {
		t.Fatal(rep, err)
	}
	st, _ := s.Stat(w.id)
	if !st.Unknown || st.Chain != w.ends[5] {
		t.Fatalf("%+v", st)
	}
	_ = s.Close()
	s = opened(t, m, small)
	if st, _ := s.Stat(w.id); !st.Unknown {
		t.Fatal("forgotten by a restart")
	}
	for i := 6; i < len(w.ends); i++ {
		from, to := w.ends[i-1], w.ends[i]
		appendOK(t, s, w.id, w.log[from.LogLen:to.LogLen], w.data[from.DataLen:to.DataLen])
	}
	if _, err := s.Cut(w.id, w.chain.Seq); err != nil {
		t.Fatal(err)
	}
	commitOK(t, s)
	requireHeld(t, s, w)
	requireHeld(t, opened(t, m.Crash(func() uint64 { return 0 }), small), w)
}

// Damage to the log may have taken a promise: the store says so for every volume, until each is settled.
func TestUnsure(t *testing.T) {
	m := formatted(t, small)
	s := opened(t, m, small)
	v, other := block.VolumeID{1}, block.VolumeID{2}
	for n := range uint64(3) {
		if _, err := s.Promise(v, block.Epoch{Number: n + 1}); err != nil {
			t.Fatal(err)
		}
		commitOK(t, s)
	}
	if s.Unsure(v) || s.Unsure(other) {
		t.Fatal("unsure without damage")
	}
	m = m.Crash(func() uint64 { return 0 })
	if err := m.FlipBit(segmentName(0), s.pos-100, 1); err != nil {
		t.Fatal(err)
	}
	s, rep, err := Open(m, small)
	if err != nil || !rep.Unsure || s.Promised(v).Number != 2 || !s.Unsure(v) || !s.Unsure(other) {
		t.Fatal(rep, err, s.Promised(v))
	}
	if _, err := s.Promise(v, block.Epoch{Number: 2}); err != nil || !s.Unsure(v) {
		t.Fatal("a promise alone settles nothing", err)
	}
	if _, err := s.Settle(v, block.Epoch{Number: 4}); err != nil {
		t.Fatal(err)
	}
	commitOK(t, s)
	for range 2 {
		if s.Unsure(v) || !s.Unsure(other) || s.Promised(v).Number != 4 {
			t.Fatal(s.Unsure(v), s.Unsure(other), s.Promised(v))
		}
		m = m.Crash(func() uint64 { return 0 })
		s = opened(t, m, small)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s = opened(t, m, small); s.Unsure(v) || !s.Unsure(other) {
		t.Fatal("forgotten by a close")
	}
}

// The last record of an open extent has no successor to betray it: the recorded hash does.
func TestBadLastRecord(t *testing.T) {
	base, s, w := filled(t, false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	n := len(w.ends)
	for off := w.ends[n-2].LogLen; off < w.chain.LogLen; off += 3 {
		if mac := off - w.ends[n-2].LogLen; mac >= 112 && mac < journal.HeaderSize {
			continue // for the holder of the key to check
		}
		m := base.Crash(func() uint64 { return 0 })
		if err := m.FlipBit(pathOf(w, sufLog), int64(off), 1); err != nil {
			t.Fatal(err)
		}
		if st, _ := opened(t, m, small).Stat(w.id); !st.Unknown || st.Chain != w.ends[n-2] && st.Chain != w.ends[n-3] {
			t.Fatalf("flip at %d: %+v", off, st)
		}
	}
}
