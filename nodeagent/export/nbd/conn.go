package nbd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// conn is a client in transmission.
type conn struct {
	s          *Server
	c          net.Conn
	id         [16]byte
	structured bool
	meta       bool

	// The reader's own.
	r    *bufio.Reader
	n    uint64             // requests so far
	out  []byte             // answers that are not sent yet
	acks []export.RequestID // changes that they answer

	wmu sync.Mutex // one answer at a time on the socket

	mu    sync.Mutex // the budget
	room  sync.Cond
	jobs  int
	bytes int
}

const outSize = maxInline + maxReadHead

func newConn(s *Server, c net.Conn, g *negotiation) *conn {
	x := &conn{
		s: s, c: c, structured: g.structured, meta: g.meta,
		r: bufio.NewReaderSize(c, maxInline+requestSize), out: make([]byte, 0, outSize),
	}
	x.room.L = &x.mu
	return x
}

// transmit serves requests until the client leaves. It returns after the last worker has let go of the connection.
func (x *conn) transmit() error {
	defer func() {
		x.acknowledge()
		x.mu.Lock()
		for x.jobs > 0 {
			x.room.Wait()
		}
		x.mu.Unlock()
	}()
	for {
		if err := x.need(requestSize); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		b, _ := x.r.Peek(requestSize)
		q, err := parseRequest(b)
		if err != nil {
			return err
		}
		_, _ = x.r.Discard(requestSize)
		if q.cmd == cmdDisconnect {
			return x.flush()
		}
		if err := x.serve(q); err != nil {
			return err
		}
	}
}

// need makes n bytes readable, and sends what is answered before it waits for them.
func (x *conn) need(n int) error {
	if x.r.Buffered() < n {
		if err := x.flush(); err != nil {
			return err
		}
	}
	_, err := x.r.Peek(n)
	return err
}

// flush sends the answers so far.
func (x *conn) flush() error {
	if len(x.out) == 0 {
		return nil
	}
	err := x.send(x.out)
	x.out = x.out[:0]
	x.acknowledge()
	return err
}

// acknowledge tells the backend of changes that are answered, or whose client has gone and will not send them again.
func (x *conn) acknowledge() {
	for _, id := range x.acks {
		x.s.back.Answered(id)
	}
	x.acks = x.acks[:0]
}

func (x *conn) send(p []byte) error {
	x.wmu.Lock()
	defer x.wmu.Unlock()
	if _, err := x.c.Write(p); err != nil {
		return fmt.Errorf("answer an NBD client: %w", err)
	}
	return nil
}

// reserve makes n bytes of room for answers.
func (x *conn) reserve(n int) error {
	if len(x.out)+n > cap(x.out) {
		return x.flush()
	}
	return nil
}

func (x *conn) nextID() export.RequestID {
	x.n++
	return export.NewRequestID(x.id, x.n)
}

// serve answers q or hands it to a worker.
func (x *conn) serve(q request) error {
	payload := 0
	if q.cmd == cmdWrite {
		payload = int(q.n)
	}
	if err := q.check(x.s.back.Size(), x.structured, x.meta); err != nil {
		if payload > maxRequest {
			return fmt.Errorf("%w: a write of %d bytes", ErrProtocol, payload)
		}
		if err := x.skip(payload); err != nil {
			return err
		}
		return x.answer(q, err)
	}
	switch {
	case q.cmd == cmdWrite && q.n <= maxInline:
		return x.write(q)
	case q.cmd == cmdRead && q.n <= maxInline && q.aligned():
		return x.read(q)
	default:
		return x.later(q, payload)
	}
}

// skip passes over a payload.
func (x *conn) skip(n int) error {
	if n == 0 {
		return nil
	}
	if err := x.flush(); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, x.r, int64(n))
	return err
}

// answer answers a request that carries nothing back.
func (x *conn) answer(q request, err error) error {
	if err := x.reserve(maxReadHead); err != nil {
		return err
	}
	if err != nil {
		x.out = appendFailure(x.out, q, x.structured, err)
	} else {
		x.out = appendSimple(x.out, q.cookie, 0)
	}
	return nil
}

func (x *conn) write(q request) error {
	n := int(q.n)
	if err := x.need(n); err != nil {
		return err
	}
	if q.aligned() && q.flags&cmdFlagFUA == 0 && x.s.unaligned.TryRLock() {
		p, _ := x.r.Peek(n)
		id := x.nextID()
		ok, err := x.s.back.TryWrite(id, p, int64(q.off))
		x.s.unaligned.RUnlock()
		if ok {
			_, _ = x.r.Discard(n)
			if aerr := x.answer(q, err); aerr != nil || err != nil {
				return aerr
			}
			x.acks = append(x.acks, id)
			return nil
		}
	}
	return x.later(q, n)
}

func (x *conn) read(q request) error {
	n := int(q.n)
	if err := x.reserve(maxReadHead + n); err != nil {
		return err
	}
	was := len(x.out)
	x.out = appendReadHead(x.out, q, x.structured)
	at := len(x.out)
	ok, err := x.s.back.TryRead(x.out[at:at+n], int64(q.off), nil) // who reads a connection serves it alone, and must not wait
	if ok && err == nil {
		x.out = x.out[:at+n]
		return nil
	}
	x.out = x.out[:was]
	if !ok {
		return x.later(q, 0)
	}
	return x.answer(q, err)
}
