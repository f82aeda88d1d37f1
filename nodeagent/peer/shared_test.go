package peer

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

// sharedBytes is memory whose content tells where each byte belongs, and a count of its ends.
func sharedBytes(n int) (*Shared, *atomic.Int32) {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(b)
	s, freed := new(Shared), new(atomic.Int32)
	s.Init(b, func() { freed.Add(1) })
	return s, freed
}

// TestShared: what several connections send from one place arrives behind each one's own parts, in order with what is copied, and the
// place is free once when all have sent it. Control: not before.
func TestShared(t *testing.T) {
	r := newRig(t, echo, Settings{}, ServerOptions{})
	for _, n := range []int{1, 4096, chunkSize, chunkSize + 1, 300_000, 1 << 20} {
		s, freed := sharedBytes(n)
		done := make(chan error, 9)
		var conns []*Conn
		want := func(body []byte) Callback {
			return func(_ uint16, got []byte, err error) {
				if err == nil && !bytes.Equal(got, body) {
					err = errors.New("another body")
				}
				done <- err
			}
		}
		for _, name := range []byte("abc") {
			c := r.dial(t, Settings{})
			conns = append(conns, c)
			must(t, c.Send(1, want([]byte{name}), []byte{name}))
			must(t, c.SendShared(1, n+1, want(append([]byte{name}, s.B...)), s, []byte{name}))
			must(t, c.SendSharedWait(context.Background(), 1, n, want(s.B), s))
		}
		for range cap(done) {
			must(t, <-done)
		}
		if freed.Load() != 0 {
			t.Fatalf("%d bytes: free while the caller has them", n)
		}
		for _, c := range conns {
			c.Close()
		}
		s.Release()
		if freed.Load() != 1 {
			t.Fatalf("%d bytes: free %d times, %d uses are left", n, freed.Load(), s.uses.Load())
		}
	}
}

// TestSharedIsLetGo: what was not sent is not held by a connection that has ended, nor by a request that was refused. Control: it
// is held before.
func TestSharedIsLetGo(t *testing.T) {
	hold := make(chan struct{})
	r := newRig(t, handlerFunc(func(_ Identity, q *Request) { <-hold; q.Reply(StatusOK); q.Release() }), Settings{}, ServerOptions{})
	defer close(hold)
	c := r.dial(t, Settings{})
	s, freed := sharedBytes(1 << 20)
	var err error
	sent := int32(0)
	var lost atomic.Int32
	for ; err == nil && sent < 1000; sent++ { // more than sockets take
		err = c.SendShared(1, 0, func(_ uint16, _ []byte, err error) { lost.Add(1) }, s, nil)
	}
	wantErr(t, err, ErrBusy)
	sent--
	if s.uses.Load() < 2 {
		t.Error("control: nothing waits to be sent")
	}
	tooLarge, _ := sharedBytes(3 << 20)
	wantErr(t, c.SendShared(1, 0, nil, tooLarge), ErrTooLarge)
	c.Close()
	wantErr(t, c.SendShared(1, 0, nil, s), ErrClosed)
	if n := s.uses.Load(); n != 1 || tooLarge.uses.Load() != 1 {
		t.Errorf("%d and %d uses are left after the end", n, tooLarge.uses.Load())
	}
	if lost.Load() != sent {
		t.Errorf("%d callbacks for %d requests", lost.Load(), sent)
	}
	s.Release()
	if freed.Load() != 1 {
		t.Errorf("free %d times", freed.Load())
	}
}

// TestSharedMisuse: a use too much or too little is found.
func TestSharedMisuse(t *testing.T) {
	for name, f := range map[string]func(*Shared){
		"released twice":    func(s *Shared) { s.Release(); s.Release() },
		"held when free":    func(s *Shared) { s.Release(); s.Hold() },
		"taken while used":  func(s *Shared) { s.Init(nil, func() {}) },
		"control: as it is": func(s *Shared) { s.Hold(); s.Release(); s.Release(); s.Init(nil, func() {}) },
	} {
		s, _ := sharedBytes(1)
		func() {
			defer func() {
				if found := recover() != nil; found == (name == "control: as it is") {
					t.Errorf("%s: found %v", name, found)
				}
			}()
			f(s)
		}()
	}
}
