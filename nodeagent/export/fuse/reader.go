package fuse

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
)

var _ exchange = (*reader)(nil)

// reader is one thread's buffers. Both parts begin so that a payload starts at a page.
type reader struct {
	s   *Server
	mem []byte
	in  []byte // where a request is read: header and WRITE's own part, then the payload
	out []byte // where a reply is built: header, then at most smallBuf of payload

	q    request // what it may wait for a disk in
	size int     // of what q reads
	took uint64  // see waits; also for what follows
	gone bool
}

// newReader makes a reader's buffers. The pages of in are there from the start and stay, where that is allowed: if the
// process is killed while the kernel copies a request into a page that is not there, the kernel fails the request with
// EIO instead of keeping it for the next server.
func newReader(s *Server) (*reader, error) {
	const inSize, outSize = pageSize + MaxIO, pageSize + smallBuf
	mem, err := unix.Mmap(-1, 0, inSize+outSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("allocate request buffers: %w", err)
	}
	in := mem[:inSize]
	for i := 0; i < len(in); i += pageSize {
		in[i] = 1 // an untouched page would be the shared zero page
	}
	_ = unix.Mlock(in)
	return &reader{s: s, mem: mem, in: in[pageSize-inHeader-writeIn:], out: mem[inSize+pageSize-outHeader:]}, nil
}

func (r *reader) free() { _ = unix.Munmap(r.mem) }

// loop serves until the connection ends. It returns nil after an unmount.
func (r *reader) loop() error {
	for {
		q, err := r.next()
		switch {
		case err == nil:
			if r.s.dispatch(r, q); r.lost() {
				return nil // another one has its place
			}
		case errors.Is(err, unix.ENODEV):
			return nil
		default:
			return err
		}
	}
}

// next reads one request. The error is EAGAIN on an empty non-blocking descriptor, ENODEV after an unmount.
func (r *reader) next() (q request, err error) {
	for {
		n, _, errno := syscall.Syscall(unix.SYS_READ, uintptr(r.s.fd), uintptr(ptr(r.in)), uintptr(len(r.in)))
		switch errno {
		case 0:
			if q, ok := parse(r.in[:n]); ok {
				return q, nil
			}
			return q, fmt.Errorf("%w: a request of %d bytes", ErrProtocol, n)
		case unix.EINTR, unix.ENOENT: // a signal; a request that went away while it was read
		case unix.EAGAIN, unix.ENODEV:
			return q, errno
		case unix.ECONNABORTED:
			return q, export.ErrGone
		default:
			return q, fmt.Errorf("read /dev/fuse: %w", errno)
		}
	}
}

// send hands a reply to the kernel. A failure means that the kernel gave the request up: nobody waits for the answer. The
// write waits for nobody, so Go's scheduler is not told of it: were it, this thread could lose its place to another one, and
// on busy cores wait for its turn between each answer and the next request.
func (s *Server) send(p []byte) {
	for {
		if _, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(s.fd), uintptr(ptr(p)), uintptr(len(p))); errno != unix.EINTR {
			return
		}
	}
}

// room implements exchange.
func (r *reader) room(n int) []byte {
	if n > smallBuf {
		return nil
	}
	return r.out[outHeader : outHeader+n]
}

// reply implements exchange.
func (r *reader) reply(q request, errno syscall.Errno, n int) {
	if errno != 0 {
		n = 0
	}
	putHeader(r.out, q.unique(), errno, n)
	r.s.send(r.out[:outHeader+n])
}

// answered implements exchange.
func (r *reader) answered(id export.RequestID) { r.s.back.Answered(id) }

// job implements exchange: a reader's buffers are its next request's, so a job has its own.
func (r *reader) job(q request, n int) *job {
	j := r.s.newJob(q, n)
	if q.op() == opWrite {
		copy(j.payload(), q.data)
	}
	return j
}

// fsync implements exchange. It flushes on this thread if another reader stays free: at depth 1 the way over a worker costs
// as much as the rest.
func (r *reader) fsync(q request) {
	s := r.s
	if s.away.Add(1) < int32(s.opt.Readers) {
		err := s.back.Flush()
		s.away.Add(-1)
		r.reply(q, errnoOf(err), 0)
		return
	}
	s.away.Add(-1)
	s.later(r.job(q, 0))
}
