package ublk

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// job is a request that may block, with all that a worker needs.
type job struct {
	tag    int
	op     uint32
	id     export.RequestID
	off, n int64
	fua    bool
	known  bool   // a write that the backend has accepted already
	buf    []byte // the tag's
	busy   bool   // a worker has it; the thread's own

	errno    syscall.Errno
	accepted bool
}

// dispatch answers a request or hands it to a worker.
func (s *server) dispatch(t *tag, d *ioDesc) {
	op, off, n := d.op(), int64(d.start)<<sectorLog, int64(d.sectors)<<sectorLog
	if s.cut {
		s.refuse(t)
		return
	}
	switch op {
	case opFlush:
		s.later(t, job{op: op})
		return
	case opRead, opWrite, opDiscard, opWriteZeroes:
	default:
		s.reply(t, unix.EIO, 0)
		return
	}
	if op <= opWrite {
		if n > MaxIO {
			s.reply(t, unix.EIO, 0)
			return
		}
		if int(n) > t.high {
			s.used += int(n) - t.high
			t.high = int(n)
		}
	}
	if err := export.CheckRange(off, n, s.back.Size()); err != nil {
		s.reply(t, export.Errno(err), 0)
		return
	}
	if op == opRead {
		s.read(t, off, n)
		return
	}
	s.change(t, d, job{op: op, off: off, n: n, fua: op == opWrite && d.opFlags>>8&(flagFUA>>8) != 0})
}

func (s *server) read(t *tag, off, n int64) {
	ok, err := s.back.TryRead(t.buf[:n], off, nil) // this thread alone serves the device, and must not wait
	if !ok {
		s.later(t, job{op: opRead, off: off, n: n})
		return
	}
	s.reply(t, errnoOf(err), n)
}

// change deals with a write, a discard or zeroes.
func (s *server) change(t *tag, d *ioDesc, j job) {
	j.id, j.known = s.identify(t, d)
	switch {
	case j.known && !j.fua:
		s.changed(t, j.id, 0, j.n, true)
	case j.op == opWrite && !j.fua:
		ok, err := s.back.TryWrite(j.id, t.buf[:j.n], j.off)
		if !ok {
			s.later(t, j)
			return
		}
		s.changed(t, j.id, errnoOf(err), j.n, err == nil)
	default:
		s.later(t, j)
	}
}

// identify gives a change its identity: the one that it had with a former server, or a new one.
func (s *server) identify(t *tag, d *ioDesc) (id export.RequestID, known bool) {
	if t.resent {
		t.resent = false
		id, _ = s.table.unanswered(t.n)
		if s.table.same(t.n, d) {
			return id, t.known
		}
		if t.known { // it will come under another tag, if at all: to be applied like a new one
			s.back.Answered(id)
		}
	}
	return s.table.begin(t.n, d), false
}

// reply submits the answer to a request of n bytes.
func (s *server) reply(t *tag, errno syscall.Errno, n int64) {
	result := -int32(errno)
	if errno == 0 {
		result = int32(n)
	}
	s.submit(t, ioCommit, result)
}

// changed is reply for a change that was identified.
func (s *server) changed(t *tag, id export.RequestID, errno syscall.Errno, n int64, accepted bool) {
	s.reply(t, errno, n)
	s.answers = append(s.answers, answer{t.n, id, accepted})
}

// refuse answers with EIO. The tag's buffer may still be a worker's, so the kernel gets another one.
func (s *server) refuse(t *tag) {
	t.buf = s.scratch
	s.reply(t, unix.EIO, 0)
	s.answers = append(s.answers, answer{tag: t.n})
}

// later runs a job on an idle worker, or on a new one if all are blocked.
func (s *server) later(t *tag, j job) {
	j.tag, j.buf, j.busy = t.n, t.buf[:0:0], true
	if j.op <= opWrite {
		j.buf = t.buf[:j.n]
	}
	*t.job = j
	alone := s.live.Add(1) == 2
	select {
	case s.work <- t.job:
	default:
		go s.worker(t.job)
	}
	if alone { // as in fuse: this thread's place in Go's scheduler is free at once
		runtime.Gosched()
	}
}

// worker runs jobs until the device has ended.
func (s *server) worker(j *job) {
	for {
		s.do(j)
		s.mu.Lock()
		s.done = append(s.done, j)
		s.mu.Unlock()
		s.ring()
		s.leave()
		select {
		case j = <-s.work:
		case <-s.ended:
			return
		}
	}
}

func (s *server) do(j *job) {
	var err error
	switch j.op {
	case opRead:
		err = s.back.Read(j.buf, j.off)
	case opWrite:
		if !j.known {
			err = s.back.Write(j.id, j.buf, j.off)
		}
	case opDiscard:
		err = s.back.Discard(j.id, j.off, j.n)
	case opWriteZeroes:
		err = s.back.WriteZeroes(j.id, j.off, j.n)
	case opFlush:
		err = s.back.Flush()
	}
	j.accepted = err == nil && j.op != opRead && j.op != opFlush
	if j.accepted && j.fua {
		err = s.back.Flush()
	}
	j.errno = errnoOf(err)
}

// collect answers what workers have done, and fails the rest if the device is cut off.
func (s *server) collect() {
	s.mu.Lock()
	for _, j := range s.done {
		s.finish(j)
	}
	s.done = s.done[:0]
	s.mu.Unlock()
	if !s.aborted.Load() || s.cut {
		return
	}
	s.cut = true
	for i := range s.tags {
		t := &s.tags[i]
		if t.job.busy {
			t.job = &job{} // the worker has the other one
			s.refuse(t)
		}
	}
}

// finish answers a job's request, unless that was done when the device was cut off.
func (s *server) finish(j *job) {
	t := &s.tags[j.tag]
	if t.job != j {
		if j.accepted {
			s.back.Answered(j.id)
		}
		return
	}
	j.busy = false
	if j.op == opRead || j.op == opFlush {
		s.reply(t, j.errno, j.n)
		return
	}
	s.changed(t, j.id, j.errno, j.n, j.accepted)
}

// errnoOf is export.Errno without what the kernel does not pass on as a failure: it takes some answers to mean "never ask again", others "later".
func errnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	switch e := export.Errno(err); e {
	case unix.ENOSYS, unix.EOPNOTSUPP, unix.EAGAIN, unix.EINTR:
		return unix.EIO
	default:
		return e
	}
}
