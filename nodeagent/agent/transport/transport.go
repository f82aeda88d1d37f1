package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/peer"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

const (
	// MaxWaiting bounds the bytes that wait in one lane.
	MaxWaiting = 64 << 20
	// bulkRead is from how many bytes on a read goes over the bulk connection.
	bulkRead = 64 << 10
	// connectWait bounds how long requests wait for a connection (an engine takes a replica that is silent for so long
	// as failed), sendWait for room on it.
	connectWait = 1 * time.Second
	sendWait    = 10 * time.Second
)

// Local is the door of a store of this process; *replica.Server is one.
type Local interface {
	// HandleOwn takes a request that this process made.
	HandleOwn(from string, typ replica.Type, body []byte, to replica.Replier)
}

// Pool gives connections; *peer.Pool is one.
type Pool interface {
	Try(node string, class peer.Class) (*peer.Conn, error)
	Get(ctx context.Context, node string, class peer.Class) (*peer.Conn, error)
}

// Options are what a Transport works with.
type Options struct {
	Self  string                                       // this node
	Local func(s block.StoreID) Local                  // nil result: not here
	Owner func(s block.StoreID) (node string, ok bool) // of a store elsewhere
	Pool  Pool
}

// Transport implements replica.Transport. The zero value is not usable: see New.
type Transport struct {
	opt    Options
	ctx    context.Context
	cancel context.CancelFunc
	calls  sync.Pool // *call
	locals sync.Pool // *replyTo
	bodies bodies
	shared sync.Pool // *parcel

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
	remote map[remoteKey]*lane
	local  map[block.StoreID]*lane
}

type remoteKey struct {
	node  string
	class peer.Class
}

var (
	_ replica.Transport = (*Transport)(nil)
	_ replica.Sharer    = (*Transport)(nil)
)

// New makes a transport.
func New(o Options) *Transport {
	t := &Transport{opt: o, remote: map[remoteKey]*lane{}, local: map[block.StoreID]*lane{}}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.shared.New = func() any { return newParcel(t) }
	t.locals.New = func() any { return &replyTo{t: t} }
	t.calls.New = func() any {
		c := &call{t: t}
		c.cb = c.finish
		return c
	}
	return t
}

// Close fails what waits, and waits until nothing of the transport runs.
func (t *Transport) Close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.wg.Wait()
}

// Send implements replica.Transport.
func (t *Transport) Send(s block.StoreID, typ replica.Type, done replica.Done, parts ...[]byte) {
	if l := t.opt.Local(s); l != nil {
		t.sendLocal(s, l, typ, done, parts)
		return
	}
	t.sendAway(s, typ, done, nil, parts)
}

// sendAway sends to a store of another node.
func (t *Transport) sendAway(s block.StoreID, typ replica.Type, done replica.Done, p *parcel, parts [][]byte) {
	node, ok := t.opt.Owner(s)
	if !ok {
		t.fail(done, fmt.Errorf("store %s: no known node has it: %w", s, replica.ErrUnreachable))
		return
	}
	t.sendRemote(node, typ, done, p, parts)
}

// fail answers from a goroutine: a caller may hold locks that done takes.
func (t *Transport) fail(done replica.Done, err error) {
	if !t.spawn(func() { done(0, nil, err) }) {
		go done(0, nil, err) // closed: nobody waits for it
	}
}

// spawn starts f unless the transport is closed.
func (t *Transport) spawn(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.wg.Go(f)
	return true
}

// call makes a peer's callback of a done, without allocating.
type call struct {
	t    *Transport
	done replica.Done
	cb   peer.Callback
}

func (c *call) finish(status uint16, body []byte, err error) {
	done := c.done
	c.done = nil
	c.t.calls.Put(c)
	finish(done, status, body, err)
}

// finish hands a peer's reply to a done.
func finish(done replica.Done, status uint16, body []byte, err error) {
	switch {
	case err != nil:
		done(0, nil, fmt.Errorf("%w: %w", replica.ErrUnreachable, err))
	case status >= peer.StatusReserved:
		done(0, nil, fmt.Errorf("%w: the peer answers status %#x: %s", replica.ErrUnreachable, status, body))
	default:
		done(status, body, nil)
	}
}

func isRead(typ replica.Type) bool { return typ == replica.TypeReadLog || typ == replica.TypeReadData }

// expected is how many bytes the reply will have, about, as far as that matters.
func expected(typ replica.Type, parts [][]byte) int {
	if !isRead(typ) {
		return 0
	}
	last := parts[len(parts)-1]
	if len(last) < 4 {
		return 0
	}
	return int(min(binary.LittleEndian.Uint32(last[len(last)-4:]), replica.MaxRead))
}

func (t *Transport) sendRemote(node string, typ replica.Type, done replica.Done, p *parcel, parts [][]byte) {
	expect := expected(typ, parts)
	class := peer.Small
	if expect >= bulkRead {
		class = peer.Bulk
	}
	l := t.lane(node, class)
	if l.waiting.Load() == 0 {
		conn, err := t.opt.Pool.Try(node, class)
		if err == nil {
			c := t.calls.Get().(*call)
			c.done = done
			if err = conn.SendShared(typ, expect, c.cb, p.tail(), parts...); err == nil {
				return
			}
			c.done = nil
			t.calls.Put(c)
		}
		if !errors.Is(err, peer.ErrBusy) && conn == nil { // the last attempt to connect failed
			t.fail(done, fmt.Errorf("node %s: %w: %w", node, replica.ErrUnreachable, err))
			return
		}
	}
	l.add(&item{typ: typ, expect: expect, done: done, parcel: p}, parts)
}

func (t *Transport) lane(node string, class peer.Class) *lane {
	k := remoteKey{node, class}
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.remote[k]
	if l == nil {
		l = &lane{t: t, wake: make(chan struct{}, 1), run: func(items []item) { t.drain(k, items) }}
		t.remote[k] = l
	}
	return l
}

// drain sends what waited for a connection.
func (t *Transport) drain(k remoteKey, items []item) {
	ctx, cancel := context.WithTimeout(t.ctx, connectWait)
	conn, err := t.opt.Pool.Get(ctx, k.node, k.class)
	cancel()
	for i := range items {
		it := &items[i]
		if err == nil {
			if err = t.sendWaiting(conn, it); err == nil {
				continue
			}
		}
		it.done(0, nil, fmt.Errorf("node %s: %w: %w", k.node, replica.ErrUnreachable, err))
	}
}

// sendWaiting sends what waited in a lane, and waits for room on the connection.
func (t *Transport) sendWaiting(conn *peer.Conn, it *item) error {
	ctx, cancel := context.WithTimeout(t.ctx, sendWait)
	defer cancel()
	if it.way != nil {
		return conn.SendToWait(ctx, it.typ, it.way, it.parcel.tail(), *it.body)
	}
	c := t.calls.Get().(*call)
	c.done = it.done
	err := conn.SendSharedWait(ctx, it.typ, it.expect, c.cb, it.parcel.tail(), *it.body)
	if err != nil {
		c.done = nil
		t.calls.Put(c)
	}
	return err
}

func (t *Transport) sendLocal(s block.StoreID, l Local, typ replica.Type, done replica.Done, parts [][]byte) {
	if isRead(typ) && len(parts) == 1 {
		l.HandleOwn(t.opt.Self, typ, parts[0], t.replier(done)) // the caller waits for the answer anyway
		return
	}
	t.localLane(s).add(&item{typ: typ, done: done}, parts)
}

func (t *Transport) localLane(s block.StoreID) *lane {
	t.mu.Lock()
	defer t.mu.Unlock()
	ln := t.local[s]
	if ln == nil {
		ln = &lane{t: t, wake: make(chan struct{}, 1)}
		ln.run = func(items []item) {
			for i := range items {
				t.handle(s, &items[i])
			}
		}
		t.local[s] = ln
	}
	return ln
}

func (t *Transport) handle(s block.StoreID, it *item) {
	l := t.opt.Local(s)
	if l == nil || t.ctx.Err() != nil {
		it.done(0, nil, fmt.Errorf("store %s is closed: %w", s, replica.ErrUnreachable))
		return
	}
	body := *it.body
	if it.parcel != nil {
		body = it.parcel.whole()
	}
	if it.way != nil {
		l.HandleOwn(t.opt.Self, it.typ, body, it.way)
		return
	}
	l.HandleOwn(t.opt.Self, it.typ, body, t.replier(it.done))
}

// replyTo hands a local answer to a done.
type replyTo struct {
	t    *Transport
	done replica.Done
}

func (t *Transport) replier(done replica.Done) *replyTo {
	r := t.locals.Get().(*replyTo)
	r.done = done
	return r
}

// Reply implements replica.Replier.
func (r *replyTo) Reply(st replica.Status, parts ...[]byte) {
	done := r.done
	r.done = nil
	r.t.locals.Put(r)
	reply(done, st, parts)
}

// reply hands a store's reply to a done.
func reply(done replica.Done, st replica.Status, parts [][]byte) {
	switch len(parts) {
	case 0:
		done(st, nil, nil)
	case 1:
		done(st, parts[0], nil)
	default:
		var body []byte
		for _, p := range parts {
			body = append(body, p...)
		}
		done(st, body, nil)
	}
}
