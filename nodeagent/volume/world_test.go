package volume

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/upkeep"
	"mynetwork.io/mynetwork/nodeagent/disk"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/store"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// world is a few stores in one process, reached through encoded messages, in order per store.
type world struct {
	t    testing.TB
	env  *task.Real
	mu   sync.Mutex
	node map[block.StoreID]*node
	ids  []block.StoreID
	fact map[block.VolumeID]Fact
	rev  int
}

type node struct {
	srv  *replica.Server
	st   *store.Store
	fs   *disk.Mem
	down bool
	in   chan func() // what the store has been sent, in order
	quit chan struct{}

	measured time.Duration // when its room was asked for last
}

func newWorld(t testing.TB, n int) *world {
	return newWorldOf(t, n, store.Options{SegmentSize: 4 << 20})
}

// newWorldOf is newWorld with stores of their own making.
func newWorldOf(t testing.TB, n int, opt store.Options) *world {
	return newWorldOn(t, n, opt, func(m *disk.Mem) disk.FS { return m })
}

// newWorldOn is newWorldOf with stores on what on makes of their disks.
func newWorldOn(t testing.TB, n int, opt store.Options, on func(m *disk.Mem) disk.FS) *world {
	w := &world{t: t, env: task.NewReal(), node: map[block.StoreID]*node{}, fact: map[block.VolumeID]Fact{}}
	for i := range n {
		id := block.StoreID{byte(i + 1)}
		fs := disk.NewMem(1 << 30)
		if err := store.Format(fs, store.Superblock{Network: [16]byte{1}, Store: id, Node: fmt.Sprint("n", i+1)}, opt); err != nil {
			t.Fatal(err)
		}
		st, _, err := store.Open(on(fs), opt)
		if err != nil {
			t.Fatal(err)
		}
		nd := &node{st: st, fs: fs, in: make(chan func(), 1<<12), quit: make(chan struct{})}
		nd.srv = replica.NewServer(w.env, st, id, allowAll{}, &replica.Client{Env: w.env, Transport: w})
		w.node[id], w.ids = nd, append(w.ids, id)
		go nd.serve()
	}
	t.Cleanup(w.end)
	return w
}

func (n *node) serve() {
	for {
		select {
		case f := <-n.in:
			f()
		case <-n.quit:
			return
		}
	}
}

// end lets go of the stores, so that the memory of one test's world is not kept until the last test has run. An engine that the
// test has not closed finds nobody.
func (w *world) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.node {
		close(n.quit)
		n.srv.Stop()
		n.down, n.srv, n.st, n.fs = true, nil, nil, nil
	}
}

type allowAll struct{}

func (allowAll) Allow(string, block.VolumeID, uint64, replica.Verb) error { return nil }

type reply struct{ done replica.Done }

func (r reply) Reply(st replica.Status, parts ...[]byte) { r.done(st, bytes.Join(parts, nil), nil) }

func (w *world) Send(s block.StoreID, typ replica.Type, done replica.Done, parts ...[]byte) {
	body := bytes.Join(parts, nil)
	n := w.node[s]
	w.mu.Lock()
	away := n.down // what is sent to a store that is away does not reach it when it is back
	w.mu.Unlock()
	f := func() {
		w.mu.Lock()
		down, srv := n.down, n.srv
		w.mu.Unlock()
		if down || away {
			go done(0, nil, replica.ErrUnreachable)
			return
		}
		srv.Handle("test", typ, body, reply{done})
	}
	select {
	case n.in <- f:
	case <-n.quit:
		go done(0, nil, replica.ErrUnreachable)
	}
}

// inFiles brings what a store has of an extent into its files, where a test may damage it.
func (w *world) inFiles(id block.StoreID, x block.ExtentID) {
	w.t.Helper()
	must(w.t, w.node[id].st.Scrub(x, func(f store.Finding) { w.t.Errorf("damaged already: %+v", f) }))
}

// logf is the test's log as long as the test runs.
func (w *world) logf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.node {
		if n.srv == nil {
			return
		}
	}
	w.t.Logf(format, args...)
}

func (w *world) setDown(s block.StoreID, down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.node[s].down = down
}

func (w *world) Load(v block.VolumeID) (Fact, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, ok := w.fact[v]
	if !ok {
		return f, ErrNotFound
	}
	return f, nil
}

func (w *world) Swap(v block.VolumeID, f Fact) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fact[v].Revision != f.Revision {
		return "", ErrConflict
	}
	w.rev++
	f.Revision = strconv.Itoa(w.rev)
	w.fact[v] = f
	return f.Revision, nil
}

func (w *world) Candidates(key block.Hash) []block.StoreID {
	k := int(key[0]) % len(w.ids)
	return append(append([]block.StoreID(nil), w.ids[k:]...), w.ids[:k]...)
}

func (w *world) Alive(s block.StoreID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.node[s].down
}

func (w *world) Places(key block.Hash, n int) []block.StoreID {
	list := w.Candidates(key)
	return list[:min(n, len(list))]
}

func (w *world) Site(s block.StoreID) upkeep.Site {
	return upkeep.Site{Node: s.String(), Member: true, Takes: true}
}

func (w *world) Version() uint64 { return 1 }

type noCache struct{}

func (noCache) Get(CacheKey) (any, bool) { return nil, false }
func (noCache) Put(CacheKey, any, int)   {}

func (w *world) deps() Deps {
	return Deps{Env: w.env, Client: &replica.Client{Env: w.env, Transport: w}, Registry: w, Placer: w, Cache: noCache{},
		Local: func(block.StoreID) Local { return nil }, Logf: w.logf, Room: w.room}
}

// room is what a store has left.
func (w *world) room(s block.StoreID) (r Room, known bool) {
	w.mu.Lock()
	n, now := w.node[s], w.env.Now()
	st, due := n.st, now-n.measured >= time.Second
	if due {
		n.measured = now
	}
	w.mu.Unlock()
	if st == nil {
		return r, false
	}
	if due { // as an agent does
		if err := st.Measure(); err != nil {
			return r, false
		}
	}
	var err error
	r.Users, r.Cleaners, r.Used, err = st.Left()
	return r, err == nil
}

func (w *world) create(v byte) Spec {
	id := block.VolumeID{v}
	w.fact[id] = Fact{}
	return Spec{ID: id, Pages: 1 << 16, Replicas: 3, Extent: 4 << 20}
}

func (w *world) open(s Spec, o Options) *Engine {
	w.t.Helper()
	if o.Ring == nil {
		o.Ring = make([]byte, 4<<20)
	}
	e, err := Open(w.deps(), s, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *world) local(s block.StoreID) Local {
	w.mu.Lock()
	defer w.mu.Unlock()
	if st := w.node[s].st; s == w.ids[0] && st != nil {
		return st
	}
	return nil
}

type mapCache struct{ m sync.Map }

func (c *mapCache) Get(k CacheKey) (any, bool)   { return c.m.Load(k) }
func (c *mapCache) Put(k CacheKey, v any, _ int) { c.m.Store(k, v) }
