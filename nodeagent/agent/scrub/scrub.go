package scrub

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/events"
	"mynetwork.io/mynetwork/nodeagent/agent/stores"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// Defaults of Options.
const (
	DefaultPeriod = 14 * 24 * time.Hour
	DefaultLimit  = 16
)

// RetryEvery is how often an extent is looked at again whose damage could not be mended.
const RetryEvery = 10 * time.Minute

// Placer tells where copies may be.
type Placer interface {
	Ready(ctx context.Context) error // waits until every node was asked once
	Candidates(key block.Hash) []block.StoreID
	Alive(s block.StoreID) bool
}

// Options are what a Scrubber works with.
type Options struct {
	Stores func() []*stores.Store // this node's
	Placer Placer
	Client *replica.Client // to the stores of all nodes
	Period time.Duration   // within which every byte is read; 0: DefaultPeriod
	Limit  int             // bad areas in a day that make a disk suspected; 0: DefaultLimit, below 0: never
	Events *events.Log
	Log    *slog.Logger
	Now    func() time.Time // nil: time.Now
}

// Scrubber scrubs the stores of a node. The zero value is not usable: see New.
type Scrubber struct {
	opt Options

	mu    sync.Mutex
	disk  map[block.StoreID]*disk
	asked int64 // unix seconds: what was begun before is not new enough; 0: nobody has asked
}

// Ask has every store read whole again whose last pass was begun before t, in seconds. Such a pass reads as fast as is allowed, and waits for nobody.
// To ask again for the same time changes nothing.
func (s *Scrubber) Ask(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = max(s.asked, t.Unix())
}

// old tells whether a pass that was begun then is too old for who has asked.
func (s *Scrubber) old(started int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return started < s.asked
}

// Status is how far the scrub of a store is.
type Status struct {
	Finished time.Time // end of the last whole pass; zero: none yet
	Started  time.Time // of the pass that runs; zero: none runs
	Done     int64     // bytes that it has read
	Found    uint64    // bad areas, since the store was made
	Repaired uint64    // of them
	Suspect  string    // why the disk is not trusted any more; empty: it is
}

// New makes a scrubber.
func New(o Options) *Scrubber {
	if o.Period == 0 {
		o.Period = DefaultPeriod
	}
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Scrubber{opt: o, disk: map[block.StoreID]*disk{}}
}

// look is how often it is looked whether a store has come, and whether something is to do.
const look = time.Second

// Run scrubs until ctx ends.
func (s *Scrubber) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for s.opt.Placer.Ready(ctx) != nil { // without it good copies are not found
		if pause(ctx, look) != nil {
			return nil
		}
	}
	for {
		for _, st := range s.opt.Stores() {
			if d := s.add(st); d != nil {
				wg.Go(func() { d.run(ctx) })
			}
		}
		if pause(ctx, task.UntilBeat(look)) != nil {
			return nil
		}
	}
}

// add makes the disk of a store, nil if it is known.
func (s *Scrubber) add(st *stores.Store) *disk {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.disk[st.ID] != nil {
		return nil
	}
	d := &disk{s: s, store: st, failed: map[block.ExtentID]time.Time{}}
	var err error
	if d.mem, err = decodeMemory(st.Meta(MetaKey)); err != nil {
		s.opt.Log.Warn("the scrub of a store begins anew", "store", st.ID, "err", err)
	}
	s.disk[st.ID] = d
	return d
}

// Status tells how far the scrub of a store is; ok is false for one that is not known.
func (s *Scrubber) Status(id block.StoreID) (st Status, ok bool) {
	s.mu.Lock()
	d := s.disk[id]
	s.mu.Unlock()
	if d == nil {
		return st, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	m := &d.mem
	st = Status{Done: m.Done, Found: m.Found, Repaired: m.Repaired, Suspect: m.Suspect}
	if m.Finished > 0 {
		st.Finished = time.Unix(m.Finished, 0)
	}
	if m.Running {
		st.Started = time.Unix(m.Started, 0)
	}
	return st, true
}

// judge suspects the disk if it has had too many bad areas, or ends the suspicion if more of them are allowed now.
func (d *disk) judge(now time.Time) {
	limit := d.s.opt.Limit
	d.mu.Lock()
	n := d.mem.recent(now)
	was := d.mem.Suspect
	switch {
	case was != "" && (limit < 0 || d.mem.Areas < limit):
		d.mem.Suspect, d.mem.Areas = "", 0
	case was == "" && limit > 0 && n >= limit:
		d.mem.Areas = n
		d.mem.Suspect = fmt.Sprintf("%d bad areas within a day: its copies move to other disks; replace it", n)
	}
	why := d.mem.Suspect
	d.mu.Unlock()
	d.store.Suspect(why)
	if why != "" && was == "" {
		d.s.opt.Events.Error("DiskSuspected", "", "store %s in %s: %s", d.store.ID, d.store.Path, why)
	}
}
