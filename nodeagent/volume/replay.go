package volume

import (
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// newLayer makes an empty overlay; an address that it loses before any merge saw it is dead at once. The caller holds
// mu whenever it changes the layer.
func (e *Engine) newLayer() *layer {
	return &layer{edits: blockmap.NewOverlay(e.Env.Rand(), func(a blockmap.Addr) {
		if a.Gen() == 0 {
			e.cat.drop(a.Block())
			e.tidy.garbage += block.PageSize
		}
	})}
}

// freeze ends the present layer, with a snapshot or without, and starts the next. The caller holds mu.
func (e *Engine) freeze(s *journal.Snapshot) {
	e.view.layers[0].snapshot, e.view.layers[0].pages = s, e.pages
	e.view.layers = append([]*layer{e.newLayer()}, e.view.layers...)
}

// replay applies the records with seq ≥ from, in order. Extents that the directory does not know yet are entered.
func (e *Engine) replay(t *tail, logs []extentLog, from uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var top, number uint64
	for i := range logs {
		x := &logs[i]
		ordinal := e.replayExtent(x, i == len(logs)-1, t)
		e.holders[x.id] = x.members
		var unsealed *openBlock
		err := walkLog(x.log, func(r *journal.Record) error {
			if r.Block != 0 {
				e.nextBlock = max(e.nextBlock, r.Block+1)
			}
			if r.WSeq != 0 && r.Epoch.Number == e.epoch.Number && r.Epoch.Token == e.epoch.Token {
				top = max(top, r.WSeq)
			}
			number = max(number, r.Epoch.Number)
			if r.Type == journal.TypeWrite {
				unsealed = e.replayRows(unsealed, r, ordinal)
			}
			if r.Type == journal.TypeSeal && unsealed != nil {
				if s, err := journal.DecodeSeal(r.Body); err == nil && s.Header.Number == unsealed.header.Number {
					unsealed = nil
				}
			}
			if r.Seq < from {
				return nil
			}
			return e.replayRecord(r, ordinal)
		})
		if err != nil {
			return fmt.Errorf("extent %s: %w", x.id, err)
		}
		if i == len(logs)-1 {
			e.log.block = unsealed
			if unsealed != nil {
				e.openBlocks[unsealed.header.Number] = unsealed
			}
		}
		if x.id.Epoch == e.epoch.Number {
			e.log.nextN = max(e.log.nextN, x.id.N+1)
		}
	}
	e.pumped = max(e.pumped, top)
	return nil
}

// replayExtent enters an extent into the directory. The caller holds mu.
func (e *Engine) replayExtent(x *extentLog, isTail bool, t *tail) uint32 {
	ent := blockmap.ExtentEntry{Epoch: x.id.Epoch, N: x.id.N, State: blockmap.ExtentOpen, Replicas: x.open.Replicas, Quorum: x.open.Quorum}
	setMembers(&ent, x.members)
	o := e.cat.addExtent(e.spec.ID, ent)
	ent = *e.cat.extents.at(o)
	if ent.State == blockmap.ExtentOpen && !isTail {
		e.closeEntry(o, &x.chain)
	}
	if isTail && len(t.good) < len(t.members) {
		ent.Flags |= extentDegraded
		e.cat.setExtent(o, ent)
	}
	return o
}

// replayRows gathers the rows of a data block that may turn out not to be sealed: the dead writer left it.
func (e *Engine) replayRows(b *openBlock, r *journal.Record, ordinal uint32) *openBlock {
	if b == nil || b.header.Number != r.Block {
		b = &openBlock{ordinal: ordinal, dataOff: r.DataOff, logOff: r.LogOff, header: block.Header{Type: block.TypeData,
			Encryption: e.codec.encryption(), Volume: e.spec.ID, Number: r.Block}}
	}
	b.rows = append(b.rows, r.Body...)
	for i := range int(r.Rows) {
		b.offs = append(b.offs, b.header.Payload)
		n := r.Row(i).Len
		b.header.Payload += uint32(n)
		if n != 0 && n != block.PageSize { // the rows tell: what the dead writer was asked for may have changed since
			b.header.Compression = block.CompressionZstd
		}
	}
	b.header.Rows += r.Rows
	b.logEnd = r.LogOff + uint32(r.Size())
	return b
}

// replayRecord applies one record to map and table. The caller holds mu.
func (e *Engine) replayRecord(r *journal.Record, ordinal uint32) error {
	if isContent(r.Type) {
		e.dirty += int64(r.Size()) + int64(r.Payload)
	}
	switch r.Type {
	case journal.TypeWrite:
		e.view.layers[0].edits.Put(r.Row(0).Addr, uint64(r.Rows), blockmap.New(0, r.Block, uint8(r.Page)))
	case journal.TypeDiscard:
		d, err := journal.DecodeDiscard(r.Body)
		if err != nil {
			return err
		}
		e.view.layers[0].edits.Discard(d.Page, d.Count)
	case journal.TypeSeal:
		s, err := journal.DecodeSeal(r.Body)
		if err != nil {
			return err
		}
		h := &s.Header
		e.cat.setBlock(h.Number, blockmap.BlockEntry{Kind: blockmap.KindPhysical, Type: h.Type, Encryption: h.Encryption, Compression: h.Compression,
			Rows: h.Rows, Live: h.Rows, Extent: ordinal, DataOff: s.DataOff, LogOff: s.LogOff, LogLen: s.LogLen, Payload: h.Payload, ID: s.ID})
		e.nextBlock = max(e.nextBlock, h.Number+1)
	case journal.TypeSnapshot:
		s, err := journal.DecodeSnapshot(r.Body)
		if err != nil {
			return err
		}
		e.freeze(&s)
	}
	return nil
}
