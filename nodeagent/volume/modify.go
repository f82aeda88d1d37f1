package volume

import (
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// Modify changes, while the volume is in use, on how many nodes each byte is wanted, and how pages are compressed that are written from
// the next block on. With more replicas a new extent is opened at once, as soon as there are enough nodes, and closed ones get their
// copies by repair; with fewer, what is there stays until cleaning writes it anew. Whether a flush may be answered by one replica
// can not be changed.
func (e *Engine) Modify(replicas int, c block.Compression) error {
	if replicas < 1 || replicas > journal.MaxMembers {
		return einval(fmt.Errorf("volume %s: %d replicas, 1 to %d are possible: %w", e.spec.ID, replicas, journal.MaxMembers, ErrRange))
	}
	if c > block.CompressionZstd {
		return einval(fmt.Errorf("volume %s: unknown compression %d: %w", e.spec.ID, c, ErrRange))
	}
	e.jmu.Lock()
	err := e.codec.setWant(c)
	e.jmu.Unlock()
	if err != nil {
		return fmt.Errorf("volume %s: %w", e.spec.ID, err)
	}
	e.mu.Lock()
	e.spec.Replicas = replicas
	err = e.failed
	e.mu.Unlock()
	e.heal.Notify()
	e.repair.Notify()
	return err
}

// newDataBlock begins a block of content. All its pages are compressed in one way. The caller holds jmu.
func (e *Engine) newDataBlock() *openBlock {
	e.codec.compression = e.codec.want
	return e.newBlock(block.TypeData, e.codec.encryption(), e.codec.compression)
}

// Replicas is R as it is wanted now.
func (e *Engine) Replicas() int { return e.copies() }

func (e *Engine) copies() int {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.spec.Replicas
}

// retarget has closed extents want as many replicas as the volume does, but not fewer than their own quorum: the directory does not
// know such extents.
func (e *Engine) retarget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := uint8(e.spec.Replicas)
	for o, ent := range e.cat.extents.all() {
		x := *ent
		want := max(r, x.Quorum)
		// Who opened the volume since knows the members that the directory has room for: beyond them a copy is one that is left over.
		forgotten := want <= blockmap.InlineMembers && x.Count > blockmap.InlineMembers && e.holders[extentID(e.spec.ID, &x)] == nil
		if x.State != blockmap.ExtentClosed || x.Replicas == want && !forgotten {
			continue
		}
		if forgotten {
			x.Count = blockmap.InlineMembers
		}
		if want > x.Replicas {
			x.Flags |= extentDegraded
		}
		x.Replicas = want
		e.cat.setExtent(o, x)
	}
}
