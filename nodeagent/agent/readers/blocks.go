package readers

import (
	"context"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/registry"
)

// BlocksRequest says what is asked about a snapshot.
type BlocksRequest struct {
	Volume   string
	Snapshot string // name or id
	Base     string // name or id of an earlier one; empty: all that the snapshot holds
	From     int64  // bytes: what lies wholly before is left out
}

// Blocks calls begin with the snapshot's size in bytes, then visits, ascending, the ranges in bytes that it holds or, with a base, that were
// written or discarded since. It works on any node; if the volume is open, on that node only. An error of the caller's functions ends it.
func (rs *Readers) Blocks(ctx context.Context, q BlocksRequest, begin func(size int64) error, visit func(off, n int64) error) error {
	if q.From < 0 {
		return fmt.Errorf("volume %q: ranges from byte %d: %w", q.Volume, q.From, volumes.ErrInvalid)
	}
	rec, err := rs.find(q.Volume)
	if err != nil {
		return err
	}
	if rec.Holder != "" && rec.Holder != rs.opt.Node {
		return fmt.Errorf("volume %q is attached on node %s; ask its agent: %w", rec.Name, rec.Holder, volumes.ErrElsewhere)
	}
	if err := rs.opt.Checkpoint(rec.ID); err != nil {
		return err
	}
	if rec, err = rs.opt.Registry.Get(rec.ID); err != nil {
		return err
	}
	target, err := snapshotOf(&rec, q.Snapshot)
	if err != nil {
		return err
	}
	var base *registry.Snapshot
	if q.Base != "" {
		if base, err = snapshotOf(&rec, q.Base); err != nil {
			return err
		}
	}
	r, err := rs.inspect(ctx, rec, target.ID)
	if err != nil {
		return err
	}
	defer r.end()
	defer context.AfterFunc(ctx, r.stop)()
	if err := begin(r.view.Size()); err != nil {
		return err
	}
	pages := func(page, count uint64) error { return visit(int64(page)*block.PageSize, int64(count)*block.PageSize) }
	from := uint64(q.From) / block.PageSize
	if base == nil {
		err = r.view.Allocated(from, pages)
	} else {
		err = r.view.Changed(base.ID, from, pages)
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func snapshotOf(rec *registry.Record, nameOrID string) (*registry.Snapshot, error) {
	s, ok := rec.FindSnapshot(nameOrID)
	if !ok || s.Dying || s.Kept {
		return nil, fmt.Errorf("snapshot %q of volume %q: %w", nameOrID, rec.Name, registry.ErrNotFound)
	}
	return s, nil
}

// inspect opens a view of a snapshot for what needs no key: maps are not encrypted.
func (rs *Readers) inspect(ctx context.Context, rec registry.Record, snapshot [16]byte) (*reader, error) {
	line, err := registry.Lineage(rs.opt.Registry, &rec)
	if err != nil {
		return nil, err
	}
	r, err := rs.prepare(append([]registry.Record{rec}, line...), volumes.None, nil)
	if err == nil {
		r.view, err = rs.opened(ctx, r, snapshot)
	}
	if err != nil {
		r.end()
		return nil, err
	}
	return r, nil
}
