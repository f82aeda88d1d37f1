package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// client is what uses a device: one request at a time. It lives as long as the device, through restarts of the agent.
type client struct {
	pending *pending
	buf     []byte
}

// pending is a write or discard whose answer is not there yet.
type pending struct {
	id       ring.ID
	e        entry
	call     time.Duration
	accepted bool
}

// opRecord is one finished or interrupted request, for porcupine.
type opRecord struct {
	client    int
	write     bool
	page      int
	values    []uint64
	call, ret time.Duration // ret < 0: never answered
}

const maxBuf = 64 * block.PageSize

func (s *seat) runClient(i int) {
	c := s.clients[i]
	if c.buf == nil {
		c.buf = make([]byte, maxBuf)
	}
	w := s.v.w
	s.resends++
	s.p.Go("client", func() {
		if c.pending != nil {
			s.mutate(i, c) // what was not answered is sent again under the same id
		}
		if s.resends--; s.resends == 0 {
			s.e.Resent()
		}
		for !s.quit && !w.stopping && s.e.Err() == nil {
			s.p.Sleep(w.s.between(0, w.cfg.Think))
			if s.gate || s.quit || w.stopping {
				continue
			}
			s.request(i, c)
		}
	})
}

// extent of a request: small more often than not.
func (s *seat) someRange() (page, n int) {
	w := s.v.w
	size := len(s.r.state)
	switch k := w.s.rng.IntN(40); {
	case k < 28:
		n = 1 + w.s.rng.IntN(3)
	case k < 39:
		n = 1 + w.s.rng.IntN(12)
	default:
		n = 1 + w.s.rng.IntN(64)
	}
	n = min(n, size)
	return w.s.rng.IntN(size - n + 1), n
}

func (s *seat) request(i int, c *client) {
	w := s.v.w
	page, n := s.someRange()
	switch k := w.s.rng.IntN(100); {
	case k < 42:
		c.pending = &pending{id: w.requestID(), e: entry{kind: entryWrite, page: page, n: n, first: w.values + 1}, call: w.s.now}
		w.values += uint64(n)
		s.mutate(i, c)
	case k < 50:
		c.pending = &pending{id: w.requestID(), e: entry{kind: entryDiscard, page: page, n: n}, call: w.s.now}
		s.mutate(i, c)
	case k < 60:
		s.flush()
	default:
		s.read(i, c, page, n)
	}
}

func (w *World) requestID() (id ring.ID) {
	w.ids++
	binary.LittleEndian.PutUint64(id[:], w.ids)
	id[23] = 1
	return id
}

// mutate carries out c.pending.
func (s *seat) mutate(i int, c *client) {
	w := s.v.w
	p := c.pending
	s.flight++
	var err error
	if p.e.kind == entryWrite {
		buf := c.buf[:p.e.n*block.PageSize]
		for j := range p.e.n {
			fillPage(buf[j*block.PageSize:(j+1)*block.PageSize], p.e.first+uint64(j))
		}
		err = s.e.Write(p.id, buf, int64(p.e.page)*block.PageSize)
		clear(buf) // the engine has no claim on it any more
	} else {
		err = s.e.Discard(p.id, int64(p.e.page)*block.PageSize, int64(p.e.n)*block.PageSize)
	}
	s.flight--
	ret := w.s.now
	switch {
	case errors.Is(err, syscall.ENOSPC): // it has no effect, now or later
		w.cover("ENOSPC", "write")
		s.p.Sleep(100 * time.Millisecond)
		c.pending = nil
		return
	case err != nil:
		if ret = -1; s.e.Err() == nil {
			w.violate(7, "v%d on %s: write fails: %v", s.v.spec.ID[0], s.n.name, err)
		}
	default:
		w.counts.Writes++
		w.counts.Pages += p.e.n
		if !p.accepted {
			slot, ok := findSlot(s.mem, p.id)
			if !ok {
				w.violate(2, "v%d on %s: an acknowledged write is not in the ring", s.v.spec.ID[0], s.n.name)
			}
			s.accept(p, slot)
		}
		s.e.Answered(p.id)
	}
	if w.cfg.Porcupine {
		s.r.ops = append(s.r.ops, record(i, p, ret))
	}
	c.pending = nil
}

// accept enters what has taken effect as write sequence slot.
func (s *seat) accept(p *pending, slot uint64) {
	w := s.v.w
	p.accepted = true
	if slot <= s.r.w {
		w.violate(2, "v%d on %s: write sequence %d after %d", s.v.spec.ID[0], s.n.name, slot, s.r.w)
	}
	s.r.w = slot
	s.r.accept(p.e, w.s.now)
	w.s.mix(slot)
	if w.s.tail != nil {
		w.s.tracef("v%d.%d entry %d = wseq %d: %s", s.v.spec.ID[0], s.r.n, len(s.r.log)-1, slot, p.e.String())
	}
}

// String is for the trace.
func (e *entry) String() string {
	switch e.kind {
	case entryWrite:
		return fmt.Sprintf("write %d+%d values %d..%d", e.page, e.n, e.first, e.first+uint64(e.n)-1)
	case entryDiscard:
		return fmt.Sprintf("discard %d+%d", e.page, e.n)
	case entryResize:
		return fmt.Sprintf("resize %d", e.n)
	case entryContent:
		return "content"
	}
	return "snapshot"
}

func (s *seat) flush() {
	w := s.v.w
	covered := len(s.r.log)
	s.flight++
	err := s.e.Flush()
	s.flight--
	if err == nil {
		w.counts.Flushes++
		s.flushed(covered)
	} else if s.e.Err() == nil {
		w.violate(7, "v%d on %s: flush fails: %v", s.v.spec.ID[0], s.n.name, err)
	}
}

// flushed notes that a FLUSH was answered that covers the first n entries.
func (s *seat) flushed(n int) {
	r, w := s.r, s.v.w
	w.s.tracef("v%d.%d flushed %d entries", s.v.spec.ID[0], r.n, n)
	if r.next != nil && n > r.cut && !r.mayFlush(w.s.now) {
		w.violate(3, "v%d on %s: reign %d had a FLUSH of %d entries answered, but the next writer had gone on from %d", s.v.spec.ID[0], s.n.name, r.n, n, r.cut)
	}
	r.flushed = max(r.flushed, n)
}

func (s *seat) read(i int, c *client, page, n int) {
	w := s.v.w
	buf := c.buf[:n*block.PageSize]
	call := w.s.now
	s.flight++
	err := s.e.Read(buf, int64(page)*block.PageSize)
	s.flight--
	if err != nil {
		if s.e.Err() == nil && !w.excused(call) {
			w.violate(5, "v%d on %s: read of %d+%d fails although a good copy must exist: %v", s.v.spec.ID[0], s.n.name, page, n, err)
		}
		return
	}
	w.counts.Reads++
	values := make([]uint64, n)
	for j := range n {
		v, ok := pageValue(buf[j*block.PageSize : (j+1)*block.PageSize])
		if !ok {
			w.violate(5, "v%d page %d on %s: bytes that nobody wrote (value %d)", s.v.spec.ID[0], page+j, s.n.name, v)
			return
		}
		if !s.r.allowed(page+j, v, call, w.s.now) {
			w.violate(2, "v%d.%d page %d on %s: read %d (entry %d), written %v, read from %v to %v", s.v.spec.ID[0], s.r.n, page+j, s.n.name, v,
				entryOf(s.r.log, page+j, v), s.r.pages[page+j], call, w.s.now)
			return
		}
		values[j] = v
		w.s.mix(v)
	}
	if w.cfg.Porcupine {
		s.r.ops = append(s.r.ops, opRecord{client: i, page: page, values: values, call: call, ret: w.s.now})
	}
}

// work has clients use the volume until the seat ends, or it is time to go elsewhere.
func (v *vol) work(s *seat) {
	w := v.w
	w.s.tracef("v%d.%d works on %s", v.spec.ID[0], s.r.n, s.n.name)
	for i := range s.clients {
		s.runClient(i)
	}
	leave := w.s.now + w.s.between(w.cfg.Stay/4, 2*w.cfg.Stay)
	for !w.stopping && w.failure == nil && !s.over && s.e.Err() == nil && w.s.now < leave {
		w.home.Sleep(w.s.between(20*time.Millisecond, w.cfg.Admin))
		if s.over || s.e.Err() != nil || w.stopping {
			break
		}
		v.administer(s)
		s.gate = false
		if s.spoilt {
			break
		}
	}
	switch {
	case s.over || w.failure != nil:
	case s.e.Err() != nil:
		s.quit = true
		w.cover("engine ended", reason(s.e.Err()))
		delete(s.n.rings, v.spec.ID)
	case w.stopping && !s.spoilt:
	case s.spoilt:
		delete(s.n.rings, v.spec.ID)
		_, _ = s.onSeat("close", func() error { return s.e.Close(false) })
	default:
		v.leave(s)
	}
}

// leave ends the work on a seat in one of the ways in which volumes move.
func (v *vol) leave(s *seat) {
	w := v.w
	w.counts.Moves++
	k := w.s.rng.IntN(5)
	if k == 4 { // the engine ends, and its own process resumes the ring
		s.quit = true
		if s.hold() && s.idle() {
			w.cover("engine resumed in its process", "close")
			_, s.again = s.onSeat("close", func() error { return s.e.Close(false) })
			return
		}
	}
	defer delete(s.n.rings, v.spec.ID)
	switch k {
	case 0: // the node keeps writing until it is fenced
		w.cover("forced move", "open")
		return
	case 1: // detached without a flush
		s.quit = true
		s.hold()
		_, _ = s.onSeat("close", func() error { return s.e.Close(false) })
	default:
		s.quit = true
		if s.hold() {
			covered := len(s.r.log)
			if err, ok := s.onSeat("close", func() error { return s.e.Close(true) }); ok && err == nil {
				s.flushed(covered)
			}
		}
	}
}

// idle waits until no client has a request in hand.
func (s *seat) idle() bool {
	s.v.w.waitFor(func() bool {
		return s.over || !slices.ContainsFunc(s.clients, func(c *client) bool { return c.pending != nil })
	})
	return !s.over
}

// administer does one of the things that clients do not.
func (v *vol) administer(s *seat) {
	w := v.w
	k := w.s.rng.IntN(20)
	w.s.tracef("v%d.%d administer %d", v.spec.ID[0], s.r.n, k)
	defer func() { w.s.tracef("v%d.%d administered %d", v.spec.ID[0], s.r.n, k) }()
	switch {
	case k < 5:
		_, _ = s.onSeat("checkpoint", s.e.Checkpoint)
	case k < 9:
		v.takeSnapshot(s)
	case k < 11:
		v.clone(s)
	case k < 13:
		v.rollback(s)
	case k < 14:
		v.deleteSnapshot(s)
	case k < 15:
		v.resize(s)
	case k < 17:
		if s.hold() {
			covered := len(s.r.log)
			if err, ok := s.onSeat("flush", s.e.Flush); ok && err == nil {
				s.flushed(covered)
			}
		}
	case k < 18:
		clean := func() error { _, err := s.e.Clean(); return err }
		if len(s.r.log)%2 == 0 { // no draw, so that seeds mean what they meant
			clean = s.e.Tidy
		}
		err, _ := s.onSeat("clean", clean)
		w.s.tracef("v%d.%d cleaned: %v", v.spec.ID[0], s.r.n, err)
	}
}

func (v *vol) takeSnapshot(s *seat) {
	w := v.w
	if len(v.snaps) >= 4 {
		return
	}
	if w.s.chance(0.5) && !s.hold() {
		return
	}
	w.ids++
	sn := &snapshot{name: fmt.Sprintf("s%d", w.ids), lo: len(s.r.log)}
	binary.LittleEndian.PutUint64(sn.id[:], w.ids)
	v.snaps = append(v.snaps, sn)
	err, ok := s.onSeat("snapshot", func() error { return s.e.Snapshot(journal.Snapshot{ID: sn.id, Name: sn.name}) })
	sn.log = s.r.log[:len(s.r.log):len(s.r.log)]
	w.s.tracef("v%d snapshot %s of entries %d to %d: %v %v", v.spec.ID[0], sn.name, sn.lo, len(sn.log), ok, err)
	if ok && err == nil {
		sn.sure = true
		w.counts.Snapshots++
		s.flushed(sn.lo)
		if sn.lo == len(sn.log) {
			sn.content = stateAt(sn.log, sn.lo)
		}
	} else if ok && s.e.Err() == nil {
		s.refused(err, 8, "snapshot")
	}
}

// pick chooses a snapshot that surely exists.
func (v *vol) pick(known bool) *snapshot {
	var list []*snapshot
	for _, sn := range v.snaps {
		if sn.sure && !sn.gone && (!known || sn.content != nil) {
			list = append(list, sn)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[v.w.s.rng.IntN(len(list))]
}

// clone makes a volume of a snapshot, once a checkpoint has made its root known.
func (v *vol) clone(s *seat) {
	w := v.w
	sn := v.pick(false)
	if sn == nil || len(w.vols) >= w.cfg.Volumes+w.cfg.Clones {
		return
	}
	if err, ok := s.onSeat("checkpoint", s.e.Checkpoint); !ok || err != nil {
		return
	}
	w.home.Go("life", w.newClone(v, sn).life)
}

func (w *World) newClone(v *vol, sn *snapshot) *vol {
	spec := v.spec
	spec.ID, spec.Parent, spec.Snapshot, spec.Pages = w.volumeID(), v.spec.ID, sn.id, 0
	sn.clones++
	w.counts.Clones++
	c := w.newVol(spec)
	c.parent = sn
	return c
}

func (v *vol) rollback(s *seat) {
	w := v.w
	sn := v.pick(true)
	if sn == nil || !s.hold() {
		return
	}
	v.change(s, entry{kind: entryContent, content: sn.content}, "rollback", func() error { return s.e.Rollback(sn.id) })
	w.s.tracef("v%d rolled back to %s", v.spec.ID[0], sn.name)
}

func (v *vol) resize(s *seat) {
	size := len(s.r.state) + 1 + v.w.s.rng.IntN(16)
	if size > 2*v.w.cfg.Pages || !s.hold() {
		return
	}
	covered := len(s.r.log)
	if err, ok := s.onSeat("flush", s.e.Flush); !ok || err != nil {
		return
	}
	s.flushed(covered)
	v.change(s, entry{kind: entryResize, n: size}, "resize", func() error { return s.e.Resize(int64(size) * block.PageSize) })
}

// change carries out what changes the whole volume while no client works on it.
func (v *vol) change(s *seat, e entry, name string, f func() error) {
	s.r.accept(e, v.w.s.now)
	v.w.s.tracef("v%d.%d entry %d: %s", v.spec.ID[0], s.r.n, len(s.r.log)-1, name)
	n := len(s.r.log)
	v.admin = true
	err, ok := s.onSeat(name, f)
	switch {
	case ok && err == nil:
		v.admin = false
		s.flushed(n)
	case ok && s.e.Err() == nil:
		s.refused(err, 7, name)
	}
}

// administration is how long an action may take that came to an error because reads were refused.
const administration = 10 * time.Second

// refused is an administrative action that came to an error. If replicas could not be reached, or were changed while they were
// read, that may be; what it has done is then not known, and the seat is given up. Anything else breaks a promise.
func (s *seat) refused(err error, promise int, name string) {
	w := s.v.w
	if errors.Is(err, replica.ErrUnreachable) || errors.Is(err, replica.ErrNotHeld) || errors.Is(err, replica.ErrBusy) || w.excused(w.s.now-administration) {
		w.cover("unreachable", name)
		s.quit, s.spoilt = true, true
		return
	}
	w.violate(promise, "v%d on %s: %s: %v", s.v.spec.ID[0], s.n.name, name, err)
}

func (v *vol) deleteSnapshot(s *seat) {
	sn := v.pick(false)
	if sn == nil || sn.clones > 0 {
		return
	}
	sn.gone = true
	v.w.s.tracef("v%d deletes snapshot %s", v.spec.ID[0], sn.name)
	err, ok := s.onSeat("delete", func() error { return s.e.DeleteSnapshot(sn.id) })
	if ok && err == nil {
		v.remove(sn)
	} else if ok && s.e.Err() == nil {
		s.refused(err, 8, "delete snapshot")
	}
}

func (v *vol) remove(sn *snapshot) {
	for i, x := range v.snaps {
		if x == sn {
			v.snaps = append(v.snaps[:i:i], v.snaps[i+1:]...)
			return
		}
	}
}
