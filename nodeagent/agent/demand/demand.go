package demand

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/adaptive"
	"mynetwork.io/mynetwork/nodeagent/core/block"
)

const (
	// Every is how often volumes are looked at.
	Every = time.Minute
	// Unit is how many bytes one read has, at most.
	Unit = 64 << 10
)

// Volume is what is known of a volume that is open here.
type Volume struct {
	ID       block.VolumeID
	Name     string
	Reads    uint64 // since it was opened
	Bytes    uint64 // that they read
	Copies   int    // that are wanted
	Weak     bool   // a flush is answered after one copy
	Bounds   adaptive.Bounds
	Degraded bool                  // a part has fewer copies than wanted
	Moving   bool                  // not all is where the layout wants it
	Held     map[block.StoreID]int // copies that each store has
}

// Network is what is known of the network.
type Network struct {
	Room  int  // copies that there is room for
	Zones int  // failure domains that take copies
	Low   bool // a store is short of space
}

// Options are what a Follower works with. All are required but Rules and Every.
type Options struct {
	Rules   adaptive.Rules // zero: adaptive.Default
	Every   time.Duration  // 0: Every
	Volumes func() []Volume
	Network func() Network
	Adapt   func(v block.VolumeID, copies int, why adaptive.Reason) error
	Log     *slog.Logger
}

// Follower has copies follow demand. The zero value is not usable: see New.
type Follower struct {
	opt Options

	work sync.Mutex // held while volumes are looked at, and while a change is carried out
	seen map[block.VolumeID]*watched

	mu       sync.Mutex
	verdicts map[block.VolumeID]adaptive.Reason
	done     map[Change]uint64
}

// Change is a kind of change of a volume, as it is counted.
type Change struct {
	Volume string // name
	Why    adaptive.Reason
}

// watched is what is remembered of a volume.
type watched struct {
	state        adaptive.State
	at           time.Duration
	reads, bytes uint64
	rate         float64 // reads a second, at the last look
	verdict      adaptive.Decision
}

// New makes a follower.
func New(o Options) *Follower {
	if o.Rules == (adaptive.Rules{}) {
		o.Rules = adaptive.Default()
	}
	if o.Every == 0 {
		o.Every = Every
	}
	return &Follower{opt: o, seen: map[block.VolumeID]*watched{}, verdicts: map[block.VolumeID]adaptive.Reason{}, done: map[Change]uint64{}}
}

// Run looks at volumes until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
	start := time.Now()
	t := time.NewTicker(f.opt.Every)
	defer t.Stop()
	for {
		f.Look(time.Since(start))
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Look looks at all volumes once, at a moment of a clock that does not jump.
func (f *Follower) Look(at time.Duration) {
	f.work.Lock()
	defer f.work.Unlock()
	open := f.opt.Volumes()
	n := f.opt.Network()
	there := map[block.VolumeID]bool{}
	for i := range open {
		v := &open[i]
		if !v.Bounds.On() {
			continue
		}
		there[v.ID] = true
		f.look(v, &n, at)
	}
	for id := range f.seen {
		if !there[id] {
			delete(f.seen, id)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.verdicts)
	for id, w := range f.seen {
		f.verdicts[id] = w.verdict.Why
	}
}

// look looks at one volume. The caller holds work.
func (f *Follower) look(v *Volume, n *Network, at time.Duration) {
	w := f.seen[v.ID]
	if w == nil || v.Reads < w.reads || v.Bytes < w.bytes { // it was opened since
		w = &watched{at: at, reads: v.Reads, bytes: v.Bytes}
		f.seen[v.ID] = w
	}
	if took := (at - w.at).Seconds(); took > 0 {
		w.rate = max(float64(v.Reads-w.reads), float64(v.Bytes-w.bytes)/Unit) / took
	}
	w.at, w.reads, w.bytes = at, v.Reads, v.Bytes
	seconds := int64(at / time.Second)
	if w.verdict.Want != 0 && w.verdict.Want != v.Copies {
		w.state.Changed(seconds)
	}
	before := w.state
	d := w.state.Step(f.opt.Rules, adaptive.Seen{At: seconds, Reads: w.rate, Copies: v.Copies, Bounds: v.Bounds, Floor: adaptive.Floor(v.Weak, n.Zones), Room: n.Room, Calm: calm(v, n)})
	if d.Want != v.Copies && !f.carry(v, d) {
		w.state, d = before, adaptive.Decision{Want: v.Copies, Why: adaptive.Resting}
	}
	w.verdict = d
}

// carry carries a decision out. The caller holds work.
func (f *Follower) carry(v *Volume, d adaptive.Decision) bool {
	if err := f.opt.Adapt(v.ID, d.Want, d.Why); err != nil {
		f.opt.Log.Info("the copies of a volume are not changed yet; tried again with the next look", "volume", v.Name, "copies", v.Copies, "wanted", d.Want, "why", d.Why, "err", err)
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done[Change{v.Name, d.Why}]++
	return true
}

// calm says what speaks against a change.
func calm(v *Volume, n *Network) adaptive.Reason {
	switch {
	case v.Degraded:
		return adaptive.Degraded
	case v.Moving:
		return adaptive.Moving
	case n.Low:
		return adaptive.LowSpace
	}
	return ""
}

// Verdict tells why a volume has as many copies as it has; false if it has no bounds or was not looked at yet.
func (f *Follower) Verdict(v block.VolumeID) (adaptive.Reason, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	why, ok := f.verdicts[v]
	return why, ok
}

// Changes tells how many changes of each kind were made.
func (f *Follower) Changes() map[Change]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.done)
}

// GiveUp has the volume that is read least, of those that have copies on one of the stores and more than they need, want one copy fewer,
// because the stores are short of space. It tells which one; false: there is none.
func (f *Follower) GiveUp(on []block.StoreID) (name string, ok bool) {
	f.work.Lock()
	defer f.work.Unlock()
	open := f.opt.Volumes()
	n := f.opt.Network()
	slices.SortStableFunc(open, func(a, b Volume) int { return cmp.Compare(f.rate(a.ID), f.rate(b.ID)) })
	for i := range open {
		v := &open[i]
		least := min(max(v.Bounds.Least, adaptive.Floor(v.Weak, n.Zones)), v.Bounds.Most)
		here := slices.ContainsFunc(on, func(s block.StoreID) bool { return v.Held[s] > 0 })
		if !v.Bounds.On() || v.Copies <= least || !here || v.Degraded {
			continue
		}
		if d := (adaptive.Decision{Want: v.Copies - 1, Why: adaptive.LowSpace}); f.carry(v, d) {
			if w := f.seen[v.ID]; w != nil {
				w.verdict = d
				w.state.Changed(int64(w.at / time.Second))
			}
			return v.Name, true
		}
	}
	return "", false
}

// rate is how much a volume is read. The caller holds work.
func (f *Follower) rate(v block.VolumeID) float64 {
	if w := f.seen[v]; w != nil {
		return w.rate
	}
	return 0
}
