package holder

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export/socket"
)

// Defaults of Options.
const (
	DefaultPatience = 5 * time.Minute

	ticksPerPatience = 20 // so an entry is ended at most 5 % late
)

// Options of a holder.
type Options struct {
	// Socket is the path of the holder's socket. Its directory is made with mode 0700.
	Socket string
	// Patience is how long a device may be without a server before it is ended. Default: DefaultPatience.
	Patience time.Duration
	// Ticks replaces the clock: an entry is ended after 20 ticks without an owner. Nil: the system's clock.
	Ticks <-chan time.Time
	// End ends what of a device is not ended by closing its descriptors. It is given the entry's meta. Nil: there is no such device.
	End func(meta []byte) error
	// Ended is told, if not nil, when the watchdog has ended an entry; aborting its FUSE connection may have failed.
	Ended func(name string, err error)
}

type entry struct {
	Entry
	owner *session // nil: nobody
	idle  int      // ticks without an owner
}

// Server keeps entries. The zero value is not usable: see NewServer.
type Server struct {
	opt Options
	uid uint32
	ln  *net.UnixListener

	mu      sync.Mutex
	entries map[string]*entry
	open    map[*session]struct{}
	closed  bool
	wg      sync.WaitGroup
}

// session is one client's connection.
type session struct {
	c       *net.UnixConn
	version atomic.Uint32 // 0 before the hello
}

// Run serves until ctx ends, then closes everything that it holds: devices without a server's own descriptor end.
func Run(ctx context.Context, o Options) error {
	s, err := NewServer(o)
	if err != nil {
		return err
	}
	return s.Serve(ctx)
}

// NewServer listens, so that clients can connect once it has returned. Serve must follow. Errors: those of socket.Listen.
func NewServer(o Options) (*Server, error) {
	if o.Patience <= 0 {
		o.Patience = DefaultPatience
	}
	ln, err := socket.Listen(o.Socket)
	if err != nil {
		return nil, err
	}
	return &Server{
		opt: o, uid: uint32(os.Geteuid()), ln: ln,
		entries: map[string]*entry{}, open: map[*session]struct{}{},
	}, nil
}

// Serve serves until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.wg.Go(func() { s.watch(ctx) })
	stop := context.AfterFunc(ctx, s.shut)
	defer stop()
	for {
		c, err := s.ln.AcceptUnix()
		if err != nil {
			cancel()
			s.shut()
			s.wg.Wait()
			s.closeAll()
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("accept: %w", err)
		}
		s.wg.Go(func() { s.session(c) })
	}
}

// shut stops accepting and ends the sessions.
func (s *Server) shut() {
	_ = s.ln.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for x := range s.open {
		_ = x.c.Close()
	}
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, e := range s.entries {
		e.Close()
		delete(s.entries, name)
	}
}

func (s *Server) session(c *net.UnixConn) {
	x := &session{c: c}
	defer c.Close()
	if err := socket.CheckPeer(c, s.uid); err != nil {
		return
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.open[x] = struct{}{}
	s.mu.Unlock()
	defer s.release(x)
	for {
		t, body, fds, err := readFrame(c, MaxFrame)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = writeFrame(c, tError, appendError(nil, err), nil)
			}
			return
		}
		if err := s.handle(x, t, body, fds); err != nil {
			return
		}
	}
}

// release gives up what a session owned; the watchdog begins to count.
func (s *Server) release(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, x)
	for _, e := range s.entries {
		if e.owner == x {
			e.owner, e.idle = nil, 0
		}
	}
}

// handle answers one request. An error ends the session.
func (s *Server) handle(x *session, t frameType, body []byte, fds []int) error {
	if t != tPut {
		closeAll(fds)
	}
	if x.version.Load() == 0 && t != tHello {
		closeAll(fds)
		return writeFrame(x.c, tError, appendError(nil, fmt.Errorf("%w: no hello", ErrProtocol)), nil)
	}
	rt, reply, out, err := tOK, []byte(nil), []int(nil), error(nil)
	switch t {
	case tHello:
		rt, reply, err = s.hello(x, body)
	case tPut:
		err = s.put(x, body, fds)
	case tGet:
		rt, reply, out, err = s.get(x, body)
	case tList:
		rt, reply = s.list()
	case tDrop:
		err = s.drop(x, body)
	case tUpdate:
		err = s.update(x, body)
	default:
		err = fmt.Errorf("%w: a frame of type %d", ErrProtocol, t)
	}
	defer closeAll(out)
	if err != nil {
		return writeFrame(x.c, tError, appendError(nil, err), nil)
	}
	return writeFrame(x.c, rt, reply, out)
}

func (s *Server) hello(x *session, body []byte) (frameType, []byte, error) {
	if len(body) != 4 {
		return 0, nil, fmt.Errorf("%w: short hello", ErrProtocol)
	}
	lo, hi := binary.LittleEndian.Uint16(body), binary.LittleEndian.Uint16(body[2:])
	v := min(hi, MaxVersion)
	if v < lo || v < MinVersion {
		return 0, nil, fmt.Errorf("%w: it speaks %d to %d, the client %d to %d", ErrVersion, MinVersion, MaxVersion, lo, hi)
	}
	x.version.Store(uint32(v))
	return tHi, binary.LittleEndian.AppendUint16(nil, v), nil
}

func (s *Server) put(x *session, body []byte, fds []int) error {
	e, err := parseEntry(body, fds)
	if err != nil {
		closeAll(fds)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.entries[e.Name] != nil:
		err = fmt.Errorf("%w: %s", ErrExists, e.Name)
	case len(s.entries) >= MaxEntries:
		err = fmt.Errorf("%w: %d entries", ErrLimit, MaxEntries)
	}
	if err != nil {
		e.Close()
		return err
	}
	e.State = Owned
	s.entries[e.Name] = &entry{Entry: *e, owner: x}
	return nil
}

func (s *Server) get(x *session, body []byte) (frameType, []byte, []int, error) {
	name, rest, err := cutName(body)
	if err != nil || len(rest) != 0 {
		return 0, nil, nil, fmt.Errorf("%w: get", ErrProtocol)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[name]
	if e == nil {
		return 0, nil, nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if e.owner != nil && e.owner != x {
		return 0, nil, nil, fmt.Errorf("%w: %s", ErrOwned, name)
	}
	var out []int // copies: the watchdog may close the entry's own while they are sent
	for _, fd := range append(append([]int(nil), e.Device...), e.Memory...) {
		c, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closeAll(out)
			return 0, nil, nil, fmt.Errorf("%w: copy a descriptor: %w", ErrServer, err)
		}
		out = append(out, c)
	}
	e.owner = x
	if e.State != Ended {
		e.State = Owned
	}
	return tEntry, appendEntry(nil, &e.Entry), out, nil
}

func (s *Server) list() (frameType, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(s.entries)))
	for _, e := range s.entries {
		b = appendName(append(b, byte(e.state())), e.Name)
	}
	return tNames, b
}

func (e *entry) state() State {
	switch {
	case e.State == Ended:
		return Ended
	case e.owner != nil:
		return Owned
	default:
		return Unowned
	}
}

// owned finds an entry of x. s.mu is held.
func (s *Server) owned(x *session, name string) (*entry, error) {
	e := s.entries[name]
	if e == nil {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if e.owner != x {
		return nil, fmt.Errorf("%w: %s", ErrNotOwner, name)
	}
	return e, nil
}

func (s *Server) drop(x *session, body []byte) error {
	name, rest, err := cutName(body)
	if err != nil || len(rest) != 0 {
		return fmt.Errorf("%w: drop", ErrProtocol)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.owned(x, name)
	if err != nil {
		return err
	}
	delete(s.entries, name)
	e.Close()
	return nil
}

func (s *Server) update(x *session, body []byte) error {
	name, rest, err := cutName(body)
	if err != nil {
		return err
	}
	meta, rest, err := cutMeta(rest)
	if err != nil || len(rest) != 0 {
		return fmt.Errorf("%w: update", ErrProtocol)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.owned(x, name)
	if err != nil {
		return err
	}
	e.Meta = meta
	return nil
}
