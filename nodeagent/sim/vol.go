package sim

import (
	"encoding/binary"
	"errors"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/volume"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// vol is one volume and who works on it.
type vol struct {
	w      *World
	spec   volume.Spec
	cur    *reign // of the newest writer; nil before the first
	reigns int
	seat   *seat // of the newest writer; nil while there is none
	parent *snapshot
	snaps  []*snapshot
	epoch  block.Epoch // of the newest writer
	tries  []*attempt  // openings
	admin  bool        // the last entry of the log is of unknown outcome
	all    []*reign
	ended  bool // its life is over

	history journal.History // of the newest writer
}

// seat is an engine on a node.
type seat struct {
	v       *vol
	n       *node
	p       *proc
	e       *volume.Engine
	mem     []byte
	r       *reign
	clients []*client
	flight  int  // client requests under way
	resends int  // clients that may yet send a request again
	gate    bool // clients hold
	quit    bool // clients end
	over    bool // its process ended
	killed  bool // and left the ring
	spoilt  bool // what it has done is not known
	again   bool // it ended, and the same process shall resume the ring
}

func (w *World) newVol(spec volume.Spec) *vol {
	v := &vol{w: w, spec: spec}
	w.vols = append(w.vols, v)
	w.reg.create(spec.ID)
	return v
}

func (w *World) volumeID() (id block.VolumeID) {
	id[0] = byte(len(w.vols) + 1)
	binary.LittleEndian.PutUint64(id[8:], w.s.rng.Uint64())
	return id
}

// ended tells the seats of a process that it is no more.
func (w *World) ended(_ *node, p *proc, kill bool) {
	w.counts.Crashes++
	for _, v := range w.vols {
		if s := v.seat; s != nil && s.p == p {
			s.over, s.killed = true, kill
		}
	}
}

// attempt is one try to open a volume.
type attempt struct {
	done bool
	e    *volume.Engine
	err  error
	n    *node
	p    *proc
	mem  []byte
}

// tryOpen starts to open v on n; nil if n is down. Ring nil: a new one.
func (v *vol) tryOpen(n *node, mem []byte, force bool) *attempt {
	if n.proc == nil {
		return nil
	}
	a := &attempt{n: n, p: n.proc, mem: mem}
	o := volume.Options{Ring: mem, Force: force}
	if mem == nil {
		a.mem = make([]byte, v.w.cfg.RingBytes)
		o.Ring = a.mem
	} else if r, err := ring.Open(mem, v.spec.ID); err == nil && r.Epoch().Number == v.epoch.Number {
		o.Anchor = v.w.reg.facts[v.spec.ID].Anchor
	}
	v.tries = append(v.tries, a)
	v.w.s.tracef("v%d: opening on %s (resume %v, force %v)", v.spec.ID[0], n.name, mem != nil, force)
	p := n.proc
	p.Go("open", func() {
		e, err := volume.Open(n.deps(p), v.spec, o)
		a.e, a.err, a.done = e, err, true
		v.w.s.tracef("v%d: opened on %s: %v", v.spec.ID[0], n.name, err)
	})
	return a
}

// opening is how many openings are under way.
func (v *vol) opening() (n int) {
	for _, a := range v.tries {
		if !a.done && !a.gone() {
			n++
		}
	}
	return n
}

// gone tells that the attempt's process ended before it came to a result.
func (a *attempt) gone() bool { return a.p.dead }

// life attaches the volume somewhere, has clients work on it, moves it, and begins again. It is a task of the
// simulation.
func (v *vol) life() {
	w := v.w
	defer func() { v.ended = true }()
	var last *seat
	for !w.stopping && w.failure == nil {
		var s *seat
		if last != nil && last.again && !last.over {
			s = v.resumeOn(last, last.n)
			last.again = false
		}
		if s == nil && last != nil && last.killed && last.mem != nil && !w.s.chance(w.cfg.AbandonRing) {
			s = v.resume(last)
		}
		if s == nil {
			s = v.attach(last)
		}
		if s == nil {
			w.home.Sleep(w.s.between(50*time.Millisecond, time.Second))
			continue
		}
		v.work(s)
		last = s
		v.seat = nil
	}
	if last != nil && !w.stopping {
		last.quit = true
	}
}

// resume brings back the engine of a process that was killed, on its node.
func (v *vol) resume(last *seat) *seat {
	w := v.w
	n, p := last.n, last.p
	for n.proc == nil || n.srv == nil {
		if w.stopping || w.failure != nil {
			return nil
		}
		w.home.Sleep(20 * time.Millisecond)
		if n.proc == nil && n.rings[v.spec.ID] == nil {
			last.killed = false // the machine lost power meanwhile
			return nil
		}
	}
	if n.rings[v.spec.ID] == nil || p == n.proc {
		last.killed = false
		return nil
	}
	return v.resumeOn(last, n)
}

// resumeOn opens the volume with the ring that it has on n.
func (v *vol) resumeOn(last *seat, n *node) *seat {
	w := v.w
	mem := n.rings[v.spec.ID]
	last.landed(mem)
	a := v.tryOpen(n, mem, false)
	w.waitFor(func() bool { return a.done || a.gone() })
	if !a.done {
		return nil // killed again: the ring is still there
	}
	w.counts.Resumes++
	if a.err != nil {
		if v.epochOf(mem) == v.epoch && errors.Is(a.err, replication.ErrFenced) {
			w.cover("resume refused", "open")
		}
		if !errors.Is(a.err, errAway) {
			delete(n.rings, v.spec.ID)
			last.killed = false
		}
		return nil
	}
	return v.resumed(last, a)
}

// resumed checks that the ring has kept all that was acknowledged.
func (v *vol) resumed(last *seat, a *attempt) *seat {
	w := v.w
	s := &seat{v: v, n: a.n, p: a.p, e: a.e, mem: a.mem, r: last.r, clients: last.clients}
	if &a.mem[0] != &last.mem[0] { // of an attach whose process ended before anybody learnt of it: sequences are an epoch's
		s.r.w = 0
	}
	v.seat = s
	v.newHistory(s) // the ring has what the replicas may lack: nothing is given up
	got, ok := s.readAll()
	if !ok {
		s.quit = true
		last.p, last.killed = s.p, s.over && s.killed
		return nil
	}
	lo := len(s.r.log)
	if v.admin {
		lo--
	}
	k, ok := match(s.r.log, lo, len(s.r.log), got)
	if !ok {
		w.violate(2, "v%d resumed on %s with its ring, and lost or changed an acknowledged write: %s", v.spec.ID[0], s.n.name, explain(s.r.log, min(s.r.flushed, lo), len(s.r.log), got))
		return nil
	}
	if k < len(s.r.log) {
		s.r.log = s.r.log[:k:k]
		s.r.state = stateAt(s.r.log, k)
		s.r.reset(w.s.now)
		s.r.cutBack = true
	}
	v.admin = false
	v.checkSnapshots(s, k)
	return s
}

func (v *vol) epochOf(mem []byte) block.Epoch {
	r, err := ring.Open(mem, v.spec.ID)
	if err != nil {
		return block.Epoch{}
	}
	e := r.Epoch()
	e.Session = 0
	return e
}

// landed accepts what clients had under way when their process was killed, and what reached the ring.
func (s *seat) landed(mem []byte) {
	for _, c := range s.clients {
		if c.pending == nil || c.pending.accepted {
			continue
		}
		if w, ok := findSlot(mem, c.pending.id); ok {
			s.accept(c.pending, w)
		}
	}
}

// findSlot looks for a request in the memory of a ring.
func findSlot(mem []byte, id ring.ID) (w uint64, ok bool) {
	if id == (ring.ID{}) || string(mem[:4]) != "MNRG" {
		return 0, false
	}
	n := int(binary.LittleEndian.Uint32(mem[44:]))
	for i := range n {
		b := mem[4096+i*64:]
		if ring.ID(b[8:32]) == id {
			if w := binary.LittleEndian.Uint64(b); w != 0 && w%uint64(n) == uint64(i) {
				return w, true
			}
		}
	}
	return 0, false
}

// waitFor parks a task of the simulation until cond holds or the run is over.
func (w *World) waitFor(cond func() bool) {
	for !cond() && w.failure == nil {
		w.home.Sleep(3 * time.Millisecond)
	}
}

// attach opens the volume with a new ring, and finds out what its writer has found.
func (v *vol) attach(last *seat) *seat {
	w := v.w
	n := w.nodes[w.s.rng.IntN(len(w.nodes))]
	force := w.s.chance(0.5)
	a := v.tryOpen(n, nil, force)
	if a == nil {
		return nil
	}
	patience := w.s.now + w.s.between(5*time.Second, 40*time.Second)
	w.waitFor(func() bool { return a.done || a.gone() || w.s.now > patience })
	if !a.done || a.err != nil {
		if a.done {
			w.cover("attach refused", reason(a.err))
		} else if !a.gone() {
			w.cover("attach overtaken", "open")
			w.home.Go("late", func() { // whoever opens too late is closed
				w.waitFor(func() bool { return a.done || a.gone() })
				if a.done && a.err == nil && !a.gone() {
					a.p.Go("close", func() { _ = a.e.Close(false) })
				}
			})
		}
		return nil
	}
	w.counts.Opens++
	s := &seat{v: v, n: n, p: a.p, e: a.e, mem: a.mem}
	if a.gone() {
		return nil
	}
	n.rings[v.spec.ID] = a.mem
	old := v.seat
	v.seat = s
	if !v.establish(s) {
		s.quit = true
		if !s.over && w.failure == nil {
			s.p.Go("close", func() { _ = a.e.Close(false) })
		}
		v.seat = old
		return nil
	}
	if last != nil {
		last.killed = false
	}
	for range w.cfg.Clients {
		s.clients = append(s.clients, &client{})
	}
	s.r.clients = s.clients
	return s
}

func reason(err error) string {
	for _, e := range []error{volume.ErrHeld, volume.ErrConflict, replication.ErrFenced, volume.ErrLost, volume.ErrCut, errAway, volume.ErrNotFound, volume.ErrClosed} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return err.Error()
}

// establish reads the whole volume and finds which prefix of the former reign the new writer goes on from.
func (v *vol) establish(s *seat) bool {
	w := v.w
	got, ok := s.readAll()
	if !ok {
		return false
	}
	epoch := s.e.Status().Epoch
	if v.cur != nil && epoch.Number < v.epoch.Number {
		return false // it opened before the newest, and answered later
	}
	var r *reign
	k := 0
	switch {
	case v.cur != nil:
		prev := v.cur
		fresh := v.newHistory(s)
		lo := prev.kept(fresh)
		if k, ok = match(prev.log, lo, len(prev.log), got); !ok {
			w.violate(1, "v%d on %s, epoch %d: content is no prefix that a writer may find: %s", v.spec.ID[0], s.n.name, epoch.Number, explain(prev.log, lo, len(prev.log), got))
			return false
		}
		v.lostIn(prev, k, fresh)
		w.s.tracef("v%d: reign %d inherits %d of %d entries (%d flushed)", v.spec.ID[0], v.reigns+1, k, len(prev.log), prev.flushed)
		r = v.newReign(prev.log[:k:k], w.s.now)
		prev.next, prev.cut = r, k
	case v.parent != nil:
		if !v.parent.settle(got[:min(len(got), v.parentSize(got))]) {
			w.violate(8, "v%d, a clone of snapshot %s: %s", v.spec.ID[0], v.parent.name, explain(v.parent.log, v.parent.lo, len(v.parent.log), got))
			return false
		}
		r = v.newReign([]entry{{kind: entryContent, content: got}}, w.s.now)
	default:
		r = v.newReign([]entry{{kind: entryContent, content: make([]uint64, v.spec.Pages)}}, w.s.now)
		if !equal(got, r.state) {
			w.violate(5, "v%d is new and not empty", v.spec.ID[0])
			return false
		}
	}
	v.all = append(v.all, r)
	v.cur, v.epoch, v.admin = r, block.Epoch{Number: epoch.Number, Token: epoch.Token}, false
	s.r = r
	v.checkSnapshots(s, k)
	return w.failure == nil
}

// parentSize is how much of a clone comes from its snapshot.
func (v *vol) parentSize(got []uint64) int {
	if v.parent.content != nil {
		return len(v.parent.content)
	}
	return len(got)
}

// readAll reads the whole volume; false if that did not come to an end.
func (s *seat) readAll() (got []uint64, ok bool) {
	w := s.v.w
	finished, began := false, w.s.now
	var failed error
	s.p.Go("readall", func() {
		pages := int(s.e.Size() / block.PageSize)
		buf := make([]byte, 64*block.PageSize)
		for at := 0; at < pages; at += 64 {
			n := min(64, pages-at)
			p := buf[:n*block.PageSize]
			if failed = s.e.Read(p, int64(at)*block.PageSize); failed != nil {
				finished = true
				return
			}
			for i := range n {
				v, good := pageValue(p[i*block.PageSize : (i+1)*block.PageSize])
				if !good {
					w.violate(5, "v%d page %d on %s: bytes that nobody wrote (value %d)", s.v.spec.ID[0], at+i, s.n.name, v)
				}
				got = append(got, v)
			}
		}
		finished = true
	})
	w.waitFor(func() bool { return finished || s.p.dead })
	if !finished || w.failure != nil {
		return nil, false
	}
	if failed != nil {
		if s.e.Err() == nil && !w.excused(began) {
			w.violate(5, "v%d on %s: read fails although a good copy must exist: %v", s.v.spec.ID[0], s.n.name, failed)
		}
		return nil, false
	}
	w.counts.Verified++
	return got, true
}

// checkSnapshots requires that all snapshots are there that were acknowledged, and none that nobody asked for. cut is
// how much of the log they were taken from is left.
func (v *vol) checkSnapshots(s *seat, cut int) {
	list := s.e.Snapshots()
	has := func(id [16]byte) bool {
		for i := range list {
			if list[i].ID == id {
				return true
			}
		}
		return false
	}
	keep := v.snaps[:0]
	known := 0
	for _, sn := range v.snaps {
		held := has(sn.id)
		switch {
		case held:
			known++
			sn.sure, sn.gone = true, false
			if len(sn.log) > cut && sn.content == nil && cut >= sn.lo {
				sn.log = sn.log[:cut]
			}
			keep = append(keep, sn)
		case sn.sure && !sn.gone:
			v.w.violate(8, "v%d has lost snapshot %s", v.spec.ID[0], sn.name)
		}
	}
	v.snaps = keep
	if known != len(list) && v.parent == nil {
		names := ""
		for i := range list {
			names += " " + list[i].Name
		}
		v.w.violate(8, "v%d has %d snapshots, %d are known:%s", v.spec.ID[0], len(list), known, names)
	}
}

// onSeat runs f as a task of the seat's process. false: the process ended first.
func (s *seat) onSeat(name string, f func() error) (err error, ok bool) {
	done := false
	if s.p.dead {
		return nil, false
	}
	s.p.Go(name, func() {
		err = f()
		done = true
	})
	s.v.w.waitFor(func() bool { return done || s.p.dead })
	return err, done
}

// hold stops clients from starting requests and waits until none is under way; false if the seat ended.
func (s *seat) hold() bool {
	s.gate = true
	s.v.w.waitFor(func() bool { return s.flight == 0 || s.over || s.e.Err() != nil || s.v.w.stopping })
	return s.flight == 0 && !s.over && s.e.Err() == nil
}
