package fsck

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/peer/grant"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// errNowhere is returned for what no replica has right.
var errNowhere = errors.New("no replica has it right")

// holding is one replica of an extent.
type holding struct {
	store block.StoreID
	state replica.State
}

// extent is what is known of an extent of the chain.
type extent struct {
	id     block.ExtentID
	chain  journal.Chain  // the end that counts
	first  journal.Record // its open record, without body
	open   journal.Open
	closed *journal.Closed

	checkpoint *journal.Checkpoint // the last one in it, nil if there is none
	sealed     *block.Header       // of a data block that was sealed in it, nil if there is none
	pages      uint64              // one more than the highest page that was written in it
}

// view is a volume as the stores show it at one time.
type view struct {
	c       *Checker
	ctx     context.Context
	volume  block.VolumeID
	held    map[block.ExtentID][]holding
	chain   []*extent // from the anchor to the tail
	problem []*agentv1.Finding

	checkpoint journal.Checkpoint
	found      bool // there is one
	report     *report
	asked      int // how often a replica that was behind was asked again
}

// gather asks all stores that answer what they hold of a volume.
func (c *Checker) gather(ctx context.Context, v block.VolumeID) (*view, error) {
	if err := c.opt.Grants.Ensure(ctx, v, grant.Read); err != nil {
		return nil, err
	}
	w := &view{c: c, ctx: ctx, volume: v, held: map[block.ExtentID][]holding{}}
	var mu sync.Mutex
	c.each(func(s block.StoreID) {
		xs, err := c.client.Extents(s, v)
		for _, x := range xs {
			st, serr := c.client.Stat(s, x)
			if serr != nil || !st.Held {
				err = errors.Join(err, serr)
				continue
			}
			mu.Lock()
			w.held[x] = append(w.held[x], holding{s, st})
			mu.Unlock()
		}
		if err != nil {
			mu.Lock()
			w.problem = append(w.problem, c.at(finding(kindReplicas, v, "the store does not answer: %v", err), s))
			mu.Unlock()
		}
	})
	for _, hs := range w.held {
		inOrder(hs)
	}
	return w, nil
}

// inOrder makes what is told of several replicas the same each time.
func inOrder(hs []holding) {
	slices.SortFunc(hs, func(a, b holding) int { return bytes.Compare(a.store[:], b.store[:]) })
}

// each runs f for every known store of a live node, at once.
func (c *Checker) each(f func(s block.StoreID)) {
	var wg sync.WaitGroup
	for _, n := range c.opt.Members.States() {
		for _, s := range n.Stores {
			if n.Alive {
				wg.Go(func() { f(s.ID) })
			}
		}
	}
	wg.Wait()
}

// at adds to a finding where it is.
func (c *Checker) at(f *agentv1.Finding, s block.StoreID) *agentv1.Finding {
	f.Store = s.String()
	f.Node, _ = c.opt.Members.Owner(s)
	return f
}

// look gathers a volume, follows its chain from an anchor and loads its latest checkpoint.
func (c *Checker) look(ctx context.Context, v block.VolumeID, anchor block.ExtentID) (*view, error) {
	w, err := c.gather(ctx, v)
	if err != nil {
		return nil, err
	}
	w.follow(anchor)
	w.loadCheckpoint()
	return w, nil
}

func (w *view) bad(kind string, x block.ExtentID, format string, args ...any) {
	f := finding(kind, w.volume, format, args...)
	if !x.IsZero() {
		f.Extent = x.String()
	}
	w.problem = append(w.problem, f)
}

// load reads an extent's log from the replica that has most of it, from another one if that is wrong.
func (w *view) load(id block.ExtentID) (*extent, error) {
	hs := slices.Clone(w.held[id])
	slices.SortStableFunc(hs, func(a, b holding) int {
		switch {
		case journal.Longer(&a.state.Chain, &b.state.Chain):
			return -1
		case journal.Longer(&b.state.Chain, &a.state.Chain):
			return 1
		}
		return 0
	})
	var last error
	for _, h := range hs {
		x, err := w.loadFrom(id, &h)
		if err == nil {
			return x, nil
		}
		last = errors.Join(last, fmt.Errorf("store %s: %w", h.store, err))
	}
	return nil, errors.Join(fmt.Errorf("log of extent %s: %w", id, errNowhere), last)
}

func (w *view) loadFrom(id block.ExtentID, h *holding) (*extent, error) {
	x := &extent{id: id}
	log := make([]byte, h.state.Chain.LogLen)
	if err := w.c.client.Read(h.store, replica.TypeReadLog, id, 0, log); err != nil {
		return nil, err
	}
	err := x.chain.Walk(log, func(r *journal.Record, _ block.Hash) error { return x.take(r) })
	if err == nil && (x.chain.Seq != h.state.Chain.Seq || x.chain.Hash != h.state.Chain.Hash) {
		err = fmt.Errorf("its log ends in seq %d, it says %d: %w", x.chain.Seq, h.state.Chain.Seq, journal.ErrChain)
	}
	if err == nil && x.open.Extent != id {
		err = fmt.Errorf("its open record is of extent %s: %w", x.open.Extent, journal.ErrChain)
	}
	return x, err
}

// take notes what a record tells. The record borrows from the log, which is not kept.
func (x *extent) take(r *journal.Record) (err error) {
	switch r.Type {
	case journal.TypeOpen:
		x.first = *r
		x.first.Body = nil
		x.open, err = journal.DecodeOpen(r.Body)
	case journal.TypeClosed:
		var c journal.Closed
		c, err = journal.DecodeClosed(r.Body)
		x.closed = &c
	case journal.TypeCheckpoint:
		var c journal.Checkpoint
		c, err = journal.DecodeCheckpoint(r.Body)
		x.checkpoint = &c
	case journal.TypeSeal:
		var s journal.Seal
		if s, err = journal.DecodeSeal(r.Body); s.Header.Type == block.TypeData {
			x.sealed = &s.Header
		}
	case journal.TypeWrite:
		for i := range int(r.Rows) {
			row := r.Row(i)
			x.pages = max(x.pages, row.Addr+1)
		}
	}
	return err
}

// follow goes from an extent to the tail.
func (w *view) follow(id block.ExtentID) {
	for {
		x, err := w.load(id)
		if err != nil {
			w.bad(kindChain, id, "%v", err)
			return
		}
		if n := len(w.chain); n > 0 {
			before := w.chain[n-1]
			if x.open.Previous != before.id || x.first.Prev != before.chain.Hash || x.first.Seq != before.chain.Seq+1 {
				w.bad(kindChain, id, "it does not follow extent %s", before.id)
			}
		}
		w.chain = append(w.chain, x)
		if x.closed == nil {
			return
		}
		id = x.closed.Next
	}
}

// loadCheckpoint finds the latest checkpoint: in the chain, or before it, between the extent that the first one of the chain names and that one: it may have
// become durable after the first one was opened.
func (w *view) loadCheckpoint() {
	for _, x := range slices.Backward(w.chain) {
		if x.checkpoint != nil {
			w.checkpoint, w.found = *x.checkpoint, true
			return
		}
	}
	if len(w.chain) == 0 {
		return
	}
	c, at, err := journal.CheckpointBefore(w.chain[0].open, func(id block.ExtentID) (open journal.Open, c *journal.Checkpoint, err error) {
		x, err := w.load(id)
		if err == nil {
			open, c = x.open, x.checkpoint
		}
		return open, c, err
	})
	if err != nil {
		w.bad(kindChain, at, "the latest checkpoint: %v", err)
		return
	}
	if c != nil {
		w.checkpoint, w.found = *c, true
	}
}

// page reads and checks one page of an extent's data stream from each replica that has it; what differs is a finding, but
// only if another replica has it right or none has.
func (w *view) page(kind string, id block.ExtentID, off uint32, n int, check func(p []byte) error) ([]byte, error) {
	if err := w.report.step(0); err != nil {
		return nil, err
	}
	var good []byte
	var bad []*agentv1.Finding
	for _, h := range w.held[id] {
		if uint64(off)+uint64(n) > uint64(h.state.Chain.DataLen) {
			continue // a replica that is behind is a matter of kindReplicas
		}
		p := make([]byte, n)
		err := w.c.client.Read(h.store, replica.TypeReadData, id, off, p)
		if err == nil {
			err = check(p)
		}
		if err != nil {
			f := w.c.at(finding(kind, w.volume, "%v", err), h.store)
			f.Extent, f.Offset, f.Length = id.String(), int64(off), int64(n)
			bad = append(bad, f)
			continue
		}
		good = p
		w.report.p.Bytes += int64(n)
	}
	if good == nil {
		return nil, fmt.Errorf("page at %d of extent %s: %w", off, id, errNowhere)
	}
	w.problem = append(w.problem, bad...)
	return good, nil
}

// sorted lists the extents that any store holds, in the order of their opening.
func (w *view) sorted() []block.ExtentID {
	var out []block.ExtentID
	for x := range w.held {
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b block.ExtentID) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.N, b.N))
	})
	return out
}
