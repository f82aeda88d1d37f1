package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// still keeps the timer of keep-alive out of a test that calls watch itself.
var still = Settings{PingInterval: time.Hour}

// rawPeer is a node with right credentials that does not keep to the protocol.
type rawPeer struct {
	t *testing.T
	*tls.Conn
}

// rawDial connects up to TLS.
func (r *rig) rawDial(t *testing.T) rawPeer {
	t.Helper()
	raw, err := net.Dial("tcp", r.addr)
	must(t, err)
	t.Cleanup(func() { raw.Close() })
	c := tls.Client(raw, testCreds(t, r.ca, "client", CredentialOptions{}).ClientConfig("server", new(Identity)))
	must(t, c.Handshake())
	return rawPeer{t, c}
}

func (p rawPeer) frame(h header, body []byte) {
	p.t.Helper()
	var b [headerSize]byte
	h.put(b[:])
	_, err := p.Write(append(b[:], body...))
	must(p.t, err)
}

func (p rawPeer) read() (h header, body []byte) {
	p.t.Helper()
	var b [headerSize]byte
	_, err := io.ReadFull(p, b[:])
	must(p.t, err)
	must(p.t, h.parse(b[:], 1<<30))
	body = make([]byte, h.body)
	_, err = io.ReadFull(p, body)
	must(p.t, err)
	return h, body
}

func (p rawPeer) hello(h hello) {
	p.t.Helper()
	b := h.encode()
	p.frame(header{typ: typeHello, body: uint32(len(b)), meta: uint32(len(b))}, b)
	if h, _ := p.read(); h.typ != typeHello {
		p.t.Fatalf("no hello but %+v", h)
	}
}

// rawJoin connects and says hello.
func (r *rig) rawJoin(t *testing.T) rawPeer {
	t.Helper()
	p := r.rawDial(t)
	p.hello(still.WithDefaults().hello())
	return p
}

// TestBadHello: a first frame that is no hello, or has no version in common, is refused.
func TestBadHello(t *testing.T) {
	r := newRig(t, echo, still, ServerOptions{})
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"garbage":    {[]byte(strings.Repeat("garbage!", 10)), ErrFrame},
		"future":     {hello{newest: 9, oldest: 8}.encode(), ErrVersion},
		"malformed":  {make([]byte, helloSize), ErrFrame},
		"not hello":  {nil, ErrFrame},
		"very large": {make([]byte, maxHello+1), ErrTooLarge},
	} {
		p := r.rawDial(t)
		h := header{typ: typeHello, body: uint32(len(c.bytes))}
		switch name {
		case "garbage":
			p.Write(c.bytes)
		case "not hello":
			p.frame(header{typ: 5}, nil)
		default:
			p.frame(h, c.bytes)
		}
		if err := r.rej.next(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.rawJoin(t) // control
}

// TestBadFrames: a frame that breaks the rules ends the connection with its reason; one that keeps them does not.
func TestBadFrames(t *testing.T) {
	r := newRig(t, echo, still, ServerOptions{})
	for name, c := range map[string]struct {
		h    header
		want error
	}{
		"oversized":     {header{typ: 1, body: 2<<20 + 1}, ErrTooLarge},
		"gigantic":      {header{typ: 1, body: 1<<32 - 1}, ErrTooLarge},
		"meta":          {header{typ: 1, body: 0, meta: 1}, ErrFrame},
		"a response":    {header{typ: 1, flags: flagResponse}, ErrFrame},
		"flags":         {header{typ: 1, flags: 0x80}, ErrFrame},
		"large control": {header{typ: typePing, body: maxControl + 1}, ErrFrame},
	} {
		p := r.rawJoin(t)
		p.frame(header{typ: 1, id: 1, body: 2 << 20, meta: 5}, make([]byte, 2<<20)) // control: exactly at the limit
		if h, b := p.read(); h.id != 1 || len(b) != 2<<20 {
			t.Fatalf("%s: %+v", name, h)
		}
		p.frame(c.h, nil)
		if err := r.ended.next(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := r.rawJoin(t)
	p.frame(header{typ: 0xFE, id: 3}, nil)
	if h, _ := p.read(); h.status != StatusUnknownType || h.id != 3 {
		t.Errorf("unknown control frame: %+v", h)
	}
	p.frame(header{typ: typeGrant, id: 4}, nil)
	if h, b := p.read(); h.status != StatusBadGrant || !strings.Contains(string(b), "no grants") {
		t.Errorf("grant without an authorizer: %+v %q", h, b)
	}
}

// TestBadServer: a client ends the connection when a server answers what was not asked, or asks.
func TestBadServer(t *testing.T) {
	ca := testCA(t, testNetwork)
	for name, c := range map[string]struct {
		h    header
		want error
	}{
		"not asked":  {header{flags: flagResponse, id: 1 << 32}, ErrFrame},
		"far slot":   {header{flags: flagResponse, id: 1<<32 | 1<<31}, ErrFrame},
		"a request":  {header{typ: 1, id: 1}, ErrFrame},
		"oversized":  {header{flags: flagResponse, body: 3 << 20}, ErrTooLarge},
		"right":      {header{flags: flagResponse}, nil},
		"old answer": {header{flags: flagResponse, id: 7}, ErrFrame},
	} {
		l, err := tls.Listen("tcp", "127.0.0.1:0", testCreds(t, ca, "server", CredentialOptions{}).ServerConfig(new(Identity)))
		must(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			raw, err := l.Accept()
			if err != nil {
				return
			}
			defer raw.Close()
			p := rawPeer{t, raw.(*tls.Conn)}
			p.hello(still.WithDefaults().hello())
			req, _ := p.read()
			c.h.id += req.id
			p.frame(c.h, nil)
			io.Copy(io.Discard, p)
		}()
		d, err := NewDialer(testCreds(t, ca, "client", CredentialOptions{}), still)
		must(t, err)
		conn, err := d.Dial(context.Background(), "server", l.Addr().String())
		must(t, err)
		_, err = conn.Call(context.Background(), 1)
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		conn.Close()
		l.Close()
		<-done
	}
}

// only gives the server's side of the only connection.
func (r *rig) only(t *testing.T) *serverConn {
	t.Helper()
	for {
		r.srv.mu.Lock()
		for c := range r.srv.conns {
			c.mu.Lock()
			started := c.ticker != nil
			c.mu.Unlock()
			if started {
				r.srv.mu.Unlock()
				return c
			}
		}
		r.srv.mu.Unlock()
		runtime.Gosched()
	}
}

// TestSilence: a half-open peer, and one that dribbles a frame, are cut off after Misses intervals; one that sends a whole
// frame now and then is not.
func TestSilence(t *testing.T) {
	for name, dribble := range map[string]bool{"half-open": false, "slow-loris": true} {
		r := newRig(t, echo, still, ServerOptions{})
		p := r.rawJoin(t)
		c := r.only(t)
		for range 5 { // control: alive
			p.frame(header{typ: typePing}, nil)
			p.read()
			c.watch()
			c.watch()
		}
		must(t, c.reason())
		for range 3 {
			if dribble {
				p.Write([]byte("m"))
			}
			c.watch()
		}
		if err := r.ended.next(); !errors.Is(err, ErrTimeout) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSilentServer: a client gives up a server that stops answering, and its outstanding requests with it.
func TestSilentServer(t *testing.T) {
	arrived := make(chan *Request, 1)
	r := newRig(t, handlerFunc(func(_ Identity, q *Request) { arrived <- q }), still, ServerOptions{})
	c := r.dial(t, still)
	errs := make(chan error, 1)
	must(t, c.Send(1, func(_ uint16, _ []byte, err error) { errs <- err }))
	<-arrived
	c.tick() // the ping is answered although the handler is not
	for c.frames.Load() < 2 {
		runtime.Gosched()
	}
	for range 4 {
		must(t, c.reason())
		c.watch()
	}
	wantErr(t, <-errs, ErrTimeout)
	wantErr(t, c.Err(), ErrLost)
}

// TestNoHandshake: a peer that connects and says nothing is cut off, and so is one that stops after TLS.
func TestNoHandshake(t *testing.T) {
	r := newRig(t, echo, Settings{DialTimeout: 50 * time.Millisecond}, ServerOptions{})
	raw, err := net.Dial("tcp", r.addr)
	must(t, err)
	defer raw.Close()
	wantErr(t, r.rej.next(), ErrTimeout)
	if c, err := tls.Dial("tcp", r.addr, testCreds(t, r.ca, "client", CredentialOptions{}).ClientConfig("server", new(Identity))); err == nil {
		defer c.Close()
	}
	wantErr(t, r.rej.next(), ErrTimeout)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	d, err := NewDialer(r.srv.creds, Settings{DialTimeout: 50 * time.Millisecond})
	must(t, err)
	_, err = d.Dial(context.Background(), "server", l.Addr().String())
	wantErr(t, err, ErrTimeout)
}

// TestSlowReader: a peer that does not read its replies is held back at MaxQueue, gets them all if it reads after all, and is cut
// off when its writes stand still.
func TestSlowReader(t *testing.T) {
	set := still
	set.MaxQueue, set.MaxBody = 2<<20, 1<<20
	const n = 60
	var peak atomic.Int64
	answer := make([]byte, 1<<20)
	r := newRig(t, handlerFunc(func(_ Identity, q *Request) {
		c := q.conn
		q.Reply(StatusOK, answer)
		c.mu.Lock()
		peak.Store(max(peak.Load(), int64(c.queued)))
		c.mu.Unlock()
		q.Release()
	}), set, ServerOptions{})
	for _, reads := range []bool{true, false} {
		p := r.rawJoin(t)
		c := r.only(t)
		for i := range uint64(n) {
			p.frame(header{typ: 1, id: i}, nil)
		}
		for !c.paused.Load() {
			runtime.Gosched()
		}
		if reads {
			for i := range uint64(n) {
				if h, b := p.read(); h.id != i || len(b) != 1<<20 {
					t.Fatalf("reply %d: %+v", i, h)
				}
			}
			p.Close()
			r.ended.next()
			continue
		}
		for c.reason() == nil { // until the socket's buffers are full and no write moves any more
			c.watch()
		}
		wantErr(t, r.ended.next(), ErrTimeout)
	}
	if got := peak.Load(); got > int64(set.MaxQueue)+1<<20+headerSize {
		t.Errorf("%d bytes were queued", got)
	}
}

// TestReplyFlood: replies to many held requests, which the peer does not read, end the connection rather than fill the memory.
func TestReplyFlood(t *testing.T) {
	set := still
	set.MaxQueue, set.MaxBody = 1<<20, 1<<20
	const n = 40
	held, answer := make([]*Request, 0, n), make([]byte, 1<<20)
	r := newRig(t, handlerFunc(func(_ Identity, q *Request) {
		if held = append(held, q); len(held) == n {
			for _, q := range held {
				q.Reply(StatusOK, answer)
				q.Release()
			}
		}
	}), set, ServerOptions{})
	p := r.rawJoin(t)
	for i := range uint64(n) {
		p.frame(header{typ: 1, id: i}, nil)
	}
	wantErr(t, r.ended.next(), ErrSlowReader)
}

// TestInFlight: the server takes no more requests of one node than its limit, and goes on when some are done. Control: with a
// higher limit all arrive.
func TestInFlight(t *testing.T) {
	const n = 12
	for _, limit := range []int{4, 100} {
		arrived := make(chan *Request, n)
		r := newRig(t, handlerFunc(func(_ Identity, q *Request) { arrived <- q }), Settings{PeerRequests: limit}, ServerOptions{})
		c := r.dial(t, Settings{})
		replies := make(chan error, n)
		for range n {
			must(t, c.Send(1, func(_ uint16, _ []byte, err error) { replies <- err }))
		}
		var held []*Request
		for range min(limit, n) {
			held = append(held, <-arrived)
		}
		if limit < n {
			for sc := r.only(t); !sc.paused.Load(); {
				runtime.Gosched()
			}
			if len(arrived) != 0 {
				t.Errorf("limit %d: more requests are in flight", limit)
			}
		}
		for range n {
			q := held[0]
			held = held[1:]
			q.Reply(StatusOK)
			q.Release()
			must(t, <-replies)
			select {
			case q := <-arrived:
				held = append(held, q)
			default:
				if len(held) == 0 && len(replies) == 0 && c.busy() > 0 {
					held = append(held, <-arrived)
				}
			}
		}
	}
}

func (c *Conn) busy() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outstanding
}

// TestGate: large requests leave a quarter of the bytes to small ones, and who waits is told.
func TestGate(t *testing.T) {
	g := newGate(100, 1<<20)
	in := func(cost int64) bool { return g.try(cost) == nil }
	if !in(400<<10) || !in(300<<10) || in(200<<10) {
		t.Error("large requests took more than three quarters, or less")
	}
	for range 5 {
		if !in(60 << 10) {
			t.Error("a small request found no room")
		}
	}
	if in(60 << 10) {
		t.Error("the limit was passed")
	}
	wait := g.try(60 << 10)
	g.leave(60 << 10)
	<-wait
	in(60 << 10)
	for range 5 {
		g.leave(60 << 10)
	}
	g.leave(400 << 10)
	g.leave(300 << 10)
	if !g.empty() || !in(5<<20) {
		t.Error("a request above the whole limit must pass alone")
	}
}

// TestConnLimits: connections above the limits of a node and of the server are refused.
func TestConnLimits(t *testing.T) {
	r := newRig(t, echo, Settings{MaxConnsPerPeer: 2, MaxConns: 4}, ServerOptions{})
	for range 2 {
		r.dial(t, Settings{})
	}
	p := r.rawDial(t)
	b := still.WithDefaults().hello().encode()
	p.frame(header{typ: typeHello, body: uint32(len(b))}, b)
	wantErr(t, r.rej.next(), ErrLimit)
	for range 2 {
		_, err := r.tryDial(t, testCreds(t, r.ca, "other", CredentialOptions{}), Settings{})
		must(t, err)
	}
	raw, err := net.Dial("tcp", r.addr)
	must(t, err)
	defer raw.Close()
	wantErr(t, r.rej.next(), ErrLimit)
}

// TestShutdown: what is being served is answered, then the connection ends. Control: Close does not wait for it.
func TestShutdown(t *testing.T) {
	for _, graceful := range []bool{true, false} {
		arrived := make(chan *Request, 1)
		r := newRig(t, handlerFunc(func(_ Identity, q *Request) { arrived <- q }), Settings{}, ServerOptions{})
		c := r.dial(t, Settings{})
		errs, down := make(chan error, 1), make(chan error, 1)
		must(t, c.Send(1, func(_ uint16, _ []byte, err error) { errs <- err }, []byte("x")))
		q := <-arrived
		if graceful {
			go func() { down <- r.srv.Shutdown(context.Background()) }()
			for sc := r.only(t); !sc.draining.Load(); {
				runtime.Gosched()
			}
		} else {
			r.srv.Close()
		}
		q.Reply(StatusOK, make([]byte, 1<<20))
		q.Release()
		if err := <-errs; graceful != (err == nil) {
			t.Errorf("graceful %v: %v", graceful, err)
		}
		if graceful {
			must(t, <-down)
		}
		<-c.Done()
		wantErr(t, c.Err(), ErrLost)
	}
}
