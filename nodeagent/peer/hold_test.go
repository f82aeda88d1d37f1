package peer

import (
	"bytes"
	"testing"
)

// TestHold: the body of a request that is held stays as it is after the handler has returned, and counts to what its node has in flight, until its
// last use has ended, whether the reply comes before or after that. Control: without Hold it has none when the handler returns.
func TestHold(t *testing.T) {
	for _, c := range []struct {
		name              string
		hold, repliedLast bool
	}{{"held, replied at once", true, false}, {"held, replied last", true, true}, {"control: not held", false, true}} {
		t.Run(c.name, func(t *testing.T) {
			got := make(chan *Request, 8)
			r := newRig(t, handlerFunc(func(_ Identity, q *Request) {
				if c.hold {
					q.Hold()
				}
				q.Release()
				got <- q
			}), Settings{}, ServerOptions{})
			conn := r.dial(t, Settings{})
			body := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 64<<10) }
			const n = 6
			replies := make(chan error, n)
			same := 0
			var held []*Request
			for i := range n {
				must(t, conn.Send(1, func(_ uint16, _ []byte, err error) { replies <- err }, nil, body(i)))
				held = append(held, <-got)
			}
			bodies := r.srv.inFlight()
			for i, q := range held {
				if bytes.Equal(q.Body, body(i)) {
					same++
				}
				if !c.repliedLast {
					q.Reply(StatusOK)
				}
				if c.hold {
					q.Release()
				}
				if c.repliedLast {
					q.Reply(StatusOK)
				}
				must(t, <-replies)
			}
			if c.hold && same != n || !c.hold && same != 0 {
				t.Errorf("%d of %d bodies are as they came", same, n)
			}
			if bodies < n*64<<10 {
				t.Errorf("%d bytes in flight of %d requests", bodies, n)
			}
			if left := r.srv.inFlight(); left != 0 {
				t.Errorf("%d bytes are still in flight", left)
			}
		})
	}
}

// inFlight is how many bytes all nodes have in flight.
func (s *Server) inFlight() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.gates {
		g.mu.Lock()
		n += g.bytes
		g.mu.Unlock()
	}
	return n
}

// TestHoldMisuse: a use of a request too much or too little is found.
func TestHoldMisuse(t *testing.T) {
	for name, f := range map[string]func(*Request){
		"released twice":        func(q *Request) { q.Release(); q.Release() },
		"held when released":    func(q *Request) { q.Release(); q.Hold() },
		"held and not released": func(q *Request) { q.Hold(); q.Release(); q.Release(); q.Release() },
		"control: as it is":     func(q *Request) { q.Hold(); q.Release(); q.Release() },
	} {
		q := new(Request)
		q.uses.Store(1)
		func() {
			defer func() {
				if found := recover() != nil; found == (name == "control: as it is") {
					t.Errorf("%s: found %v", name, found)
				}
			}()
			f(q)
		}()
	}
}
