package sim

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/store"
)

// conn is one connection from a process to a node. It keeps order both ways and is used until it breaks.
type conn struct {
	w        *World
	src      *proc
	dst      *node
	peer     *proc // the process that answers; nil before the first delivery
	out      []*request
	lastTo   time.Duration
	lastBack time.Duration
	broken   bool
	stalled  bool
	ghosts   int           // requests that are delivered although the connection broke
	lag      time.Duration // of ghosts
}

type request struct {
	c         *conn
	typ       replica.Type
	store     block.StoreID
	body      []byte
	done      replica.Done
	epoch     block.Epoch
	extent    block.ExtentID
	asked     replica.Type  // typ as it was sent
	dial      time.Duration // until when it waits for a node that is away; 0: it has not met one
	at        time.Duration // when it arrives
	delivered bool
	lagged    bool
	replied   bool
	uses      int // of body, by the store that has taken it
}

// transport is what a process sends with.
type transport struct {
	w *World
	p *proc
}

var (
	_ replica.Transport = transport{}
	_ replica.Sharer    = parcels{}
	_ replica.Binder    = parcels{}
)

// parcels is a transport that sends large records from one copy, and makes ways.
type parcels struct{ transport }

// SendAll implements replica.Sharer. What it was lent changes as soon as it returns.
func (t parcels) SendAll(typ replica.Type, to []replica.Target, parts ...[]byte) {
	t.w.cover("one parcel", typeName(typ))
	all := append([][]byte{nil}, parts...)
	for i := range to {
		all[0] = to[i].Head
		t.Send(to[i].Store, typ, to[i].Done, all...)
	}
	clear(to)
}

// way is a transport's way to a store. Its answers are settled some at a time.
type way struct {
	parcels
	store  block.StoreID
	done   replica.Done
	settle func()
	due    bool
}

// Bind implements replica.Binder.
func (t parcels) Bind(s block.StoreID, done replica.Done, settle func()) replica.Way {
	return &way{parcels: t, store: s, done: done, settle: settle}
}

// Send implements replica.Way.
func (y *way) Send(typ replica.Type, parts ...[]byte) {
	y.parcels.Send(y.store, typ, y.answer, parts...)
}

func (y *way) answer(st replica.Status, body []byte, err error) {
	y.done(st, body, err)
	if y.due {
		y.w.cover("answers settled together", typeName(replica.TypeAppend))
		return
	}
	y.due = true
	y.w.s.after(y.w.s.between(0, 200*time.Microsecond), func() {
		y.due = false
		if !y.p.dead {
			y.settle()
		}
	})
}

// Send implements replica.Transport.
func (t transport) Send(s block.StoreID, typ replica.Type, done replica.Done, parts ...[]byte) {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	body := make([]byte, 0, size)
	for _, p := range parts {
		body = append(body, p...)
	}
	r := &request{typ: typ, asked: typ, store: s, body: body, done: done}
	if len(body) >= headSize {
		r.epoch, r.extent = block.GetEpoch(body[16:]), block.GetExtentID(body[16+block.EpochSize:])
	}
	t.w.send(t.p, r)
}

func (w *World) send(src *proc, r *request) {
	dst := w.byStore[r.store]
	if src.dead {
		return
	}
	w.minting(r)
	w.sent[r.asked]++
	if dst == nil {
		w.s.after(w.s.between(100*time.Microsecond, time.Millisecond), func() { w.fail(src, r, "no such store") })
		return
	}
	if w.cfg.Lie != nil && w.cfg.Lie.onSend(w, src, dst, r) {
		return
	}
	c := src.conns[dst.idx]
	if c == nil || c.broken {
		c = &conn{w: w, src: src, dst: dst, lastTo: w.s.now + w.latency(src.node, dst)}
		src.conns[dst.idx] = c
	}
	r.c = c
	c.out = append(c.out, r)
	at := max(c.lastTo, w.s.now+w.latency(src.node, dst))
	c.lastTo, r.at = at, at
	w.s.after(at-w.s.now, func() { w.deliver(r) })
	if w.cfg.LoseMessage > 0 && w.cfg.faulty && src.node != dst && w.s.chance(w.cfg.LoseMessage) {
		w.cover("message lost", typeName(r.typ))
		c.stall()
	}
}

func (w *World) latency(a, b *node) time.Duration {
	if a == b {
		return w.s.between(2*time.Microsecond, 20*time.Microsecond)
	}
	d := w.s.between(w.netBase, 3*w.netBase)
	if w.s.chance(0.02) {
		d += w.s.between(0, 40*w.netBase)
	}
	return d + a.netDelay + b.netDelay
}

// blocked tells whether packets from a to b are lost.
func (w *World) blocked(a, b *node) bool { return a != b && w.cut[a.idx][b.idx] }

func (w *World) deliver(r *request) {
	c := r.c
	if c.broken {
		if c.ghosts == 0 {
			return
		}
		if !r.lagged {
			r.lagged = true
			w.s.after(c.lag, func() { w.deliver(r) })
			return
		}
		c.ghosts--
	}
	if w.dials(r) {
		return
	}
	p := c.dst.proc
	switch {
	case c.stalled && !c.broken:
		return
	case w.blocked(c.src.node, c.dst):
		c.stall()
		return
	case p == nil || p.dead || (c.peer != nil && c.peer != p):
		c.breakUp("refused")
		return
	case p.frozen > w.s.now:
		w.s.after(p.frozen-w.s.now, func() { w.deliver(r) })
		return
	}
	c.peer = p
	r.delivered = true
	w.s.mix(uint64(r.typ)<<32 | uint64(c.dst.idx)<<8 | uint64(c.src.node.idx))
	if w.s.tail != nil {
		w.s.tracef("%s > %s %s", c.src.node.name, c.dst.name, describe(r.typ, r.body))
	}
	w.handle(p, r)
}

// handle gives a request to the process, and takes away the body that it only borrowed.
func (w *World) handle(p *proc, r *request) {
	n := r.c.dst
	w.inFlight = typeName(r.typ)
	if n.srv == nil {
		r.Reply(replica.StatusQuarantined, []byte("store did not open"))
		return
	}
	if r.asked == replica.TypeFree {
		w.freeing(n, r)
	}
	if (r.asked == replica.TypeReadData || r.asked == replica.TypeReadLog) && len(r.body) >= headSize+4 && w.refuses(r.extent, binary.LittleEndian.Uint32(r.body[headSize:])) {
		w.refuse(r)
		return
	}
	r.Hold()
	if w.cfg.Lie == nil || !w.cfg.Lie.onHandle(w, n, r) {
		n.srv.Handle(r.c.src.node.name, r.typ, r.body, r)
	}
	r.Release()
}

var (
	_ replica.Replier = (*request)(nil)
	_ store.Keeper    = (*request)(nil)
)

// Hold implements store.Keeper.
func (r *request) Hold() { r.uses++ }

// Release implements store.Keeper: once the last use has ended, the body is something else.
func (r *request) Release() {
	if r.uses--; r.uses == 0 {
		clear(r.body)
	}
}

// soon is within which time a request arrives that counts as being there already.
const soon = time.Millisecond

// More tells whether more of what the sender sends is there already. It is then handled, or lost with the connection.
func (r *request) More() bool {
	w := r.c.w
	more := w.cfg.Stream && slices.ContainsFunc(r.c.out, func(o *request) bool { return !o.delivered && o.at <= w.s.now+soon })
	if more {
		w.cover("more on its way", typeName(r.typ))
	}
	return more
}

// Reply implements replica.Replier.
func (r *request) Reply(st replica.Status, parts ...[]byte) {
	c := r.c
	w := c.w
	if r.replied {
		w.violate(0, "request %s of %s answered twice", typeName(r.typ), c.src.node.name)
		return
	}
	r.replied = true
	if st == replica.StatusOK {
		w.watch(r)
	}
	var body []byte
	for _, p := range parts {
		body = append(body, p...)
	}
	if c.broken || (c.peer != nil && c.peer.dead) {
		return
	}
	at := max(c.lastBack, w.s.now+w.latency(c.dst, c.src.node))
	c.lastBack = at
	w.s.after(at-w.s.now, func() { w.answer(r, st, body) })
}

// watch checks promise 3 at its root: a replica that has said that it promised an epoch acknowledges nothing of a lower
// one, whatever happens to it.
func (w *World) watch(r *request) {
	k := promiseKey{r.store, r.extent.Volume}
	was := w.promised[k]
	switch {
	case r.asked == replica.TypePromise && was.Less(r.epoch):
		w.promised[k] = r.epoch
	case r.asked == replica.TypeAppend && r.epoch.Less(was):
		w.violate(3, "store of %s acknowledged a record of v%d under epoch %s after it had promised %s", r.c.dst.name, r.extent.Volume[0], r.epoch, was)
	}
}

// minting checks that no extent is opened twice under one id: what was opened in vain may be found by a later recovery (promise 1).
func (w *World) minting(r *request) {
	const record = headSize + 4
	if (r.typ != replica.TypeAppend && r.typ != replica.TypeAppendGC) || len(r.body) < record+journal.HeaderSize || r.body[record+3] != byte(journal.TypeOpen) {
		return
	}
	h := block.Sum(r.body[record:])
	if was, ok := w.opened[r.extent]; ok && was != h {
		w.violate(1, "extent %d.%d of v%d is opened a second time, by session %s", r.extent.Epoch, r.extent.N, r.extent.Volume[0], r.epoch)
	}
	w.opened[r.extent] = h
}

// promiseKey names a promise.
type promiseKey struct {
	store  block.StoreID
	volume block.VolumeID
}

func (w *World) answer(r *request, st replica.Status, body []byte) {
	c := r.c
	switch {
	case c.broken || c.src.dead || c.stalled:
		return
	case w.blocked(c.dst, c.src.node):
		c.stall()
		return
	case c.src.frozen > w.s.now:
		w.s.after(c.src.frozen-w.s.now, func() { w.answer(r, st, body) })
		return
	}
	for i, o := range c.out {
		if o == r {
			c.out = append(c.out[:i], c.out[i+1:]...)
			break
		}
	}
	if w.s.tail != nil {
		w.s.tracef("%s < %s %s status %d %s", c.src.node.name, c.dst.name, typeName(r.typ), st, describeReply(r.typ, st, body))
	}
	if (r.asked == replica.TypeReadData || r.asked == replica.TypeReadLog) && st == replica.StatusOK && c.dst != c.src.node {
		w.carried += int64(len(body))
	}
	r.done(st, body, nil)
	clear(body)
}

func (w *World) fail(src *proc, r *request, why string) {
	if src.dead {
		return
	}
	r.done(0, nil, fmt.Errorf("%s: %w", why, replica.ErrUnreachable))
}

// stall is what the loss of packets does: nothing comes through until both ends notice that the connection is dead.
func (c *conn) stall() {
	if c.stalled || c.broken {
		return
	}
	c.stalled = true
	c.w.s.after(c.w.s.between(500*time.Millisecond, 4*time.Second), func() { c.breakUp("timeout") })
}

// breakUp ends a connection: whatever is outstanding fails, and may yet be carried out.
func (c *conn) breakUp(why string) {
	if c.broken {
		return
	}
	w := c.w
	c.broken = true
	if c.src.conns[c.dst.idx] == c {
		c.src.conns[c.dst.idx] = nil
	}
	undelivered := 0
	for _, r := range c.out {
		if !r.delivered {
			undelivered++
		}
	}
	if undelivered > 0 && !c.stalled {
		c.ghosts = w.s.rng.IntN(undelivered + 1)
		c.lag = w.s.between(0, 20*time.Millisecond)
	}
	w.s.mix(0xb0000000 | uint64(c.dst.idx))
	if w.s.tail != nil {
		w.s.tracef("%s > %s connection breaks (%s), %d outstanding, %d ghosts", c.src.node.name, c.dst.name, why, len(c.out), c.ghosts)
	}
	out := c.out
	c.out = nil
	tell := w.s.call
	if late := w.heardOf(); late > 0 {
		tell = func(f func()) { w.s.after(late, f) }
	}
	for _, r := range out {
		tell(func() { w.fail(c.src, r, "connection broken: "+why) })
	}
}

var typeNames = [...]string{"append", "promise", "stat", "readlog", "readdata", "cut", "pull", "free", "lease", "extents", "volumes", "drop", "repair", "scrub"}

func typeName(t replica.Type) string {
	if i := int(t) - int(replica.TypeAppend); i >= 0 && i < len(typeNames) {
		return typeNames[i]
	}
	return fmt.Sprintf("type%d", t)
}

const headSize = 16 + block.EpochSize + block.ExtentIDSize

// describe says what a request is, for the trace.
func describe(t replica.Type, b []byte) string {
	if len(b) < headSize {
		return typeName(t)
	}
	e, x := block.GetEpoch(b[16:]), block.GetExtentID(b[16+block.EpochSize:])
	s := fmt.Sprintf("%s v%d x%d.%d e%d.%d", typeName(t), x.Volume[0], x.Epoch, x.N, e.Number, e.Session)
	if t == replica.TypeAppend && len(b) > headSize+4+24 {
		s += fmt.Sprintf(" seq %d type %d", binary.LittleEndian.Uint64(b[headSize+4+16:]), b[headSize+4+3])
	}
	if t == replica.TypeReadData || t == replica.TypeReadLog {
		s += fmt.Sprintf(" %d+%d", binary.LittleEndian.Uint32(b[headSize:]), binary.LittleEndian.Uint32(b[headSize+4:]))
	}
	return s
}

func describeReply(t replica.Type, st replica.Status, b []byte) string {
	if st != replica.StatusOK && st != replica.StatusFenced && len(b) < 400 {
		return string(b)
	}
	if s, err := replica.DecodeState(b); err == nil {
		return fmt.Sprintf("promised %d.%d held %v unknown %v seq %d epoch %d.%d closed %v", s.Promised.Number, s.Promised.Session, s.Held, s.Unknown,
			s.Chain.Seq, s.Chain.Epoch.Number, s.Chain.Epoch.Session, s.Chain.Closed)
	}
	if t == replica.TypeAppend && len(b) == 8 {
		return fmt.Sprintf("seq %d", binary.LittleEndian.Uint64(b))
	}
	return fmt.Sprintf("%d bytes", len(b))
}
