package nbd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/socket"
)

// Options of a server.
type Options struct {
	Socket string // path of the socket; its directory is made with mode 0700
	Name   string // of the export, at most 4096 bytes; clients may also leave it empty
}

// Server serves one volume.
type Server struct {
	opt  Options
	back export.Backend
	ln   net.Listener

	// unaligned keeps a read-change-write apart from all other changes, which take it for reading.
	unaligned sync.RWMutex

	work chan *job
	pool [len(classes)]sync.Pool
	quit chan struct{} // closed when Close begins
	done chan struct{}
	err  error // set before done is closed

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
	wg     sync.WaitGroup
}

var _ export.Device = (*Server)(nil)

// classes are the sizes of buffers for requests that leave the reader, in bytes.
var classes = [...]int{64 << 10, 1 << 20, 8 << 20, maxRequest + 2*export.BlockSize}

// Serve begins to serve b. Errors: export.ErrSize and those of socket.Listen.
func Serve(b export.Backend, o Options) (*Server, error) {
	if err := export.CheckSize(b.Size()); err != nil {
		return nil, err
	}
	if len(o.Name) > maxName {
		return nil, fmt.Errorf("%w: an export's name of %d bytes", ErrProtocol, len(o.Name))
	}
	ln, err := socket.Listen(o.Socket)
	if err != nil {
		return nil, err
	}
	s := newServer(b, o)
	s.ln = ln
	s.back.Resent()
	go s.accept()
	return s, nil
}

func newServer(b export.Backend, o Options) *Server {
	return &Server{
		opt: o, back: b, work: make(chan *job), quit: make(chan struct{}), done: make(chan struct{}),
		conns: map[net.Conn]struct{}{},
	}
}

func (s *Server) accept() {
	var err error
	for err == nil {
		var c net.Conn
		if c, err = s.ln.Accept(); err == nil {
			s.admit(c)
		}
	}
	s.stop()
	s.wg.Wait()
	if !errors.Is(err, net.ErrClosed) {
		s.err = fmt.Errorf("accept: %w", err)
	}
	close(s.done)
}

func (s *Server) admit(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u, ok := c.(*net.UnixConn); s.closed || ok && socket.CheckPeer(u, uint32(os.Geteuid())) != nil {
		_ = c.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.wg.Go(func() {
		_ = s.serveConn(c) // a client's fault is the client's: it sees its connection end
		_ = c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	})
}

// serveConn serves one client until it leaves or does wrong.
func (s *Server) serveConn(c net.Conn) error {
	g := &negotiation{rw: c, name: s.opt.Name, back: s.back}
	ok, err := g.run()
	if !ok || err != nil {
		return err
	}
	x := newConn(s, c, g)
	_, _ = rand.Read(x.id[:]) // never fails
	return x.transmit()
}

func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	close(s.quit)
	_ = s.ln.Close()
	for c := range s.conns {
		_ = c.Close()
	}
}

// Path is the socket's.
func (s *Server) Path() string { return s.opt.Socket }

// Done is closed when no client is served any more.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is why the server ended by itself.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Resize lets clients use a grown volume. The protocol has no way to tell those that are connected: they see the new size when they
// connect again.
func (s *Server) Resize(_ context.Context, newSize int64) error {
	if err := export.CheckSize(newSize); err != nil {
		return err
	}
	switch have := s.back.Size(); {
	case newSize < have:
		return fmt.Errorf("%w: from %d to %d", export.ErrShrink, have, newSize)
	case newSize > have:
		return fmt.Errorf("%w: the volume has %d bytes, not %d", export.ErrSize, have, newSize)
	}
	return nil
}

// Close ends all connections and waits until their requests have left the backend, or ctx ends.
func (s *Server) Close(ctx context.Context) error {
	s.stop()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the NBD server: %w", ctx.Err())
	}
}
