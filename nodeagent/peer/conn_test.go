package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestCall: what is asked arrives in its parts, and the reply comes back.
func TestCall(t *testing.T) {
	r := newRig(t, handlerFunc(func(from Identity, q *Request) {
		q.Reply(uint16(q.Type), []byte(from.Node+" "), q.Meta(), []byte(" "), q.Payload())
		q.Release()
	}), Settings{Capabilities: 6}, ServerOptions{})
	c := r.dial(t, Settings{Capabilities: 3})
	resp, err := c.Call(context.Background(), 9, []byte("meta"), []byte("pay"), []byte("load"))
	must(t, err)
	if string(resp.Body) != "client meta payload" || resp.Status != 9 {
		t.Errorf("got %d %q", resp.Status, resp.Body)
	}
	resp.Release()
	if c.Capabilities() != 2 || c.Remote().Node != "server" || c.Remote().Network != testNetwork {
		t.Errorf("capabilities %d, remote %v", c.Capabilities(), c.Remote())
	}
	for _, n := range []int{0, 1, 1 << 10, 4096, 100_000, 1 << 20, 2 << 20} {
		body := bytes.Repeat([]byte{byte(n >> 3)}, n)
		resp, err := c.CallExpect(context.Background(), 9, n, nil, body)
		if err != nil || len(resp.Body) != n+len("client  ") && n < 2<<20 || n < 2<<20 && !bytes.HasSuffix(resp.Body, body) {
			t.Fatalf("%d bytes: %d, %v", n, len(resp.Body), err)
		}
		if n == 2<<20 && resp.Status != StatusTooLarge {
			t.Errorf("a reply above the limit: status %#x, %d bytes", resp.Status, len(resp.Body))
		}
		resp.Release()
	}
	_, err = c.Call(context.Background(), 9, make([]byte, 2<<20+1))
	wantErr(t, err, ErrTooLarge)
}

// firstDisorder gives the first index at which the numbers are not 0, 1, 2, …; -1 if there is none.
func firstDisorder(seen []uint32) int {
	for i, v := range seen {
		if int(v) != i {
			return i
		}
	}
	return -1
}

// TestOrder: requests of one connection are served in the order of Send, although replies come in any order.
func TestOrder(t *testing.T) {
	const n = 5000
	var seen []uint32 // of the reader goroutine, read after all replies
	var held []*Request
	rng := rand.New(rand.NewPCG(1, 2))
	r := newRig(t, handlerFunc(func(_ Identity, q *Request) {
		seen = append(seen, binary.LittleEndian.Uint32(q.Body))
		held = append(held, q)
		if len(held) == 50 {
			rng.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
			for _, q := range held {
				q.Reply(StatusOK, q.Body)
				q.Release()
			}
			held = held[:0]
		}
	}), Settings{}, ServerOptions{})
	c := r.dial(t, Settings{})
	var wg sync.WaitGroup
	wg.Add(n)
	var came []uint32
	for i := range uint32(n) {
		b := binary.LittleEndian.AppendUint32(nil, i)
		must(t, c.SendWait(context.Background(), 1, 0, func(_ uint16, body []byte, err error) {
			defer wg.Done()
			if err != nil || !bytes.Equal(body, b) {
				t.Errorf("request %d got reply %x, %v", i, body, err)
			}
			came = append(came, i)
		}, b))
	}
	wg.Wait()
	if i := firstDisorder(seen); i >= 0 || len(seen) != n {
		t.Errorf("%d served, first disorder at %d", len(seen), i)
	}
	if firstDisorder(came) < 0 {
		t.Error("negative control: shuffled replies came in order")
	}
}

// TestConcurrent: 10,000 calls at once over one connection, each gets its own reply.
func TestConcurrent(t *testing.T) {
	r := newRig(t, handlerFunc(func(_ Identity, q *Request) {
		go func() {
			q.Reply(StatusOK, q.Body)
			q.Release()
		}()
	}), Settings{PeerRequests: 300}, ServerOptions{})
	c := r.dial(t, Settings{MaxOutstanding: 2000})
	var wg sync.WaitGroup
	for i := range 10_000 {
		wg.Go(func() {
			want := fmt.Sprintf("%d %s", i, bytes.Repeat([]byte{'x'}, i%3000))
			resp, err := c.Call(context.Background(), 1, []byte(want))
			if err != nil || string(resp.Body) != want {
				t.Errorf("call %d: %.20q, %v", i, resp.Body, err)
			}
			resp.Release()
		})
	}
	wg.Wait()
}

// TestLost: the end of a connection fails each outstanding request once, with a typed error, and every later one.
func TestLost(t *testing.T) {
	arrived := make(chan *Request, 10)
	r := newRig(t, handlerFunc(func(_ Identity, q *Request) { arrived <- q }), Settings{}, ServerOptions{})
	c := r.dial(t, Settings{})
	errs := make(chan error, 20)
	for range 10 {
		must(t, c.Send(1, func(_ uint16, _ []byte, err error) { errs <- err }, []byte("x")))
	}
	var held []*Request
	for range 10 {
		held = append(held, <-arrived)
	}
	r.srv.Disconnect(func(id Identity) bool { return id.Node == "client" })
	for range 10 {
		err := <-errs
		wantErr(t, err, ErrLost)
		var ce *ConnError
		if !errors.As(err, &ce) || ce.Node != "server" {
			t.Fatalf("untyped: %v", err)
		}
	}
	<-c.Done()
	must(t, c.Close())
	if len(errs) != 0 {
		t.Error("a callback ran twice")
	}
	wantErr(t, c.Send(1, nil, nil), ErrLost)
	_, err := c.Call(context.Background(), 1)
	wantErr(t, err, ErrLost)
	for _, q := range held { // replies to a dead connection do nothing
		q.Release()
		q.Reply(StatusOK, []byte("late"))
	}
}

// TestCloseFails: closing on this side fails what is outstanding with ErrClosed.
func TestCloseFails(t *testing.T) {
	arrived := make(chan *Request, 1)
	r := newRig(t, handlerFunc(func(_ Identity, q *Request) { arrived <- q }), Settings{}, ServerOptions{})
	c := r.dial(t, Settings{})
	errs := make(chan error, 1)
	must(t, c.Send(1, func(_ uint16, _ []byte, err error) { errs <- err }))
	<-arrived
	must(t, c.Close())
	wantErr(t, <-errs, ErrClosed)
}

// TestCancel: a call that is given up returns at once; its late reply harms nobody.
func TestCancel(t *testing.T) {
	arrived := make(chan *Request, 1)
	r := newRig(t, handlerFunc(func(_ Identity, q *Request) {
		if q.Type == 2 {
			arrived <- q
			return
		}
		echo(Identity{}, q)
	}), Settings{}, ServerOptions{})
	c := r.dial(t, Settings{})
	ctx, cancel := context.WithCancel(context.Background())
	var q *Request
	go func() { q = <-arrived; cancel() }()
	_, err := c.Call(ctx, 2, []byte("slow"))
	wantErr(t, err, context.Canceled)
	q.Reply(StatusOK, []byte("late"))
	q.Release()
	resp, err := c.Call(context.Background(), 1, []byte("next"))
	if err != nil || string(resp.Body) != "next" {
		t.Errorf("after the late reply: %q, %v", resp.Body, err)
	}
	resp.Release()
}

// TestBusy: a full table refuses Send and sends nothing; SendWait waits for a seat.
func TestBusy(t *testing.T) {
	arrived := make(chan *Request, 10)
	r := newRig(t, handlerFunc(func(_ Identity, q *Request) { arrived <- q }), Settings{}, ServerOptions{})
	c := r.dial(t, Settings{MaxOutstanding: 2})
	var replies atomic.Int32
	cb := func(uint16, []byte, error) { replies.Add(1) }
	must(t, c.Send(1, cb))
	must(t, c.Send(1, cb))
	wantErr(t, c.Send(1, cb), ErrBusy)
	waited := make(chan error, 1)
	go func() { waited <- c.SendWait(context.Background(), 1, 0, cb) }()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	wantErr(t, c.SendWait(ctx, 1, 0, cb), context.Canceled)
	echo(Identity{}, <-arrived)
	must(t, <-waited)
	c.Close()
	if n := replies.Load(); n != 3 {
		t.Errorf("%d callbacks for 3 requests", n)
	}
}

// TestSecondReply: a handler that replies twice is found.
func TestSecondReply(t *testing.T) {
	found := make(chan bool, 1)
	r := newRig(t, handlerFunc(func(_ Identity, q *Request) {
		defer q.Release()
		defer func() { found <- recover() != nil }()
		q.Reply(StatusOK)
		q.Reply(StatusOK)
	}), Settings{}, ServerOptions{})
	c := r.dial(t, Settings{})
	_, err := c.Call(context.Background(), 1)
	must(t, err)
	if !<-found {
		t.Error("a second reply was taken")
	}
}

// TestMore: a handler sees that another request has arrived behind its own. Control: before it was sent it does not.
func TestMore(t *testing.T) {
	first, second := make(chan bool), make(chan struct{})
	r := newRig(t, handlerFunc(func(_ Identity, q *Request) {
		if q.Type == 1 {
			first <- q.More()
			<-second
			for !q.More() {
				runtime.Gosched()
			}
		}
		echo(Identity{}, q)
	}), Settings{PingInterval: time.Hour}, ServerOptions{})
	c := r.dial(t, Settings{PingInterval: time.Hour})
	done := make(chan error, 2)
	cb := func(_ uint16, _ []byte, err error) { done <- err }
	must(t, c.Send(1, cb))
	if <-first {
		t.Error("control: something follows what is alone")
	}
	must(t, c.Send(2, cb))
	close(second)
	must(t, <-done)
	must(t, <-done)
}
