package sim

import "time"

// fault is one thing that can go wrong. It may refuse by returning false.
type fault struct {
	name   string
	weight int
	layout bool // only in runs whose layout changes
	do     func(w *World, n *node) bool
}

var faults = [...]fault{
	{"kill", 10, false, func(_ *World, n *node) bool { return n.die(true) }},
	{"kill in a disk operation", 6, false, func(w *World, n *node) bool { return n.dieLater(true) }},
	{"power cut", 6, false, func(_ *World, n *node) bool { return n.die(false) }},
	{"power cut in a disk operation", 8, false, func(w *World, n *node) bool { return n.dieLater(false) }},
	{"power cut of all", 2, false, powerCutOfAll},
	{"partition", 8, false, partition},
	{"one-way partition", 5, false, oneWay},
	{"connection broken", 10, false, breakConn},
	{"slow network", 5, false, func(w *World, n *node) bool {
		n.netDelay = w.s.between(time.Millisecond, 400*time.Millisecond)
		return w.later(8*time.Second, func() { n.netDelay = 0 })
	}},
	{"slow disk", 5, false, func(w *World, n *node) bool {
		n.diskDelay = w.s.between(time.Millisecond, 300*time.Millisecond)
		return w.later(10*time.Second, func() { n.diskDelay = 0 })
	}},
	{"stuck sync", 4, false, func(w *World, n *node) bool {
		n.stuck = w.s.now + w.s.between(time.Second, 15*time.Second)
		return true
	}},
	{"frozen process", 5, false, func(w *World, n *node) bool {
		if n.proc == nil {
			return false
		}
		n.proc.frozen = w.s.now + w.s.between(100*time.Millisecond, 20*time.Second)
		return true
	}},
	{"clock jump", 4, false, func(w *World, n *node) bool {
		if n.proc == nil {
			return false
		}
		n.proc.offset += w.s.between(time.Second, 90*time.Second)
		return true
	}},
	{"disk full", 3, false, func(w *World, n *node) bool {
		n.full = true
		return w.later(10*time.Second, func() { n.full = false })
	}},
	{"API away", 5, false, func(w *World, _ *node) bool {
		w.reg.away = true
		return w.later(15*time.Second, func() { w.reg.away = false })
	}},
	{"registry restored", 2, false, func(w *World, _ *node) bool {
		w.reg.restore(w.vols[w.s.rng.IntN(len(w.vols))].spec.ID)
		return true
	}},
	{"EIO on read", 3, false, func(w *World, n *node) bool {
		if !w.damage(n) {
			return false
		}
		n.ioErrors = 1 + w.s.rng.IntN(4)
		return true
	}},
	{"bit rot", 6, false, func(w *World, n *node) bool {
		if !w.damage(n) {
			return false
		}
		n.rot(1 + w.s.rng.IntN(30))
		return true
	}},
	{"bad writes", 3, false, func(w *World, n *node) bool {
		if !w.damage(n) {
			return false
		}
		n.badWrites = 1 + w.s.rng.IntN(4)
		return true
	}},
	{"failed fsync", 2, false, func(w *World, n *node) bool {
		if !w.damage(n) {
			return false
		}
		n.syncFails = true
		return true
	}},
	{"disk replaced", 2, false, func(w *World, n *node) bool {
		if !w.damage(n) {
			return false
		}
		n.die(false)
		n.newDisk()
		return true
	}},
	{"node added", 6, true, addNode},
	{"node drained", 10, true, drainNode},
	{"drain cancelled", 4, true, cancelDrain},
	{"node re-weighted", 3, true, reweigh},
	{"node removed", 8, true, removeNode},
	{"node gone for good", 2, true, loseNode},
	{nodeAway, 12, false, awayLong},
	{readsRefused, 8, false, refuseReads},
}

// nodeAway happens to weak volumes only: of others the rest of the faults tells as much.
const nodeAway = "node away for long"

// damage asks whether the data of n may be damaged: of one node at most, as promise 1 says.
func (w *World) damage(n *node) bool {
	if w.cfg.Nodes < 3 || (w.victim != nil && w.victim != n) {
		return false
	}
	for _, v := range w.vols {
		if v.spec.Replicas < 3 {
			return false
		}
	}
	w.victim = n
	return true
}

func (n *node) die(kill bool) bool {
	if n.proc == nil {
		return false
	}
	w := n.w
	if w.inFlight != "" {
		w.cover(crashName(kill), "after "+w.inFlight)
	}
	n.end(kill)
	return true
}

func (n *node) dieLater(kill bool) bool {
	if n.proc == nil || n.crashIn > 0 {
		return false
	}
	n.crashKill = kill
	n.crashIn = 1 + n.w.s.rng.IntN(40)
	return true
}

func (w *World) later(max time.Duration, f func()) bool {
	w.s.after(w.s.between(100*time.Millisecond, max), f)
	return true
}

func powerCutOfAll(w *World, _ *node) bool {
	for _, n := range w.nodes {
		n.die(false)
	}
	return true
}

func partition(w *World, _ *node) bool {
	side := w.s.rng.Uint64()
	for _, a := range w.nodes {
		for _, b := range w.nodes {
			if side>>a.idx&1 != side>>b.idx&1 {
				w.cut[a.idx][b.idx] = true
			}
		}
	}
	return w.later(15*time.Second, w.join)
}

func oneWay(w *World, n *node) bool {
	o := w.nodes[w.s.rng.IntN(len(w.nodes))]
	if o == n {
		return false
	}
	w.cut[n.idx][o.idx] = true
	return w.later(15*time.Second, func() { w.cut[n.idx][o.idx] = false })
}

// join ends all partitions.
func (w *World) join() {
	for _, row := range w.cut {
		clear(row)
	}
}

func breakConn(w *World, n *node) bool {
	if n.proc == nil {
		return false
	}
	c := n.proc.conns[w.s.rng.IntN(len(w.nodes))]
	if c == nil {
		return false
	}
	for _, r := range c.out {
		w.cover("connection broken", typeName(r.typ))
	}
	c.breakUp("cut")
	return true
}

// nemesis makes things go wrong until the time is over. It is a task of the simulation.
func (w *World) nemesis(until time.Duration) {
	total := 0
	for i := range faults {
		if w.cfg.has(&faults[i]) {
			total += faults[i].weight
		}
	}
	for w.s.now < until && w.failure == nil && total > 0 {
		w.home.Sleep(w.s.between(w.cfg.Calm/10, 2*w.cfg.Calm))
		if w.s.now >= until {
			return
		}
		k := w.s.rng.IntN(total)
		n := w.nodes[w.s.rng.IntN(len(w.nodes))]
		for i := range faults {
			f := &faults[i]
			if !w.cfg.has(f) {
				continue
			}
			if k -= f.weight; k < 0 {
				w.s.tracef("nemesis: %s, %s", f.name, n.name)
				if f.do(w, n) {
					if f.layout {
						w.cover(f.name, "layout")
					}
					w.s.mix(uint64(i) << 40)
				}
				break
			}
		}
	}
}

// janitor boots nodes again that are down, and replaces disks whose store has failed.
func (w *World) janitor() {
	for w.failure == nil {
		w.home.Sleep(w.s.between(10*time.Millisecond, w.cfg.Downtime))
		n := w.nodes[w.s.rng.IntN(len(w.nodes))]
		if w.failure != nil {
			return
		}
		if n.proc == nil && w.s.now < n.away {
			continue
		}
		if n.proc == nil || n.lost {
			n.start()
			continue
		}
		broken := n.st != nil && n.st.Quarantined() != nil
		if broken && n != w.victim {
			w.violate(4, "%s: store quarantines itself although its disk is good: %v", n.name, n.st.Quarantined())
		}
		if (broken || n.failed) && w.s.chance(0.3) {
			w.cover("quarantined disk replaced", "store")
			n.end(false)
			n.newDisk()
			n.start()
		}
	}
}

// heal ends all faults. Damage that was done stays.
func (w *World) heal() {
	w.s.tracef("everything is healed")
	w.join()
	w.reg.away = false
	w.refusal.until = min(w.refusal.until, w.s.now)
	w.buryLost()
	for _, n := range w.nodes {
		n.healthy()
		if n.proc != nil && n.proc.frozen > w.s.now {
			n.proc.frozen = w.s.now
		}
	}
}
