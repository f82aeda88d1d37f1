package fsck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/core/warrant"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// rebuilt is a volume that was found on the stores, on the way to its entry.
type rebuilt struct {
	out     *agentv1.Rebuilt
	record  registry.Record
	lineage int
	create  bool
	known   bool // the registry has an entry already
}

// Rebuild implements control.Checker. Of each volume that the stores hold and the registry does not know it makes an
// entry: named recovered-ID, at the highest epoch that any store has seen, anchored at the newest extent that is certainly
// part of the journal. Names are lost for good.
func (c *Checker) Rebuild(ctx context.Context, dryRun bool) ([]*agentv1.Rebuilt, error) {
	all, err := c.scan(ctx)
	if err != nil {
		return nil, err
	}
	var out []*agentv1.Rebuilt
	for _, r := range all {
		if r.create && !dryRun {
			if err := c.opt.Registry.Create(r.record); err != nil {
				r.out.Problem = err.Error()
			} else {
				r.out.Written = true
			}
		}
		out = append(out, r.out)
	}
	return out, nil
}

// enough refuses to judge what is deleted without a majority of the nodes.
func (c *Checker) enough(ctx context.Context) error {
	if err := c.opt.Members.Ready(ctx); err != nil {
		return err
	}
	states := c.opt.Members.States()
	alive := 0
	for _, n := range states {
		if n.Alive {
			alive++
		}
	}
	if alive < replication.Majority(len(states)) {
		return fmt.Errorf("%d of %d nodes answer: a deletion might be forgotten: %w", alive, len(states), volumes.ErrMinority)
	}
	return nil
}

// scan looks at all volumes that the stores hold, parents before clones.
func (c *Checker) scan(ctx context.Context) ([]*rebuilt, error) {
	if err := c.enough(ctx); err != nil {
		return nil, err
	}
	ids, err := c.volumes()
	if err != nil {
		return nil, err
	}
	var all []*rebuilt
	for _, v := range ids {
		r, err := c.rebuild(ctx, v)
		if err != nil {
			return nil, err
		}
		if r != nil {
			all = append(all, r)
		}
	}
	slices.SortStableFunc(all, func(a, b *rebuilt) int { return cmp.Compare(a.lineage, b.lineage) })
	return all, nil
}

// volumes lists the volumes that the stores know.
func (c *Checker) volumes() ([]block.VolumeID, error) {
	var mu sync.Mutex
	var err error
	seen := map[block.VolumeID]bool{}
	c.each(func(s block.StoreID) {
		ids, verr := c.client.Volumes(s)
		mu.Lock()
		defer mu.Unlock()
		err = errors.Join(err, verr)
		for _, v := range ids {
			seen[v] = true
		}
	})
	var out []block.VolumeID
	for v := range seen {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b block.VolumeID) int { return slices.Compare(a[:], b[:]) })
	return out, err
}

// deleted reports whether any store keeps a deletion record of a volume.
func (c *Checker) deleted(ctx context.Context, v block.VolumeID) (bool, error) {
	var mu sync.Mutex
	var err error
	dead := false
	c.each(func(s block.StoreID) {
		signed, derr := c.opt.Deleted(ctx, s, v)
		if derr == nil && len(signed) > 0 {
			_, derr = warrant.VerifyDeletion(signed, v, c.opt.Network, c.opt.Keys)
			if derr == nil {
				mu.Lock()
				dead = true
				mu.Unlock()
				return
			}
		}
		mu.Lock()
		err = errors.Join(err, derr)
		mu.Unlock()
	})
	if dead {
		return true, nil
	}
	return false, err
}

// rebuild looks at one volume. nil: there is nothing to be said of it.
func (c *Checker) rebuild(ctx context.Context, v block.VolumeID) (*rebuilt, error) {
	r := &rebuilt{out: &agentv1.Rebuilt{Volume: v.String()}}
	have, err := c.opt.Registry.Get(v)
	switch {
	case err == nil:
		r.out.Epoch, r.out.Extent, r.known = have.Fact.Epoch.String(), have.Fact.Anchor.Extent.String(), true
		return r, nil
	case !errors.Is(err, registry.ErrNotFound):
		r.out.Problem, r.known = "its entry is not touched: "+err.Error(), true
		return r, nil
	}
	dead, err := c.deleted(ctx, v)
	if err != nil {
		r.out.Problem = "it may be deleted: " + err.Error()
		return r, nil
	}
	if dead {
		return nil, nil
	}
	w, err := c.gather(ctx, v)
	if err != nil || len(w.held) == 0 {
		return nil, err
	}
	anchor, err := w.anchor()
	if err != nil {
		r.out.Problem = err.Error()
		return r, nil
	}
	w.report = newReport(ctx, func(*agentv1.Progress) error { return nil })
	w.follow(anchor.id)
	w.loadCheckpoint()
	r.record, err = w.record(anchor)
	r.out.Epoch, r.out.Extent = r.record.Fact.Epoch.String(), anchor.id.String()
	r.lineage = len(w.checkpoint.Lineage)
	if err != nil {
		r.out.Problem = err.Error()
		return r, nil
	}
	for _, f := range w.problem {
		r.out.Problem += f.Problem + "; "
	}
	r.create = true
	return r, ctx.Err()
}

// anchor finds the newest extent that is certainly part of the journal: a majority of its members holds it, and the
// extent before it, if any store still has that, is closed and leads to it. An extent that a writer opened in vain is
// passed over: recovery from the one before finds what became of it.
func (w *view) anchor() (*extent, error) {
	var last error
	for _, id := range slices.Backward(w.sorted()) {
		x, err := w.load(id)
		if err != nil {
			last = err
			continue
		}
		n := 0
		for _, h := range w.held[id] {
			if slices.Contains(x.open.Members, h.store) {
				n++
			}
		}
		if n < replication.Majority(len(x.open.Members)) {
			last = fmt.Errorf("extent %s: %d of its %d members answer: %w", id, n, len(x.open.Members), volumes.ErrMinority)
			continue
		}
		if p := x.open.Previous; len(w.held[p]) > 0 {
			before, err := w.load(p)
			if err != nil || before.closed == nil || before.closed.Next != id || before.chain.Hash != x.first.Prev {
				last = errors.Join(fmt.Errorf("extent %s: the one before does not lead to it", id), err)
				continue
			}
		}
		return x, nil
	}
	return nil, errors.Join(errors.New("no extent is certainly part of the journal"), last)
}

// record makes the entry of a volume.
func (w *view) record(anchor *extent) (registry.Record, error) {
	o := &anchor.open
	r := registry.Record{ID: w.volume, Name: recoveredName(w.volume), Replicas: int(o.Replicas), Weak: o.Quorum == 1 && o.Replicas > 1,
		Extent: o.Capacity, Created: time.Now().Unix()}
	r.Fact = volume.Fact{Epoch: w.highest(), Anchor: journal.Position{Extent: anchor.id, Members: o.Members}}
	pages := w.checkpoint.Pages
	var sealed *block.Header
	for _, id := range w.sorted() {
		x, err := w.load(id)
		if err != nil {
			continue // told by whoever needs it
		}
		if !w.found {
			pages = max(pages, x.pages)
		}
		if x.sealed != nil {
			sealed = x.sealed
		}
	}
	if sealed == nil {
		sealed = w.dataBlock()
	}
	if sealed != nil {
		r.Compression = sealed.Compression
		if r.Encrypted = sealed.Encryption != block.EncryptionNone; r.Encrypted {
			r.KeyCheck = make([]byte, volumes.KeyCheckSize) // zeros: any key is tried, and a wrong one opens no page
		}
	}
	if r.Size = int64(pages) * block.PageSize; r.Size == 0 {
		return r, errors.New("its size is not known: it has no checkpoint and nothing was written to it")
	}
	if len(w.checkpoint.Lineage) > 0 {
		r.Parent = w.checkpoint.Lineage[0]
	}
	for _, s := range w.checkpoint.Snapshots {
		r.Snapshots = append(r.Snapshots, registry.Snapshot{ID: s.ID, Name: s.Name, Created: s.Created, Size: int64(s.Pages) * block.PageSize})
	}
	return r, nil
}

// highest is the highest epoch that any store has promised or seen.
func (w *view) highest() (e block.Epoch) {
	for _, hs := range w.held {
		for _, h := range hs {
			for _, o := range []block.Epoch{h.state.Promised, h.state.Chain.Epoch} {
				if e.Less(o) {
					e = o
				}
			}
		}
	}
	e.Session = 0
	return e
}

// dataBlock finds, in the block table, a block of content.
func (w *view) dataBlock() (h *block.Header) {
	if !w.found {
		return nil
	}
	k, err := w.catalog()
	if err != nil {
		return nil
	}
	stop := errors.New("found")
	_ = k.table.Walk(0, func(_ uint64, b []byte) error {
		e, err := blockmap.GetBlockEntry(b)
		if err == nil && e.Kind == blockmap.KindPhysical && e.Type == block.TypeData {
			h, err = &block.Header{Encryption: e.Encryption, Compression: e.Compression}, stop
		}
		return err
	})
	return h
}
