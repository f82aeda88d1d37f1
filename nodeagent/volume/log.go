package volume

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// logState is the end of the journal, where records are appended. Guarded by Engine.jmu.
type logState struct {
	extent   block.ExtentID
	ordinal  uint32
	capacity uint32
	opened   uint32 // capacity of the last extent that this engine opened; 0: none yet
	chain    journal.Chain
	senders  []*sender
	block    *openBlock // data block that takes pages; nil after a seal
	nextN    uint32     // counter for the next extent id
	buf      []byte     // record being encoded
	cipher   []byte     // stored pages of the record, where they differ from the ring's
	rows     []byte
	stored   [ring.SlotPages][]byte     // pages of the record being encoded, as stored
	sums     [ring.SlotPages]block.Hash // theirs
	ahead    ahead
	parts    [2 + journal.MaxRecordPages][]byte // of the request being sent
	targets  []replica.Target                   // of a large one
}

// openBlock is a block that is not sealed yet. rows grows; the rest is fixed.
type openBlock struct {
	header  block.Header
	ordinal uint32
	dataOff uint32
	logOff  uint32
	logEnd  uint32
	rows    []byte
	offs    []uint32 // byte offset of page i behind dataOff
}

// logShare bounds an extent's log stream, so that a replica's reservation covers it.
const logShare = 16 // log ≤ capacity/logShare + 1 MiB

func logCapacity(capacity uint32) uint32 { return capacity/logShare + 1<<20 }

// sender is one replica of the open extent, as the pump sees it.
type sender struct {
	e      *Engine
	extent block.ExtentID
	store  block.StoreID
	failed bool // guarded by Engine.jmu
	done   replica.Done
	way    replica.Way // nil: the transport makes none
	head   [replica.AppendHeadSize]byte
	noted  atomic.Uint64 // the highest sequence that it has answered and progress was not told of; 0: none

	session uint32 // of the epoch that it sends under
}

// newSender makes the sender of one member. The caller has paused the journal.
func (e *Engine) newSender(x block.ExtentID, s block.StoreID) *sender {
	w := &sender{e: e, extent: x, store: s, session: e.epoch.Session}
	w.done = w.finish
	if b, ok := e.Client.Transport.(replica.Binder); ok {
		w.way = b.Bind(s, w.note, w.settle)
	}
	return w
}

// orderSenders puts replicas of other nodes before those of this process: their way is longer. The caller holds jmu.
func (e *Engine) orderSenders() {
	here := func(w *sender) int {
		if e.Local(w.store) != nil {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(e.log.senders, func(a, b *sender) int { return here(a) - here(b) })
}

// finish takes the answer to one append; it runs on the transport's goroutine.
func (w *sender) finish(st replica.Status, body []byte, err error) {
	switch {
	case w.e.epochNow().Session != w.session:
		// late: a recovery in place has begun sequences anew, so this is about another record (invariant E6)
	case err == nil && st == replica.StatusOK && len(body) == replica.AppendReplySize:
		w.e.acked(w.extent, w.store, binary.LittleEndian.Uint64(body))
	case err == nil && st == replica.StatusFenced:
		w.e.fenced(w.store, body)
	default:
		if err == nil {
			err = replica.ErrorOf(st, append([]byte(nil), body...))
		}
		w.e.memberFailed(w.extent, w.store, err)
	}
}

// note is finish for answers that settle follows: those that came together move progress once.
func (w *sender) note(st replica.Status, body []byte, err error) {
	if err != nil || st != replica.StatusOK || len(body) != replica.AppendReplySize {
		w.finish(st, body, err)
		return
	}
	seq := binary.LittleEndian.Uint64(body)
	for was := w.noted.Load(); was < seq && !w.noted.CompareAndSwap(was, seq); was = w.noted.Load() {
	}
}

// settle takes the answers that were noted.
func (w *sender) settle() {
	e := w.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if seq := w.noted.Swap(0); seq != 0 && e.epoch.Session == w.session { // else late: see finish
		e.ackedLocked(w.extent, w.store, seq)
	}
}

// fits tells whether a record of recLen bytes and payload bytes can still go into the open extent, leaving room for
// seal and closed records.
func (l *logState) fits(recLen, payload int) bool {
	const tail = 2048
	return uint64(l.chain.DataLen)+uint64(payload) <= uint64(l.capacity) &&
		uint64(l.chain.LogLen)+uint64(recLen)+tail <= uint64(logCapacity(l.capacity))
}

// MinExtent is the least capacity of an extent, bytes: two of the largest records.
const MinExtent = 2 * journal.MaxPayload

// holds tells whether an extent with nothing in it has room for a record of recLen bytes and payload bytes.
func (l *logState) holds(recLen, payload int) bool {
	empty := logState{capacity: l.capacity}
	empty.chain.LogLen = 1024 // the open record
	return empty.fits(recLen, payload)
}

// append completes r (place in the chain, epoch), encodes it and sends it with its payload to every replica that takes
// part. The caller holds jmu and has made sure that it fits. It returns the record's sequence.
func (e *Engine) append(r *journal.Record, payload ...[]byte) uint64 {
	return e.appendWith(r, func() {}, payload)
}

// appendWith is append, and notes, with mu held, what else is so from the moment on at which the record is in the journal: before replicas can
// answer for it.
func (e *Engine) appendWith(r *journal.Record, note func(), payload [][]byte) uint64 {
	l := &e.log
	r.Seq, r.Epoch, r.Prev = l.chain.Seq+1, e.epochNow(), l.chain.Hash
	r.LogOff, r.DataOff = l.chain.LogLen, l.chain.DataLen
	var h block.Hash
	l.buf, h = r.Append(l.buf[:0])
	journal.SetMAC(l.buf, e.codec.mac(e.spec.ID, h))
	l.chain.Advance(r, h)
	e.mu.Lock()
	x := e.progress.Current()
	x.Last, x.Closed = r.Seq, r.Type == journal.TypeClosed
	if isContent(r.Type) {
		e.dirty += int64(r.Size()) + int64(r.Payload)
	}
	e.stats.JournalBytes += uint64(r.Size()) + uint64(r.Payload)
	e.stirred()
	note()
	e.mu.Unlock()
	e.send(r.Epoch, l.buf, payload)
	return r.Seq
}

// isContent tells whether records of this type have to be replayed, so that a checkpoint is due some time after them.
func isContent(t journal.Type) bool {
	return t == journal.TypeWrite || t == journal.TypeDiscard || t == journal.TypeSnapshot
}

// sharedPages is from how many pages on a record is copied once for all replicas.
const sharedPages = 8

func (e *Engine) send(epoch block.Epoch, rec []byte, payload [][]byte) {
	list := &e.log.parts
	n := 2 + copy(list[2:], payload)
	list[1] = rec
	all, shared := e.Client.Transport.(replica.Sharer)
	shared = shared && len(payload) >= sharedPages
	to := e.log.targets[:0]
	for _, w := range e.log.senders {
		if w.failed {
			continue
		}
		h := replica.Head{Store: w.store, Epoch: epoch, Extent: w.extent}
		replica.PutAppendHead(w.head[:], &h, len(rec))
		if shared {
			to = append(to, replica.Target{Store: w.store, Head: w.head[:], Done: w.done})
			continue
		}
		list[0] = w.head[:]
		if w.way != nil {
			w.way.Send(replica.TypeAppend, list[:n]...)
			continue
		}
		e.Client.Transport.Send(w.store, replica.TypeAppend, w.done, list[:n]...)
	}
	if len(to) > 0 {
		all.SendAll(replica.TypeAppend, to, list[1:n]...)
		e.log.targets = to
	}
}

func (e *Engine) epochNow() block.Epoch {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.epoch
}

// acked takes a replica's word that its log is durable up to seq.
func (e *Engine) acked(x block.ExtentID, s block.StoreID, seq uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ackedLocked(x, s, seq)
}

func (e *Engine) ackedLocked(x block.ExtentID, s block.StoreID, seq uint64) {
	if e.failed != nil || e.progress == nil || !e.progress.Ack(x, s, seq) {
		return
	}
	if xs := e.progress.Extents(); xs[len(xs)-1].ID == x {
		e.siblings.Saw(e.Env.Now(), e.progress.Committed(), xs[len(xs)-1])
	}
	e.timeQuorum()
	e.answerFlushes()
	e.freeSlots()
	for _, done := range e.progress.Retire() {
		e.settled(done)
	}
}

// answerFlushes wakes who waits for what is committed now. The caller holds mu.
func (e *Engine) answerFlushes() {
	committed, flushed := e.progress.Committed(), e.flushedTo()
	keep := e.flushes[:0]
	for _, f := range e.flushes {
		limit := committed
		if f.wseq != 0 {
			limit = flushed
		}
		if f.seq != 0 && f.seq <= limit {
			f.done.Set()
		} else {
			keep = append(keep, f)
		}
	}
	clear(e.flushes[len(keep):])
	e.flushes = keep
}

// freeSlots lets go of ring slots whose records every live replica holds. An ended engine leaves the ring as it is: its
// successor may have it already. The caller holds mu.
func (e *Engine) freeSlots() {
	if e.ring == nil || e.failed != nil {
		return
	}
	released := e.progress.Released()
	freed := false
	for e.ring.Low() <= e.pumped {
		w := e.ring.Low()
		if seq, ok := e.slotSeq[w]; ok && seq > released {
			break
		}
		s, committed := e.ring.Get(w)
		if !e.ring.Free() {
			break
		}
		freed = true
		delete(e.slotSeq, w)
		if committed && s.Op == ring.OpWrite {
			for p := s.Page; p < s.Page+s.Pages; p++ {
				if e.pending[p] == w {
					delete(e.pending, p)
				}
			}
		}
	}
	// Writers are woken many at a time, as there is room for many: each slot freed would wake them all in vain.
	if freed && e.ring.Used() <= e.ring.Size()*7/8 && !e.ring.Crowded() {
		for _, w := range e.room {
			w.Set()
		}
		e.room = nil
	}
}

// fenced takes a refusal whose body is the promised epoch.
func (e *Engine) fenced(s block.StoreID, body []byte) {
	if len(body) >= block.EpochSize {
		e.fencedBy(s, block.GetEpoch(body))
	}
}

// fencedBy ends the engine if it is true that a later writer was promised the volume, and not a late answer to what a
// former session of this writer sent.
func (e *Engine) fencedBy(s block.StoreID, promised block.Epoch) {
	now := e.epochNow()
	if promised.Number == now.Number && promised.Token == now.Token && promised.Session <= now.Session {
		return
	}
	e.fail(fmt.Errorf("store %s has promised epoch %s, this writer's is %s: %w", s, promised, now, replication.ErrFenced))
}

// memberFailed takes a replica out of an extent and wakes the healer.
func (e *Engine) memberFailed(x block.ExtentID, s block.StoreID, err error) {
	e.mu.Lock()
	first := false
	if e.failed == nil && e.progress != nil {
		if xs := e.progress.Find(x); xs != nil {
			for i := range xs.Members {
				first = first || (xs.Members[i].Store == s && !xs.Members[i].Failed)
			}
		}
		e.progress.Fail(x, s)
		e.suspectLocked(s, err)
		e.freeSlots()
		for _, done := range e.progress.Retire() {
			e.settled(done)
		}
	}
	e.mu.Unlock()
	if first {
		e.settle(s, x, err)
		e.Logf("volume %s: replica %s of extent %s fails: %v", e.spec.ID, s, x, err)
		e.heal.Notify()
	}
}

// syncSenders marks as failed, in the journal's view, the replicas that have failed. The caller holds jmu.
func (e *Engine) syncSenders() {
	e.mu.RLock()
	defer e.mu.RUnlock()
	e.syncSendersLocked()
}

// syncSendersLocked is syncSenders for who holds mu too.
func (e *Engine) syncSendersLocked() {
	x := e.progress.Find(e.log.extent)
	if x == nil {
		return
	}
	for _, w := range e.log.senders {
		for i := range x.Members {
			if x.Members[i].Store == w.store {
				w.failed = x.Members[i].Failed
			}
		}
	}
}

// settled records in the catalogue how a closed extent ended: which replicas have all of it. The caller holds mu.
func (e *Engine) settled(x *replication.Extent) {
	ordinal, ok := e.cat.byID[x.ID]
	if !ok {
		return
	}
	ent := *e.cat.extents.at(ordinal)
	ent.Flags &^= extentDegraded
	good := 0
	for i := range x.Members {
		if x.Members[i].Durable >= x.Last {
			good++
			e.stock.whole(x.Members[i].Store, x.ID, &ent)
		}
	}
	if good < len(x.Members) {
		ent.Flags |= extentDegraded
		e.heal.Notify()
	}
	e.cat.setExtent(ordinal, ent)
	e.stock.ended++
}

// flags of blockmap.ExtentEntry
const extentDegraded = 1 // a member lacks some of it

// sealBlock ends the open data block: it appends its seal record and enters it into the block table. The caller holds
// jmu; room for a seal record is always kept.
func (e *Engine) sealBlock() {
	b := e.log.block
	if b == nil {
		return
	}
	e.log.block = nil
	e.seal(b)
}

func (e *Engine) seal(b *openBlock) {
	s := journal.Seal{Header: b.header, DataOff: b.dataOff, LogOff: b.logOff, LogLen: b.logEnd - b.logOff, ID: block.ID(&b.header, b.rows)}
	e.append(&journal.Record{Type: journal.TypeSeal, Body: s.Encode()})
	e.enterBlock(&s, b.ordinal)
	if t, err := block.NewTable(b.header, b.rows, s.ID); err == nil {
		e.Cache.Put(CacheKey{Owner: e.owner, Kind: cacheTable, A: b.header.Number}, t, len(b.rows)*2)
	}
}

// enterBlock adds a sealed block to the table.
func (e *Engine) enterBlock(s *journal.Seal, ordinal uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := &s.Header
	e.cat.setBlock(h.Number, blockmap.BlockEntry{Kind: blockmap.KindPhysical, Type: h.Type, Encryption: h.Encryption, Compression: h.Compression,
		Rows: h.Rows, Live: h.Rows, Extent: ordinal, DataOff: s.DataOff, LogOff: s.LogOff, LogLen: s.LogLen, Payload: h.Payload, ID: s.ID})
	delete(e.openBlocks, h.Number)
	e.nextBlock = max(e.nextBlock, h.Number+1)
}

// pagesRecord appends one page record to an open block, which takes its rows. stored are the pages as stored; note is as for appendWith.
func (e *Engine) pagesRecord(t journal.Type, b *openBlock, wseq uint64, rows []byte, stored [][]byte, bytes uint32, note func(seq uint64)) {
	n := len(rows) / block.RowSize
	first := len(b.rows) / block.RowSize
	r := journal.Record{Type: t, Rows: uint16(n), Payload: bytes, Page: uint16(first), Block: b.header.Number, WSeq: wseq, Body: rows}
	if first == 0 {
		b.dataOff, b.logOff = e.log.chain.DataLen, e.log.chain.LogLen
	}
	e.appendWith(&r, func() {
		b.rows = append(b.rows, rows...)
		off := b.header.Payload
		for i := range n {
			b.offs = append(b.offs, off)
			off += uint32(binary.LittleEndian.Uint16(rows[i*block.RowSize+82:]))
		}
		b.header.Payload = off
		b.header.Rows += uint16(n)
		note(r.Seq)
	}, stored)
	b.logEnd = e.log.chain.LogLen
}

// noted notes nothing.
func noted(uint64) {}

// newBlock starts a block. The caller holds jmu.
func (e *Engine) newBlock(t block.Type, enc block.Encryption, comp block.Compression) *openBlock {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := &openBlock{ordinal: e.log.ordinal, header: block.Header{Type: t, Encryption: enc, Compression: comp, Volume: e.spec.ID, Number: e.nextBlock}}
	e.nextBlock++
	e.openBlocks[b.header.Number] = b
	return b
}
