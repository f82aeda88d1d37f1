package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

// Many writers and readers run beside commits and tidying, with fewer descriptors than files. Run it with -race.
func TestConcurrent(t *testing.T) {
	o := small
	o.MaxFiles = 8
	m := formatted(t, o)
	s := opened(t, m, o)
	const writers, records = 8, 150
	scribes := make([]*scribe, writers)
	var work, helpers sync.WaitGroup
	var stop atomic.Bool
	for i := range writers {
		scribes[i] = newScribe(testID(byte(i), 1))
		work.Go(func() {
			w, rng := scribes[i], rand.New(rand.NewPCG(uint64(i), 1))
			rec, payload := w.open(4<<20), []byte(nil)
			give := func() error {
				l := lend(payload)
				defer l.Release()
				_, err := s.AppendKept(w.id, rec, l.b, 0, l)
				return err
			}
			if i%2 == 1 {
				give = func() error { _, err := s.Append(w.id, rec, payload); return err }
			}
			if copied := give; i%4 == 2 {
				give = func() error {
					if len(payload) == 0 {
						return copied()
					}
					_, err := givePlaced(s, w, rec, payload)
					return err
				}
			}
			for n := 0; ; n++ {
				err := give()
				for ; errors.Is(err, ErrBusy); err = give() {
					if _, err := s.Tidy(1 << 20); err != nil {
						t.Error(err)
						return
					}
				}
				if err != nil {
					t.Error(err)
					return
				}
				st, _ := s.Stat(w.id)
				p := make([]byte, len(rec))
				if err := s.ReadLog(w.id, st.Chain.LogLen-uint32(len(rec)), p); err != nil || string(p) != string(rec) {
					t.Error("read", err)
				}
				if n == records {
					return
				}
				rec, payload = w.pages(1+n%3, rng)
			}
		})
	}
	for range 2 {
		helpers.Go(func() {
			for !stop.Load() {
				if _, err := s.Commit(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	helpers.Go(func() {
		for n := uint64(1); !stop.Load(); n++ {
			_, err := s.Promise(block.VolumeID{1}, block.Epoch{Number: n})
			if err != nil && !errors.Is(err, ErrBusy) {
				t.Error(err)
				return
			}
			if _, err := s.Tidy(1 << 16); err != nil {
				t.Error(err)
				return
			}
			_ = s.Volumes()
			_, _ = s.Usage()
			_ = s.Scrub(scribes[n%writers].id, func(f Finding) { t.Error(f) })
		}
	})
	work.Wait()
	stop.Store(true)
	helpers.Wait()
	commitOK(t, s)
	for _, w := range scribes {
		requireHeld(t, s, w)
	}
	if s.files.n > o.MaxFiles {
		t.Errorf("%d open files", s.files.n)
	}
	s = opened(t, m.Crash(func() uint64 { return 0 }), o)
	for _, w := range scribes {
		requireHeld(t, s, w)
	}
}

// Opening reads only the footers of closed extents: no read of any log or data file.
func TestOpenReadsFootersOnly(t *testing.T) {
	m := formatted(t, small)
	s := opened(t, m, small)
	for n := range uint32(50) {
		w := newScribe(testID(1, n+1))
		appendOK(t, s, w.id, w.open(64<<10), nil)
		rec, payload := w.pages(1, rand.New(rand.NewPCG(1, 1)))
		appendOK(t, s, w.id, rec, payload)
		appendOK(t, s, w.id, w.close(), nil)
		commitOK(t, s)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var other []string
	faults := disk.NewFaults(m, func(op disk.Op) disk.Fault {
		if op.Kind == disk.OpOpen && len(op.Name) > 4 && op.Name[:4] == "ext/" && op.Name[len(op.Name)-4:] != sufFooter {
			other = append(other, op.Name)
		}
		return disk.Fault{}
	})
	s = opened(t, faults, small)
	if len(s.Extents(block.VolumeID{1})) != 50 || len(other) != 0 {
		t.Fatal(fmt.Sprint(len(s.extents), other))
	}
}

// A failed sync ends the store, and nothing is tried again.
func TestQuarantine(t *testing.T) {
	m := formatted(t, small)
	faults := disk.NewFaults(m, nil)
	s := opened(t, faults, small)
	w := newScribe(testID(1, 1))
	appendOK(t, s, w.id, w.open(1<<20), nil)
	cause, ops := errors.New("the cause"), 0
	faults.SetPlan(func(op disk.Op) disk.Fault {
		ops++
		if op.Kind == disk.OpSync {
			return disk.Fault{Action: disk.Forget, Err: cause}
		}
		return disk.Fault{}
	})
	if _, err := s.Commit(); !errors.Is(err, ErrQuarantined) || !errors.Is(err, cause) {
		t.Fatal(err)
	}
	before := ops
	_, errAppend := s.Append(w.id, w.close(), nil)
	_, errPromise := s.Promise(block.VolumeID{1}, block.Epoch{Number: 1})
	_, errCut := s.Cut(w.id, 1)
	_, errFree := s.Free(w.id)
	_, errDrop := s.DropVolume(block.VolumeID{1}, []byte("x"))
	_, errMeta := s.SetMeta("k", nil)
	_, errCommit := s.Commit()
	_, errTidy := s.Tidy(1)
	_, errUsage := s.Usage()
	for i, err := range []error{errAppend, errPromise, errCut, errFree, errDrop, errMeta, errCommit, errTidy, errUsage,
		s.ReadLog(w.id, 0, make([]byte, 1)), s.ReadData(w.id, 0, nil), s.Scrub(w.id, nil), s.RepairData(w.id, 0, nil),
		s.RepairLog(w.id, 0, nil), s.Quarantined()} {
		if !errors.Is(err, ErrQuarantined) || !errors.Is(err, cause) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if ops != before {
		t.Errorf("%d operations on a quarantined disk", ops-before)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A commit that syncs a data file while a later large payload is on its way there does not count for that payload.
func TestSyncBesideAWrite(t *testing.T) {
	m := formatted(t, small)
	faults := disk.NewFaults(m, nil)
	s := opened(t, faults, small)
	rng := rand.New(rand.NewPCG(1, 1))
	w := newScribe(testID(1, 1))
	appendOK(t, s, w.id, w.open(1<<20), nil)
	rec, payload := w.pages(3, rng)
	appendOK(t, s, w.id, rec, payload)
	beside := false
	faults.SetPlan(func(op disk.Op) disk.Fault {
		if beside || op.Kind != disk.OpWrite || op.Name != pathOf(w, sufDat) {
			return disk.Fault{}
		}
		beside = true
		return disk.Fault{Wait: func() { commitOK(t, s) }}
	})
	rec, payload = w.pages(3, rng)
	appendOK(t, s, w.id, rec, payload)
	commitOK(t, s)
	if !beside {
		t.Fatal("no commit beside the write")
	}
	requireHeld(t, opened(t, m.Crash(func() uint64 { return 0 }), small), w)
}

// A reader that holds a file which is freed meanwhile reads on; the descriptor is closed after it.
func TestFreeBesideARead(t *testing.T) {
	m, _, w := filled(t, false)
	faults := disk.NewFaults(m, nil)
	s := opened(t, faults, small)
	faults.SetPlan(func(op disk.Op) disk.Fault {
		if op.Kind != disk.OpRead {
			return disk.Fault{}
		}
		return disk.Fault{Wait: func() {
			if _, err := s.Free(w.id); err != nil {
				t.Error(err)
			}
			commitOK(t, s)
		}}
	})
	p := make([]byte, len(w.data))
	if err := s.ReadData(w.id, 0, p); err != nil || string(p) != string(w.data) {
		t.Fatal(err)
	}
	if s.files.n != 0 {
		t.Errorf("%d files are still open", s.files.n)
	}
}

// TestSyncUnderWay: who wants a file synced while somebody else's sync of it is under way does not go on before that has ended, and is told if it
// failed. Nobody else waits: another file is opened meanwhile.
func TestSyncUnderWay(t *testing.T) {
	for _, cause := range []error{nil, syscall.EIO} {
		mem := disk.NewMem(0)
		for _, name := range []string{"a", "b"} {
			f, err := mem.Create(name)
			if err = errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		}
		begun, end := make(chan struct{}), make(chan struct{})
		var ended atomic.Bool
		faults := disk.NewFaults(mem, func(op disk.Op) (f disk.Fault) {
			if op.Kind == disk.OpSync && op.Name == "a" && !ended.Load() {
				f.Wait = func() {
					close(begun)
					<-end
					ended.Store(true)
				}
				f.Err = cause
			}
			return f
		})
		var s fileSet
		s.init(faults, 1, func(err error) error { return err })
		var a, b file
		open := func(f *file, name string) {
			h, err := faults.Open(name)
			if err = errors.Join(err, s.adopt(f, h)); err != nil {
				t.Fatal(err)
			}
		}
		open(&a, "a")
		s.wrote(&a)
		first, second := make(chan error), make(chan error)
		go func() { first <- s.sync(&a) }()
		<-begun
		go func() {
			err := s.sync(&a)
			if !ended.Load() {
				err = errors.New("it went on while the sync was under way")
			}
			second <- err
		}()
		open(&b, "b")
		s.put(&b)
		for range 100 {
			runtime.Gosched() // the second one waits, or is through: if it is not there yet, this run shows less
		}
		close(end)
		for _, err := range []error{<-first, <-second} {
			if !errors.Is(err, cause) {
				t.Errorf("a sync that fails with %v: %v", cause, err)
			}
		}
	}
}
