package sim

import (
	"fmt"
	"slices"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/disk"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/store"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// What is late and then of no use: reads that every store answers late, and with an error; and what waits for a connection to a node that is away, which
// arrives when that is back. Both happen in a quarter of the seeds (Config.Late); the others are as they were before there was either.

// refusal is when all stores refuse some reads, and which: so many of 16 places.
type refusal struct {
	from, until time.Duration
	share       uint64
	salt        uint64
}

// refuseReads has every store refuse the same reads for a while, most of them later than a reader waits before it asks another one.
func refuseReads(w *World, _ *node) bool {
	w.refusal = refusal{w.s.now, w.s.now + w.s.between(20*time.Millisecond, 3*time.Second), 4 + w.s.rng.Uint64N(13), w.s.rng.Uint64()}
	return true
}

// refuses tells whether stores refuse to read there at the moment.
func (w *World) refuses(x block.ExtentID, off uint32) bool {
	if w.s.now >= w.refusal.until {
		return false
	}
	h := w.refusal.salt ^ (uint64(off)<<32 | uint64(x.N)) ^ x.Epoch<<16
	h *= 0x9e3779b97f4a7c15
	return h>>60 < w.refusal.share
}

// lateness is how long a store takes to refuse a read: below and above what a reader waits before it asks another one, which is 2 to 100 ms.
func (w *World) lateness() time.Duration {
	if w.s.chance(0.3) {
		return w.s.between(0, 2*time.Millisecond)
	}
	return w.s.between(2*time.Millisecond, 150*time.Millisecond)
}

// excused tells whether something that was begun at a time may have failed because reads were refused, or are.
func (w *World) excused(begun time.Duration) bool {
	return w.refusal.until > 0 && begun < w.refusal.until && w.s.now >= w.refusal.from
}

// refuse answers a read with an error, late.
func (w *World) refuse(r *request) {
	w.cover(readsRefused, typeName(r.typ))
	r.Hold()
	w.s.after(w.lateness(), func() {
		if r.c.peer == nil || !r.c.peer.dead {
			r.Reply(replica.StatusError, []byte("the disk does not give it"))
		}
	})
	r.Release()
}

const readsRefused = "reads refused late"

// ownStore is a store as an engine of its node reads it.
type ownStore struct {
	*store.Store
	w *World
}

var _ volume.Local = ownStore{}

// refused waits, where that may be, and gives the error of a read that is refused.
func (o ownStore) refused(now bool) error {
	if now {
		return disk.ErrWouldWait
	}
	if s := o.w.s; s.cur != nil && s.cur.name == ownRead {
		o.w.cover(readsRefused, ownRead)
		s.wait(o.w.lateness())
	}
	return fmt.Errorf("the disk does not give it: %w", store.ErrIO)
}

// ReadLog implements volume.Local.
func (o ownStore) ReadLog(x block.ExtentID, off uint32, p []byte) error {
	if o.w.refuses(x, off) {
		return o.refused(false)
	}
	return o.Store.ReadLog(x, off, p)
}

// ReadData implements volume.Local.
func (o ownStore) ReadData(x block.ExtentID, off uint32, p []byte) error {
	if o.w.refuses(x, off) {
		return o.refused(false)
	}
	return o.Store.ReadData(x, off, p)
}

// ReadLogNow implements volume.Local.
func (o ownStore) ReadLogNow(x block.ExtentID, off uint32, p []byte) error {
	if o.w.refuses(x, off) {
		return o.refused(true)
	}
	return o.Store.ReadLogNow(x, off, p)
}

// ReadDataNow implements volume.Local.
func (o ownStore) ReadDataNow(x block.ExtentID, off uint32, p []byte) error {
	if o.w.refuses(x, off) {
		return o.refused(true)
	}
	return o.Store.ReadDataNow(x, off, p)
}

// heardOf is how long it takes until a caller hears that a connection broke. What it sends meanwhile goes to the next one.
func (w *World) heardOf() time.Duration {
	if !w.cfg.Late {
		return 0
	}
	return w.s.between(0, 100*time.Millisecond)
}

const (
	waitedForNode = "waited for a node"
	dialEvery     = 20 * time.Millisecond // requests that wait are tried at the same moments, in their order
	dialPatience  = 900 * time.Millisecond
)

// dials keeps a request back while its node is away, as a transport does that is connecting. Requests go different ways, which end on their own: one is refused while
// another still waits, and arrives once the node is back. It tells whether there is nothing more to do with the request now.
func (w *World) dials(r *request) bool {
	c, now := r.c, w.s.now
	n := c.dst
	if !w.cfg.Late || n.lost || c.broken || c.stalled || c.peer != nil || w.blocked(c.src.node, n) {
		return false
	}
	if n.proc != nil && (n.srv != nil || n.failed) {
		if r.dial != 0 {
			w.cover(waitedForNode, typeName(r.typ))
		}
		return false
	}
	if r.dial == 0 {
		r.dial = now + w.s.between(0, dialPatience)
	}
	if now < r.dial {
		w.s.after(dialEvery-now%dialEvery, func() { w.deliver(r) })
		return true
	}
	if i := slices.Index(c.out, r); i >= 0 {
		c.out = slices.Delete(c.out, i, i+1)
		w.fail(c.src, r, "no connection")
	}
	return true
}
