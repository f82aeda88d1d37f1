package volume

import (
	"encoding/binary"
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// table gets the verified leaf table of a sealed block.
func (r reader) table(pl *place) (*block.Table, error) {
	e := r.e
	key := CacheKey{Owner: e.owner, Kind: cacheTable, A: uint64(pl.gen)<<40 | pl.number}
	if v, ok := e.Cache.Get(key); ok {
		return v.(*block.Table), nil
	}
	b := &pl.entry
	h := block.Header{Type: b.Type, Encryption: b.Encryption, Compression: b.Compression, Rows: b.Rows, Payload: b.Payload, Volume: pl.volume, Number: pl.number}
	seal := journal.Seal{Header: h, DataOff: b.DataOff, LogOff: b.LogOff, LogLen: b.LogLen, ID: b.ID}
	log := make([]byte, b.LogLen)
	var t *block.Table
	var rows []byte
	_, bad, err := r.ask(replica.TypeReadLog, pl.extent, b.LogOff, log, func() (err error) {
		if rows, err = seal.BlockRows(log); err == nil {
			t, err = block.NewTable(h, rows, b.ID)
		}
		if err != nil {
			return errors.Join(err, block.ErrMismatch)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("leaf table of block %d: %w", pl.number, err)
	}
	if len(bad) > 0 {
		e.repairLog(pl.extent, bad, b.LogOff, log)
	}
	e.Cache.Put(key, t, len(rows)*2)
	return t, nil
}

// repairLater writes the right bytes over a wrong copy, in the background. The replica checks them again.
func (e *Engine) repairLater(x block.ExtentID, bad []block.StoreID, good block.StoreID, off uint32, size int) {
	e.start("repair", func() {
		right := make([]byte, size)
		if err := e.readStream(good, replica.TypeReadData, x, off, right); err != nil {
			return
		}
		for _, s := range bad {
			e.repaired(s, x, e.Client.Repair(s, e.epochNow(), x, off, true, right))
		}
	})
}

func (e *Engine) repairLog(x block.ExtentID, bad []block.StoreID, off uint32, right []byte) {
	right = append([]byte(nil), right...)
	e.start("repair", func() {
		for _, s := range bad {
			e.repaired(s, x, e.Client.Repair(s, e.epochNow(), x, off, false, right))
		}
	})
}

func (e *Engine) repaired(s block.StoreID, x block.ExtentID, err error) {
	if err != nil {
		e.Logf("volume %s: repairing extent %s on store %s: %v", e.spec.ID, x, s, err)
		return
	}
	e.mu.Lock()
	e.stats.Repaired++
	e.mu.Unlock()
	e.Logf("volume %s: store %s had wrong bytes of extent %s; repaired from a good copy", e.spec.ID, s, x)
}

// Node implements blockmap.Pager: it reads map nodes.
func (r reader) Node(a blockmap.Addr) ([]byte, error) {
	if page := r.e.pinned(pinKey{a: uint64(a)}); page != nil {
		return page, nil
	}
	if v, ok := r.e.Cache.Get(r.e.pageKey(a)); ok {
		return v.(*[block.PageSize]byte)[:], nil
	}
	page := new([block.PageSize]byte)
	r.later = nil // it is used at once
	if err := r.fetch(a, 1, page[:]); err != nil {
		return nil, fmt.Errorf("map node %s: %w", a, err)
	}
	r.e.Cache.Put(r.e.pageKey(a), page, block.PageSize)
	return page[:], nil
}

// refPager reads pages of the block table and the extent directory of one volume.
type refPager struct {
	reader
	v block.VolumeID
}

// Page implements blockmap.RefPager.
func (p refPager) Page(r journal.Ref) ([]byte, error) {
	e := p.e
	place := r.Epoch<<32 | uint64(r.N)
	if page := e.pinned(pinKey{a: place, b: uint64(r.Off), ref: true}); page != nil && p.v == e.spec.ID {
		return page, nil
	}
	key := CacheKey{Owner: e.owner ^ binary.LittleEndian.Uint64(p.v[:]), Kind: cacheRef, A: place, B: uint64(r.Off)}
	if v, ok := e.Cache.Get(key); ok {
		return v.(*[block.PageSize]byte)[:], nil
	}
	x := block.ExtentID{Volume: p.v, Epoch: r.Epoch, N: r.N}
	page := new([block.PageSize]byte)
	good, bad, err := p.ask(replica.TypeReadData, x, r.Off, page[:], func() error {
		if block.Sum(page[:]) != r.Leaf {
			return block.ErrMismatch
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("index page at %s+%d: %w", x, r.Off, err)
	}
	if len(bad) > 0 {
		e.repairLater(x, bad, good, r.Off, block.PageSize)
	}
	e.Cache.Put(key, page, block.PageSize)
	return page[:], nil
}
