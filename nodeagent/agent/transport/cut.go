package transport

import (
	"fmt"
	"sync"
	"sync/atomic"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// epochAt is where a request's head has its epoch: behind the store.
const epochAt = 16

// Cut is a transport that can be ended: afterwards every request is answered as to a writer that was fenced, so that an
// engine which waits for a majority gives up, and what was asked before is answered as unreachable.
type Cut struct {
	replica.Transport
	calls sync.Pool // *cutCall

	cut atomic.Bool
	mu  sync.RWMutex // held for reading while a done runs
}

var (
	_ replica.Transport = (*Cut)(nil)
	_ replica.Sharer    = (*Cut)(nil)
	_ replica.Binder    = (*Cut)(nil)
	_ replica.Way       = (*cutWay)(nil)
)

// NewCut decorates a transport.
func NewCut(t replica.Transport) *Cut {
	c := &Cut{Transport: t}
	c.calls.New = func() any {
		w := &cutCall{c: c}
		w.cb = w.finish
		return w
	}
	return c
}

// End ends it. When it returns, no answer is being handed over any more, and none will be but for errors: what answers
// touch (the ring's memory) may go. It must not be called from a done. It may be repeated.
func (c *Cut) End() {
	c.cut.Store(true)
	c.mu.Lock() // waits for the dones that run
	defer c.mu.Unlock()
}

// Bind implements replica.Binder. Over a transport that makes no ways it sends as Send does.
func (c *Cut) Bind(s block.StoreID, done replica.Done, settle func()) replica.Way {
	w := &cutWay{c: c, s: s, done: done, settle: settle}
	w.cb = w.finish
	if b, ok := c.Transport.(replica.Binder); ok {
		w.way = b.Bind(s, w.cb, w.settled)
	} else {
		w.cb = w.alone
	}
	return w
}

// cutWay is a way that knows of the cut.
type cutWay struct {
	c      *Cut
	s      block.StoreID
	done   replica.Done
	settle func()
	cb     replica.Done
	way    replica.Way // nil: the transport makes none
}

// Send implements replica.Way.
func (w *cutWay) Send(typ replica.Type, parts ...[]byte) {
	switch {
	case w.c.cut.Load():
		refuse(w.done, parts)
	case w.way == nil:
		w.c.Transport.Send(w.s, typ, w.cb, parts...)
	default:
		w.way.Send(typ, parts...)
	}
}

func (w *cutWay) finish(st replica.Status, body []byte, err error) { w.c.finish(w.done, st, body, err) }

func (w *cutWay) settled() {
	w.c.mu.RLock()
	defer w.c.mu.RUnlock()
	if !w.c.cut.Load() {
		w.settle()
	}
}

func (w *cutWay) alone(st replica.Status, body []byte, err error) {
	w.finish(st, body, err)
	w.settled()
}

// cutCall is a done that knows of the cut.
type cutCall struct {
	c    *Cut
	done replica.Done
	cb   replica.Done
}

func (w *cutCall) finish(st replica.Status, body []byte, err error) {
	c, done := w.c, w.done
	w.done = nil
	c.calls.Put(w)
	c.finish(done, st, body, err)
}

// finish hands an answer over, unless the transport has been ended.
func (c *Cut) finish(done replica.Done, st replica.Status, body []byte, err error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.cut.Load() {
		st, body, err = 0, nil, fmt.Errorf("the volume is closing: %w", replica.ErrUnreachable)
	}
	done(st, body, err)
}

// SendAll implements replica.Sharer.
func (c *Cut) SendAll(typ replica.Type, to []replica.Target, parts ...[]byte) {
	all, ok := c.Transport.(replica.Sharer)
	if !ok || c.cut.Load() {
		for i := range to {
			c.Send(to[i].Store, typ, to[i].Done, append([][]byte{to[i].Head}, parts...)...)
		}
		return
	}
	for i := range to {
		w := c.calls.Get().(*cutCall)
		w.done = to[i].Done
		to[i].Done = w.cb
	}
	all.SendAll(typ, to, parts...)
}

// Send implements replica.Transport.
func (c *Cut) Send(s block.StoreID, typ replica.Type, done replica.Done, parts ...[]byte) {
	if !c.cut.Load() {
		w := c.calls.Get().(*cutCall)
		w.done = done
		c.Transport.Send(s, typ, w.cb, parts...)
		return
	}
	refuse(done, parts)
}

// refuse answers as to a writer that was fenced.
func refuse(done replica.Done, parts [][]byte) {
	// The promise that is claimed has the request's own number, and a token that is not the writer's: a higher number
	// would make the writer take a still higher one.
	var body [block.EpochSize]byte
	if len(parts) > 0 && len(parts[0]) >= epochAt+block.EpochSize {
		e := block.GetEpoch(parts[0][epochAt:])
		e.Token ^= 1
		e.Put(body[:])
	}
	go done(replica.StatusFenced, body[:], nil)
}
