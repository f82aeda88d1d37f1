package store

import (
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

// inFile is how many bytes at the begin of a stream are in its file as the scribe wrote them.
func inFile(t *testing.T, m *disk.Mem, name string, want []byte) int {
	t.Helper()
	f, err := m.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(want))
	n, _ := f.ReadAt(got, 0)
	for i := range n {
		if got[i] != want[i] {
			return i
		}
	}
	return n
}

// TestTails: small appends are read back, whole and in part, while they are in memory, after some have gone to the files, and with large ones
// between them, and are there after a crash; the files get them by Tidy. Control: before, they have not got them.
func TestTails(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	m := formatted(t, small)
	s, w := opened(t, m, small), newScribe(testID(1, 1))
	appendOK(t, s, w.id, w.open(4<<20), nil)
	for i := range 120 {
		n := 1
		if i%50 == 49 {
			n = 4 // large: past the log
		}
		rec, payload := w.pages(n, rng)
		appendOK(t, s, w.id, rec, payload)
		if i%17 == 0 {
			commitOK(t, s)
		}
		for range 5 {
			off := rng.IntN(len(w.data))
			p := make([]byte, 1+rng.IntN(len(w.data)-off))
			if err := s.ReadData(w.id, uint32(off), p); err != nil || string(p) != string(w.data[off:off+len(p)]) {
				t.Fatalf("append %d: %d bytes at %d differ: %v", i, len(p), off, err)
			}
		}
	}
	commitOK(t, s)
	requireHeld(t, s, w)
	if log, data := inFile(t, m, pathOf(w, sufLog), w.log), inFile(t, m, pathOf(w, sufDat), w.data); log == len(w.log) || data == len(w.data) {
		t.Errorf("control: the files have all of %d and %d bytes at once", log, data)
	}
	requireHeld(t, opened(t, m.Crash(rng.Uint64), small), w)
	if _, err := s.Tidy(1); err != nil {
		t.Fatal(err)
	}
	if log, data := inFile(t, m, pathOf(w, sufLog), w.log), inFile(t, m, pathOf(w, sufDat), w.data); log != len(w.log) || data != len(w.data) {
		t.Errorf("after Tidy the files have %d and %d bytes of %d and %d", log, data, len(w.log), len(w.data))
	}
	if s.tails.out != [2]int{} {
		t.Errorf("%v tails are left", s.tails.out)
	}
	requireHeld(t, s, w)
}

// TestTailOfARefusedAppend: what an append that was refused has left is taken away, also when Tidy has brought it to the file.
func TestTailOfARefusedAppend(t *testing.T) {
	for _, tidied := range []bool{false, true} {
		rng := rand.New(rand.NewPCG(5, 2))
		m := formatted(t, small)
		s, w := opened(t, m, small), newScribe(testID(1, 1))
		appendOK(t, s, w.id, w.open(1<<20), nil)
		rec, payload := w.pages(1, rng)
		appendOK(t, s, w.id, rec, payload)
		end := len(w.ends) - 1
		refused, pages := w.pages(2, rng)
		x := s.extents[w.id]
		if err := errors.Join(s.add(x, &x.log, sufLog, refused, int64(w.ends[end].LogLen), false), s.add(x, &x.dat, sufDat, pages, int64(w.ends[end].DataLen), false)); err != nil {
			t.Fatal(err)
		}
		if tidied {
			if _, err := s.Tidy(1); err != nil {
				t.Fatal(err)
			}
		}
		w.cut(end)
		for _, n := range []int{1, 4, 1} {
			rec, payload := w.pages(n, rng)
			appendOK(t, s, w.id, rec, payload)
		}
		commitOK(t, s)
		requireHeld(t, s, w)
		if _, err := s.Tidy(1); err != nil {
			t.Fatal(err)
		}
		requireHeld(t, s, w)
		requireHeld(t, opened(t, m.Crash(rng.Uint64), small), w)
	}
}

// TestTailsAreBounded: with more extents than there may be tails, what is appended to the others goes to their files, and tails are
// given back by a free.
func TestTailsAreBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 3))
	o := small
	o.SegmentSize = 4 << 20
	s := opened(t, formatted(t, o), o)
	scribes := make([]*scribe, maxTails+5)
	for i := range scribes {
		w := newScribe(block.ExtentID{Volume: block.VolumeID{byte(i)}, Epoch: 1, N: 1})
		scribes[i] = w
		appendOK(t, s, w.id, w.open(64<<10), nil)
		rec, payload := w.pages(1, rng)
		appendOK(t, s, w.id, rec, payload)
	}
	if want := [2]int{maxTails, maxTails}; s.tails.out != want {
		t.Errorf("%v tails, want %v", s.tails.out, want)
	}
	commitOK(t, s)
	for _, w := range scribes {
		requireHeld(t, s, w)
	}
	if _, err := s.Free(scribes[0].id); err != nil {
		t.Fatal(err)
	}
	commitOK(t, s)
	if want := [2]int{maxTails - 1, maxTails - 1}; s.tails.out != want {
		t.Errorf("after a free %v tails, want %v", s.tails.out, want)
	}
}

// TestTailOnAFullDisk: a tail whose file can not take it stays, is read, and goes there when the disk has room again; the store lives on.
func TestTailOnAFullDisk(t *testing.T) {
	rng, full := rand.New(rand.NewPCG(5, 4)), false
	m := formatted(t, small)
	faults := disk.NewFaults(m, func(op disk.Op) (f disk.Fault) {
		if full && op.Kind == disk.OpWrite && strings.HasPrefix(op.Name, "ext/") {
			f.Err = syscall.ENOSPC
		}
		return f
	})
	s, w := opened(t, faults, small), newScribe(testID(1, 1))
	appendOK(t, s, w.id, w.open(1<<20), nil)
	full = true
	rec, payload := w.pages(1, rng)
	appendOK(t, s, w.id, rec, payload)
	commitOK(t, s)
	for range 2 {
		if _, err := s.Tidy(1 << 20); !errors.Is(err, ErrFull) {
			t.Fatalf("Tidy: %v", err)
		}
		requireHeld(t, s, w)
	}
	full = false
	rec, payload = w.pages(1, rng)
	appendOK(t, s, w.id, rec, payload)
	commitOK(t, s)
	if _, err := s.Tidy(1 << 20); err != nil {
		t.Fatal(err)
	}
	requireHeld(t, s, w)
	if got := inFile(t, m, pathOf(w, sufDat), w.data); got != len(w.data) {
		t.Errorf("the file has %d bytes of %d", got, len(w.data))
	}
	if err := s.Quarantined(); err != nil {
		t.Error(err)
	}
}
