package mounter

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/export/socket"
)

// maxSessions is how many clients are served at once; others wait.
const maxSessions = 64

// helloTime is how long a client may take to say what it wants.
const helloTime = 10 * time.Second

// ServerOptions are what a Server works with.
type ServerOptions struct {
	Mounter  *Local
	Listener *net.UnixListener // from socket.ListenFor; the server closes it
	User     uint32            // who is served, beside this process's own user
}

// Server mounts for others. Make one with NewServer.
type Server struct {
	opt     ServerOptions
	freezer *Freezer
	turn    chan struct{}
	wg      sync.WaitGroup

	mu   sync.Mutex
	open map[*net.UnixConn]struct{} // nil: the server has ended
}

// NewServer makes a server, and removes what devices have left that ended without one.
func NewServer(o ServerOptions) (*Server, error) {
	root, err := o.Mounter.root()
	if err == nil {
		err = o.Mounter.tidy(root)
	}
	if err != nil {
		return nil, err
	}
	f, err := NewFreezer(o.Mounter)
	if err != nil {
		return nil, err
	}
	return &Server{opt: o, freezer: f, turn: make(chan struct{}, maxSessions), open: map[*net.UnixConn]struct{}{}}, nil
}

// Serve serves until ctx ends, and waits for the calls that are under way. Devices go on without it.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, s.shut)
	defer stop()
	for {
		c, err := s.opt.Listener.AcceptUnix()
		if err != nil {
			cancel()
			s.shut()
			s.wg.Wait()
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("accept: %w", err)
		}
		s.turn <- struct{}{}
		s.wg.Go(func() {
			defer func() { <-s.turn }()
			defer c.Close()
			if s.enter(c) {
				defer s.leave(c)
				s.session(ctx, c)
			}
		})
	}
}

func (s *Server) shut() {
	_ = s.opt.Listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // who has asked gets an answer
	}
	s.open = nil
}

func (s *Server) enter(c *net.UnixConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil || socket.CheckPeer(c, uint32(os.Geteuid()), s.opt.User) != nil {
		return false
	}
	s.open[c] = struct{}{}
	return c.SetReadDeadline(time.Now().Add(helloTime)) == nil
}

func (s *Server) leave(c *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// session serves a hello and one request.
func (s *Server) session(ctx context.Context, c *net.UnixConn) {
	for _, hello := range []bool{true, false} {
		t, body, fds, err := socket.Receive(c, maxFrame, 0)
		socket.CloseAll(fds)
		if err == nil && (t == tHello) != hello {
			err = fmt.Errorf("%w: a frame of type %d", ErrProtocol, t)
		}
		answer := frame{t: tOK}
		if err == nil && hello {
			answer.body, err = greet(body)
			answer.t = tHi
		} else if err == nil {
			answer, err = s.handle(ctx, t, body)
		}
		if err != nil {
			answer = frame{t: tError, body: appendError(nil, err)}
		}
		_ = c.SetWriteDeadline(time.Now().Add(helloTime))
		werr := socket.Send(c, answer.t, answer.body, answer.fds)
		socket.CloseAll(answer.fds)
		if err != nil || werr != nil {
			return
		}
	}
}

// frame is an answer. Its descriptors are closed when it is sent.
type frame struct {
	t    uint8
	body []byte
	fds  []int
}

func greet(body []byte) ([]byte, error) {
	if len(body) != 4 {
		return nil, fmt.Errorf("%w: short hello", ErrProtocol)
	}
	lo, hi := binary.LittleEndian.Uint16(body), binary.LittleEndian.Uint16(body[2:])
	v := min(hi, MaxVersion)
	if v < lo || v < MinVersion {
		return nil, fmt.Errorf("%w: it speaks %d to %d, the client %d to %d", ErrVersion, MinVersion, MaxVersion, lo, hi)
	}
	return binary.LittleEndian.AppendUint16(nil, v), nil
}

func (s *Server) handle(ctx context.Context, t uint8, body []byte) (out frame, err error) {
	m := s.opt.Mounter
	if t == tList {
		list, err := m.List(ctx)
		return frame{t: tFound, body: appendFound(nil, list)}, err
	}
	name, patience, err := parseTarget(body)
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience) // a call that is under way ends as it would
	defer cancel()
	out.t = tOK
	switch t {
	case tMount:
		var got Mount
		if got, err = m.Mount(ctx, name); err == nil {
			out = frame{t: tMounted, body: binary.LittleEndian.AppendUint32(nil, got.Conn), fds: []int{got.FD}}
		}
	case tBind:
		var path string
		path, err = m.Bind(ctx, name)
		out = frame{t: tBound, body: []byte(path)}
	case tResize:
		var size int64
		size, err = m.Resize(ctx, name)
		out = frame{t: tSize, body: binary.LittleEndian.AppendUint64(nil, uint64(size))}
	case tUnbind:
		err = m.Unbind(ctx, name)
	case tUnmount:
		err = m.Unmount(ctx, name)
	case tAbort:
		err = m.Abort(ctx, name)
	case tDiscard:
		err = m.Discard(ctx, name)
	case tFreeze, tThaw:
		return s.freeze(ctx, t, name)
	default:
		err = fmt.Errorf("%w: a frame of type %d", ErrProtocol, t)
	}
	return out, err
}

func (s *Server) freeze(ctx context.Context, t uint8, name string) (frame, error) {
	do := s.freezer.Freeze
	if t == tThaw {
		do = s.freezer.Thaw
	}
	is, err := do(ctx, name)
	out := frame{t: tFrozen, body: []byte{0}}
	if is {
		out.body[0] = 1
	}
	return out, err
}
