package transport

import (
	"fmt"
	"sync"
	"sync/atomic"

	"mynetwork.io/mynetwork/nodeagent/replica"
)

// lane is a queue that one goroutine empties in order, from the first use to the end of the transport.
type lane struct {
	t       *Transport
	run     func(items []item) // hands on all items, in order
	waiting atomic.Int64       // items that run has not finished with
	wake    chan struct{}

	mu      sync.Mutex
	items   []item
	spare   []item
	bytes   int
	started bool
	ended   bool
}

type item struct {
	typ    replica.Type
	expect int
	done   replica.Done
	way    *way // nil: done takes the answer
	body   *[]byte
	parcel *parcel // nil: none; else the body ends in it, or in a local lane is all of it. The lane holds it
}

// add queues a request, without its body, which is parts and then the parcel, if there is one.
func (l *lane) add(it *item, parts [][]byte) {
	p, n := it.parcel, 0
	for _, p := range parts {
		n += len(p)
	}
	body := l.t.bodies.get(n)
	for _, p := range parts {
		*body = append(*body, p...)
	}
	if p != nil {
		n += len(p.B)
	}
	l.mu.Lock()
	if !l.started {
		l.started, l.ended = true, !l.t.spawn(l.loop)
	}
	if l.ended || l.bytes+n > MaxWaiting {
		l.mu.Unlock()
		l.t.bodies.put(body)
		l.t.fail(it.done, fmt.Errorf("%w: too much waits for it, or it is closing", replica.ErrUnreachable))
		return
	}
	if p != nil {
		p.Hold()
	}
	l.bytes += n
	l.waiting.Add(1)
	l.items = append(l.items, *it)
	l.items[len(l.items)-1].body = body
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// loop hands on what is added. When the transport closes, run fails what is left.
func (l *lane) loop() {
	for closing := false; !closing; {
		select {
		case <-l.wake:
		case <-l.t.ctx.Done():
			closing = true
		}
		for l.pass(closing) {
		}
	}
}

// pass hands on what is there, and reports whether there was something. closing ends the lane once it is empty.
func (l *lane) pass(closing bool) bool {
	l.mu.Lock()
	items := l.items
	if len(items) == 0 {
		l.ended = closing
		l.mu.Unlock()
		return false
	}
	l.items, l.spare, l.bytes = l.spare[:0], nil, 0
	l.mu.Unlock()
	l.run(items)
	for i := range items {
		l.t.bodies.put(items[i].body)
		if p := items[i].parcel; p != nil {
			p.Release()
		}
	}
	l.waiting.Add(-int64(len(items)))
	clear(items)
	l.mu.Lock()
	l.spare = items[:0]
	l.mu.Unlock()
	return true
}
