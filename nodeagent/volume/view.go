package volume

import (
	"errors"
	"fmt"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// View reads snapshots of a volume as they stand in its journal, wherever that volume is open, if it is. It takes no epoch, promises
// nothing and appends nothing, so any number of them, on any nodes, disturb neither a writer nor each other; whoever has one may die.
//
// It is a clone that never writes: every address is of an ancestor, whose block table is read anew when a page is not where it was, as its
// writer goes on and moves blocks. A snapshot's root is never changed, and its pages live as long as it does (invariant G3). A page that
// a replica has wrong is read from another one, and repaired if this node's grant allows that.
type View struct {
	e     *Engine
	roots []journal.SnapshotRoot // as the clone sees them, oldest first
	shown int                    // which of them Read shows
}

// OpenView opens a view of a volume, for snapshot to be read. It waits for replicas as long as there is hope, or until stop says why it
// must not. ErrNotFound: no checkpoint of the volume names that snapshot. Of spec counts what a reader needs: id, key and compression.
func OpenView(d Deps, spec Spec, snapshot [16]byte, stop func() error) (*View, error) {
	spec.Parent, spec.Snapshot = spec.ID, snapshot
	e, err := newEngine(d, spec)
	if err != nil {
		return nil, err
	}
	v := &View{e: e}
	for {
		if err = v.load(snapshot); err == nil {
			return v, nil
		}
		if serr := stop(); serr != nil {
			err = fmt.Errorf("%w; last: %w", serr, err)
		} else if transient(err) {
			e.Env.Sleep(retryPause)
			continue
		}
		e.fail(err)
		return nil, fmt.Errorf("open snapshot %x of volume %s: %w", snapshot, spec.ID, err)
	}
}

// load reads the volume's latest checkpoint.
func (v *View) load(snapshot [16]byte) error {
	e := v.e
	e.mu.Lock()
	e.lineage, e.ancestors = []block.VolumeID{e.spec.ID}, nil
	e.mu.Unlock()
	a, err := e.loadAncestor(e.spec.ID)
	if err != nil {
		return err
	}
	if _, err := a.snapshot(snapshot); err != nil {
		return err
	}
	v.roots = nil
	for _, s := range a.state.Snapshots {
		if s.Root, err = blockmap.Clone(s.Root); err != nil {
			return err
		}
		v.roots = append(v.roots, s)
	}
	v.shown = v.index(snapshot)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lineage = append([]block.VolumeID{e.spec.ID}, a.state.Lineage...)
	e.ancestors = []*ancestor{a}
	e.view.root, e.pages = v.roots[v.shown].Root, v.roots[v.shown].Pages
	return nil
}

func (v *View) index(id [16]byte) int {
	return slices.IndexFunc(v.roots, func(s journal.SnapshotRoot) bool { return s.ID == id })
}

// Size is the snapshot's size in bytes.
func (v *View) Size() int64 { return v.e.Size() }

// Err is nil until Close.
func (v *View) Err() error { return v.e.Err() }

// Close ends the view: reads that wait end with EIO.
func (v *View) Close() { v.e.fail(ErrClosed) }

// Read fills p with the snapshot's content at off. It waits for replicas as long as there is hope; wrong bytes are never returned.
func (v *View) Read(p []byte, off int64) error {
	page, pages, err := v.e.pageRange(off, int64(len(p)))
	if err != nil {
		return err
	}
	return v.patient(func() error { return reader{e: v.e}.readPages(page, pages, p) })
}

// patient tries again what a replica may yet answer.
func (v *View) patient(try func() error) error {
	e := v.e
	var tries readTries
	for {
		if err := e.Err(); err != nil {
			return err
		}
		err := try()
		if err == nil {
			return nil
		}
		if tries.final(err, e.Env.Now(), true) {
			return eio(fmt.Errorf("volume %s: %w", e.spec.ID, err))
		}
		e.refreshAncestors()
		e.Env.Sleep(retryPause)
	}
}

// TryRead is as Engine.TryRead.
func (v *View) TryRead(p []byte, off int64, turn Turn) (ok bool, err error) {
	page, pages, err := v.e.pageRange(off, int64(len(p)))
	if err != nil {
		return true, err
	}
	if err := v.e.Err(); err != nil {
		return true, err
	}
	if pages > maxGather || (reader{e: v.e, local: true, turn: turn}).readSome(page, p) != nil {
		return false, nil
	}
	return true, nil
}

// Allocated visits, in order, the runs of pages at and after from that the snapshot holds; all others read as zeros. An error of visit ends
// it and is returned as it is.
func (v *View) Allocated(from uint64, visit func(page, count uint64) error) error {
	return v.runs(from, visit, func(from uint64, add func(page, count uint64) error) error {
		return blockmap.WalkFrom(reader{e: v.e}, v.roots[v.shown].Root, from, nil, func(page uint64, _ blockmap.Addr) error { return add(page, 1) })
	})
}

// Changed visits, in order, the runs of pages at and after from that were written or discarded between an earlier snapshot and this one,
// whether or not the bytes differ. ErrNotFound: there is no such snapshot; ErrRange: it is a later one.
func (v *View) Changed(base [16]byte, from uint64, visit func(page, count uint64) error) error {
	i := v.index(base)
	switch {
	case i < 0:
		return fmt.Errorf("snapshot %x of volume %s: %w", base, v.e.spec.ID, ErrNotFound)
	case i > v.shown:
		return fmt.Errorf("snapshot %x of volume %s is younger than the one that is compared with it: %w", base, v.e.spec.ID, ErrRange)
	}
	return v.runs(from, visit, func(from uint64, add func(page, count uint64) error) error {
		return blockmap.Diff(reader{e: v.e}, v.roots[i].Root, v.roots[v.shown].Root, from, nil, func(c blockmap.PageChange) error {
			return add(c.Page, c.Count)
		})
	})
}

// stopped carries an error of a visitor past patient.
type stopped struct{ err error }

func (s stopped) Error() string { return s.err.Error() }

// runs joins what a walk adds, and goes on where a walk broke off for want of a replica.
func (v *View) runs(from uint64, visit func(page, count uint64) error, walk func(from uint64, add func(page, count uint64) error) error) error {
	size := v.roots[v.shown].Pages
	var first, count uint64
	flush := func() error {
		if count == 0 {
			return nil
		}
		return visit(first, count)
	}
	var end error
	err := v.patient(func() error {
		err := walk(from, func(page, n uint64) error {
			if n = min(n, size-min(page, size)); n == 0 {
				return nil
			}
			if count == 0 || page != first+count {
				if err := flush(); err != nil {
					return stopped{err}
				}
				first, count = page, 0
			}
			count += n
			from = first + count
			return nil
		})
		var s stopped
		if errors.As(err, &s) {
			end = s.err
			return nil
		}
		return err
	})
	if err == nil && end == nil {
		end = flush()
	}
	if err != nil {
		return err
	}
	return end
}
