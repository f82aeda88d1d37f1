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
	if !e.jmu.TryLock() {
		return false
	}
	defer e.jmu.Unlock()
	done, waits := e.pumpNow()
	return done || !waits
}

// next gives the slot to pump next.
func (e *Engine) next() (s ring.Slot, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.nextLocked()
}

func (e *Engine) nextLocked() (s ring.Slot, ok bool) {
	if e.failed != nil || e.reloading { // how far the journal has come, and which block numbers it has, is not known (invariant E9)
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
	e.jmu.Lock()
	done, waits := e.pumpNow()
	e.jmu.Unlock()
	if done || !waits {
		return done
	}
	s, ok := e.next()
	if !ok {
		return false
	}
	if e.lockFor(sizeOf(&s)) != nil {
		return false
	}
	return e.pumpSlot(&s)
}

// pumpNow puts a write into the journal, if that needs no waiting. waits tells whether there is a slot to pump, done whether it was
// done. The caller holds jmu.
func (e *Engine) pumpNow() (done, waits bool) {
	e.mu.Lock()
	s, ok := e.nextLocked()
	if !ok || s.Op != ring.OpWrite || e.paused || !e.log.fits(sizeOf(&s)) {
		e.mu.Unlock()
		return false, ok
	}
	e.syncSendersLocked()
	var then ring.Slot
	if s.Pages == 1 {
		then, _ = e.ring.Get(s.WSeq + 1)
	}
	e.mu.Unlock()
	if err := e.pumpWrite(&s, then.Payload); err != nil {
		e.failLocked(err)
	}
	return true, true
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
	if err := e.pumpWrite(s, nil); err != nil {
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

// pumpWrite appends the record of a write. then is the payload of the slot that follows, if it is known. The caller holds jmu.
func (e *Engine) pumpWrite(s *ring.Slot, then []byte) error {
	l := &e.log
	if l.block != nil && int(l.block.header.Rows)+int(s.Pages) > block.MaxPages {
		e.sealBlock()
	}
	if l.block == nil {
		l.block = e.newDataBlock()
	}
	bytes, err := e.encode(s, then)
	if err != nil {
		return err
	}
	first := uint8(l.block.header.Rows)
	e.pagesRecord(journal.TypeWrite, l.block, s.WSeq, l.rows, l.stored[:s.Pages], bytes, func(seq uint64) {
		e.view.layers[0].edits.Put(s.Page, s.Pages, blockmap.New(0, l.block.header.Number, first))
		e.pumpedTo(s.WSeq, seq)
	})
	return nil
}

// encode makes the stored pages of a slot, in log.stored, and their rows in log.rows; it returns how many bytes they are. The caller holds jmu.
func (e *Engine) encode(s *ring.Slot, then []byte) (bytes uint32, err error) {
	l := &e.log
	epoch, n := e.epochNow(), int(s.Pages)
	l.cipher = l.cipher[:0]
	if need := n * (block.PageSize + 64); cap(l.cipher) < need && (e.codec.group != nil || e.codec.enc != nil) {
		l.cipher = make([]byte, 0, 2*ring.SlotPages*(block.PageSize+64))
	}
	l.rows = slices.Grow(l.rows[:0], n*block.RowSize)[:n*block.RowSize]
	for i := range n {
		row := block.Row{Addr: s.Page + uint64(i), Epoch: epoch.Number, Token: epoch.Token, Seq: s.WSeq, Idx: uint16(i)}
		l.stored[i], l.cipher, err = e.codec.seal(e.spec.ID, &row, s.Payload[i*block.PageSize:(i+1)*block.PageSize], l.cipher)
		if err != nil {
			return 0, err
		}
		bytes += uint32(row.Len)
		row.Put(l.rows[i*block.RowSize:])
	}
	l.hash(s, then)
	for i := range n {
		copy(l.rows[i*block.RowSize:], l.sums[i][:]) // a row begins with its leaf
	}
	return bytes, nil
}

// ahead is the sum of a page of the ring that is not in the journal yet.
type ahead struct {
	wseq uint64 // of its slot, which has no other page; 0: none
	sum  block.Hash
}

// hash makes the sums of the stored pages of a slot. One page alone is hashed together with the one that follows in the ring, as two take little
// longer than one: that does not change any more.
func (l *logState) hash(s *ring.Slot, then []byte) {
	stored := l.stored[:s.Pages]
	asIs := len(stored) == 1 && len(stored[0]) == block.PageSize && &stored[0][0] == &s.Payload[0]
	switch {
	case asIs && l.ahead.wseq == s.WSeq:
		l.sums[0] = l.ahead.sum
	case asIs && len(then) == block.PageSize:
		l.sums[0], l.ahead.sum = block.SumPair(stored[0], then)
		l.ahead.wseq = s.WSeq + 1
	default:
		block.Sums(stored, l.sums[:len(stored)])
	}
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
	// Of a discard, replicas may have answered for the record before this was noted: their answers found nobody to wake.
	e.answerFlushes()
	e.freeSlots()
}
