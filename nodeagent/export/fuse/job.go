package fuse

import (
	"runtime"
	"syscall"
	"unsafe"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// job is a request that may block, with all that it takes to go on without its transport's thread.
type job struct {
	op     uint32
	unique uint64
	id     export.RequestID
	off, n int64
	punch  bool
	size   int    // of the payload
	buf    []byte // reply header, then the payload of a READ or WRITE; not used if ent is set
	ent    *entry // the io_uring entry that holds the payload; nil for a request from /dev/fuse
}

// smallBuf is the payload, in bytes, for which every reader has room, and the smallest buffer of a job.
const smallBuf = 64 << 10

// body is where the answer's body is built; a payload lies there, too.
func (j *job) body() []byte {
	if j.ent != nil {
		return j.ent.payload
	}
	return j.buf[outHeader:]
}

func (j *job) payload() []byte { return j.body()[:j.size] }

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

// later runs j on an idle worker, or on a new one if all are blocked. It is called by a transport's thread.
func (s *Server) later(j *job) {
	s.live.Add(1)
	alone := s.under.Add(1) == 1
	select {
	case s.work <- j:
	default:
		go s.worker(j)
	}
	// A thread that waits for its next request keeps its place in Go's scheduler until that looks, for up to 10 ms. The worker gets the place at once. Where
	// requests queue, they get there without it, and two switches of threads for each request cost more.
	if alone {
		runtime.Gosched()
	}
}

// worker runs jobs until the connection ends.
func (s *Server) worker(j *job) {
	for {
		s.do(j)
		s.under.Add(-1)
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
	n, change := 0, false
	switch j.op {
	case opRead:
		err, n = s.back.Read(j.payload(), j.off), j.size
	case opWrite:
		err, change = s.back.Write(j.id, j.payload(), j.off), true
		putWritten(j.body(), j.size)
		n = writeOut
	case opFsync:
		err = s.back.Flush()
	case opFallocate:
		change = true
		if j.punch {
			err = s.back.Discard(j.id, j.off, j.n)
		} else {
			err = s.back.WriteZeroes(j.id, j.off, j.n)
		}
	}
	j.reply(s, errnoOf(err), n, change && err == nil)
}

// reply answers with n bytes of body that are in place, and has Answered called for a change that was accepted. The job
// is nobody's afterwards.
func (j *job) reply(s *Server, errno syscall.Errno, n int, accepted bool) {
	if errno != 0 {
		n = 0
	}
	if j.ent != nil {
		j.ent.ring.finish(j.ent, errno, n, accepted)
		return
	}
	putHeader(j.buf, j.unique, errno, n)
	s.send(j.buf[:outHeader+n])
	if accepted {
		s.back.Answered(j.id)
	}
	s.jobs.Put(j)
}

func ptr(p []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(p)) }
