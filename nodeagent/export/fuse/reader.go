package fuse

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// reader is one thread's buffers. Both parts begin so that a payload starts at a page.
type reader struct {
	s   *Server
	mem []byte
	in  []byte // where a request is read: header and WRITE's own part, then the payload
	out []byte // where a reply is built: header, then at most smallBuf of payload
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
			r.dispatch(q)
		case errors.Is(err, unix.ENODEV):
			return nil
		default:
			return err
		}
	}
}

// next reads one request. The error is EAGAIN on an empty non-blocking descriptor, ENODEV after an unmount.
func (r *reader) next() (request, error) {
	for {
		n, _, errno := syscall.Syscall(unix.SYS_READ, uintptr(r.s.fd), uintptr(ptr(r.in)), uintptr(len(r.in)))
		switch errno {
		case 0:
			if q := request(r.in[:n]); q.valid() {
				return q, nil
			}
			return nil, fmt.Errorf("%w: a request of %d bytes", ErrProtocol, n)
		case unix.EINTR, unix.ENOENT: // a signal; a request that went away while it was read
		case unix.EAGAIN, unix.ENODEV:
			return nil, errno
		case unix.ECONNABORTED:
			return nil, export.ErrGone
		default:
			return nil, fmt.Errorf("read /dev/fuse: %w", errno)
		}
	}
}

// send hands a reply to the kernel. A failure means that the kernel gave the request up: nobody waits for the answer.
func (s *Server) send(p []byte) {
	for {
		if _, _, errno := syscall.Syscall(unix.SYS_WRITE, uintptr(s.fd), uintptr(ptr(p)), uintptr(len(p))); errno != unix.EINTR {
			return
		}
	}
}

// reply answers with n bytes that are already in place behind out's header.
func (r *reader) reply(q request, errno syscall.Errno, n int) {
	if errno != 0 {
		n = 0
	}
	putHeader(r.out, q.unique(), errno, n)
	r.s.send(r.out[:outHeader+n])
}

// dispatch answers q or hands it to a worker.
func (r *reader) dispatch(q request) {
	switch q.op() {
	case opWrite:
		r.write(q)
	case opRead:
		r.read(q)
	case opFsync:
		r.fsync(q)
	case opFallocate:
		r.fallocate(q)
	default:
		r.meta(q)
	}
}

func (r *reader) write(q request) {
	s := r.s
	if len(q) < inHeader+writeIn {
		r.reply(q, unix.EIO, 0)
		return
	}
	off, n := int64(native.Uint64(q[inHeader+8:])), int(native.Uint32(q[inHeader+16:]))
	p := q[inHeader+writeIn:]
	if n != len(p) {
		r.reply(q, unix.EIO, 0)
		return
	}
	if err := export.CheckRange(off, int64(n), s.back.Size()); err != nil {
		r.reply(q, export.Errno(err), 0)
		return
	}
	id := q.id(s.conn)
	ok, err := q.resent() && s.back.Accepted(id), error(nil)
	if !ok {
		ok, err = s.back.TryWrite(id, p, off)
	}
	if !ok {
		j := s.newJob(q, n)
		j.off, j.n = off, int64(n)
		copy(j.payload(), p)
		s.later(j)
		return
	}
	putWritten(r.out[outHeader:], n)
	r.reply(q, errnoOf(err), writeOut)
	if err == nil {
		s.back.Answered(id)
	}
}

func (r *reader) read(q request) {
	s := r.s
	if len(q) < inHeader+readSize {
		r.reply(q, unix.EIO, 0)
		return
	}
	off, n := int64(native.Uint64(q[inHeader+8:])), int64(native.Uint32(q[inHeader+16:]))
	size := s.back.Size()
	if off >= size {
		r.reply(q, 0, 0)
		return
	}
	n = min(n, size-off)
	if err := export.CheckRange(off, n, size); err != nil || n > MaxIO {
		r.reply(q, unix.EINVAL, 0)
		return
	}
	if n > smallBuf {
		s.readLarge(q, off, n)
		return
	}
	ok, err := s.back.TryRead(r.out[outHeader:outHeader+n], off)
	if !ok {
		j := s.newJob(q, int(n))
		j.off, j.n = off, n
		s.later(j)
		return
	}
	r.reply(q, errnoOf(err), int(n))
}

// readLarge is read with a buffer that does not stay.
func (s *Server) readLarge(q request, off, n int64) {
	j := s.newJob(q, int(n))
	j.off, j.n = off, n
	ok, err := s.back.TryRead(j.payload(), off)
	if !ok {
		s.later(j)
		return
	}
	j.reply(s, err, j.size)
	s.jobs.Put(j)
}

// fsync flushes on this thread if another reader stays free: at depth 1 the way over a worker costs as much as the rest.
func (r *reader) fsync(q request) {
	s := r.s
	if s.away.Add(1) < int32(s.opt.Readers) {
		err := s.back.Flush()
		s.away.Add(-1)
		r.reply(q, errnoOf(err), 0)
		return
	}
	s.away.Add(-1)
	s.later(s.newJob(q, 0))
}

// fallocate takes holes and zeroes; anything else would change the file's size or promise space.
func (r *reader) fallocate(q request) {
	if len(q) < inHeader+fallocSize {
		r.reply(q, unix.EIO, 0)
		return
	}
	off, n := int64(native.Uint64(q[inHeader+8:])), int64(native.Uint64(q[inHeader+16:]))
	mode := native.Uint32(q[inHeader+24:])
	if err := export.CheckRange(off, n, r.s.back.Size()); err != nil {
		r.reply(q, export.Errno(err), 0)
		return
	}
	kind := mode &^ unix.FALLOC_FL_KEEP_SIZE
	if kind != unix.FALLOC_FL_PUNCH_HOLE && kind != unix.FALLOC_FL_ZERO_RANGE {
		r.reply(q, unix.EOPNOTSUPP, 0)
		return
	}
	id := q.id(r.s.conn)
	if q.resent() && r.s.back.Accepted(id) {
		r.reply(q, 0, 0)
		r.s.back.Answered(id)
		return
	}
	j := r.s.newJob(q, 0)
	j.off, j.n, j.punch = off, n, kind == unix.FALLOC_FL_PUNCH_HOLE
	r.s.later(j)
}

func putWritten(p []byte, n int) {
	native.PutUint32(p, uint32(n))
	native.PutUint32(p[4:], 0)
}

// errnoOf is export.Errno without the two answers that the kernel takes to mean "never ask again".
func errnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	switch e := export.Errno(err); e {
	case unix.ENOSYS, unix.EOPNOTSUPP:
		return unix.EIO
	default:
		return e
	}
}
