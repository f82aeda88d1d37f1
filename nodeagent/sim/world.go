package sim

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// World is one simulated cluster.
type World struct {
	s       *sched
	cfg     Config
	home    *proc // tasks of the simulation itself
	nodes   []*node
	byStore map[block.StoreID]*node
	layout  []block.StoreID
	leaving []block.StoreID // stores that take no new copies, of nodes that are there
	version uint64
	reg     *registry
	cut     [][]bool // [from][to]: packets are lost
	netBase time.Duration
	refusal refusal // the last one

	vols     []*vol
	values   uint64 // the last value written to any page
	ids      uint64 // the last request id
	victim   *node  // whose data may be damaged; nil: nobody's is
	stopping bool   // clients start nothing new
	failure  *Failure
	alone    bool                          // nobody else has anything on the disks any more: see Config.Left
	promised map[promiseKey]block.Epoch    // what replicas said that they promised
	opened   map[block.ExtentID]block.Hash // open records that were sent
	coverage map[[2]string]int
	inFlight string // the operation that is being carried out, for the coverage table
	counts   Counts
	carried  int64    // bytes that were read from other nodes
	sent     [256]int // requests, by type
}

// Failure is a promise that was broken.
type Failure struct {
	Promise int // of DESIGN.md; 0: a rule of the simulation or a panic
	Text    string
	At      time.Duration
}

// Error makes a Failure an error.
func (f *Failure) Error() string {
	return fmt.Sprintf("promise %d at %v: %s", f.Promise, f.At, f.Text)
}

// Counts is what happened in a run.
type Counts struct {
	Writes, Reads, Flushes, Snapshots, Clones, Opens, Resumes, Moves, Crashes, Verified int
	Pages                                                                               int
	Steps                                                                               uint64
	Virtual                                                                             time.Duration
}

// Result is the outcome of one run.
type Result struct {
	Seed     uint64
	Hash     uint64 // of the trace
	Failure  *Failure
	Trace    []string // the last lines, if they were asked for
	Counts   Counts
	Coverage map[[2]string]int // fault, operation → how often they met
}

func newWorld(seed uint64, cfg Config) *World {
	w := &World{s: newSched(seed), cfg: cfg, byStore: make(map[block.StoreID]*node), promised: make(map[promiseKey]block.Epoch),
		opened: make(map[block.ExtentID]block.Hash), coverage: make(map[[2]string]int)}
	if cfg.Formats == nil {
		w.cfg.Formats = &Formats{}
	}
	if cfg.Trace > 0 {
		w.s.tail = newTail(cfg.Trace)
	}
	w.home = &proc{s: w.s}
	w.reg = &registry{w: w, facts: make(map[block.VolumeID]volume.Fact), old: make(map[block.VolumeID][]volume.Fact)}
	w.netBase = 50 * time.Microsecond
	for i := range cfg.Nodes {
		n := &node{w: w, idx: i, weight: 1, name: fmt.Sprintf("n%d", i), rings: make(map[block.VolumeID][]byte), seen: make([]time.Duration, cfg.Nodes)}
		if i >= cfg.Nodes-cfg.Spare {
			n.role = absent
		}
		w.nodes = append(w.nodes, n)
		w.cut = append(w.cut, make([]bool, cfg.Nodes))
	}
	for _, n := range w.nodes {
		n.newDisk()
	}
	for _, n := range w.nodes {
		n.start()
	}
	w.probe()
	return w
}

// violate ends the run.
func (w *World) violate(promise int, format string, args ...any) {
	if w.failure == nil {
		w.failure = &Failure{Promise: promise, Text: fmt.Sprintf(format, args...), At: w.s.now}
		w.s.tracef("VIOLATION of promise %d: %s", promise, w.failure.Text)
	}
}

func (w *World) cover(fault, operation string) {
	w.coverage[[2]string{fault, operation}]++
	w.s.tracef("fault: %s, %s", fault, operation)
}

// until runs the cluster until cond holds, at most for limit of virtual time. False: the time is over, or the run is.
func (w *World) until(limit time.Duration, cond func() bool) bool {
	deadline := w.s.now + limit
	over := false
	w.s.after(limit, func() { over = true })
	ok := false
	w.s.run(func() bool {
		if ok = cond(); ok {
			return true
		}
		return over || w.failure != nil || w.s.now > deadline+time.Hour
	})
	w.checkPanics()
	return ok && w.failure == nil
}

func (w *World) checkPanics() {
	if len(w.s.panics) > 0 {
		w.violate(0, "%s", w.s.panics[0])
	}
}

// finish ends all tasks and gives the result.
func (w *World) finish(seed uint64) Result {
	for _, n := range w.nodes {
		if n.proc != nil {
			p := n.proc
			n.proc = nil
			w.s.kill(p)
		}
	}
	w.s.kill(w.home)
	w.s.bury()
	w.checkPanics()
	w.counts.Steps, w.counts.Virtual = w.s.steps, w.s.now
	w.s.mix(uint64(w.s.now))
	w.s.mix(w.values)
	r := Result{Seed: seed, Hash: w.s.hash, Failure: w.failure, Counts: w.counts, Coverage: w.coverage}
	if w.s.tail != nil {
		r.Trace = w.s.tail.all()
	}
	return r
}

// storeFailed takes note that a node's store did not open.
func (w *World) storeFailed(n *node, err error) {
	if n == w.victim {
		w.cover("store did not open", "start")
		return
	}
	w.violate(4, "%s: store does not open: %v", n.name, err)
}

// Table draws which fault met which operation.
func Table(coverage map[[2]string]int) string {
	var keys [][2]string
	for k := range coverage {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool {
		return keys[i][0] < keys[j][0] || (keys[i][0] == keys[j][0] && keys[i][1] < keys[j][1])
	})
	var b strings.Builder
	last := ""
	for _, k := range keys {
		name := k[0]
		if name == last {
			name = ""
		}
		last = k[0]
		fmt.Fprintf(&b, "%-28s %-24s %8d\n", name, k[1], coverage[k])
	}
	return b.String()
}
