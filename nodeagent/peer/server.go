package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

// Handler handles the requests of other nodes.
type Handler interface {
	// Serve is called in order of arrival on one connection, from that connection's reader goroutine; it must not block
	// long. It, or what it hands the request to, calls Reply once and Release once, in any order, from any goroutine.
	Serve(from Identity, req *Request)
}

// Identity is who is at the other end of a connection.
type Identity = identity.Identity

// Grants keeps what the connected nodes may do.
type Grants interface {
	// Install judges a grant that a node presents, and remembers it.
	Install(from Identity, encoded []byte) error
	// Forget drops the grants of a node; its last connection has ended.
	Forget(node string)
}

// Request is a request of another node. It must not be used after both Reply and Release were called.
type Request struct {
	Type   uint8
	ID     uint64
	Expect int    // about how many bytes the asking side expects in the reply; 0 if it did not say
	Body   []byte // valid until Release

	meta  int
	buf   *buffer
	conn  *serverConn
	cost  int64
	state atomic.Uint32
	uses  atomic.Int32 // of Body
}

// acceptPause is the wait after accepting failed.
const acceptPause = 50 * time.Millisecond

const (
	stateReplied  = 1
	stateReleased = 2
)

// Meta is the first part of the body, as the asking side divided it.
func (r *Request) Meta() []byte { return r.Body[:r.meta:r.meta] }

// Payload is the body after the meta.
func (r *Request) Payload() []byte { return r.Body[r.meta:] }

// Reply queues the reply. The parts are copied and may lie in Body. It never blocks, and does nothing if the connection has ended.
func (r *Request) Reply(status uint16, parts ...[]byte) {
	if r.state.Load()&stateReplied != 0 {
		panic("peer: second reply to a request")
	}
	r.conn.reply(r, status, parts)
	r.finish(stateReplied)
}

// More tells whether more of what the node sends on this connection is here already. Not after Reply.
func (r *Request) More() bool { return r.conn.raw.unread() > 0 }

// Hold begins another use of Body, by somebody who calls Release as well; the caller has one.
func (r *Request) Hold() {
	if r.uses.Add(1) < 2 {
		panic("peer: a request is held that was released")
	}
}

// Release ends a use of Body. Each request begins with one, of the Handler.
func (r *Request) Release() {
	switch n := r.uses.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("peer: a request is released twice")
	}
	r.buf.free()
	r.buf, r.Body = nil, nil
	r.finish(stateReleased)
}

func (r *Request) finish(bit uint32) {
	if r.state.Or(bit)|bit != stateReplied|stateReleased {
		return
	}
	c := r.conn
	c.gate.leave(r.cost)
	r.conn = nil
	r.state.Store(0)
	c.s.requests.Put(r)
}

// Server accepts connections of other nodes.
type Server struct {
	creds    *identity.Credentials
	set      Settings
	h        Handler
	grants   Grants
	rejected func(remote net.Addr, err error)
	ended    func(from Identity, err error)
	bufs     buffers
	requests sync.Pool

	quit   chan struct{} // closed with closed
	mu     sync.Mutex
	closed bool
	nets   map[net.Listener]struct{}
	conns  map[*serverConn]struct{}
	gates  map[string]*gate // by node, while it has connections
	count  int              // connections, those in the handshake included
	wg     sync.WaitGroup
}

// ServerOptions are what a Server may be given beside its settings.
type ServerOptions struct {
	// Grants takes the grants that peers present; nil refuses them all.
	Grants Grants
	// Rejected is told of each connection that was refused, for the log. It must not block.
	Rejected func(remote net.Addr, err error)
	// Ended is told of the end of each connection that was served, and why: io.EOF when the other side closed it. It must not block.
	Ended func(from Identity, err error)
}

// NewServer makes a server.
func NewServer(creds *identity.Credentials, h Handler, set Settings, opt ServerOptions) (*Server, error) {
	set = set.WithDefaults()
	if err := set.Validate(); err != nil {
		return nil, err
	}
	s := &Server{creds: creds, set: set, h: h, grants: opt.Grants, rejected: opt.Rejected, ended: opt.Ended, quit: make(chan struct{}),
		nets: map[net.Listener]struct{}{}, conns: map[*serverConn]struct{}{}, gates: map[string]*gate{}}
	s.requests.New = func() any { return new(Request) }
	if s.rejected == nil {
		s.rejected = func(net.Addr, error) {}
	}
	if s.ended == nil {
		s.ended = func(Identity, error) {}
	}
	return s, nil
}

// Listen listens on a TCP address and serves it in the background until Close; it gives the address.
func (s *Server) Listen(addr string) (net.Addr, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("peer server: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		l.Close()
		return nil, ErrClosed
	}
	s.nets[l] = struct{}{}
	s.wg.Go(func() { s.accept(l) })
	return l.Addr(), nil
}

func (s *Server) accept(l net.Listener) {
	for {
		raw, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.rejected(l.Addr(), err)
			select { // most likely there are no descriptors left
			case <-time.After(acceptPause):
			case <-s.quit:
			}
			continue
		}
		s.mu.Lock()
		ok := !s.closed && s.count < s.set.MaxConns
		if ok {
			s.count++
			s.wg.Go(func() { s.serve(raw) })
		}
		s.mu.Unlock()
		if !ok {
			raw.Close()
			s.rejected(raw.RemoteAddr(), ErrLimit)
		}
	}
}

// serve runs one connection to its end.
func (s *Server) serve(raw net.Conn) {
	c := &serverConn{s: s}
	c.init(raw, s.set, &s.bufs, func(raw net.Conn) *tls.Conn { return tls.Server(raw, s.creds.ServerConfig(&c.remote)) })
	s.mu.Lock()
	s.conns[c] = struct{}{}
	if s.closed {
		raw.Close()
	}
	s.mu.Unlock()
	err := c.greet(context.Background())
	if err == nil {
		err = s.join(c)
	}
	if err != nil {
		c.fail(err)
		s.leave(c)
		s.rejected(raw.RemoteAddr(), err)
		return
	}
	err = c.run()
	s.leave(c)
	s.ended(c.remote, err)
}

// join counts a connection among those of its node.
func (s *Server) join(c *serverConn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	g := s.gates[c.remote.Node]
	if g == nil {
		g = newGate(s.set.PeerRequests, s.set.PeerBytes)
		s.gates[c.remote.Node] = g
	}
	if g.conns >= s.set.MaxConnsPerPeer {
		return &ConnError{Node: c.remote.Node, Op: "accept", Err: ErrLimit}
	}
	g.conns++
	c.gate = g
	return nil
}

func (s *Server) leave(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count--
	delete(s.conns, c)
	if c.gate == nil {
		return
	}
	if c.gate.conns--; c.gate.conns > 0 {
		return
	}
	if c.gate.empty() { // else it stays, so that a new connection does not get new limits
		delete(s.gates, c.remote.Node)
	}
	if s.grants != nil {
		s.grants.Forget(c.remote.Node)
	}
}

// Disconnect ends the connections of the nodes that which names.
func (s *Server) Disconnect(which func(Identity) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.gate != nil && which(c.remote) {
			c.fail(ErrClosed)
		}
	}
}

// Shutdown stops accepting and serving, answers the requests that are being served, and ends the connections; when
// the context ends first, at once. It returns when all goroutines have ended.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.quit)
	}
	for l := range s.nets {
		l.Close()
	}
	var drains sync.WaitGroup
	for c := range s.conns {
		c.draining.Store(true)
		if c.gate == nil { // still in the handshake
			c.raw.Close()
			continue
		}
		drains.Go(func() { c.drain(ctx) })
	}
	s.mu.Unlock()
	drains.Wait()
	s.wg.Wait()
	return ctx.Err()
}

// Close ends all connections at once and waits for all goroutines.
func (s *Server) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.Shutdown(ctx)
	return nil
}
