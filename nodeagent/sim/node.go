package sim

import (
	"encoding/binary"
	"fmt"
	"path"
	"sync"
	"syscall"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/disk"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/store"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// scrubPeriod is short, so that damage at rest is found within the time that a world has to converge.
const scrubPeriod = 45 * time.Second

// node is one machine: a disk, a clock, and at most one process.
type node struct {
	w    *World
	idx  int
	name string

	role   role
	lost   bool // gone for good, with its disk
	weight int  // share of the copies, as draws

	mem    *disk.Mem
	store  block.StoreID
	made   int  // how many disks it has had
	failed bool // the store did not open

	proc  *proc // nil while it is down
	srv   *replica.Server
	st    *store.Store
	ghost *store.Store // st as it was when the process ended
	cache *cache
	rings map[block.VolumeID][]byte // shared memory: survives the process, not the machine
	seen  []time.Duration           // when other nodes were last reachable from here

	netDelay  time.Duration
	diskDelay time.Duration // of each commit, and each read of the own engine
	stuck     time.Duration // until then these do not return
	full      bool          // no space for another extent
	crashIn   int           // disk operations until the machine or the process dies; 0: not planned
	crashKill bool          // only the process
	syncFails bool          // the next sync of a file fails and forgets
	ioErrors  int           // so many reads fail
	badWrites int           // so many writes to extents get lost or land elsewhere
	away      time.Duration // until then nobody starts it
}

// role is what the layout says of a node.
type role uint8

const (
	active  role = iota
	drained      // it keeps what it has until that is elsewhere
	absent       // it is in no layout: it has left, or has not come yet
)

const extentDir = "ext/"

// storeOptions are those of every simulated store: the log is 3 MiB.
var storeOptions = store.Options{SegmentSize: 1 << 20, Segments: 3, Capacity: 256 << 20, Inline: 16 << 10, MaxFiles: 64}

// Formats keeps freshly formatted disks, which are the same in all runs. The zero value is usable, also by many runs.
type Formats struct {
	mu    sync.Mutex
	disks map[block.StoreID]*disk.Mem
}

func (f *Formats) get(id block.StoreID, node string) (*disk.Mem, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.disks[id]
	if m == nil {
		m = disk.NewMem(512 << 20)
		if err := store.Format(m, store.Superblock{Network: [16]byte{1}, Store: id, Node: node}, storeOptions); err != nil {
			return nil, err
		}
		if f.disks == nil {
			f.disks = make(map[block.StoreID]*disk.Mem)
		}
		f.disks[id] = m
	}
	return m.Crash(func() uint64 { return 0 }), nil
}

// newDisk gives the node an empty disk: a new incarnation of its store.
func (n *node) newDisk() {
	w := n.w
	if !n.store.IsZero() {
		delete(w.byStore, n.store)
	}
	n.made++
	n.store = block.StoreID{byte(n.idx + 1), byte(n.made)}
	binary.LittleEndian.PutUint64(n.store[8:], uint64(n.idx+1)*0x9e3779b97f4a7c15+uint64(n.made))
	m, err := w.cfg.Formats.get(n.store, n.name)
	if err != nil {
		panic(err)
	}
	m.IgnoreSync(w.cfg.LyingDisks)
	n.mem, n.ghost = m, nil
	w.byStore[n.store] = n
	w.relayout()
	n.healthy()
}

// healthy ends all faults of the machine but what they have done to its disk.
func (n *node) healthy() {
	n.netDelay, n.diskDelay, n.stuck, n.full = 0, 0, 0, false
	n.crashIn, n.syncFails, n.ioErrors, n.badWrites, n.away = 0, false, 0, 0, 0
}

// wakeDelay is how long a task of this node that may go on still waits: the time that the disk takes.
func (n *node) wakeDelay(name string) time.Duration {
	s := n.w.s
	switch name {
	case "commit", "tidy":
		d := s.between(10*time.Microsecond, 300*time.Microsecond) + n.diskDelay
		return max(d, n.stuck-s.now)
	}
	if s.chance(0.01) {
		return s.between(0, 10*time.Millisecond)
	}
	return 0
}

// start boots the process. What the store reports goes to the trace; a store that does not open leaves the node
// without one.
func (n *node) start() {
	w := n.w
	if n.proc != nil || n.lost {
		return
	}
	w.s.tracef("%s starts", n.name)
	p := &proc{s: w.s, node: n, conns: make([]*conn, len(w.nodes))}
	n.proc, n.srv, n.st, n.failed = p, nil, nil, false
	n.cache = newCache(w.cfg.CachePages)
	p.Go("boot", func() {
		opt, fs := storeOptions, disk.FS(disk.NewFaults(n.mem, n.plan))
		if w.cfg.Left != 0 {
			fs, opt.Capacity = crowded{fs, w}, 0
		}
		st, rep, err := store.Open(fs, opt)
		w.s.tracef("%s store %s opens: %+v %v", n.name, n.store, rep, err)
		if err != nil {
			n.failed = true
			w.storeFailed(n, err)
			return
		}
		if rep.Unsure {
			w.cover("damaged log", "store opens unsure")
		}
		if len(rep.Unknown) > 0 {
			w.cover("damaged log", "extents unknown")
		}
		n.st = st
		n.srv = replica.NewServer(p, st, n.store, allowAll{}, n.client(p))
		n.srv.Follow(placer{n})
		if w.cfg.Left != 0 {
			p.Go("measure", func() {
				for {
					_ = st.Measure() // as an agent does
					p.Sleep(time.Second)
				}
			})
		}
	})
}

// crowded is a disk of the stores' capacity, of which others have all but Config.Left up to the mark for users, until they go.
type crowded struct {
	disk.FS
	w *World
}

// Usage implements disk.FS.
func (c crowded) Usage() (total, used int64, err error) {
	if _, used, err = c.FS.Usage(); !c.w.alone {
		used += storeOptions.Capacity/100*92 - c.w.cfg.Left
	}
	return storeOptions.Capacity, used, err
}

func (n *node) client(p *proc) *replica.Client {
	if n.w.cfg.Stream {
		return &replica.Client{Env: p, Transport: parcels{transport{n.w, p}}}
	}
	return &replica.Client{Env: p, Transport: transport{n.w, p}}
}

type allowAll struct{}

// Allow implements replica.Authorizer.
func (allowAll) Allow(string, block.VolumeID, uint64, replica.Verb) error { return nil }

// end ends the process: kill keeps the disk's cache and the rings; else the machine has lost power. It is called by
// anyone; a task of the process itself ends with its present step.
func (n *node) end(kill bool) {
	w := n.w
	p := n.proc
	if p == nil {
		return
	}
	if kill {
		w.s.tracef("%s process killed", n.name)
	} else {
		w.s.tracef("%s loses power", n.name)
		n.mem = n.mem.Crash(w.s.rng.Uint64)
		n.rings = make(map[block.VolumeID][]byte)
	}
	w.s.mix(0xdead0000 | uint64(n.idx))
	if n.st != nil {
		n.ghost = n.st
	}
	n.proc, n.srv, n.st = nil, nil, nil
	n.crashIn = 0
	w.s.kill(p)
	w.ended(n, p, kill)
	if w.cfg.Lie != nil {
		w.cfg.Lie.onEnd(w, n, kill)
	}
	for _, c := range p.conns {
		if c != nil {
			c.breakUp("caller died")
		}
	}
	for _, o := range w.nodes {
		if o.proc == nil {
			continue
		}
		if c := o.proc.conns[n.idx]; c != nil {
			if kill {
				w.s.after(w.s.between(0, 3*time.Millisecond), func() { c.breakUp("reset") })
			} else {
				c.stall()
			}
		}
	}
}

// deps is what an engine on this node works with.
func (n *node) deps(p *proc) volume.Deps {
	return volume.Deps{ScrubPeriod: scrubPeriod, Patience: weakPatience, Env: p, Client: n.client(p), Registry: registryClient{n.w, p}, Placer: placer{n}, Cache: n.cache,
		Local: func(s block.StoreID) volume.Local {
			if s != n.store || n.st == nil || n.proc != p {
				return nil
			}
			if n.w.cfg.Late {
				return ownStore{n.st, n.w}
			}
			return n.st
		},
		Room: n.w.room,
		Logf: func(format string, args ...any) {
			if n.w.s.tail != nil {
				n.w.s.tracef("%s: %s", n.name, fmt.Sprintf(format, args...))
			}
		}}
}

// room is what a store has left. Whoever has one knows it of all.
func (w *World) room(s block.StoreID) (r volume.Room, known bool) {
	n := w.byStore[s]
	if n == nil || n.st == nil || n.proc == nil {
		return r, false
	}
	var err error
	r.Users, r.Cleaners, r.Used, err = n.st.Left()
	switch reserve := r.Cleaners - r.Users; {
	case err != nil || w.cfg.Left == 0:
	case r.Cleaners < reserve/4:
		w.cover("little room", "left for cleaning")
	case r.Users < 0:
		w.cover("little room", "none left for users")
	case r.Users < reserve/2:
		w.cover("little room", "left for users")
	}
	return r, err == nil
}

// plan injects the disk faults that are due.
func (n *node) plan(op disk.Op) disk.Fault {
	w := n.w
	if n.crashIn > 0 {
		if n.crashIn--; n.crashIn == 0 {
			kill := n.crashKill
			return disk.Fault{Wait: func() {
				w.cover(crashName(kill)+" in the middle of", op.Kind.String()+" "+kindOf(op.Name))
				n.end(kill)
				panic(killed{})
			}}
		}
	}
	inExtent := len(op.Name) > len(extentDir) && op.Name[:len(extentDir)] == extentDir
	if inExtent {
		if f, late := n.lateRead(&op); late {
			return f
		}
	}
	switch {
	case op.Kind == disk.OpAllocate && n.full && inExtent:
		w.cover("disk full", "allocate")
		return disk.Fault{Err: syscall.ENOSPC}
	case op.Kind == disk.OpSync && n.syncFails:
		n.syncFails = false
		w.cover("failed fsync", kindOf(op.Name))
		return disk.Fault{Err: syscall.EIO, Action: disk.Forget}
	case op.Kind == disk.OpRead && n.ioErrors > 0 && inExtent && n.srv != nil:
		n.ioErrors--
		w.cover("EIO on read", kindOf(op.Name))
		return disk.Fault{Err: syscall.EIO}
	case op.Kind == disk.OpWrite && n.badWrites > 0 && inExtent && path.Ext(op.Name) != ".new" && w.s.chance(0.2):
		n.badWrites--
		if w.s.chance(0.5) {
			w.cover("lost write", kindOf(op.Name))
			return disk.Fault{Action: disk.Lose}
		}
		w.cover("misdirected write", kindOf(op.Name))
		return disk.Fault{Action: disk.Misdirect, At: int64(w.s.rng.IntN(64)) * 512}
	}
	return disk.Fault{}
}

// lateRead has the disk take its time for what an engine of this node reads of it, as it does for commits. A third of what is to be read without waiting
// is not in memory, and nothing is while the disk is slow. Other reads take no time: some hold a lock of the store.
func (n *node) lateRead(op *disk.Op) (f disk.Fault, late bool) {
	if op.Kind != disk.OpRead {
		return f, false
	}
	s := n.w.s
	d := max(n.diskDelay, n.stuck-s.now)
	switch {
	case op.Now && (d > 0 || op.N%3 == 0):
		return disk.Fault{Wait: func() {}}, true
	case d > 0 && s.cur != nil && s.cur.name == ownRead:
		n.w.cover("slow disk", ownRead)
		return disk.Fault{Wait: func() { s.wait(d) }}, true
	}
	return f, false
}

// ownRead is the name of the engine's tasks that wait for the disk of their own node.
const ownRead = "own read"

func crashName(kill bool) string {
	if kill {
		return "kill"
	}
	return "power cut"
}

// kindOf names the kind of a store's file.
func kindOf(name string) string {
	switch {
	case len(name) > 3 && name[:4] == "wal/":
		return "wal"
	case path.Ext(name) != "":
		return path.Ext(name)
	case len(name) > 3 && name[:3] == "ext":
		return "dir"
	}
	return name
}

// rot flips bits at rest in files of extents and in the log.
func (n *node) rot(flips int) {
	var names []string
	var visit func(dir string)
	visit = func(dir string) {
		list, err := n.mem.List(dir)
		if err != nil {
			return
		}
		for _, b := range list {
			if path.Ext(b) != "" {
				names = append(names, dir+"/"+b)
			} else {
				visit(dir + "/" + b)
			}
		}
	}
	visit("ext")
	for range flips {
		name := fmt.Sprintf("wal/%02x", n.w.s.rng.IntN(storeOptions.Segments))
		if len(names) > 0 && !n.w.s.chance(0.2) {
			name = names[n.w.s.rng.IntN(len(names))]
		}
		f, err := n.mem.Open(name)
		if err != nil {
			continue
		}
		size, err := f.Size()
		_ = f.Close()
		if err != nil || size == 0 {
			continue
		}
		// most of a preallocated file is not used; rot the front more often
		span := size
		if n.w.s.chance(0.7) {
			span = min(size, 128<<10)
		}
		at := n.w.s.rng.Int64N(span)
		if err := n.mem.FlipBit(name, at, uint(n.w.s.rng.IntN(8))); err == nil {
			n.w.s.tracef("%s bit rot in %s at %d", n.name, name, at)
			n.w.cover("bit rot", kindOf(name))
		}
	}
}

// cache is a volume.Cache that forgets the oldest.
type cache struct {
	limit int
	m     map[volume.CacheKey]any
	order []volume.CacheKey
	lie   func(v any) any
}

func newCache(limit int) *cache {
	return &cache{limit: limit, m: make(map[volume.CacheKey]any)}
}

// Get implements volume.Cache.
func (c *cache) Get(k volume.CacheKey) (any, bool) {
	v, ok := c.m[k]
	if ok && c.lie != nil {
		v = c.lie(v)
	}
	return v, ok
}

// Put implements volume.Cache.
func (c *cache) Put(k volume.CacheKey, v any, _ int) {
	if c.limit == 0 {
		return
	}
	if _, ok := c.m[k]; !ok {
		c.order = append(c.order, k)
	}
	c.m[k] = v
	if len(c.order) > c.limit {
		delete(c.m, c.order[0])
		c.order = c.order[1:]
	}
}
