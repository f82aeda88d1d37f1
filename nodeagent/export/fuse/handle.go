package fuse

import (
	"syscall"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// exchange is the place where one request is answered: a transport's buffers and its way back to the kernel. It belongs to
// one thread, which waits for nothing but what it gets the turn for.
type exchange interface {
	// room is where the answer's body is built, n bytes; nil if the exchange has no room for so much.
	room(n int) []byte
	// reply answers q with the first n bytes of the room. The request's views are valid no more.
	reply(q request, errno syscall.Errno, n int)
	// answered has Backend.Answered called once the answer is the kernel's.
	answered(id export.RequestID)
	// turn is with what right the exchange's thread waits for a disk in q, which reads n bytes.
	turn(q request, n int) export.Turn
	// lost tells that q was answered by others, as it had waited for too long.
	lost() bool
	// fsync flushes and answers.
	fsync(q request)
	// job makes what a worker needs to go on with q, with room for n bytes: the exchange is free for the next request.
	job(q request, n int) *job
}

// dispatch answers q or hands it to a worker.
func (s *Server) dispatch(e exchange, q request) {
	switch q.op() {
	case opWrite:
		s.write(e, q)
	case opRead:
		s.read(e, q)
	case opFsync:
		e.fsync(q)
	case opFallocate:
		s.fallocate(e, q)
	default:
		s.meta(e, q)
	}
}

func (s *Server) write(e exchange, q request) {
	if len(q.arg) < writeIn {
		e.reply(q, unix.EIO, 0)
		return
	}
	off, n := int64(native.Uint64(q.arg[8:])), int(native.Uint32(q.arg[16:]))
	p := q.data
	if n != len(p) {
		e.reply(q, unix.EIO, 0)
		return
	}
	if err := export.CheckRange(off, int64(n), s.back.Size()); err != nil {
		e.reply(q, export.Errno(err), 0)
		return
	}
	id := q.id(s.conn)
	ok, err := q.resent() && s.back.Accepted(id), error(nil)
	if !ok {
		ok, err = s.back.TryWrite(id, p, off)
	}
	if !ok {
		j := e.job(q, n)
		j.off, j.n = off, int64(n)
		s.later(j)
		return
	}
	putWritten(e.room(writeOut), n)
	e.reply(q, errnoOf(err), writeOut)
	if err == nil {
		e.answered(id)
	}
}

func (s *Server) read(e exchange, q request) {
	if len(q.arg) < readSize {
		e.reply(q, unix.EIO, 0)
		return
	}
	off, n := int64(native.Uint64(q.arg[8:])), int64(native.Uint32(q.arg[16:]))
	size := s.back.Size()
	if off >= size {
		e.reply(q, 0, 0)
		return
	}
	n = min(n, size-off)
	if err := export.CheckRange(off, n, size); err != nil || n > MaxIO {
		e.reply(q, unix.EINVAL, 0)
		return
	}
	room := e.room(int(n))
	if room == nil {
		s.readLarge(e, q, off, n)
		return
	}
	ok, err := s.back.TryRead(room, off, e.turn(q, int(n)))
	if e.lost() {
		return
	}
	if !ok {
		j := e.job(q, int(n))
		j.off, j.n = off, n
		s.later(j)
		return
	}
	e.reply(q, errnoOf(err), int(n))
}

// readLarge is read with a buffer that does not stay.
func (s *Server) readLarge(e exchange, q request, off, n int64) {
	j := e.job(q, int(n))
	j.off, j.n = off, n
	ok, err := s.back.TryRead(j.payload(), off, e.turn(q, int(n)))
	if e.lost() {
		return
	}
	if !ok {
		s.later(j)
		return
	}
	j.reply(s, errnoOf(err), j.size, false)
}

// fallocate takes holes and zeroes; anything else would change the file's size or promise space.
func (s *Server) fallocate(e exchange, q request) {
	if len(q.arg) < fallocSize {
		e.reply(q, unix.EIO, 0)
		return
	}
	off, n := int64(native.Uint64(q.arg[8:])), int64(native.Uint64(q.arg[16:]))
	mode := native.Uint32(q.arg[24:])
	if err := export.CheckRange(off, n, s.back.Size()); err != nil {
		e.reply(q, export.Errno(err), 0)
		return
	}
	kind := mode &^ unix.FALLOC_FL_KEEP_SIZE
	if kind != unix.FALLOC_FL_PUNCH_HOLE && kind != unix.FALLOC_FL_ZERO_RANGE {
		e.reply(q, unix.EOPNOTSUPP, 0)
		return
	}
	id := q.id(s.conn)
	if q.resent() && s.back.Accepted(id) {
		e.reply(q, 0, 0)
		e.answered(id)
		return
	}
	j := e.job(q, 0)
	j.off, j.n, j.punch = off, n, kind == unix.FALLOC_FL_PUNCH_HOLE
	s.later(j)
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
