package volume

import (
	"fmt"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// Snapshot keeps the volume's content as it is now, under id. It covers every write that was acknowledged before the
// call. It returns when the snapshot is durable; its cost does not depend on the volume's size.
func (e *Engine) Snapshot(s journal.Snapshot) error {
	if len(s.Name) > journal.MaxName {
		return fmt.Errorf("snapshot name of %d bytes, at most %d: %w", len(s.Name), journal.MaxName, ErrRange)
	}
	return e.again(func(first bool) error { return e.snapshot(s, first) })
}

func (e *Engine) snapshot(s journal.Snapshot, first bool) error {
	if err := e.Flush(); err != nil {
		return err
	}
	body := s.Encode()
	if err := e.lockFor(journal.HeaderSize+len(body), 0); err != nil {
		return err
	}
	e.mu.Lock()
	kept := !first && e.hasSnapshot(s.ID)
	err := e.mayAdd(&s)
	e.mu.Unlock()
	seq := e.log.chain.Seq
	switch {
	case kept: // by an earlier turn: its record is in the journal, and durable no sooner than the journal's end is
	case err != nil:
		e.jmu.Unlock()
		return err
	default:
		seq = e.append(&journal.Record{Type: journal.TypeSnapshot, Body: body})
		e.mu.Lock()
		e.freeze(&s)
		e.mu.Unlock()
	}
	session := e.epochNow().Session
	e.jmu.Unlock()
	return e.committedIn(session, seq)
}

// hasSnapshot tells whether a snapshot is there, if only in the journal. The caller holds mu.
func (e *Engine) hasSnapshot(id [16]byte) bool {
	return slices.ContainsFunc(e.allSnapshots(), func(s journal.SnapshotRoot) bool { return s.ID == id })
}

// mayAdd refuses a snapshot whose id or name is taken, and one too many. The caller holds mu.
func (e *Engine) mayAdd(s *journal.Snapshot) error {
	all := e.allSnapshots()
	if len(all) >= journal.MaxSnapshots {
		return fmt.Errorf("volume %s has %d snapshots, the most possible", e.spec.ID, len(all))
	}
	for i := range all {
		if all[i].ID == s.ID || (s.Name != "" && all[i].Name == s.Name) {
			return fmt.Errorf("snapshot %q of volume %s: %w", s.Name, e.spec.ID, ErrExists)
		}
	}
	return nil
}

// allSnapshots lists kept roots and, last, snapshots that no checkpoint has merged yet. The caller holds mu.
func (e *Engine) allSnapshots() []journal.SnapshotRoot {
	out := append([]journal.SnapshotRoot(nil), e.snapshots...)
	for i := len(e.view.layers) - 1; i >= 0; i-- {
		if l := e.view.layers[i]; l.snapshot != nil {
			out = append(out, journal.SnapshotRoot{Snapshot: *l.snapshot, Pages: l.pages})
		}
	}
	return out
}

// Snapshots lists the volume's snapshots, oldest first.
func (e *Engine) Snapshots() []journal.SnapshotRoot {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.allSnapshots()
}

// Rooted tells whether a checkpoint that a quorum has names the snapshot: whoever reads the journal finds it, and no recovery loses it.
func (e *Engine) Rooted(id [16]byte) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return slices.Contains(e.rooted, id)
}

// root notes what a durable checkpoint names. The caller holds mu.
func (e *Engine) root(list []journal.SnapshotRoot) {
	e.rooted = e.rooted[:0]
	for i := range list {
		e.rooted = append(e.rooted, list[i].ID)
	}
}

// DeleteSnapshot ends a snapshot; its space returns with cleaning. No clone of it may exist: the caller has checked.
func (e *Engine) DeleteSnapshot(id [16]byte) error {
	return e.again(func(first bool) error { return e.deleteSnapshot(id, first) })
}

func (e *Engine) deleteSnapshot(id [16]byte, first bool) error {
	if err := e.exclusive(); err != nil {
		return err
	}
	defer e.release()
	found := false
	err := e.checkpointNow(func(c *journal.Checkpoint) {
		rest := without(c.Snapshots, id)
		found = len(rest) < len(c.Snapshots)
		c.Snapshots = rest
	})
	if err != nil {
		return err
	}
	if !found && first {
		return fmt.Errorf("snapshot %x of volume %s: %w", id, e.spec.ID, ErrNotFound)
	}
	return e.recount()
}

// without is the list less one snapshot. The list itself stays: it is the engine's until the checkpoint is durable, and after it fails.
func without(list []journal.SnapshotRoot, id [16]byte) []journal.SnapshotRoot {
	return slices.DeleteFunc(slices.Clone(list), func(s journal.SnapshotRoot) bool { return s.ID == id })
}

// Rollback makes the volume's content that of a snapshot. No device may be attached: what a file system has in memory
// would be written over it.
func (e *Engine) Rollback(id [16]byte) error {
	return e.again(func(bool) error { return e.rollback(id) })
}

func (e *Engine) rollback(id [16]byte) error {
	if err := e.Flush(); err != nil { // without the exclusive right, which a recovery may need for it to end
		return err
	}
	if err := e.exclusive(); err != nil {
		return err
	}
	defer e.release()
	if err := e.checkpointNow(nil); err != nil {
		return err
	}
	var to *journal.SnapshotRoot
	err := e.checkpointNow(func(c *journal.Checkpoint) {
		for i := range c.Snapshots {
			if c.Snapshots[i].ID == id {
				to = &c.Snapshots[i]
				c.Map, c.Pages = to.Root, to.Pages
			}
		}
	})
	if err != nil {
		return err
	}
	if to == nil {
		return fmt.Errorf("snapshot %x of volume %s: %w", id, e.spec.ID, ErrNotFound)
	}
	e.mu.Lock()
	clear(e.pending) // what the ring still keeps for slow replicas is older than the snapshot's return
	e.mu.Unlock()
	return e.recount()
}

// Resize grows the volume to size bytes. Shrinking is refused: it would destroy data.
func (e *Engine) Resize(size int64) error {
	if size <= 0 || size%4096 != 0 || uint64(size/4096) > blockmap.MaxPages {
		return einval(fmt.Errorf("resize to %d bytes: %w", size, ErrUnaligned))
	}
	return e.again(func(bool) error {
		if err := e.exclusive(); err != nil {
			return err
		}
		defer e.release()
		if size < e.Size() {
			return einval(fmt.Errorf("resize from %d to %d bytes: volumes do not shrink", e.Size(), size))
		}
		return e.checkpointNow(func(c *journal.Checkpoint) { c.Pages = uint64(size / 4096) })
	})
}

// recount sets the live count of every block from what the roots really name. The caller has the exclusive right, and
// has just made a checkpoint.
func (e *Engine) recount() error {
	live := make(map[uint64]int)
	seen := make(map[blockmap.Addr]bool)
	e.mu.RLock()
	roots := []journal.MapRoot{e.view.root}
	for i := range e.snapshots {
		roots = append(roots, e.snapshots[i].Root)
	}
	e.mu.RUnlock()
	shared := len(roots) > 1 // no root names a page twice
	for _, r := range roots {
		err := blockmap.Walk(reader{e: e}, r, func(a blockmap.Addr, _ uint8, _ uint64) (bool, error) {
			if seen[a] {
				return false, nil
			}
			if shared {
				seen[a] = true
			}
			if a.Gen() == 0 {
				live[a.Block()]++
			}
			return true, nil
		}, func(_ uint64, a blockmap.Addr) error {
			if a.Gen() == 0 && !seen[a] {
				if shared {
					seen[a] = true
				}
				live[a.Block()]++
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("counting live pages: %w", err)
		}
	}
	return e.setLive(live)
}

// setLive enters counted pages into the table; blocks younger than the checkpoint keep theirs.
func (e *Engine) setLive(live map[uint64]int) error {
	e.mu.RLock()
	root := e.cat.table
	e.mu.RUnlock()
	a := blockmap.Array{Pager: refPager{reader{e: e}, e.spec.ID}, Root: root, Size: blockmap.BlockEntrySize}
	return a.Walk(0, func(i uint64, entry []byte) error {
		b, err := blockmap.GetBlockEntry(entry)
		if err != nil {
			return err
		}
		n := uint16(min(live[i], int(b.Rows)))
		if b.Kind == blockmap.KindNone || b.Live == n {
			return nil
		}
		b.Live = n
		e.mu.Lock()
		if _, changed := e.cat.blocks[i]; !changed {
			delete(e.cat.deltas, i)
			e.cat.blocks[i] = b
		}
		e.mu.Unlock()
		return nil
	})
}
