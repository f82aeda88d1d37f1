package sim

import (
	"bytes"
	"fmt"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// Config shapes a run. See Shape for how a seed fills it.
type Config struct {
	Nodes       int
	Replicas    int
	Volumes     int
	Clones      int // at most, made under load
	Clients     int // of each volume
	Pages       int // of each volume at creation
	RingBytes   int
	Extent      uint32 // bytes
	CachePages  int
	Left        int64 // bytes that others leave users on each store's disk; 0: it is never full by itself
	Key         []byte
	Compression block.Compression
	Weak        bool

	Span        time.Duration // of the part with faults
	Think       time.Duration // the most a client waits between requests
	Stay        time.Duration // mean time of a volume on a node
	Admin       time.Duration // the most between administrative actions
	Calm        time.Duration // mean time between faults
	Downtime    time.Duration // the most until a node is looked at again
	LoseMessage float64       // chance of each message
	AbandonRing float64       // chance that a volume whose agent was killed goes elsewhere

	Porcupine  bool            // check per-page histories in the end
	Formats    *Formats        // shared by runs; nil: its own
	Trace      int             // lines of trace to keep
	Only       map[string]bool // faults that may happen; nil: all
	Without    map[string]bool // faults that may not
	Stream     bool            // processes send large records as one parcel, and stores hear that more is on its way
	LyingDisks bool            // negative control: syncs do nothing
	Lie        lie             // negative control: what replicas claim

	Late    bool // what is late.go's happens
	Layouts bool // the layout changes: nodes come, are drained, go
	Spare   int  // of Nodes: so many are not in the layout at first

	faulty bool
}

func (c *Config) has(f *fault) bool {
	return (c.Only == nil || c.Only[f.name]) && !c.Without[f.name] && (c.Layouts || !f.layout) && (c.Weak || f.name != nodeAway) && (c.Late || f.name != readsRefused)
}

// Shape is the default configuration of a seed: small, so that things collide.
func Shape(seed uint64) Config {
	s := newSched(seed ^ 0x5851f42d4c957f2d)
	pick := func(v ...int) int { return v[s.rng.IntN(len(v))] }
	c := Config{
		Nodes: pick(3, 3, 4, 5, 5), Replicas: 3, Volumes: pick(1, 1, 1, 2), Clones: pick(0, 1, 2), Clients: pick(1, 2, 3, 4), Pages: pick(16, 40, 70, 130),
		RingBytes: 1 << 20, Extent: uint32(pick(512<<10, 1<<20, 2<<20)), CachePages: pick(0, 16, 300),
		Span: time.Duration(pick(20, 40, 60)) * time.Second, Think: time.Duration(pick(150, 500, 1500)) * time.Millisecond,
		Stay: time.Duration(pick(5, 15, 40)) * time.Second, Admin: time.Duration(pick(500, 2000, 5000)) * time.Millisecond,
		Calm: time.Duration(pick(300, 1500, 5000)) * time.Millisecond, Downtime: time.Duration(pick(200, 2000)) * time.Millisecond,
		AbandonRing: 0.2, Porcupine: true,
	}
	if c.Nodes == 5 && s.chance(0.2) {
		c.Replicas = 5
	}
	if s.chance(0.1) {
		c.Replicas = 2
	}
	if s.chance(0.3) {
		c.LoseMessage = 0.002
	}
	if s.chance(0.3) {
		c.Key = bytes.Repeat([]byte{byte(seed) | 1}, 32)
	}
	if s.chance(0.2) {
		c.Compression = block.CompressionZstd
	}
	switch odd := s.chance(0.08); { // last, so that the other seeds stay as they were
	case odd && c.Nodes == 5:
		c.Replicas = 4
	case odd:
		c.Replicas = 1
	}
	if c.Layouts = s.chance(0.4); c.Layouts {
		c.Spare = pick(0, 1, 1, 2)
		c.Nodes += c.Spare
		if c.Nodes == c.Replicas {
			c.Nodes++
		}
	}
	// Of an even number of replicas too little is promised to be checked, and what was set aside keeps a drained node from being empty.
	c.Stream, c.Late = seed%3 == 0, seed%4 == 1 // no draws, so that the other seeds stay as they were
	c.Weak = c.Replicas%2 == 1 && c.Replicas > 1 && s.chance(0.1) && !c.Layouts
	return c
}

// Run makes one run.
func Run(seed uint64, cfg Config) Result {
	cfg.faulty = true
	w := newWorld(seed, cfg)
	w.cfg.faulty = true
	w.start()
	w.until(cfg.Span, func() bool { return false })
	w.settle()
	w.verify()
	return w.finish(seed)
}

// start creates the volumes and lets everything begin.
func (w *World) start() {
	for range w.cfg.Volumes {
		w.newVol(volume.Spec{ID: w.volumeID(), Pages: uint64(w.cfg.Pages), Replicas: w.cfg.Replicas, Weak: w.cfg.Weak, Extent: w.cfg.Extent,
			Compression: w.cfg.Compression, Key: w.cfg.Key})
	}
	for _, v := range w.vols {
		w.home.Go("life", v.life)
	}
	w.home.Go("nemesis", func() { w.nemesis(w.cfg.Span) })
	w.home.Go("janitor", w.janitor)
}

// Deadlines of virtual time after everything was healed.
const (
	answerDeadline   = 90 * time.Second
	convergeDeadline = 240 * time.Second
)

// settle heals everything and requires that whatever was under way comes to an end.
func (w *World) settle() {
	if w.failure != nil {
		return
	}
	w.cfg.faulty = false
	w.heal()
	w.stopping = true
	w.cfg.Downtime = 200 * time.Millisecond
	ok := w.until(answerDeadline, func() bool {
		for _, v := range w.vols {
			if !v.ended || v.opening() > 0 {
				return false
			}
			if s := v.seat; s != nil && !s.over && s.flight > 0 {
				return false
			}
		}
		for _, n := range w.nodes {
			if (n.proc == nil || n.srv == nil) && !n.lost {
				return false
			}
		}
		return true
	})
	if !ok && w.failure == nil {
		w.violate(7, "requests are not answered %v after everything was healed: %s", answerDeadline, w.stuck())
	}
}

// stuck says what does not come to an end.
func (w *World) stuck() string {
	out := ""
	for _, v := range w.vols {
		out += fmt.Sprintf(" v%d ended %v tries %d", v.spec.ID[0], v.ended, v.opening())
		if s := v.seat; s != nil {
			out += fmt.Sprintf(" on %s over %v flight %d status %+v", s.n.name, s.over, s.flight, s.e.Status())
		}
		out += ";"
	}
	for _, n := range w.nodes {
		out += fmt.Sprintf(" %s up %v", n.name, n.srv != nil)
		if n.proc != nil {
			for _, t := range n.proc.tasks {
				if t.name != "commit" && t.name != "tidy" {
					out += " " + t.name
				}
			}
		}
	}
	return out
}

// verify attaches each volume afresh, waits until it has converged, and reads all of it.
func (w *World) verify() {
	if w.failure != nil {
		return
	}
	w.alone = true // without room nothing is copied that is lost
	vols := w.vols
	for _, v := range vols {
		if !w.verifyVol(v) {
			return
		}
		for _, sn := range v.snaps {
			if sn.sure && !sn.gone && sn.clones == 0 && v.parent == nil {
				if !w.verifyVol(w.newClone(v, sn)) {
					return
				}
			}
		}
	}
	if w.cfg.Porcupine && w.failure == nil {
		w.linearize()
	}
}

func (w *World) verifyVol(v *vol) bool {
	finished := false
	w.home.Go("verify", func() {
		for !finished && w.failure == nil {
			finished = w.verifySeat(v)
		}
		finished = true
	})
	ok := w.until(answerDeadline+convergeDeadline, func() bool { return finished })
	if !ok && w.failure == nil {
		w.violate(7, "v%d can not be attached and read although everything is healed: %s", v.spec.ID[0], w.stuck())
	}
	return ok
}

// verifySeat is verifyVol on one node; false if that, or the engine on it, ended meanwhile: a disk that was found broken
// is replaced, and an opening that was overtaken may come late.
func (w *World) verifySeat(v *vol) bool {
	s := v.attach(nil)
	if s == nil {
		w.home.Sleep(300 * time.Millisecond)
		return false
	}
	defer func() { v.seat = nil }()
	deadline := w.s.now + convergeDeadline
	for why := "-"; why != "" && w.failure == nil; w.home.Sleep(time.Second) {
		if s.over {
			return false
		}
		if why = w.diverged(v, s); why != "" && w.s.now > deadline {
			w.violate(6, "v%d has not converged in %v: %s", v.spec.ID[0], convergeDeadline, why)
		}
	}
	got, ok := s.readAll()
	if !ok {
		return false
	}
	if !equal(got, s.r.state) {
		w.violate(2, "v%d changed by itself: %s", v.spec.ID[0], explain(s.r.log, len(s.r.log), len(s.r.log), got))
	}
	_, _ = s.onSeat("checkpoint", s.e.Checkpoint)
	_, ok = s.onSeat("close", func() error { return s.e.Close(true) })
	return ok
}

// diverged says what is still missing until each extent of the volume's journal has R good and equal copies.
func (w *World) diverged(v *vol, s *seat) string {
	st := s.e.Status()
	if st.Failed != nil {
		return st.Failed.Error()
	}
	if st.Degraded != 0 {
		return fmt.Sprintf("%d of %d extents are degraded", st.Degraded, st.Extents)
	}
	for _, m := range st.Members {
		if m.Failed {
			return "a replica of the open extent has failed"
		}
	}
	if why := w.copies(st.Extent, w.reg.facts[v.spec.ID].Anchor.Extent, v.spec.Replicas); why != "" {
		return why
	}
	return w.misplaced(v, s)
}
