package sim

import (
	"time"

	"mynetwork.io/mynetwork/nodeagent/volume"
)

// What is promised of a weak volume. As long as its history stays the same, all that is promised of others. A new history may have
// given up what a FLUSH covered, but only what the reign before had added: that reign began when a majority had all before it. The former
// writer acknowledges nothing a lease after the next one serves. And what was given up never comes back: the next reign's log is
// the prefix that was found, and nothing else may ever be read.

// weakPatience is how long recoveries of weak volumes wait for all replicas here.
const weakPatience = 20 * time.Second

// newHistory takes note of the history that a writer has found, and tells whether it is another one than before.
func (v *vol) newHistory(s *seat) bool {
	h := s.e.Status().History
	was := v.history
	v.history = h
	if _, silent := v.w.cfg.Lie.(interface{ hidesLoss() }); silent || h == was {
		return false
	}
	if !v.spec.Weak || h.Epoch.Less(was.Epoch) {
		v.w.violate(1, "v%d on %s: history %v after %v", v.spec.ID[0], s.n.name, h, was)
	}
	v.w.cover("new history", "open")
	return true
}

// kept is how much of the log of a reign the next writer must find.
func (r *reign) kept(newHistory bool) int {
	if newHistory {
		return r.base
	}
	return r.flushed
}

// lostIn takes note that a new history has given up what FLUSHes had covered.
func (v *vol) lostIn(r *reign, k int, fresh bool) {
	r.given = fresh
	if k < r.flushed {
		v.w.cover("new history", "flushed data lost")
		v.w.s.tracef("v%d: %d of %d flushed entries are given up", v.spec.ID[0], r.flushed-k, r.flushed)
	}
}

// mayFlush tells whether a writer that was taken over may still answer a FLUSH: one whose history was given up, for a lease.
func (r *reign) mayFlush(now time.Duration) bool { return r.given && now < r.next.since+volume.Lease }

// awayLong keeps a node down for longer than recoveries of weak volumes wait, often one that a writer is on, and that was cut off from
// the others for a while before: then it may be the only one that has what a FLUSH covered.
func awayLong(w *World, n *node) bool {
	if s := w.vols[w.s.rng.IntN(len(w.vols))].seat; s != nil && w.s.chance(0.7) {
		n = s.n
	}
	if n.proc == nil {
		return false
	}
	leave := func() {
		for _, o := range w.nodes {
			w.cut[n.idx][o.idx], w.cut[o.idx][n.idx] = false, false
		}
		n.end(w.s.chance(0.3))
		n.away = w.s.now + w.s.between(weakPatience/2, 3*weakPatience)
	}
	if w.s.chance(0.3) {
		leave()
		return true
	}
	for _, o := range w.nodes {
		if o != n {
			w.cut[n.idx][o.idx], w.cut[o.idx][n.idx] = true, true
		}
	}
	return w.later(6*time.Second, leave)
}
