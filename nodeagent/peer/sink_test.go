package peer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
)

// tally is a Sink that counts, and what it has seen by the last Settle.
type tally struct {
	mu                  sync.Mutex
	answers, settled    int
	failed              int
	settles             int
	enough              int
	done                chan struct{}
	last                uint32
	disorder, unordered bool
}

func (s *tally) Answer(status uint16, body []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers++
	if err != nil {
		s.failed++
		return
	}
	n := binary.LittleEndian.Uint32(body)
	s.disorder = s.disorder || n != s.last+1 || status != StatusOK
	s.last = n
}

func (s *tally) Settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unordered = s.unordered || s.answers == s.settled
	s.settled = s.answers
	if s.settles++; s.settled == s.enough {
		close(s.done)
	}
}

// TestSink: a sink gets each reply, in order, and is told to settle after the last one that is here, however often others come between; also when
// the connection ends. Answers that come together are settled together.
func TestSink(t *testing.T) {
	const n = 500
	var mu sync.Mutex
	var held []*Request
	h := handlerFunc(func(_ Identity, r *Request) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case r.Type == 3: // never answered
			r.Release()
			return
		case r.Type == 2:
			r.Reply(StatusOK, r.Body)
			r.Release()
		default:
			held = append(held, r)
		}
		if len(held) == n {
			for _, r := range held {
				r.Reply(StatusOK, r.Body)
				r.Release()
			}
			held = nil
		}
	})
	c := newRig(t, h, Settings{}, ServerOptions{}).dial(t, Settings{})
	s := &tally{enough: n, done: make(chan struct{})}
	var others sync.WaitGroup
	for i := range uint32(n) {
		must(t, c.SendTo(1, s, nil, binary.LittleEndian.AppendUint32(nil, i+1)))
		if i%50 == 0 {
			others.Add(1)
			must(t, c.Send(2, func(uint16, []byte, error) { others.Done() }, []byte{1}))
		}
	}
	<-s.done
	others.Wait()
	if s.disorder || s.unordered || s.failed != 0 || s.settles > n/4 {
		t.Errorf("%+v", s)
	}
	end := &tally{enough: 3, done: make(chan struct{})}
	for range 3 {
		must(t, c.SendTo(3, end, nil, []byte{0}))
	}
	c.Close()
	<-end.done
	if end.failed != 3 {
		t.Errorf("at the end: %+v", end)
	}
	if err := c.SendTo(1, s, nil, []byte{1}); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// TestNext: what Next shows is the body of the very next request, whole, or nothing; what is left for it reaches it alone.
func TestNext(t *testing.T) {
	const n = 2000
	var shown []byte
	var left [32]byte
	seen, kept := 0, 0
	done := make(chan struct{})
	h := handlerFunc(func(_ Identity, r *Request) {
		i := binary.LittleEndian.Uint32(r.Body)
		sum, ok := r.Left()
		if ok != (shown != nil) || ok && sum != left {
			t.Errorf("request %d: left %v, shown %v", i, ok, shown != nil)
		}
		if shown != nil && !bytes.Equal(shown, r.Body) {
			t.Errorf("request %d is not what was shown", i)
		}
		shown = nil
		if next := r.Next(); next != nil {
			seen++
			if i%3 != 0 { // what is looked at and not left is not there
				shown, left = bytes.Clone(next), [32]byte{byte(i), byte(i >> 8), 1}
				r.Leave(left)
				kept++
			}
		}
		r.Reply(StatusOK)
		r.Release()
		if i == n-1 {
			close(done)
		}
	})
	c := newRig(t, h, Settings{}, ServerOptions{}).dial(t, Settings{})
	for i := range uint32(n) {
		body := bytes.Repeat(binary.LittleEndian.AppendUint32(nil, i), 1+int(i)*7%1200)
		for {
			err := c.Send(1, func(uint16, []byte, error) {}, body)
			if err == nil {
				break
			}
			wantErr(t, err, ErrBusy)
		}
	}
	<-done
	if seen == 0 || kept == 0 {
		t.Errorf("%d were shown, %d left", seen, kept)
	}
}

// TestNextOtherType: a request of another type is not shown.
func TestNextOtherType(t *testing.T) {
	const n = 300
	done := make(chan struct{})
	served := 0
	h := handlerFunc(func(_ Identity, r *Request) {
		if next := r.Next(); next != nil && r.Type == 1 {
			t.Error("a request of another type is shown")
		}
		r.Reply(StatusOK)
		r.Release()
		if served++; served == 2*n {
			close(done)
		}
	})
	c := newRig(t, h, Settings{}, ServerOptions{}).dial(t, Settings{})
	for range n {
		must(t, c.Send(1, func(uint16, []byte, error) {}, make([]byte, 100)))
		must(t, c.Send(2, func(uint16, []byte, error) {}, make([]byte, 100)))
	}
	<-done
}

// once gives some bytes, and fails the test when it is asked for more.
type once struct {
	t *testing.T
	b []byte
}

func (o *once) Read(p []byte) (int, error) {
	if len(o.b) == 0 {
		o.t.Error("more is read")
	}
	n := copy(p, o.b)
	o.b = o.b[n:]
	return n, nil
}

// TestNextWaitsForNothing: what is not here as a whole is not shown, and not waited for.
func TestNextWaitsForNothing(t *testing.T) {
	body := []byte("what follows")
	frame := make([]byte, headerSize, headerSize+len(body))
	h := header{typ: 1, id: 7, body: uint32(len(body))}
	h.put(frame)
	frame = append(frame, body...)
	for n := range len(frame) + 1 {
		c := &serverConn{link: link{set: Settings{}.WithDefaults(), br: bufio.NewReader(&once{t, append([]byte{0}, frame[:n]...)})}}
		_, err := c.br.ReadByte() // the rest of what is here is in the buffer then
		must(t, err)
		next := (&Request{Type: 1, conn: c}).Next()
		if whole := n == len(frame); whole != bytes.Equal(next, body) || !whole && next != nil {
			t.Errorf("%d of %d bytes: %q is shown", n, len(frame), next)
		}
	}
}
