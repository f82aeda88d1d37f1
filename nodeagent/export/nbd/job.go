package nbd

import (
	"errors"
	"fmt"
	"io"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// job is a request that may block.
type job struct {
	x     *conn
	q     request
	id    export.RequestID
	buf   []byte
	class int
	cost  int // bytes of the connection's budget
}

// bufSize is the buffer that a request needs: its payload or its answer, and room for whole blocks around it.
func (q request) bufSize() int {
	switch q.cmd {
	case cmdRead, cmdWrite:
		return maxReadHead + int(q.n) + 2*export.BlockSize
	case cmdBlockStatus:
		return chunkSize + 4 + 8*maxExtents
	default:
		return simpleSize + export.BlockSize
	}
}

// newJob takes a buffer from the pools.
func (s *Server) newJob(q request) *job {
	need, class := q.bufSize(), 0
	for classes[class] < need && class < len(classes)-1 {
		class++
	}
	j, _ := s.pool[class].Get().(*job)
	if j == nil || len(j.buf) < need {
		j = &job{buf: make([]byte, max(classes[class], need)), class: class}
	}
	j.q, j.cost = q, len(j.buf)
	return j
}

// later hands q to a worker, with the payload that follows it on the connection.
func (x *conn) later(q request, payload int) error {
	if err := x.flush(); err != nil {
		return err
	}
	j := x.s.newJob(q)
	x.take(j.cost)
	j.x, j.id = x, x.nextID()
	if payload > 0 {
		// The payload lies where its offset in a block tells, so that whole blocks can be completed around it.
		at := q.off % export.BlockSize
		if _, err := io.ReadFull(x.r, j.buf[at:at+uint64(payload)]); err != nil {
			x.give(j.cost)
			return fmt.Errorf("%w: payload: %w", ErrProtocol, err)
		}
	}
	select {
	case x.s.work <- j:
	default:
		go x.s.worker(j)
	}
	return nil
}

// take waits for room in the budget.
func (x *conn) take(n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.jobs > 0 && (x.jobs >= maxInFlight || x.bytes+n > maxBytes) {
		x.room.Wait()
	}
	x.jobs++
	x.bytes += n
}

func (x *conn) give(n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.jobs--
	x.bytes -= n
	x.room.Broadcast()
}

func (s *Server) worker(j *job) {
	for {
		x, cost := j.x, j.cost
		j.do()
		j.x = nil
		s.pool[j.class].Put(j)
		x.give(cost)
		select {
		case j = <-s.work:
		case <-s.quit:
			return
		}
	}
}

// do runs the request and answers it.
func (j *job) do() {
	x, q := j.x, j.q
	var reply []byte
	var err error
	changed := false
	switch q.cmd {
	case cmdRead:
		reply, err = j.read()
	case cmdWrite:
		changed, err = true, j.write()
	case cmdTrim:
		changed, err = j.trim()
	case cmdZeroes:
		changed, err = j.zero()
	case cmdFlush:
		err = x.s.back.Flush()
	case cmdBlockStatus:
		reply, err = j.status()
	}
	accepted := changed && err == nil
	if err == nil && q.cmd != cmdFlush && q.flags&cmdFlagFUA != 0 {
		err = x.s.back.Flush()
	}
	var small [maxReadHead]byte
	if err != nil {
		reply = appendFailure(small[:0], q, x.structured, err)
	} else if reply == nil {
		reply = appendSimple(small[:0], q.cookie, 0)
	}
	if x.send(reply) != nil {
		_ = x.c.Close() // ends the reader
	}
	if accepted {
		x.s.back.Answered(j.id)
	}
}

// read fills the buffer with whole blocks and sends the part that was asked for.
func (j *job) read() ([]byte, error) {
	q := j.q
	skip := int(q.off % export.BlockSize)
	n := (skip + int(q.n) + export.BlockSize - 1) &^ (export.BlockSize - 1)
	p := j.buf[maxReadHead : maxReadHead+n]
	if err := j.x.s.back.Read(p, int64(q.off)-int64(skip)); err != nil {
		return nil, err
	}
	var head [maxReadHead]byte
	h := appendReadHead(head[:0], q, j.x.structured)
	at := maxReadHead + skip - len(h)
	copy(j.buf[at:], h)
	return j.buf[at : maxReadHead+skip+int(q.n)], nil
}

// write writes the payload, which starts at its offset in a block.
func (j *job) write() error {
	s, q := j.x.s, j.q
	if q.aligned() {
		s.unaligned.RLock()
		defer s.unaligned.RUnlock()
		return s.back.Write(j.id, j.buf[:q.n], int64(q.off))
	}
	s.unaligned.Lock()
	defer s.unaligned.Unlock()
	head := int(q.off % export.BlockSize)
	end := head + int(q.n)
	whole := (end + export.BlockSize - 1) &^ (export.BlockSize - 1)
	base := int64(q.off) - int64(head)
	var block [export.BlockSize]byte
	if head > 0 {
		if err := s.back.Read(block[:], base); err != nil {
			return err
		}
		copy(j.buf[:head], block[:])
	}
	if end < whole {
		if err := s.back.Read(block[:], base+int64(whole)-export.BlockSize); err != nil {
			return err
		}
		copy(j.buf[end:whole], block[export.BlockSize-(whole-end):])
	}
	return s.back.Write(j.id, j.buf[:whole], base)
}

// trim discards the whole blocks of the range; the protocol lets a server leave the rest.
func (j *job) trim() (changed bool, err error) {
	from, to := wholeBlocks(j.q)
	if from >= to {
		return false, nil
	}
	j.x.s.unaligned.RLock()
	defer j.x.s.unaligned.RUnlock()
	return true, j.x.s.back.Discard(j.id, from, to-from)
}

// zero clears exactly the range: whole blocks by the backend, the edges by writing them.
func (j *job) zero() (changed bool, err error) {
	s, q := j.x.s, j.q
	clearBlocks := s.back.Discard
	if q.flags&cmdFlagNoHole != 0 {
		clearBlocks = s.back.WriteZeroes
	}
	if q.aligned() {
		s.unaligned.RLock()
		defer s.unaligned.RUnlock()
		return true, clearBlocks(j.id, int64(q.off), int64(q.n))
	}
	s.unaligned.Lock()
	defer s.unaligned.Unlock()
	start, end := int64(q.off), int64(q.off)+int64(q.n)
	from, to := wholeBlocks(q)
	if from > to { // inside one block
		return false, j.zeroEdge(start, end)
	}
	if err := j.zeroEdge(start, from); err != nil {
		return false, err
	}
	if err := j.zeroEdge(to, end); err != nil || from == to {
		return false, err
	}
	return true, clearBlocks(j.id, from, to-from)
}

// zeroEdge clears [start, end), which lies in one block.
func (j *job) zeroEdge(start, end int64) error {
	if start == end {
		return nil
	}
	base := start &^ (export.BlockSize - 1)
	p := j.buf[:export.BlockSize]
	if err := j.x.s.back.Read(p, base); err != nil {
		return err
	}
	clear(p[start-base : end-base])
	id := export.NewRequestID(j.x.id, ^uint64(start)) // no other change has it
	if err := j.x.s.back.Write(id, p, base); err != nil {
		return err
	}
	j.x.s.back.Answered(id)
	return nil
}

// wholeBlocks is the run of blocks inside the request; from > to if it lies inside one block.
func wholeBlocks(q request) (from, to int64) {
	from = (int64(q.off) + export.BlockSize - 1) &^ (export.BlockSize - 1)
	to = (int64(q.off) + int64(q.n)) &^ (export.BlockSize - 1)
	return from, to
}

// status answers BLOCK_STATUS for as much of the range as maxExtents runs cover.
func (j *job) status() ([]byte, error) {
	q := j.q
	start := int64(q.off) &^ (export.BlockSize - 1)
	end := (int64(q.off) + int64(q.n) + export.BlockSize - 1) &^ (export.BlockSize - 1)
	b := j.buf[:chunkSize+4]
	limit := maxExtents
	if q.flags&cmdFlagReqOne != 0 {
		limit = 1
	}
	at, runs := start, 0
	err := j.x.s.back.(export.Mapper).Map(start, end-start, func(n int64, data bool) bool {
		lo, hi := max(at, int64(q.off)), min(at+n, int64(q.off)+int64(q.n))
		at += n
		if lo >= hi {
			return true
		}
		state := uint32(stateHoleZeroes)
		if data {
			state = 0
		}
		b = be.AppendUint32(be.AppendUint32(b, uint32(hi-lo)), state)
		runs++
		return runs < limit
	})
	if err != nil {
		return nil, err
	}
	if runs == 0 {
		return nil, errors.New("block status: the backend mapped nothing")
	}
	appendChunk(b[:0], chunkDone, chunkStatus, q.cookie, len(b)-chunkSize)
	be.PutUint32(b[chunkSize:], metaContextID)
	return b, nil
}
