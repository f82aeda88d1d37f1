package volume

import (
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// pumpLoop brings committed slots into the journal, in order.
func (e *Engine) pumpLoop() {
	for e.Err() == nil {
		e.wake.Wait()
		for e.pump() {
		}
	}
}

// Answered tells that the reply to a request is with its sender. If nothing else waits, the caller's thread brings the request into
// the journal itself: at depth 1 waking the pump costs more than its work. It waits for nothing.
func (e *Engine) Answered(id ring.ID) {
	e.mu.Lock()
	e.ring.Answered(id)
	e.freeSlots()
	waiting := e.ring.Next() - min(e.pumped+1, e.ring.Next())
	mine := waiting == 1 && !e.lone && e.failed == nil
	wake := waiting > 1 && !e.lone
	if mine {
		e.lone = true
		e.tasks++ // the ring's memory is the next engine's only when Close has returned
	}
	e.mu.Unlock()
	switch {
	case mine:
		e.pumpLone()
	case wake:
		e.wake.Notify()
	}
}

// pumpLone pumps one slot, if that needs no waiting. The caller has set lone.
func (e *Engine) pumpLone() {
	done := e.tryPump()
	e.mu.Lock()
	e.lone = false
	more := !done || e.pumped+1 < e.ring.Next()
	e.mu.Unlock()
	if more {
		e.wake.Notify()
	}
	e.taskEnded()
}

// tryPump is pump without waiting; false leaves the slot to the pump.
func (e *Engine) tryPump() bool {
	s, ok := e.next()
	if !ok || !e.jmu.TryLock() {
		return !ok
	}
	if e.paused || !e.log.fits(sizeOf(&s)) || e.Err() != nil {
		e.jmu.Unlock()
		return false
	}
	e.syncSenders()
	e.pumpSlot(&s)
	return true
}

// next gives the slot to pump next.
func (e *Engine) next() (s ring.Slot, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed != nil {
		return s, false
	}
	for e.pumped+1 < e.ring.Next() {
		if s, ok = e.ring.Get(e.pumped + 1); ok || e.pumped+1 >= e.givenUp {
			return s, ok
		}
		e.pumped++ // never committed by a former process: never answered either
	}
	return s, false
}

// pump puts one slot into the journal; false means that there is none, or the engine has ended.
func (e *Engine) pump() bool {
	s, ok := e.next()
	if !ok {
		return false
	}
	if e.lockFor(sizeOf(&s)) != nil {
		return false
	}
	return e.pumpSlot(&s)
}

// sizeOf bounds the record of a slot, and its payload.
func sizeOf(s *ring.Slot) (rec, payload int) {
	if s.Op != ring.OpWrite {
		return journal.HeaderSize + 64, 0
	}
	return journal.HeaderSize + int(s.Pages)*block.RowSize, int(s.Pages) * block.PageSize
}

// pumpSlot appends the record of a slot. The caller has locked jmu, with room for it; pumpSlot unlocks it. false: see pump.
func (e *Engine) pumpSlot(s *ring.Slot) bool {
	defer e.jmu.Unlock()
	if again, ok := e.next(); !ok || again.WSeq != s.WSeq {
		return ok // a recovery went on from another place meanwhile
	}
	if s.Op == ring.OpDiscard {
		e.pumpDiscard(s)
		return true
	}
	if err := e.pumpWrite(s); err != nil {
		e.failLocked(err)
		return false
	}
	return true
}

// pumpDiscard appends the record of a discard. The caller holds jmu.
func (e *Engine) pumpDiscard(s *ring.Slot) {
	d := journal.Discard{Page: s.Page, Count: s.Pages}
	seq := e.append(&journal.Record{Type: journal.TypeDiscard, WSeq: s.WSeq, Body: d.Encode()})
	e.mu.Lock()
	defer e.mu.Unlock()
	e.view.layers[0].edits.Discard(s.Page, s.Pages)
	keep := e.ringDiscards[:0]
	for _, d := range e.ringDiscards {
		if d.w != s.WSeq {
			keep = append(keep, d)
		}
	}
	e.ringDiscards = keep
	e.pumpedTo(s.WSeq, seq)
}

// pumpWrite appends the record of a write. The caller holds jmu.
func (e *Engine) pumpWrite(s *ring.Slot) error {
	l := &e.log
	if l.block != nil && int(l.block.header.Rows)+int(s.Pages) > block.MaxPages {
		e.sealBlock()
	}
	if l.block == nil {
		l.block = e.newDataBlock()
	}
	var stored [ring.SlotPages][]byte
	bytes, err := e.encode(s, &stored)
	if err != nil {
		return err
	}
	first := uint8(l.block.header.Rows)
	seq := e.pagesRecord(journal.TypeWrite, l.block, s.WSeq, l.rows, stored[:s.Pages], bytes)
	e.mu.Lock()
	e.view.layers[0].edits.Put(s.Page, s.Pages, blockmap.New(0, l.block.header.Number, first))
	e.pumpedTo(s.WSeq, seq)
	e.mu.Unlock()
	return nil
}

// encode makes the stored pages of a slot, and their rows in log.rows; it returns how many bytes they are. The caller holds jmu.
func (e *Engine) encode(s *ring.Slot, stored *[ring.SlotPages][]byte) (bytes uint32, err error) {
	l := &e.log
	epoch, n := e.epochNow(), int(s.Pages)
	l.cipher = l.cipher[:0]
	if need := n * (block.PageSize + 64); cap(l.cipher) < need && (e.codec.group != nil || e.codec.enc != nil) {
		l.cipher = make([]byte, 0, 2*ring.SlotPages*(block.PageSize+64))
	}
	var rows [ring.SlotPages]block.Row
	for i := range n {
		rows[i] = block.Row{Addr: s.Page + uint64(i), Epoch: epoch.Number, Token: epoch.Token, Seq: s.WSeq, Idx: uint16(i)}
		stored[i], l.cipher, err = e.codec.seal(e.spec.ID, &rows[i], s.Payload[i*block.PageSize:(i+1)*block.PageSize], l.cipher)
		if err != nil {
			return 0, err
		}
		bytes += uint32(rows[i].Len)
	}
	var sums [ring.SlotPages]block.Hash
	block.Sums(stored[:n], sums[:n])
	l.rows = slices.Grow(l.rows[:0], n*block.RowSize)[:n*block.RowSize]
	for i := range n {
		rows[i].Leaf = sums[i]
		rows[i].Put(l.rows[i*block.RowSize:])
	}
	return bytes, nil
}

// pumpedTo notes that slot w is in the journal as seq. The caller holds mu.
func (e *Engine) pumpedTo(w, seq uint64) {
	e.slotSeq[w] = seq
	e.pumped, e.pumpedSeq = w, seq
	e.tidy.probe.appended(w, seq)
	for i := range e.flushes {
		if f := &e.flushes[i]; f.seq == 0 && f.wseq <= w {
			f.seq = seq
		}
	}
	// Replicas may have answered for the record before this was noted: their answers found nobody to wake.
	e.answerFlushes()
	e.freeSlots()
}
