package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

const (
	maxControl = 4 << 10  // bytes of a control frame's body
	largeCost  = 64 << 10 // bytes; a request that costs more leaves a quarter of its node's bytes to small ones
)

// gate bounds what one node has in flight at this server, over all its connections.
type gate struct {
	maxRequests int
	maxBytes    int64
	conns       int // guarded by Server.mu

	mu       sync.Mutex
	requests int
	bytes    int64
	changed  chan struct{} // closed when something left; nil if nobody waits
}

func newGate(requests int, bytes int64) *gate { return &gate{maxRequests: requests, maxBytes: bytes} }

// try counts a request in if there is room; else it gives a channel that closes when there may be.
func (g *gate) try(cost int64) (wait <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	limit := g.maxBytes
	if cost > largeCost {
		limit -= limit / 4
	}
	if g.requests >= g.maxRequests || g.bytes > 0 && g.bytes+cost > limit {
		if g.changed == nil {
			g.changed = make(chan struct{})
		}
		return g.changed
	}
	g.requests++
	g.bytes += cost
	return nil
}

func (g *gate) leave(cost int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests--
	g.bytes -= cost
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

func (g *gate) empty() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.requests == 0
}

// serverConn is a connection over which requests come in.
type serverConn struct {
	link
	s        *Server
	gate     *gate
	draining atomic.Bool
	cost     int64 // of the frame being read; of the reader alone, as note
	note     note
}

// run serves the connection until it ends, and gives the reason.
func (c *serverConn) run() error {
	id := c.remote
	c.recheck = func() error { return c.s.creds.Welcome(id) }
	c.start(c.watch)
	err := c.readLoop()
	c.fail(err)
	c.workers.Wait()
	if why := c.reason(); why != nil {
		err = why
	}
	return err
}

func (c *serverConn) readLoop() error {
	var h header
	for {
		c.cost = 0
		buf, err := c.readFrame(&h, uint32(c.set.MaxBody), c.admit)
		if err != nil {
			if c.cost > 0 {
				c.gate.leave(c.cost)
			}
			return &ConnError{Node: c.remote.Node, Op: "read from", Err: err}
		}
		if h.typ >= TypeReserved {
			c.cork()
			c.control(&h, buf)
			buf.free()
			continue
		}
		if c.draining.Load() {
			buf.free()
			c.gate.leave(c.cost)
			continue
		}
		r := c.s.requests.Get().(*Request)
		r.Type, r.ID, r.Expect, r.meta = h.typ, h.id, int(h.expect), int(h.meta)
		r.Body, r.buf, r.conn, r.cost = buf.b, buf, c, c.cost
		r.uses.Store(1)
		c.cork()
		c.mu.Lock()
		c.serving++
		c.mu.Unlock()
		c.s.h.Serve(c.remote, r)
	}
}

// admit refuses frames that break the rules, and holds the reader back while the node is above a limit.
func (c *serverConn) admit(h *header) error {
	if h.flags&flagResponse != 0 {
		return fmt.Errorf("%w: a response on a connection that asks nothing", ErrFrame)
	}
	if h.typ >= TypeReserved {
		if h.body > maxControl {
			return fmt.Errorf("%w: control frame with %d bytes", ErrFrame, h.body)
		}
		return nil
	}
	cost := int64(h.body) + int64(min(h.expect, uint32(c.set.MaxBody))) + headerSize
	for {
		wait := c.gate.try(cost)
		if wait == nil {
			break
		}
		if err := c.hold(wait); err != nil {
			return err
		}
	}
	c.cost = cost
	for {
		c.mu.Lock()
		if c.queued <= c.set.MaxQueue {
			c.mu.Unlock()
			return nil
		}
		if c.room == nil {
			c.room = make(chan struct{})
		}
		room := c.room
		c.mu.Unlock()
		if err := c.hold(room); err != nil {
			return err
		}
	}
}

// hold makes the reader wait for room. It gives the reason when the connection ends first.
func (c *serverConn) hold(room <-chan struct{}) error {
	c.uncork()
	c.paused.Store(true)
	defer c.paused.Store(false)
	select {
	case <-room:
		return nil
	case <-c.done:
		return c.reason()
	}
}

func (c *serverConn) reply(r *Request, status uint16, parts [][]byte) {
	n, err := c.total(parts, nil)
	if err != nil {
		status, parts, n = StatusTooLarge, nil, 0
	}
	c.mu.Lock()
	c.serving--
	c.respond(r.Type, r.ID, status, n, parts)
}

// respond queues a response. The caller holds mu, which it releases.
func (c *serverConn) respond(typ uint8, id uint64, status uint16, n int, parts [][]byte) {
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	if c.queued > hardQueue*c.set.MaxQueue {
		c.mu.Unlock()
		c.fail(ErrSlowReader)
		return
	}
	h := header{typ: typ, flags: flagResponse, status: status, id: id, body: uint32(n)}
	c.push(&h, parts, nil)
	c.kick(c.serving == 0)
}

// control answers a frame that is peer's own.
func (c *serverConn) control(h *header, buf *buffer) {
	status, reason := StatusOK, ""
	switch h.typ {
	case typePing:
	case typeGrant:
		err := error(errors.New("this node takes no grants"))
		if c.s.grants != nil {
			err = c.s.grants.Install(c.remote, buf.b)
		}
		if err != nil {
			status, reason = StatusBadGrant, err.Error()
		}
	default:
		status = StatusUnknownType
	}
	c.mu.Lock()
	c.respond(h.typ, h.id, status, len(reason), [][]byte{[]byte(reason)})
}

// drain waits for the replies of what is being served, then says that no more will come: the other side ends the connection.
func (c *serverConn) drain(ctx context.Context) {
	select {
	case <-c.whenQuiet():
		if half, ok := c.raw.Conn.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
	case <-c.done:
	case <-ctx.Done():
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		c.fail(ErrClosed)
	}
}
