package peer

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	readBuffer = 20 << 10 // bytes, more than a TLS record; larger reads go around it
	fullRecord = 16 << 10 // bytes; a queue of this length is worth a write even while more may come
	hardQueue  = 4        // times MaxQueue: replies that wait beyond it end the connection
)

// link is one TLS connection in use: framing, send queue, writer and keep-alive. Conn and serverConn build on it.
//
// Writing. Whoever sets writing owns the right to write until it resets it. The owner is a sender, when nothing else is under way that
// could be gathered with its frame; the reader, before it waits for the socket; or the writer goroutine, which alone may block.
type link struct {
	set    Settings
	bufs   *buffers
	remote Identity
	raw    *rawConn
	tls    *tls.Conn
	br     *bufio.Reader
	tooBig uint32 // the largest body that the other side takes, in bytes
	caps   uint64 // capabilities of both sides

	wake    chan struct{} // capacity 1: the writer goroutine shall write, and owns writing
	done    chan struct{} // closed when the link has failed
	workers sync.WaitGroup
	recheck func() error // asks whether the remote is still welcome
	held    bool         // corked, as the reader alone knows it

	mu      sync.Mutex
	err     error
	queue   []*buffer // chunks to send; the last may be filled further
	queued  int       // bytes in queue
	corked  bool      // the reader is handling frames and will flush
	writing bool
	room    chan struct{} // closed when the queue has room again; nil if nobody waits
	serving int           // requests of the other side that have no reply yet
	quiet   chan struct{} // closed when nothing is being served or sent; nil if nobody waits

	frames  atomic.Uint64 // whole frames received
	writes  atomic.Uint64 // odd while a write is under way
	paused  atomic.Bool   // the reader holds back on purpose
	ticker  *time.Timer
	watched struct { // of tick alone
		frames, writes         uint64
		readMisses, writeStuck int
	}
}

// init takes over a TCP connection. The handshake has not happened.
func (l *link) init(c net.Conn, set Settings, bufs *buffers, secure func(net.Conn) *tls.Conn) {
	l.set, l.bufs = set, bufs
	l.raw = newRawConn(c)
	l.tls = secure(l.raw)
	l.br = bufio.NewReaderSize(l.tls, readBuffer)
	l.wake, l.done = make(chan struct{}, 1), make(chan struct{})
	l.recheck = func() error { return nil }
}

// greet runs TLS and the exchange of hellos within the context and the dial timeout.
func (l *link) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.set.DialTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.raw.Close() })
	err := l.hello(ctx)
	if !stop() {
		err = errors.Join(ctx.Err(), err)
		if errors.Is(err, context.DeadlineExceeded) {
			err = errors.Join(ErrTimeout, err)
		}
	}
	if err != nil {
		l.raw.Close()
	}
	return err
}

func (l *link) hello(ctx context.Context) error {
	if err := l.tls.HandshakeContext(ctx); err != nil {
		return err
	}
	ours := l.set.hello()
	body := ours.encode()
	frame := make([]byte, headerSize, headerSize+len(body))
	h := header{typ: typeHello, body: uint32(len(body)), meta: uint32(len(body))}
	h.put(frame)
	if _, err := l.tls.Write(append(frame, body...)); err != nil {
		return err
	}
	buf, err := l.readFrame(&h, maxHello, nil)
	if err != nil {
		return err
	}
	defer buf.free()
	if h.typ != typeHello || h.flags != 0 {
		return fmt.Errorf("%w: the first frame is no hello", ErrFrame)
	}
	theirs, err := decodeHello(buf.b)
	if err != nil {
		return err
	}
	if _, err = negotiate(ours, theirs); err != nil {
		return err
	}
	l.tooBig, l.caps = theirs.maxBody, ours.caps&theirs.caps
	return nil
}

// start begins queueing, writing and keep-alive. tick runs once every ping interval.
func (l *link) start(tick func()) {
	l.raw.mu.Lock()
	l.raw.async = true
	l.raw.mu.Unlock()
	l.raw.beforeRead = l.uncork
	l.workers.Go(l.writeLoop)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.ticker = time.AfterFunc(l.set.PingInterval, func() {
		tick()
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.err == nil {
			l.ticker.Reset(l.set.PingInterval)
		}
	})
}

// fail ends the link; the first reason stays. It does not wait.
func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err = &ConnError{Node: l.remote.Node, Op: "connection with", Err: err}
	close(l.done)
	if l.ticker != nil {
		l.ticker.Stop()
	}
	l.raw.Close()
	if !l.writing {
		l.drop()
	}
	l.signalRoom()
}

// drop frees the queue. The caller holds mu and nobody is writing.
func (l *link) drop() {
	for _, c := range l.queue {
		c.free()
	}
	l.queue, l.queued = nil, 0
}

func (l *link) signalRoom() {
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
}

// reason is why the link has failed, nil while it has not.
func (l *link) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// whenQuiet gives a channel that closes when nothing is being served or waits to be sent.
func (l *link) whenQuiet() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.quiet == nil {
		l.quiet = make(chan struct{})
	}
	ch := l.quiet
	l.signalQuiet()
	return ch
}

func (l *link) signalQuiet() {
	if l.quiet != nil && l.serving == 0 && l.queued == 0 && !l.writing {
		close(l.quiet)
		l.quiet = nil
	}
}

// total is the length of parts and s in bytes; ErrTooLarge if the other side does not take it.
func (l *link) total(parts [][]byte, s *Shared) (int, error) {
	n := 0
	if s != nil {
		n = len(s.B)
	}
	for _, p := range parts {
		n += len(p)
	}
	if uint64(n) > uint64(l.tooBig) {
		return n, fmt.Errorf("%w: %d bytes, the other side takes %d", ErrTooLarge, n, l.tooBig)
	}
	return n, nil
}

// append copies bytes to the end of the queue. The caller holds mu.
func (l *link) append(p []byte) {
	l.queued += len(p)
	for len(p) > 0 {
		var last *buffer
		if n := len(l.queue); n > 0 {
			last = l.queue[n-1]
		}
		if last == nil || len(last.b) == cap(last.b) {
			last = l.bufs.get(chunkSize)
			last.b = last.b[:0]
			l.queue = append(l.queue, last)
		}
		n := min(cap(last.b)-len(last.b), len(p))
		last.b = append(last.b, p[:n]...)
		p = p[n:]
	}
}

// lend puts s at the end of the queue, in chunks, without a copy. The caller holds mu.
func (l *link) lend(s *Shared) {
	l.queued += len(s.B)
	for p := s.B; len(p) > 0; {
		n := min(chunkSize, len(p))
		l.queue = append(l.queue, l.bufs.lend(s, p[:n]))
		p = p[n:]
	}
}

// push queues a frame, of which s, if there is one, is the end. The caller holds mu.
func (l *link) push(h *header, parts [][]byte, s *Shared) {
	if len(parts) > 0 {
		h.meta = uint32(len(parts[0]))
	}
	var b [headerSize]byte
	h.put(b[:])
	l.append(b[:])
	for _, p := range parts {
		l.append(p)
	}
	if s != nil {
		l.lend(s)
	}
}

// kick gets the queue written and releases mu, which the caller holds. alone says that no other frame is to be expected soon.
func (l *link) kick(alone bool) {
	if l.err != nil || l.writing || l.queued == 0 || l.corked && l.queued < fullRecord {
		l.mu.Unlock()
		return
	}
	l.writing = true
	inline := alone && !l.corked
	l.mu.Unlock()
	if inline {
		l.flush(true)
	} else {
		l.wake <- struct{}{}
	}
}

// uncork writes what was queued while the reader handled frames; the reader calls it before it waits.
func (l *link) uncork() {
	if !l.held {
		return
	}
	l.held = false
	l.mu.Lock()
	l.corked = false
	l.kick(true)
}

// cork delays writes of less than a record until uncork. Only the reader calls it.
func (l *link) cork() {
	if l.held {
		return
	}
	l.held = true
	l.mu.Lock()
	l.corked = true
	l.mu.Unlock()
}

func (l *link) writeLoop() {
	for {
		select {
		case <-l.wake:
			l.flush(false)
		case <-l.done:
			select { // a token that nobody took
			case <-l.wake:
				l.flush(false)
			default:
			}
			return
		}
	}
}

// flush writes until the queue is empty. The caller owns writing. If inline, it never blocks: when the socket is full,
// the rest and the ownership pass to the writer goroutine.
func (l *link) flush(inline bool) {
	for {
		l.mu.Lock()
		if l.err != nil {
			l.drop()
			l.writing = false
			l.mu.Unlock()
			return
		}
		behind := l.raw.behind()
		if len(l.queue) == 0 && !behind {
			l.writing = false
			l.signalQuiet()
			l.mu.Unlock()
			return
		}
		if inline && behind {
			l.mu.Unlock()
			l.wake <- struct{}{}
			return
		}
		var chunk *buffer
		if len(l.queue) > 0 {
			chunk = l.queue[0]
			n := copy(l.queue, l.queue[1:])
			l.queue[n] = nil
			l.queue = l.queue[:n]
			l.queued -= len(chunk.b)
			if l.queued < l.set.MaxQueue/2 {
				l.signalRoom()
			}
		}
		more := len(l.queue) > 0
		l.mu.Unlock()
		if err := l.send(chunk, more, inline); err != nil {
			l.fail(errors.Join(ErrLost, err))
		}
	}
}

// send writes a chunk; more tells that another one follows at once.
func (l *link) send(chunk *buffer, more, inline bool) (err error) {
	l.writes.Add(1)
	defer l.writes.Add(1)
	if chunk != nil {
		l.raw.begin(len(chunk.b), more)
		_, err = l.tls.Write(chunk.b)
		chunk.free()
	}
	if err == nil && !inline {
		err = l.raw.drain()
	}
	return err
}

// readFrame reads one frame. admit, if not nil, may refuse or delay it after its header and before memory is taken.
func (l *link) readFrame(h *header, maxBody uint32, admit func(*header) error) (*buffer, error) {
	b, err := l.br.Peek(headerSize)
	if err != nil {
		return nil, err
	}
	if err := h.parse(b, maxBody); err != nil {
		return nil, err
	}
	l.br.Discard(headerSize)
	if admit != nil {
		if err := admit(h); err != nil {
			return nil, err
		}
	}
	buf := l.bufs.get(int(h.body))
	if _, err := io.ReadFull(l.br, buf.b); err != nil {
		buf.free()
		return nil, err
	}
	l.frames.Add(1)
	return buf, nil
}

// watch is called every ping interval; it ends a link that is silent, stuck, or no longer welcome.
func (l *link) watch() {
	if err := l.recheck(); err != nil {
		l.fail(err)
		return
	}
	w := &l.watched
	frames, writes := l.frames.Load(), l.writes.Load()
	if frames == w.frames && !l.paused.Load() {
		w.readMisses++
	} else {
		w.readMisses = 0
	}
	if writes == w.writes && writes%2 == 1 {
		w.writeStuck++
	} else {
		w.writeStuck = 0
	}
	w.frames, w.writes = frames, writes
	switch {
	case w.readMisses >= l.set.Misses:
		l.fail(fmt.Errorf("%w: no whole frame for %d × %v: %w", ErrTimeout, w.readMisses, l.set.PingInterval, ErrLost))
	case w.writeStuck >= l.set.Misses:
		l.fail(fmt.Errorf("%w: a write stands for %d × %v: %w", ErrTimeout, w.writeStuck, l.set.PingInterval, ErrLost))
	}
}
