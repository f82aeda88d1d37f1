package volume

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// ancestor is a volume that this one was cloned from, as far as a reader of shared pages needs it: where its blocks
// lie. It may be old, as the ancestor's own writer goes on and cleans; then a page is not found, and it is loaded again.
type ancestor struct {
	volume block.VolumeID
	cat    catalog
	state  journal.Checkpoint
	latest bool // state is the latest checkpoint there was: so many replicas were heard
	stale  bool
}

// snapshot finds a snapshot. One that is not there may yet be in a later checkpoint, on replicas that were not heard: then the error is
// worth another try.
func (a *ancestor) snapshot(id [16]byte) (journal.SnapshotRoot, error) {
	i := slices.IndexFunc(a.state.Snapshots, func(s journal.SnapshotRoot) bool { return s.ID == id })
	switch {
	case i >= 0:
		return a.state.Snapshots[i], nil
	case a.latest:
		return journal.SnapshotRoot{}, fmt.Errorf("snapshot %x of volume %s: %w", id, a.volume, ErrNotFound)
	}
	return journal.SnapshotRoot{}, fmt.Errorf("snapshot %x of volume %s: not in the checkpoint that the replicas which answer show, and too few of them do: %w",
		id, a.volume, replica.ErrUnreachable)
}

// catalogOf gives the catalogue of the volume gen generations up, and that volume.
func (e *Engine) catalogOf(gen uint16, local bool) (*catalog, block.VolumeID, error) {
	if gen == 0 {
		return &e.cat, e.spec.ID, nil
	}
	e.mu.RLock()
	if int(gen) > len(e.lineage) {
		e.mu.RUnlock()
		return nil, block.VolumeID{}, fmt.Errorf("generation %d of %d ancestors: %w", gen, len(e.lineage), block.ErrFormat)
	}
	v := e.lineage[gen-1]
	for _, a := range e.ancestors {
		if a.volume == v && !a.stale {
			e.mu.RUnlock()
			return &a.cat, v, nil
		}
	}
	e.mu.RUnlock()
	if local {
		return nil, v, errElsewhere
	}
	a, err := e.loadAncestor(v)
	if err != nil {
		return nil, v, fmt.Errorf("ancestor %s: %w", v, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	keep := e.ancestors[:0:0]
	for _, old := range e.ancestors {
		if old.volume != v {
			keep = append(keep, old)
		}
	}
	e.ancestors = append(keep, a)
	return &a.cat, v, nil
}

// patiently tells that a page of an ancestor, which was not found, may yet be where a later checkpoint says, on replicas that were not
// heard: then the error is worth another try for as long as they are away.
func (e *Engine) patiently(gen uint16, err error) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if err == nil || gen == 0 || int(gen) > len(e.lineage) || errors.Is(err, replica.ErrUnreachable) {
		return err
	}
	for _, a := range e.ancestors {
		if a.volume == e.lineage[gen-1] && !a.latest {
			return fmt.Errorf("%w: too few replicas of ancestor %s answer to know its latest checkpoint: %w", err, a.volume, replica.ErrUnreachable)
		}
	}
	return err
}

// refreshAncestors has ancestors loaded again at their next use.
func (e *Engine) refreshAncestors() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range e.ancestors {
		a.stale = true
	}
}

// loadAncestor reads a volume's latest checkpoint without taking it over.
func (e *Engine) loadAncestor(v block.VolumeID) (*ancestor, error) {
	c, latest, err := e.peek(v)
	if err != nil {
		return nil, err
	}
	a := &ancestor{volume: v, cat: newCatalog(), state: c, latest: latest}
	a.cat.table, a.cat.dir = c.Table, c.Dir
	err = a.cat.loadExtents(v, refPager{reader{e: e}, v})
	if err != nil && !latest && !errors.Is(err, replica.ErrUnreachable) {
		err = fmt.Errorf("%w: too few replicas answer to know its latest checkpoint: %w", err, replica.ErrUnreachable)
	}
	return a, err
}

// peek follows a volume's journal from the registry's anchor to its end, as far as replicas show it, and returns its
// latest checkpoint. It takes no promise: the writer goes on. latest tells that so many replicas were heard that there was no later one.
func (e *Engine) peek(v block.VolumeID) (c journal.Checkpoint, latest bool, err error) {
	f, err := e.Registry.Load(v)
	if err != nil && !errors.Is(err, ErrNotFound) {
		err = errors.Join(err, replica.ErrUnreachable) // it comes back, as a replica does: the read waits
	}
	if err != nil {
		return c, false, err
	}
	logs, end, err := e.peekChain(f.Anchor.Extent, false)
	guess := false                   // not all stores that would have to say where the journal is have answered
	if err == nil && !end.IsZero() { // it may not be the end, but what cleaning has left: the registry may be an old copy
		freed := len(logs) > 0 && logs[len(logs)-1].freed
		s := e.surveyStores(v, f.Anchor.Members)
		start, _, met, terr := s.trace(end)
		switch {
		case terr == nil && !met:
			logs, _, err = e.peekChain(start.Extent, true)
		case freed:
			logs, _, err = e.peekChain(f.Anchor.Extent, true)
		}
		guess = freed && (terr != nil || len(s.silent) > 0)
	}
	switch {
	case err != nil:
		return c, false, err
	case len(logs) == 0 && !end.IsZero():
		return c, false, fmt.Errorf("volume %s: extent %s: %w", v, end, replica.ErrNotHeld)
	case len(logs) == 0:
		return c, false, fmt.Errorf("volume %s was never opened: %w", v, ErrNotFound)
	}
	latest = logs[len(logs)-1].whole && !guess
	if c, _, ok := lastCheckpoint(logs); ok {
		return c, latest, nil
	}
	c, err = e.peekBack(v, logs[0].open)
	if errors.Is(err, ErrNotFound) && !latest {
		err = fmt.Errorf("volume %s: no checkpoint on the replicas that answer, and too few do: %w", v, replica.ErrUnreachable)
	}
	return c, latest, err
}

// peekBack finds the latest checkpoint before the extent that open begins.
func (e *Engine) peekBack(v block.VolumeID, open journal.Open) (c journal.Checkpoint, err error) {
	found, at, err := journal.CheckpointBefore(open, func(id block.ExtentID) (journal.Open, *journal.Checkpoint, error) {
		l, err := e.longestLog(id)
		if err != nil {
			return l.open, nil, err
		}
		if c, _, ok := lastCheckpoint([]extentLog{l}); ok {
			return l.open, &c, nil
		}
		return l.open, nil, nil
	})
	switch {
	case errors.Is(err, journal.ErrNoCheckpoint):
		return c, fmt.Errorf("volume %s: checkpoint at seq %d of %s: %w", v, open.Checkpoint.Seq, at, ErrLost)
	case err != nil:
		return c, err
	case found == nil:
		return c, fmt.Errorf("volume %s has no checkpoint yet: %w", v, ErrNotFound)
	}
	return *found, nil
}

// peekChain reads the logs from an extent on, as far as replicas show them. doubt is the last one if that is not held as
// the end of a journal must be; unless the start is sure to be part of the journal, also one that a store has freed, and it ends there.
func (e *Engine) peekChain(x block.ExtentID, sure bool) (logs []extentLog, doubt block.ExtentID, err error) {
	for !x.IsZero() {
		l, err := e.longestLog(x)
		if errors.Is(err, replica.ErrNotHeld) {
			return logs, x, nil
		}
		if err != nil {
			return nil, doubt, err
		}
		logs = append(logs, l)
		if l.freed && !sure {
			return logs, x, nil
		}
		next, err := lastClosed(l.log)
		if err != nil {
			return nil, doubt, err
		}
		if next.Next.IsZero() && l.copies < len(l.members) {
			doubt = x
		}
		x = next.Next
	}
	return logs, doubt, nil
}

// longestLog reads an extent's log from the replica that has most of it; if that one changes meanwhile or is damaged,
// from the next. If none that answers has it right, who does not answer may.
func (e *Engine) longestLog(x block.ExtentID) (l extentLog, err error) {
	type copyOf struct {
		store block.StoreID
		chain journal.Chain
	}
	var copies []copyOf
	known := make(map[block.StoreID]journal.Chain) // what stores that answered have, be it nothing
	freed := false
	var mu sync.Mutex
	var silent error
	err = fmt.Errorf("extent %s: %w", x, replica.ErrNotHeld)
	e.each(e.whoHolds(x), func(s block.StoreID) { // at once, and only who is alive: its writer may free it meanwhile
		st, serr := replica.State{}, replica.ErrUnreachable
		if e.Placer.Alive(s) {
			st, serr = e.Client.Stat(s, x)
		}
		mu.Lock()
		defer mu.Unlock()
		switch {
		case serr != nil:
			err = worse(err, serr)
			if errors.Is(serr, replica.ErrUnreachable) {
				silent = serr
			}
			return
		case st.Held && st.Chain.LogLen > 0: // else its open record is not durable yet
			copies = append(copies, copyOf{s, st.Chain})
		}
		freed = freed || st.Past
		if !st.Freed && !st.Unknown { // else it had, maybe, more
			known[s] = st.Chain
		}
	}, nil)
	slices.SortFunc(copies, func(a, b copyOf) int {
		switch {
		case journal.Longer(&a.chain, &b.chain):
			return -1
		case journal.Longer(&b.chain, &a.chain):
			return 1
		}
		return bytes.Compare(a.store[:], b.store[:])
	})
	for _, c := range copies {
		var log []byte
		if log, err = e.readChain(c.store, x, &c.chain); err != nil {
			// Its writer may be at it, or another has it right: worth another try.
			err = errors.Join(fmt.Errorf("store %s: %w: %w", c.store, err, replica.ErrBusy), silent)
			continue
		}
		r, _, err := journal.Parse(log)
		if err != nil {
			return l, err
		}
		open, err := journal.DecodeOpen(r.Body)
		return extentLog{id: x, log: log, open: open, members: open.Members, chain: c.chain, copies: len(copies), freed: freed,
			whole: e.heardOut(open.Members, known, &c.chain)}, err
	}
	return l, err
}

// heardOut tells whether so many members of an extent have no more than end that nothing which counts can be behind it.
func (e *Engine) heardOut(members []block.StoreID, known map[block.StoreID]journal.Chain, end *journal.Chain) bool {
	n := 0
	for _, m := range members {
		if c, ok := known[m]; ok && !journal.Longer(&c, end) {
			n++
		}
	}
	return n > len(members)-e.structure(len(members))
}
