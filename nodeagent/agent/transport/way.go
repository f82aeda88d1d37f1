package transport

import (
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/peer"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// way is a transport's way to one store for one done. Requests over it come in order with those of Send.
type way struct {
	t      *Transport
	s      block.StoreID
	done   replica.Done
	settle func()

	// of who sends
	node   string     // that had the store at the last request; "" none
	lane   *lane      // to it
	conn   *peer.Conn // to it; nil: to be looked for
	locals *lane      // to the store here; nil: to be looked for
}

var (
	_ replica.Binder  = (*Transport)(nil)
	_ replica.Way     = (*way)(nil)
	_ peer.Sink       = (*way)(nil)
	_ replica.Replier = (*way)(nil)
)

// Bind implements replica.Binder.
func (t *Transport) Bind(s block.StoreID, done replica.Done, settle func()) replica.Way {
	return &way{t: t, s: s, done: done, settle: settle}
}

// Send implements replica.Way.
func (w *way) Send(typ replica.Type, parts ...[]byte) {
	if l := w.t.opt.Local(w.s); l != nil {
		if w.locals == nil {
			w.locals = w.t.localLane(w.s)
		}
		w.locals.add(&item{typ: typ, done: w.done, way: w}, parts)
		return
	}
	node, ok := w.t.opt.Owner(w.s)
	if !ok {
		w.t.fail(w.done, fmt.Errorf("store %s: no known node has it: %w", w.s, replica.ErrUnreachable))
		return
	}
	if node != w.node {
		w.node, w.lane, w.conn = node, w.t.lane(node, peer.Small), nil
	}
	if w.lane.waiting.Load() == 0 && w.direct(typ, parts) {
		return
	}
	w.lane.add(&item{typ: typ, done: w.done, way: w}, parts)
}

// direct sends over the connection; false: it has no room, or is being made. If the last attempt to make one failed, the request does.
func (w *way) direct(typ replica.Type, parts [][]byte) bool {
	if w.conn != nil {
		err := w.conn.SendTo(typ, w, nil, parts...)
		if err == nil || errors.Is(err, peer.ErrBusy) {
			return err == nil
		}
	}
	var err error
	if w.conn, err = w.t.opt.Pool.Try(w.node, peer.Small); err == nil {
		return w.conn.SendTo(typ, w, nil, parts...) == nil
	}
	w.conn = nil
	if errors.Is(err, peer.ErrBusy) {
		return false
	}
	w.t.fail(w.done, fmt.Errorf("node %s: %w: %w", w.node, replica.ErrUnreachable, err))
	return true
}

// Answer implements peer.Sink.
func (w *way) Answer(status uint16, body []byte, err error) { finish(w.done, status, body, err) }

// Settle implements peer.Sink.
func (w *way) Settle() { w.settle() }

// Reply implements replica.Replier, for a store here.
func (w *way) Reply(st replica.Status, parts ...[]byte) {
	reply(w.done, st, parts)
	w.settle()
}

// ReplyMore is Reply, and the next one follows at once.
func (w *way) ReplyMore(st replica.Status, parts ...[]byte) { reply(w.done, st, parts) }
