package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

// Callback gets the reply to a request, or why there is none: then err wraps ErrLost or ErrClosed and the outcome is unknown. It runs on the
// connection's reader goroutine, once, and must not block; body belongs to the connection again when it returns.
type Callback func(status uint16, body []byte, err error)

// Sink takes the replies to many requests, as a Callback takes one.
type Sink interface {
	// Answer is a Callback.
	Answer(status uint16, body []byte, err error)
	// Settle follows one or several calls of Answer, on the same goroutine, before it waits for more.
	Settle()
}

// Response is the reply that Call waited for. Release gives its body back; the body must not be used afterwards.
type Response struct {
	Status uint16
	Body   []byte
	buf    *buffer
}

// Release ends the use of the body.
func (r *Response) Release() {
	r.buf.free()
	r.buf, r.Body = nil, nil
}

// Conn is a connection to a node, over which requests go out. Requests are handled there in the order in which Send and Call
// queued them; replies come in any order. Safe for concurrent use.
type Conn struct {
	link
	health *Health // nil: nobody observes
	ended  func()  // runs once when all outstanding requests have failed

	// Guarded by link.mu.
	slots       []slot
	free        []uint32
	outstanding int
	seats       chan struct{} // closed when a slot is free again; nil if nobody waits
	pinging     bool

	waiters   sync.Pool
	unsettled Sink // it has got answers; of the reader alone
}

// slot is an outstanding request; its index and generation make the request id.
type slot struct {
	gen    uint32
	busy   bool
	asked  time.Time
	length int // bytes of the request
	receiver
}

// receiver is who gets the reply: one of the three.
type receiver struct {
	cb   Callback
	sink Sink
	wait *waiter
}

type waiter struct {
	resp Response
	err  error
	done chan struct{} // capacity 1
}

// Dialer makes connections with one node's credentials. Its pools of buffers are shared by its connections.
type Dialer struct {
	creds *identity.Credentials
	set   Settings
	bufs  *buffers
}

// NewDialer makes a dialer.
func NewDialer(creds *identity.Credentials, set Settings) (*Dialer, error) {
	set = set.WithDefaults()
	if err := set.Validate(); err != nil {
		return nil, err
	}
	return &Dialer{creds: creds, set: set, bufs: new(buffers)}, nil
}

// Dial connects to a TCP address and requires the named node there. The context bounds dialing only.
func (d *Dialer) Dial(ctx context.Context, node, addr string) (*Conn, error) {
	return d.dial(ctx, node, addr, nil, func() {})
}

func (d *Dialer) dial(ctx context.Context, node, addr string, health *Health, ended func()) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.set.DialTimeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			err = errors.Join(ErrTimeout, err)
		}
		return nil, &ConnError{Node: node, Op: "dial", Err: err}
	}
	c := &Conn{health: health, ended: ended}
	c.waiters.New = func() any { return &waiter{done: make(chan struct{}, 1)} }
	c.init(raw, d.set, d.bufs, func(raw net.Conn) *tls.Conn { return tls.Client(raw, d.creds.ClientConfig(node, &c.remote)) })
	if err := c.greet(ctx); err != nil {
		return nil, &ConnError{Node: node, Op: "dial", Err: err}
	}
	id := c.remote
	c.recheck = func() error { return d.creds.Welcome(id) }
	c.start(c.tick)
	c.raw.beforeRead = func() {
		c.settle()
		c.uncork()
	}
	c.workers.Go(c.readLoop)
	return c, nil
}

// Remote is the verified identity of the other side.
func (c *Conn) Remote() Identity { return c.remote }

// Capabilities are the bits that both sides have.
func (c *Conn) Capabilities() uint64 { return c.caps }

// Err is why the connection has ended, nil while it has not.
func (c *Conn) Err() error { return c.reason() }

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Close ends the connection; outstanding requests fail with ErrClosed. It waits for the connection's goroutines, so it must not be
// called from a Callback.
func (c *Conn) Close() error {
	c.fail(ErrClosed)
	c.workers.Wait()
	return nil
}

// Send queues a request and returns. The parts are copied; the first one is the meta. It does not block: ErrBusy says that nothing was sent
// because the queue or the table of outstanding requests is full. When it returns nil, cb runs once.
func (c *Conn) Send(typ uint8, cb Callback, parts ...[]byte) error {
	return c.submit(typ, 0, receiver{cb: cb}, parts, nil)
}

// SendExpect is Send for a request whose reply will have about expect bytes, so that the other side can count it
// against this node's limits. Use it for what reads more than a few KiB.
func (c *Conn) SendExpect(typ uint8, expect int, cb Callback, parts ...[]byte) error {
	return c.submit(typ, expect, receiver{cb: cb}, parts, nil)
}

// SendShared is SendExpect for a request whose body ends in s, which is not copied: it is held until it was sent, or the connection has
// ended. It is not held when an error is returned. nil is nothing.
func (c *Conn) SendShared(typ uint8, expect int, cb Callback, s *Shared, parts ...[]byte) error {
	return c.submit(typ, expect, receiver{cb: cb}, parts, s)
}

// SendTo is SendShared for one whose reply goes to a sink.
func (c *Conn) SendTo(typ uint8, to Sink, s *Shared, parts ...[]byte) error {
	return c.submit(typ, 0, receiver{sink: to}, parts, s)
}

// SendToWait is SendTo, but waits for room until the context ends.
func (c *Conn) SendToWait(ctx context.Context, typ uint8, to Sink, s *Shared, parts ...[]byte) error {
	return c.submitWait(ctx, typ, 0, receiver{sink: to}, parts, s)
}

// SendWait is SendExpect, but waits for room until the context ends.
func (c *Conn) SendWait(ctx context.Context, typ uint8, expect int, cb Callback, parts ...[]byte) error {
	return c.submitWait(ctx, typ, expect, receiver{cb: cb}, parts, nil)
}

// SendSharedWait is SendShared, but waits for room until the context ends.
func (c *Conn) SendSharedWait(ctx context.Context, typ uint8, expect int, cb Callback, s *Shared, parts ...[]byte) error {
	return c.submitWait(ctx, typ, expect, receiver{cb: cb}, parts, s)
}

// Call sends a request, waits for room and for the reply. When the context ends first, the reply is dropped when it comes.
func (c *Conn) Call(ctx context.Context, typ uint8, parts ...[]byte) (Response, error) {
	return c.CallExpect(ctx, typ, 0, parts...)
}

// CallExpect is Call for a reply of about expect bytes; see SendExpect.
func (c *Conn) CallExpect(ctx context.Context, typ uint8, expect int, parts ...[]byte) (Response, error) {
	w := c.waiters.Get().(*waiter)
	if err := c.submitWait(ctx, typ, expect, receiver{wait: w}, parts, nil); err != nil {
		c.waiters.Put(w)
		return Response{}, err
	}
	select {
	case <-w.done:
	case <-ctx.Done():
		go func() { // rare: the waiter is still owned by the reader
			<-w.done
			w.resp.Release()
		}()
		return Response{}, ctx.Err()
	}
	resp, err := w.resp, w.err
	w.resp, w.err = Response{}, nil
	c.waiters.Put(w)
	return resp, err
}

// InstallGrant presents an encoded grant, for all connections between the two nodes.
func (c *Conn) InstallGrant(ctx context.Context, grant []byte) error {
	resp, err := c.Call(ctx, typeGrant, grant)
	if err != nil {
		return err
	}
	defer resp.Release()
	if resp.Status != StatusOK {
		return fmt.Errorf("node %s: %w: %s", c.remote.Node, ErrGrantRefused, resp.Body)
	}
	return nil
}

func (c *Conn) submitWait(ctx context.Context, typ uint8, expect int, to receiver, parts [][]byte, s *Shared) error {
	for {
		err := c.submit(typ, expect, to, parts, s)
		if !errors.Is(err, ErrBusy) {
			return err
		}
		c.mu.Lock()
		var ch chan struct{}
		switch {
		case c.err != nil:
		case c.outstanding >= c.set.MaxOutstanding:
			if c.seats == nil {
				c.seats = make(chan struct{})
			}
			ch = c.seats
		case c.queued > 0:
			if c.room == nil {
				c.room = make(chan struct{})
			}
			ch = c.room
		}
		c.mu.Unlock()
		if ch == nil {
			continue
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.done:
		}
	}
}

func (c *Conn) submit(typ uint8, expect int, to receiver, parts [][]byte, s *Shared) error {
	n, err := c.total(parts, s)
	if err != nil {
		return err
	}
	c.mu.Lock()
	switch {
	case c.err != nil:
		err = c.err
	case c.outstanding >= c.set.MaxOutstanding, c.queued > 0 && c.queued+n > c.set.MaxQueue:
		err = ErrBusy
	}
	if err != nil {
		c.mu.Unlock()
		return err
	}
	h := header{typ: typ, body: uint32(n), expect: uint32(expect), id: c.seat(to, n)}
	c.push(&h, parts, s)
	c.kick(c.outstanding == 1)
	return nil
}

// seat takes a slot and gives the request id. The caller holds mu.
func (c *Conn) seat(to receiver, length int) uint64 {
	if len(c.free) == 0 {
		c.free = append(c.free, uint32(len(c.slots)))
		c.slots = append(c.slots, slot{})
	}
	i := c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	s := &c.slots[i]
	*s = slot{gen: s.gen + 1, busy: true, receiver: to, asked: time.Now(), length: length}
	c.outstanding++
	return uint64(s.gen)<<32 | uint64(i)
}

// leave frees the slot of a request id, and gives what was in it.
func (c *Conn) leave(id uint64) (slot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := uint32(id)
	if int(i) >= len(c.slots) || !c.slots[i].busy || c.slots[i].gen != uint32(id>>32) {
		return slot{}, fmt.Errorf("%w: reply to request %#x that is not outstanding", ErrFrame, id)
	}
	s := c.slots[i]
	c.slots[i] = slot{gen: s.gen}
	c.free = append(c.free, i)
	c.outstanding--
	if c.seats != nil {
		close(c.seats)
		c.seats = nil
	}
	return s, nil
}

func (c *Conn) readLoop() {
	var h header
	for {
		buf, err := c.readFrame(&h, uint32(c.set.MaxBody), nil)
		if err == nil && h.flags&flagResponse == 0 {
			buf.free()
			err = fmt.Errorf("%w: a request on a connection that serves none", ErrFrame)
		}
		var s slot
		if err == nil {
			if s, err = c.leave(h.id); err != nil {
				buf.free()
			}
		}
		if err != nil {
			c.fail(errors.Join(ErrLost, err))
			break
		}
		c.cork()
		c.deliver(&s, &h, buf)
	}
	c.abandon()
}

func (c *Conn) deliver(s *slot, h *header, buf *buffer) {
	if c.health != nil {
		c.health.observe(time.Since(s.asked), s.length+len(buf.b))
	}
	if s.wait != nil {
		s.wait.resp = Response{Status: h.status, Body: buf.b, buf: buf}
		s.wait.done <- struct{}{}
		return
	}
	c.pass(&s.receiver, h.status, buf.b, nil)
	buf.free()
}

// pass hands a reply on. Only the reader calls it.
func (c *Conn) pass(to *receiver, status uint16, body []byte, err error) {
	if to.sink != c.unsettled {
		c.settle()
	}
	switch {
	case to.sink != nil:
		c.unsettled = to.sink
		to.sink.Answer(status, body, err)
	case to.cb != nil:
		to.cb(status, body, err)
	}
}

// settle ends a run of answers to one sink.
func (c *Conn) settle() {
	if s := c.unsettled; s != nil {
		c.unsettled = nil
		s.Settle()
	}
}

// abandon fails all outstanding requests. The link has failed, so no new ones come.
func (c *Conn) abandon() {
	c.mu.Lock()
	slots, err := c.slots, c.err
	c.slots, c.outstanding = nil, 0
	if c.seats != nil {
		close(c.seats)
		c.seats = nil
	}
	c.mu.Unlock()
	for i := range slots {
		s := &slots[i]
		switch {
		case !s.busy:
		case s.wait != nil:
			s.wait.err = err
			s.wait.done <- struct{}{}
		default:
			c.pass(&s.receiver, 0, nil, err)
		}
	}
	c.settle()
	c.ended()
}

// tick runs every ping interval.
func (c *Conn) tick() {
	c.watch()
	c.mu.Lock()
	skip := c.pinging || c.err != nil
	c.pinging = c.pinging || !skip
	c.mu.Unlock()
	if skip {
		return
	}
	err := c.submit(typePing, 0, receiver{cb: func(uint16, []byte, error) {
		c.mu.Lock()
		c.pinging = false
		c.mu.Unlock()
	}}, nil, nil)
	if err != nil { // the queue is full: there is traffic enough
		c.mu.Lock()
		c.pinging = false
		c.mu.Unlock()
	}
}
