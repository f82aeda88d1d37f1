package stores

import (
	"errors"
	"fmt"
	"sync/atomic"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/clearing"
	"mynetwork.io/mynetwork/nodeagent/disk"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/store"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// Load counts what a store was asked for since it was opened.
type Load struct {
	Requests uint64 // appends, and reads of writers and readers
	Rebuilds uint64 // copies made here, or moved
	Repairs  uint64 // damage that others found and mended here
	Freed    uint64 // bytes of copies that were freed
}

// counters are the numbers of a Load while they grow.
type counters struct{ requests, rebuilds, repairs, freed atomic.Uint64 }

// count notes a request.
func (c *counters) count(typ replica.Type) {
	switch typ {
	case replica.TypeAppend, replica.TypeReadLog, replica.TypeReadData:
		c.requests.Add(1)
	case replica.TypeAppendGC, replica.TypePull:
		c.rebuilds.Add(1)
	case replica.TypeRepair:
		c.repairs.Add(1)
	}
}

// Load tells what the store was asked for.
func (st *Store) Load() Load {
	return Load{Requests: st.load.requests.Load(), Rebuilds: st.load.rebuilds.Load(), Repairs: st.load.repairs.Load(), Freed: st.load.freed.Load()}
}

// ownReads is a store that counts what is read of it without a message.
type ownReads struct {
	*store.Store
	load *counters
}

var _ volume.Local = ownReads{}

// ReadLog implements volume.Local.
func (c ownReads) ReadLog(x block.ExtentID, off uint32, p []byte) error {
	c.load.requests.Add(1)
	return c.Store.ReadLog(x, off, p)
}

// ReadData implements volume.Local.
func (c ownReads) ReadData(x block.ExtentID, off uint32, p []byte) error {
	c.load.requests.Add(1)
	return c.Store.ReadData(x, off, p)
}

// ReadLogNow implements volume.Local.
func (c ownReads) ReadLogNow(x block.ExtentID, off uint32, p []byte) error {
	return c.counted(c.Store.ReadLogNow(x, off, p))
}

// ReadDataNow implements volume.Local.
func (c ownReads) ReadDataNow(x block.ExtentID, off uint32, p []byte) error {
	return c.counted(c.Store.ReadDataNow(x, off, p))
}

// counted counts a read that has not waited. One that would have to wait is asked for again.
func (c ownReads) counted(err error) error {
	if !errors.Is(err, disk.ErrWouldWait) {
		c.load.requests.Add(1)
	}
	return err
}

// Clear says what the store gets back at the moment, because it is short of space: nodes that have volumes attached help with it.
func (st *Store) Clear(s clearing.Stage) { st.clearing.Store(uint32(s)) }

// Clearing tells what was said by Clear.
func (st *Store) Clearing() clearing.Stage { return clearing.Stage(st.clearing.Load()) }

// Clearing tells what a store of this node gets back at the moment; Idle if it is not open.
func (s *Set) Clearing(id block.StoreID) clearing.Stage {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if st := s.byID[id]; st != nil {
		return st.Clearing()
	}
	return clearing.Idle
}

// Suspect makes others move away what the store holds, because its disk is not trusted any more: it is announced as quarantined, nothing new
// is placed on it, and what it holds is read as long as it can be. An empty reason takes that back.
func (st *Store) Suspect(why string) {
	if why == "" {
		st.suspect.Store(nil)
		return
	}
	st.suspect.Store(&why)
}

// Suspected says why the disk is not trusted; nil: it is.
func (st *Store) Suspected() error {
	if why := st.suspect.Load(); why != nil {
		return fmt.Errorf("%w: %s", store.ErrQuarantined, *why)
	}
	return nil
}
