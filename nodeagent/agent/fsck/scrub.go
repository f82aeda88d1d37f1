package fsck

import (
	"context"
	"errors"
	"fmt"
	"slices"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/peer/grant"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/store"
)

// Scrub implements control.Checker: every byte of a volume on every replica, with repair.
func (c *Checker) Scrub(ctx context.Context, volume string, send func(*agentv1.Progress) error) error {
	if err := c.opt.Members.Ready(ctx); err != nil {
		return err
	}
	rec, err := registry.Find(c.opt.Registry, volume)
	if err != nil {
		return err
	}
	r := newReport(ctx, send)
	if err := c.scrubVolume(ctx, &rec, true, r); err != nil {
		return err
	}
	return r.done()
}

func (c *Checker) scrubVolume(ctx context.Context, rec *registry.Record, repair bool, r *report) error {
	if err := r.stage("bytes", rec.Name); err != nil {
		return err
	}
	w, err := c.gather(ctx, rec.ID)
	if err != nil {
		return err
	}
	if repair {
		if err := c.opt.Grants.Ensure(ctx, rec.ID, grant.Read|grant.Repair); err != nil {
			return err
		}
	}
	for _, x := range w.sorted() {
		for _, h := range w.held[x] {
			r.p.Total += int64(h.state.Chain.LogLen) + int64(h.state.Chain.DataLen)
		}
	}
	for _, x := range w.sorted() {
		damage := map[block.StoreID][]replica.Finding{}
		for _, h := range w.held[x] {
			got, err := c.client.Scrub(h.store, x)
			switch {
			case errors.Is(err, replica.ErrNotHeld): // freed meanwhile
			case err != nil:
				f := c.at(finding(kindReplicas, rec.ID, "the store could not check it: %v", err), h.store)
				f.Extent = x.String()
				r.add(f)
			default:
				damage[h.store] = got
			}
			if err := r.step(int64(h.state.Chain.LogLen) + int64(h.state.Chain.DataLen)); err != nil {
				return err
			}
		}
		c.judge(w, x, damage, repair, r)
	}
	return nil
}

// judge reports what is damaged of one extent, and repairs it from a replica that is not damaged there.
func (c *Checker) judge(w *view, x block.ExtentID, damage map[block.StoreID][]replica.Finding, repair bool, r *report) {
	for _, h := range w.held[x] {
		for _, d := range damage[h.store] {
			kind := kindLog
			if d.Data {
				kind = kindLeaf
			}
			f := c.at(finding(kind, w.volume, "bytes are not what the chain says"), h.store)
			f.Extent, f.Offset, f.Length = x.String(), int64(d.Off), int64(d.N)
			if repair {
				if err := c.repair(w, x, h.store, d, damage); err != nil {
					f.Problem += "; not repaired: " + err.Error()
				} else {
					f.Repaired = true
				}
			}
			r.add(f)
		}
	}
}

// maxRepair is the most bytes of one repair, in bytes: what a message takes.
const maxRepair = 1 << 20

func (c *Checker) repair(w *view, x block.ExtentID, to block.StoreID, d replica.Finding, damage map[block.StoreID][]replica.Finding) error {
	if d.N > maxRepair {
		return fmt.Errorf("%d bytes are too many for one repair; take the replica from the volume's healer", d.N)
	}
	typ := replica.TypeReadLog
	if d.Data {
		typ = replica.TypeReadData
	}
	err := errNowhere
	for _, h := range w.held[x] {
		if h.store == to || slices.ContainsFunc(damage[h.store], func(o replica.Finding) bool {
			return o.Data == d.Data && o.Off < d.Off+d.N && d.Off < o.Off+o.N
		}) {
			continue
		}
		good := make([]byte, d.N)
		rerr := c.client.Read(h.store, typ, x, d.Off, good)
		if rerr == nil {
			rerr = c.client.Repair(to, block.Epoch{}, x, d.Off, d.Data, good)
		}
		if rerr == nil {
			return nil
		}
		err = errors.Join(err, rerr)
	}
	return err
}

// ScrubStores implements control.Checker: every byte of this node's stores.
func (c *Checker) ScrubStores(ctx context.Context, ids []string, send func(*agentv1.Progress) error) error {
	r := newReport(ctx, send)
	known := map[string]bool{}
	for _, s := range c.opt.Stores.All() {
		known[s.ID.String()] = true
	}
	for _, id := range ids {
		if !known[id] {
			return fmt.Errorf("store %s is not on this node: %w", id, registry.ErrNotFound)
		}
	}
	for _, s := range c.opt.Stores.All() {
		if len(ids) > 0 && !slices.Contains(ids, s.ID.String()) {
			continue
		}
		if err := r.stage("store "+s.ID.String(), ""); err != nil {
			return err
		}
		for _, v := range s.Store.Volumes() {
			r.p.Total += v.Log + v.Data
			for _, x := range s.Extents(v.Volume) {
				if err := c.scrubExtent(s.Store, s.ID, x, r); err != nil {
					return err
				}
			}
		}
	}
	return r.done()
}

func (c *Checker) scrubExtent(s *store.Store, id block.StoreID, x block.ExtentID, r *report) error {
	st, ok := s.Stat(x)
	if !ok {
		return nil
	}
	err := s.Scrub(x, func(d store.Finding) {
		kind := kindLeaf
		if d.Log {
			kind = kindLog
		}
		f := c.at(finding(kind, x.Volume, "%v", d.Err), id)
		f.Extent, f.Offset, f.Length = x.String(), int64(d.Off), int64(d.Len)
		r.add(f)
	})
	if err != nil && !errors.Is(err, store.ErrNotHeld) {
		f := c.at(finding(kindReplicas, x.Volume, "could not be checked: %v", err), id)
		f.Extent = x.String()
		r.add(f)
	}
	return r.step(int64(st.Durable.LogLen) + int64(st.Durable.DataLen))
}
