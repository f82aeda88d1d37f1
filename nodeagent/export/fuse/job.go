package fuse

import (
	"unsafe"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// job is a request that may block, with its own copy of what it needs.
type job struct {
	op     uint32
	unique uint64
	id     export.RequestID
	off, n int64
	punch  bool
	buf    []byte // reply header, then the payload of a READ or WRITE
	size   int
}

// smallBuf is the payload, in bytes, for which every reader has room, and the smallest buffer of a job.
const smallBuf = 64 << 10

func (j *job) payload() []byte { return j.buf[outHeader : outHeader+j.size] }

// newJob takes a job with room for n bytes of payload from the pool.
func (s *Server) newJob(q request, n int) *job {
	j := s.jobs.Get().(*job)
	j.op, j.unique, j.id, j.size = q.op(), q.unique(), q.id(s.conn), n
	if cap(j.buf) < outHeader+max(n, writeOut) {
		room := smallBuf
		if n > room {
			room = MaxIO
		}
		j.buf = make([]byte, outHeader+room)
	}
	return j
}

// later runs j on an idle worker, or on a new one if all are blocked. It is called by a reader.
func (s *Server) later(j *job) {
	s.live.Add(1)
	select {
	case s.work <- j:
	default:
		go s.worker(j)
	}
}

// worker runs jobs until the connection ends.
func (s *Server) worker(j *job) {
	for {
		s.do(j)
		s.jobs.Put(j)
		s.leave()
		select {
		case j = <-s.work:
		case <-s.done:
			return
		}
	}
}

func (s *Server) do(j *job) {
	var err error
	n, answered := 0, false
	switch j.op {
	case opRead:
		err, n = s.back.Read(j.payload(), j.off), j.size
	case opWrite:
		err, answered = s.back.Write(j.id, j.payload(), j.off), true
		putWritten(j.buf[outHeader:], j.size)
		n = writeOut
	case opFsync:
		err = s.back.Flush()
	case opFallocate:
		answered = true
		if j.punch {
			err = s.back.Discard(j.id, j.off, j.n)
		} else {
			err = s.back.WriteZeroes(j.id, j.off, j.n)
		}
	}
	j.reply(s, err, n)
	if answered && err == nil {
		s.back.Answered(j.id)
	}
}

// reply answers with n bytes that are already in place.
func (j *job) reply(s *Server, err error, n int) {
	if err != nil {
		n = 0
	}
	putHeader(j.buf, j.unique, errnoOf(err), n)
	s.send(j.buf[:outHeader+n])
}

func ptr(p []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(p)) }
