package store

import (
	"errors"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

// hang is a disk of which operations of one kind hang, from hold on until the function that it returns is called.
type hang struct {
	*disk.Faults
	entered chan disk.Op // one that hangs now
}

func newHang(d disk.FS) *hang { return &hang{disk.NewFaults(d, nil), make(chan disk.Op, 64)} }

func (h *hang) hold(kind disk.OpKind) (release func()) {
	end := make(chan struct{})
	h.SetPlan(func(op disk.Op) disk.Fault {
		if op.Kind != kind {
			return disk.Fault{}
		}
		return disk.Fault{Wait: func() { h.entered <- op; <-end }}
	})
	return func() { h.SetPlan(nil); close(end) }
}

// whole is a store that may use its whole disk, and so asks it for its room.
func whole(t *testing.T, size int64) (*disk.Mem, *hang, *Store) {
	t.Helper()
	m, o := disk.NewMem(size), small
	o.Capacity = 0
	if err := Format(m, testSuper, o); err != nil {
		t.Fatal(err)
	}
	h := newHang(m)
	return m, h, opened(t, h, o)
}

func used(t *testing.T, s *Store) int64 {
	t.Helper()
	u, err := s.Usage()
	return must(t, u, err).Used
}

// fill takes so many bytes of the disk that the store knows nothing of.
func fill(t *testing.T, m *disk.Mem, n int64) {
	t.Helper()
	f, err := m.Create("others")
	must(t, f, err)
	if err := errors.Join(f.Allocate(n), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestUsageHangs: while the file system does not say how much room it has, only who opens an extent waits.
func TestUsageHangs(t *testing.T) {
	_, h, s := whole(t, 256<<20)
	w, late := newScribe(testID(1, 1)), newScribe(testID(1, 2))
	appendOK(t, s, w.id, w.open(4<<20), nil)
	commitOK(t, s)
	release := h.hold(disk.OpUsage)
	ended := make(chan error, 2)
	go func() { ended <- s.Measure() }()
	<-h.entered
	go func() { _, err := s.Append(late.id, late.open(4<<20), nil); ended <- err }()
	<-h.entered
	if n := used(t, s); n < 4<<20 {
		t.Errorf("%d bytes used", n)
	}
	appendOK(t, s, w.id, w.close(), nil)
	if _, err := s.Promise(block.VolumeID{1}, block.Epoch{Number: 1}); err != nil {
		t.Error(err)
	}
	commitOK(t, s)
	if _, err := s.Tidy(1 << 30); err != nil || s.Quarantined() != nil || s.CountExtents() != 1 {
		t.Error(err, s.Quarantined(), s.CountExtents())
	}
	select {
	case err := <-ended:
		t.Error("somebody has not waited", err)
	default:
	}
	release()
	if err := errors.Join(<-ended, <-ended); err != nil {
		t.Error(err)
	}
}

// TestUsageSince: what the store reserves counts at once, what others take and what is given back once it is measured; who opens an extent measures.
func TestUsageSince(t *testing.T) {
	m, _, s := whole(t, 64<<20)
	before := used(t, s)
	w := newScribe(testID(1, 1))
	appendOK(t, s, w.id, w.open(4<<20), nil)
	commitOK(t, s)
	if n := used(t, s); n < before+4<<20 {
		t.Errorf("%d bytes used after 4 MiB were reserved, %d before", n, before)
	}
	fill(t, m, 40<<20)
	if _, err := s.Append(testID(2, 1), newScribe(testID(2, 1)).open(8<<20), nil); !errors.Is(err, ErrFull) {
		t.Errorf("an open on a disk that others have filled: %v", err)
	}
	if n := used(t, s); n < 44<<20 {
		t.Errorf("%d bytes used after an open measured", n)
	}
	if err := m.Remove("others"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Free(w.id); err != nil {
		t.Fatal(err)
	}
	commitOK(t, s)
	if err := s.Measure(); err != nil || used(t, s) != before {
		t.Errorf("%v; %d bytes used when all is given back, %d before", err, used(t, s), before)
	}
}

// TestUsageOfOpensBesideEachOther: what is reserved and not on the disk yet is not given away once more, whatever the disk says.
func TestUsageOfOpensBesideEachOther(t *testing.T) {
	m, h, s := whole(t, 64<<20)
	fill(t, m, 25<<20)
	release := h.hold(disk.OpCreate)
	ended := make(chan error)
	go func() {
		_, err := s.Append(testID(1, 1), newScribe(testID(1, 1)).open(16<<20), nil)
		ended <- err
	}()
	<-h.entered
	if _, err := s.Append(testID(2, 1), newScribe(testID(2, 1)).open(16<<20), nil); !errors.Is(err, ErrFull) {
		t.Errorf("room for one extent is given to two: %v", err)
	}
	release()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := s.Measure(); err != nil || s.unmade != 0 || s.grown != s.figure.grown {
		t.Errorf("%v; %d bytes count as not made yet, %d as not measured", err, s.unmade, s.grown-s.figure.grown)
	}
}

// TestUsageLateAnswer: the answer to an earlier question does not replace that to a later one; a failure is told, and not for ever.
func TestUsageLateAnswer(t *testing.T) {
	_, h, s := whole(t, 64<<20)
	release := h.hold(disk.OpUsage)
	ended := make(chan error)
	go func() { ended <- s.Measure() }()
	<-h.entered
	bad := errors.New("medium error")
	h.SetPlan(func(disk.Op) disk.Fault { return disk.Fault{Err: bad} })
	if err := s.Measure(); !errors.Is(err, bad) || !errors.Is(err, ErrIO) {
		t.Error(err)
	}
	release()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := s.Usage(); !errors.Is(err, bad) || s.Quarantined() != nil {
		t.Errorf("%v after a late answer, %v", err, s.Quarantined())
	}
	if err := s.Measure(); err != nil || used(t, s) == 0 {
		t.Error(err)
	}
}
