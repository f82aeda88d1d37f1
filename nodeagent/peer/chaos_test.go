package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// chaos is what TestChaos counts.
type chaos struct {
	t                *testing.T
	pool             *Pool
	wg               sync.WaitGroup
	sent, good, lost atomic.Int32
	last             map[*serverConn]uint64
	mu               sync.Mutex
	disorder         int
}

// Serve notes disorder, and never answers type 2.
func (x *chaos) Serve(_ Identity, q *Request) {
	n := binary.LittleEndian.Uint64(q.Meta())
	x.mu.Lock()
	if n < x.last[q.conn] {
		x.disorder++
	}
	x.last[q.conn] = n
	x.mu.Unlock()
	if q.Type == 2 {
		q.Release()
		return
	}
	go func() { q.Reply(StatusOK, q.Body); q.Release() }()
}

// send sends request n over whatever connection there is, until one takes it.
func (x *chaos) send(typ uint8, n uint64, body []byte, done func(error)) {
	meta := binary.LittleEndian.AppendUint64(nil, n)
	for {
		c, err := x.pool.Get(context.Background(), "server", Small)
		must(x.t, err)
		x.wg.Add(1)
		err = c.SendWait(context.Background(), typ, len(body), func(_ uint16, got []byte, err error) {
			defer x.wg.Done()
			switch {
			case err == nil && bytes.Equal(got[8:], body) && bytes.Equal(got[:8], meta):
				x.good.Add(1)
			case errors.Is(err, ErrLost):
				x.lost.Add(1)
			default:
				x.t.Errorf("request %d: %d bytes, %v", n, len(got), err)
			}
			done(err)
		}, meta, body)
		if err == nil {
			x.sent.Add(1)
			return
		}
		x.wg.Done()
	}
}

// TestChaos: while connections are cut at random, each request gets exactly one callback: its own reply, or an error that says that the
// outcome is unknown; and within each connection requests arrive in order.
func TestChaos(t *testing.T) {
	const seed, requests = 7, 3000
	rng := rand.New(rand.NewPCG(seed, 0))
	x := &chaos{t: t, last: map[*serverConn]uint64{}}
	r := newRig(t, x, Settings{PeerRequests: 64}, ServerOptions{})
	var addr atomic.Value
	addr.Store(r.addr)
	x.pool = newPool(t, r.ca, &addr)
	cuts := int32(0)
	for n := range uint64(requests) {
		if rng.IntN(100) > 0 {
			x.send(1, n, bytes.Repeat([]byte{byte(n)}, rng.IntN(20000)), func(error) {})
			continue
		}
		cuts++
		for ok := false; !ok; { // the connection works
			answer := make(chan error, 1)
			x.send(1, n, nil, func(err error) { answer <- err })
			ok = <-answer == nil
		}
		x.send(2, n, nil, func(error) {})
		r.srv.Disconnect(func(Identity) bool { return true })
	}
	x.wg.Wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.good.Load()+x.lost.Load() != x.sent.Load() || x.disorder != 0 || x.sent.Load() < requests {
		t.Errorf("seed %d: %d sent, %d good, %d lost, %d out of order", seed, x.sent.Load(), x.good.Load(), x.lost.Load(), x.disorder)
	}
	if x.lost.Load() < cuts || x.good.Load() < cuts || cuts == 0 {
		t.Errorf("seed %d: too little was tested: %d good, %d lost, %d cuts", seed, x.good.Load(), x.lost.Load(), cuts)
	}
}
