package volume

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// extentLog is a whole extent's log, checked.
type extentLog struct {
	id      block.ExtentID
	log     []byte
	open    journal.Open
	members []block.StoreID
	chain   journal.Chain
	copies  int  // stores that said that they hold it, if it was looked for everywhere
	whole   bool // so many members were heard that no checkpoint which is in force can be behind its end
	freed   bool // a store has freed it: what others have may be what it has left behind
}

// loadLogs reads, from the tail backwards, the logs that state has to be replayed from. Each is pinned by the one
// behind it: an open record carries the hash of the closed record before.
func (e *Engine) loadLogs(t *tail) ([]extentLog, error) {
	logs := []extentLog{{id: t.extent, log: t.log, open: t.open, members: t.members, chain: t.chain}}
	var need block.ExtentID // earliest extent that replay needs
	for {
		first := &logs[0]
		if c, _, ok := lastCheckpoint(logs); ok {
			need = c.Replay.Extent
		} else if need.IsZero() {
			need = first.open.Checkpoint.Extent // the checkpoint itself lies there, or this is the volume's first
		}
		if first.open.Previous.IsZero() || (first.id == need && haveCheckpoint(logs)) {
			return logs, nil
		}
		r, _, err := journal.Parse(first.log)
		if err != nil {
			return nil, err
		}
		log, err := e.fetchLog(first.open.Previous, r.Seq-1, r.Prev)
		if err != nil {
			return nil, err
		}
		rec, _, err := journal.Parse(log)
		if err != nil {
			return nil, err
		}
		open, err := journal.DecodeOpen(rec.Body)
		if err != nil {
			return nil, err
		}
		x := extentLog{id: open.Extent, log: log, open: open, members: open.Members, chain: journal.Chain{Seq: r.Seq - 1, Hash: r.Prev, LogLen: uint32(len(log))}}
		_ = walkLog(log, func(r *journal.Record) error { x.chain.DataLen += r.Payload; return nil })
		logs = append([]extentLog{x}, logs...)
	}
}

func haveCheckpoint(logs []extentLog) bool {
	_, _, ok := lastCheckpoint(logs)
	return ok
}

// lastCheckpoint finds the latest checkpoint record in logs, and where it is.
func lastCheckpoint(logs []extentLog) (c journal.Checkpoint, at journal.Position, ok bool) {
	c, at, _, ok = latestCheckpoint(logs)
	return c, at, ok
}

// latestCheckpoint is lastCheckpoint with the epoch that wrote it.
func latestCheckpoint(logs []extentLog) (c journal.Checkpoint, at journal.Position, by block.Epoch, ok bool) {
	for i := len(logs) - 1; i >= 0 && !ok; i-- {
		_ = walkLog(logs[i].log, func(r *journal.Record) error {
			if r.Type != journal.TypeCheckpoint {
				return nil
			}
			d, err := journal.DecodeCheckpoint(r.Body)
			if err == nil {
				c, by, ok = d, r.Epoch, true
				at = journal.Position{Extent: logs[i].id, LogOff: r.LogOff, Seq: r.Seq, Members: logs[i].members}
			}
			return err
		})
	}
	return c, at, by, ok
}

// fetchLog gets the log of a closed extent, which ends in record seq with hash h, from whoever holds it whole.
func (e *Engine) fetchLog(x block.ExtentID, seq uint64, h block.Hash) ([]byte, error) {
	deadline := e.Env.Now() + 30*time.Second
	for {
		var last error
		for _, s := range (reader{e: e}).order(x) { // who is alive first: a take-over waits for this
			st, err := e.Client.Stat(s, x)
			if err == nil && !st.Held {
				err = replica.ErrNotHeld
			}
			if err == nil {
				log := make([]byte, st.Chain.LogLen)
				if err = e.readStream(s, replica.TypeReadLog, x, 0, log); err == nil {
					if err = checkLog(log, seq, h); err == nil {
						return log, nil
					}
				}
			}
			last = err
		}
		if e.Err() != nil {
			return nil, e.Err()
		}
		if e.Env.Now() > deadline {
			return nil, fmt.Errorf("extent %s: no replica has its log up to seq %d: %w", x, seq, errors.Join(ErrLost, last))
		}
		e.Env.Sleep(retryPause)
	}
}

// named lists the members of an extent that a directory names: this volume's, or that of an ancestor that was read. The caller
// holds mu, as long as it uses the list.
func (e *Engine) named(x block.ExtentID) []block.StoreID {
	cat := &e.cat
	for _, a := range e.ancestors {
		if a.volume == x.Volume {
			cat = &a.cat
		}
	}
	o, ok := cat.byID[x]
	if !ok {
		return nil
	}
	ent := cat.extents.at(o)
	return ent.Members[:min(int(ent.Count), blockmap.InlineMembers)]
}

// whoHolds lists where to ask for an extent: who is known to hold it, then everybody in the layout's order.
func (e *Engine) whoHolds(x block.ExtentID) []block.StoreID {
	all, _ := e.holdersFirst(x)
	return all
}

// holdersFirst is whoHolds, and how many of the first are known to hold it.
func (e *Engine) holdersFirst(x block.ExtentID) (all []block.StoreID, holders int) {
	out := e.knownHolders(x)
	n := len(out)
	for _, s := range e.Placer.Candidates(x.Key()) {
		if !slices.Contains(out[:n], s) {
			out = append(out, s)
		}
	}
	return out, n
}

// knownHolders lists who is known to hold an extent.
func (e *Engine) knownHolders(x block.ExtentID) []block.StoreID {
	e.mu.RLock()
	defer e.mu.RUnlock()
	known := e.holders[x]
	if known == nil {
		known = e.named(x)
	}
	return slices.Clone(known)
}

// forgetMoves takes back what was noted of members of closed extents and is not in the directory that was loaded: it did not
// become durable. The caller holds mu.
func (e *Engine) forgetMoves() {
	clear(e.stock.doubt) // orders of a former session are refused by whom this one asks first: see dropCopy
	for _, ent := range e.cat.extents.all() {
		x := extentID(e.spec.ID, ent)
		old := e.holders[x]
		if old == nil || ent.State != blockmap.ExtentClosed {
			continue
		}
		members := slices.Clone(ent.Members[:min(int(ent.Count), blockmap.InlineMembers)])
		for _, s := range old { // the directory names three
			if len(members) < int(ent.Count) && !slices.Contains(members, s) {
				members = append(members, s)
			}
		}
		e.holders[x] = members
	}
}

// load rebuilds the engine's state: the latest checkpoint, then every record behind it in journal order.
func (e *Engine) load(t *tail, logs []extentLog) error {
	c, at, by, found := latestCheckpoint(logs)
	e.mu.Lock()
	e.cat = newCatalog()
	e.view = view{layers: []*layer{e.newLayer()}}
	e.openBlocks = make(map[uint64]*openBlock)
	e.snapshots, e.rooted, e.checkpoint = nil, nil, journal.Position{}
	e.nextBlock = 1
	e.owner = e.Env.Rand() // nothing that was cached of a lost tail is found again
	e.slotSeq = make(map[uint64]uint64)
	e.dirty, e.pumped = 0, 0
	if found {
		e.view.root, e.pages, e.snapshots = c.Map, c.Pages, c.Snapshots
		e.cat.table, e.cat.dir = c.Table, c.Dir
		e.nextBlock, e.checkpoint, e.lineage = c.NextBlock, at, c.Lineage
		e.replayFrom = c.Replay.Extent
		e.root(c.Snapshots)
		if by.Number == e.epoch.Number && by.Token == e.epoch.Token {
			e.pumped = c.WSeq
		}
	}
	e.mu.Unlock()
	if found {
		cat := newCatalog()
		cat.table, cat.dir = c.Table, c.Dir
		if err := cat.loadExtents(e.spec.ID, refPager{reader{e: e}, e.spec.ID}); err != nil {
			return fmt.Errorf("extent directory: %w", err)
		}
		e.mu.Lock()
		e.cat = cat
		e.cat.stale(e.weak())
		e.forgetMoves()
		e.mu.Unlock()
	}
	from := uint64(0)
	if found {
		from = c.Replay.Seq
	} else if !e.spec.Parent.IsZero() { // its first writer ended before the first checkpoint
		if err := e.becomeClone(); err != nil {
			return err
		}
	}
	return e.replay(t, logs, from)
}
