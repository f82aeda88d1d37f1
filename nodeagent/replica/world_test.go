package replica

import (
	"bytes"
	"fmt"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/disk"
	"mynetwork.io/mynetwork/nodeagent/store"
	"mynetwork.io/mynetwork/nodeagent/task"
)

var vol = block.VolumeID{0x77}

// world is a few stores in one process, each behind its Server.
type world struct {
	t    testing.TB
	env  *task.Real
	opt  store.Options
	node map[block.StoreID]*node
	c    *Client
	lose func(typ Type) bool // requests that do not arrive; nil: none
}

type node struct {
	id  block.StoreID
	fs  *disk.Mem
	st  *store.Store
	srv *Server
}

func newWorld(t testing.TB, n int, opt store.Options) *world {
	w := &world{t: t, env: task.NewReal(), opt: opt, node: map[block.StoreID]*node{}}
	w.c = &Client{Env: w.env, Transport: w}
	for i := range n {
		id := block.StoreID{byte(i + 1)}
		fs := disk.NewMem(0)
		if err := store.Format(fs, store.Superblock{Network: [16]byte{1}, Store: id, Node: "n"}, opt); err != nil {
			t.Fatal(err)
		}
		w.start(id, fs)
	}
	t.Cleanup(func() {
		for _, n := range w.node {
			n.srv.Stop()
		}
		w.env.Wait()
	})
	return w
}

// start opens the store in fs and puts it in the place of the former one, if any.
func (w *world) start(id block.StoreID, fs *disk.Mem) *node {
	st, _, err := store.Open(fs, w.opt)
	if err != nil {
		w.t.Fatal(err)
	}
	n := &node{id: id, fs: fs, st: st, srv: NewServer(w.env, st, id, allowAll{}, w.c)}
	w.node[id] = n
	return n
}

// crash cuts the power of a store and starts it again from what was durable.
func (w *world) crash(id block.StoreID) *node {
	old := w.node[id]
	after := old.fs.Crash(func() uint64 { return 0 })
	old.fs.PowerOff()
	old.srv.Stop()
	return w.start(id, after)
}

type allowAll struct{}

func (allowAll) Allow(string, block.VolumeID, uint64, Verb) error { return nil }

type replyTo struct{ done Done }

func (r replyTo) Reply(st Status, parts ...[]byte) { r.done(st, bytes.Join(parts, nil), nil) }

// Send hands the request over at once: Handle does not block.
func (w *world) Send(s block.StoreID, typ Type, done Done, parts ...[]byte) {
	n := w.node[s]
	if n == nil || w.lose != nil && w.lose(typ) {
		done(0, nil, ErrUnreachable)
		return
	}
	n.srv.Handle("test", typ, bytes.Join(parts, nil), replyTo{done})
}

// answer is one reply.
type answer struct {
	st   Status
	body []byte
}

// ask sends a raw request; the channel has its one reply.
func (w *world) ask(s block.StoreID, typ Type, body []byte) <-chan answer {
	ch := make(chan answer, 2)
	w.node[s].srv.Handle("test", typ, body, replyTo{func(st Status, b []byte, _ error) { ch <- answer{st, bytes.Clone(b)} }})
	return ch
}

// writer makes one extent's log and remembers its records.
type writer struct {
	x       block.ExtentID
	epoch   block.Epoch
	members []block.StoreID
	chain   journal.Chain
	recs    [][]byte
	data    [][]byte
	block   uint64
}

func newWriter(e block.Epoch, n uint32, members ...block.StoreID) *writer {
	w := &writer{x: block.ExtentID{Volume: vol, Epoch: e.Number, N: n}, epoch: e, members: members}
	o := journal.Open{Extent: w.x, Replicas: uint8(len(members)), Quorum: uint8(len(members)/2 + 1), Capacity: 8 << 20, Members: members}
	w.add(journal.Record{Type: journal.TypeOpen, Body: o.Encode()}, nil)
	return w
}

func (w *writer) add(r journal.Record, payload []byte) {
	r.Seq, r.Prev, r.Epoch, r.LogOff, r.DataOff, r.Payload = w.chain.Seq+1, w.chain.Hash, w.epoch, w.chain.LogLen, w.chain.DataLen, uint32(len(payload))
	b, h := r.Append(nil)
	w.chain.Advance(&r, h)
	w.recs, w.data = append(w.recs, b), append(w.data, payload)
}

// write adds a record of n pages.
func (w *writer) write(n int) {
	w.block++
	var rows, payload []byte
	for i := range n {
		p := bytes.Repeat([]byte{byte(w.chain.Seq), byte(i)}, block.PageSize/2)
		r := block.Row{Leaf: block.Sum(p), Addr: uint64(i), Epoch: w.epoch.Number, Token: w.epoch.Token, Seq: w.chain.Seq, Idx: uint16(i), Len: block.PageSize}
		rows = append(rows, make([]byte, block.RowSize)...)
		r.Put(rows[len(rows)-block.RowSize:])
		payload = append(payload, p...)
	}
	w.add(journal.Record{Type: journal.TypeWrite, Rows: uint16(n), Block: w.block, Body: rows}, payload)
}

// fork is a copy that goes on by itself.
func (w *writer) fork() *writer {
	c := *w
	c.recs, c.data = append([][]byte(nil), w.recs...), append([][]byte(nil), w.data...)
	return &c
}

// body is the append request of record i.
func (w *writer) body(s block.StoreID, i int) []byte {
	r, _, _ := journal.Parse(w.recs[i])
	h := Head{Store: s, Epoch: r.Epoch, Extent: w.x}
	b := make([]byte, AppendHeadSize)
	PutAppendHead(b, &h, len(w.recs[i]))
	return append(append(b, w.recs[i]...), w.data[i]...)
}

// send appends records [from, to) to a store and fails the test unless all are taken.
func (w *world) send(s block.StoreID, x *writer, from, to int) {
	w.t.Helper()
	for i := from; i < to; i++ {
		if a := <-w.ask(s, TypeAppend, x.body(s, i)); a.st != StatusOK {
			w.t.Fatalf("record %d to %s: status %d %s", i, s, a.st, a.body)
		}
	}
}

// inFiles brings what a store has of x into its files, where a test may damage it.
func (w *world) inFiles(s block.StoreID, x *writer) {
	w.t.Helper()
	if err := w.node[s].st.Scrub(x.x, func(f store.Finding) { w.t.Errorf("damaged already: %+v", f) }); err != nil {
		w.t.Fatal(err)
	}
}

// same fails the test unless the store has exactly x, durably.
func (w *world) same(s block.StoreID, x *writer) {
	w.t.Helper()
	if err := w.compare(s, x); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) compare(s block.StoreID, x *writer) error {
	st, err := w.c.Stat(s, x.x)
	if err != nil {
		return err
	}
	if !st.Held || st.Chain != x.chain {
		return fmt.Errorf("store %s: %+v, want %+v", s, st.Chain, x.chain)
	}
	log := make([]byte, st.Chain.LogLen)
	if err := w.c.Read(s, TypeReadLog, x.x, 0, log); err != nil || !bytes.Equal(log, bytes.Join(x.recs, nil)) {
		return fmt.Errorf("log differs: %v", err)
	}
	data := make([]byte, st.Chain.DataLen)
	if err := w.c.Read(s, TypeReadData, x.x, 0, data); err != nil || !bytes.Equal(data, bytes.Join(x.data, nil)) {
		return fmt.Errorf("data differs: %v", err)
	}
	return nil
}
