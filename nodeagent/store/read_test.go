package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/disk"
)

// TestReadNow: who must not wait is given what has gathered in memory and what the disk has at hand; it neither opens a file nor waits for the disk, and is not told
// that bytes are missing, which only a read that waits can know.
func TestReadNow(t *testing.T) {
	slow := false
	m := formatted(t, small)
	fs := disk.NewFaults(m, func(op disk.Op) disk.Fault {
		if slow && op.Kind == disk.OpRead {
			return disk.Fault{Wait: func() { t.Error("waits for the disk") }}
		}
		return disk.Fault{}
	})
	rng := rand.New(rand.NewPCG(1, 1))
	s, w := opened(t, fs, small), newScribe(testID(1, 1))
	appendOK(t, s, w.id, w.open(4<<20), nil)
	rec, payload := w.pages(1, rng)
	appendOK(t, s, w.id, rec, payload)
	p := make([]byte, len(w.data))
	slow = true
	if err := s.ReadDataNow(w.id, 0, p); err != nil || !bytes.Equal(p, w.data) {
		t.Errorf("gathered in memory: %v", err)
	}
	slow = false
	commitOK(t, s)
	if _, err := s.Tidy(1); err != nil {
		t.Fatal(err)
	}
	clear(p)
	if err := s.ReadDataNow(w.id, 0, p); err != nil || !bytes.Equal(p, w.data) {
		t.Errorf("in the file: %v", err)
	}
	slow = true
	if err := s.ReadDataNow(w.id, 0, p); !errors.Is(err, disk.ErrWouldWait) {
		t.Errorf("in the file of a slow disk: %v", err)
	}
	slow = false
	s = opened(t, m, small)
	s.files.closeAll()
	if err := s.ReadDataNow(w.id, 0, p); !errors.Is(err, disk.ErrWouldWait) {
		t.Errorf("in a file that is not open: %v", err)
	}
	if err := s.ReadData(w.id, 0, p); err != nil || s.ReadDataNow(w.id, 0, p) != nil {
		t.Errorf("in a file that was just opened: %v", err)
	}
	if err := s.ReadDataNow(w.id, 1, p); !errors.Is(err, ErrNotHeld) {
		t.Errorf("beyond the end: %v", err)
	}
}
