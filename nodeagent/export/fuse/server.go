package fuse

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// FileName is the name of the one file below the mount's root.
const FileName = "volume"

// MaxIO is the greatest length of one READ or WRITE, in bytes; the kernel splits what is longer and keeps the parts in
// flight together. It is small because every reader's buffers stay in memory, and is not slower than 1 MiB.
const MaxIO = 256 << 10

// Errors of the server.
var (
	// ErrProtocol tells that the kernel's FUSE lacks what the server needs.
	ErrProtocol = errors.New("the kernel's FUSE is too old")
	// ErrNoResend tells that the kernel cannot send requests again, so that a killed server cannot be followed by another.
	ErrNoResend = errors.New("the kernel does not send FUSE requests again")
)

// Options of a server. The zero value works.
type Options struct {
	Transport     Transport // of new connections; default DevFuse
	Readers       int       // threads that read /dev/fuse; default 2
	Entries       int       // requests that each CPU's queue has room for with Uring; default 64
	MaxBackground uint16    // asynchronous requests that the kernel keeps in flight; default 256
}

func (o Options) withDefaults() Options {
	if o.Transport == "" {
		o.Transport = DevFuse
	}
	if o.Readers <= 0 {
		o.Readers = 2
		if o.Transport == Uring {
			o.Readers = 1
		}
	}
	if o.Entries <= 0 {
		o.Entries = 32
	}
	if o.MaxBackground == 0 {
		o.MaxBackground = 256
	}
	return o
}

// Server answers the requests of one connection.
type Server struct {
	fd   int
	back export.Backend
	conn [16]byte
	opt  Options

	work   chan *job // to idle workers; never buffered
	jobs   sync.Pool // of *job
	ready  chan struct{}
	once   sync.Once // closes ready
	resend atomic.Bool

	flusher atomic.Pointer[flusher]

	rings *rings // nil: DevFuse

	away  atomic.Int32 // readers that are in a Flush, or about to decide; all but one may be
	waits waits
	live  atomic.Int32 // readers that run, and jobs that are under way
	under atomic.Int32 // these jobs
	done  chan struct{}
	err   error // set before done is closed
	emu   sync.Mutex
}

// New makes a server on fd, an open /dev/fuse that is or will be mounted. The server does not own fd. conn is the
// connection's identity, the same for all servers that follow each other on it.
func New(fd int, conn [16]byte, b export.Backend, o Options) *Server {
	s := &Server{
		fd: fd, back: b, conn: conn, opt: o.withDefaults(),
		work: make(chan *job), ready: make(chan struct{}), done: make(chan struct{}),
	}
	s.jobs.New = func() any { return new(job) }
	return s
}

// Start serves a new connection. Asked for Uring, it fails with uring.ErrUnavailable where this process gets none; whether the
// connection uses it is known after Ready.
func (s *Server) Start() error {
	readers, err := s.newReaders()
	if err != nil {
		return err
	}
	s.live.Add(1) // this thread: rings that cannot be had are not the last
	defer s.leave()
	if s.opt.Transport == Uring {
		if err := s.startRings(); err != nil {
			for _, r := range readers {
				r.free()
			}
			return err
		}
	}
	s.back.Resent()
	s.run(readers)
	return nil
}

// Resume serves a connection with DevFuse that another server process has initialised and left. It returns once every
// request that the other one left unanswered is being dealt with.
func (s *Server) Resume() error {
	s.opt.Transport = DevFuse
	readers, err := s.newReaders()
	if err != nil {
		return err
	}
	s.once.Do(func() { close(s.ready) })
	s.live.Add(1) // this thread: jobs that end while it reads are not the last
	defer s.leave()
	s.away.Store(int32(s.opt.Readers)) // this thread must not wait: Resent has to be told first
	err = s.readResent(readers[0])
	s.away.Store(0)
	if err != nil {
		for _, r := range readers {
			r.free()
		}
		return err
	}
	s.back.Resent()
	s.run(readers)
	return nil
}

// Ready waits until the kernel has initialised the connection.
func (s *Server) Ready(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-s.done:
		return s.Err()
	case <-ctx.Done():
		return fmt.Errorf("wait for the kernel's INIT: %w", ctx.Err())
	}
}

// CanResend reports whether the kernel can send requests again. It is meaningful after Ready on a new connection.
func (s *Server) CanResend() bool { return s.resend.Load() }

// IOFlusher tells why the reader threads could not be marked as ones that memory reclaim must not wait for
// (PR_SET_IO_FLUSHER, which takes CAP_SYS_RESOURCE), or nil if they are marked or have not started.
func (s *Server) IOFlusher() error {
	if f := s.flusher.Load(); f != nil {
		return f.err
	}
	return nil
}

type flusher struct{ err error }

// mark marks the calling thread.
func (s *Server) mark() { s.flusher.Store(&flusher{unix.Prctl(unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0)}) }

// Done is closed when the connection has ended and all its requests have left the backend: the descriptor may be closed.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is why the connection ended: nil after an unmount.
func (s *Server) Err() error {
	s.emu.Lock()
	defer s.emu.Unlock()
	return s.err
}

func (s *Server) fail(err error) {
	s.emu.Lock()
	defer s.emu.Unlock()
	if s.err == nil && err != nil {
		s.err = err
	}
}

// InvalidateSize makes the kernel ask for the file's attributes again.
func (s *Server) InvalidateSize() error {
	var p [outHeader + invalOut]byte
	native.PutUint32(p[:], uint32(len(p)))
	native.PutUint32(p[4:], notifyInvalInode)
	native.PutUint64(p[outHeader:], fileNode)
	native.PutUint64(p[outHeader+8:], ^uint64(0)) // offset -1: attributes only
	_, err := unix.Write(s.fd, p[:])
	if errors.Is(err, unix.ENOENT) { // the kernel has no such inode: nothing to forget
		err = nil
	}
	if err != nil {
		return fmt.Errorf("invalidate attributes: %w", err)
	}
	return nil
}

func (s *Server) newReaders() ([]*reader, error) {
	readers := make([]*reader, s.opt.Readers)
	for i := range readers {
		r, err := newReader(s)
		if err != nil {
			for _, r := range readers[:i] {
				r.free()
			}
			return nil, err
		}
		readers[i] = r
	}
	return readers, nil
}

func (s *Server) run(readers []*reader) {
	s.live.Add(int32(len(readers)))
	for _, r := range readers {
		go func() {
			defer s.leave()
			defer r.free()
			runtime.LockOSThread() // for good: the thread ends with the goroutine, and its flag with it
			s.mark()
			s.fail(r.loop())
		}()
	}
}

// leave ends a reader or a job. With the last of them nothing uses the descriptor any more.
func (s *Server) leave() {
	if s.live.Add(-1) == 0 {
		close(s.done)
	}
}

// readResent has the kernel send again what was left unanswered, and deals with it, on this thread alone.
func (s *Server) readResent(r *reader) error {
	var p [outHeader]byte
	native.PutUint32(p[:], outHeader)
	native.PutUint32(p[4:], notifyResend)
	if _, err := unix.Write(s.fd, p[:]); err != nil {
		if errors.Is(err, unix.EINVAL) {
			return ErrNoResend
		}
		return fmt.Errorf("have requests sent again: %w", err)
	}
	if err := unix.SetNonblock(s.fd, true); err != nil {
		return fmt.Errorf("set /dev/fuse non-blocking: %w", err)
	}
	for {
		q, err := r.next()
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			return err
		}
		s.dispatch(r, q)
		if last := !q.resent() && ordered(q.op()); last {
			break
		}
	}
	if err := unix.SetNonblock(s.fd, false); err != nil {
		return fmt.Errorf("set /dev/fuse blocking: %w", err)
	}
	return nil
}

// ordered reports whether the kernel keeps requests of this kind in the queue in which resent ones come first.
func ordered(op uint32) bool { return op != opInterrupt && op != opForget && op != opBatchForget }
