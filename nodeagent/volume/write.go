package volume

import (
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// pageRange turns a byte range into pages and refuses one that is not whole pages of the volume.
func (e *Engine) pageRange(off, n int64) (page, pages uint64, err error) {
	e.mu.RLock()
	size := int64(e.pages) * block.PageSize
	e.mu.RUnlock()
	if off < 0 || n <= 0 || off%block.PageSize != 0 || n%block.PageSize != 0 || off+n > size || off+n < 0 {
		return 0, 0, einval(fmt.Errorf("bytes %d+%d of a volume of %d: %w", off, n, size, ErrRange))
	}
	return uint64(off / block.PageSize), uint64(n / block.PageSize), nil
}

// Write takes p as the content at off. It returns when the write is in the ring, which survives this process; a Flush
// makes it survive the node. id, if not zero, is the front end's name for the request: one that is in the ring already
// is not applied again, and the caller says Answered(id) once its sender has the reply. It waits while the ring is full
// and returns ENOSPC while the network has no space, EIO once the engine has ended.
func (e *Engine) Write(id ring.ID, p []byte, off int64) error {
	page, pages, err := e.pageRange(off, int64(len(p)))
	if err != nil {
		return err
	}
	for pages > 0 {
		n := min(pages, ring.SlotPages)
		part := ring.ID{}
		if n == pages {
			part = id // the last slot stands for the whole request
		}
		if err := e.put(part, ring.OpWrite, page, n, p[:n*block.PageSize]); err != nil {
			return err
		}
		page, pages, p = page+n, pages-n, p[n*block.PageSize:]
	}
	return nil
}

// TryWrite is Write if that needs no waiting: ok = false means that nothing was accepted.
func (e *Engine) TryWrite(id ring.ID, p []byte, off int64) (ok bool, err error) {
	if len(p) > ring.SlotPages*block.PageSize {
		return false, nil
	}
	page, pages, err := e.pageRange(off, int64(len(p)))
	if err != nil {
		return true, err
	}
	w, payload, err := e.tryReserve(id, ring.OpWrite, page, pages)
	if errors.Is(err, ring.ErrFull) {
		return false, nil
	}
	if err == nil && w != 0 {
		e.fill(id, w, ring.OpWrite, page, pages, payload, p)
	}
	return true, err
}

// Accepted tells whether the ring holds the whole of a request with this id.
func (e *Engine) Accepted(id ring.ID) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	w, ok := e.ring.Find(id)
	if !ok {
		return false
	}
	_, committed := e.ring.Get(w)
	return committed
}

// Discard makes a range read as zeros from now on. Rules as for Write.
func (e *Engine) Discard(id ring.ID, off, n int64) error {
	page, pages, err := e.pageRange(off, n)
	if err != nil {
		return err
	}
	return e.put(id, ring.OpDiscard, page, pages, nil)
}

// put brings one slot into the ring; it waits for room.
func (e *Engine) put(id ring.ID, op ring.Op, page, pages uint64, p []byte) error {
	for {
		w, payload, err := e.tryReserve(id, op, page, pages)
		if err == nil && w != 0 {
			e.fill(id, w, op, page, pages, payload, p)
		}
		if !errors.Is(err, ring.ErrFull) {
			return err
		}
		e.waitRoom()
	}
}

// fill completes a slot: from here on the write counts. It counts as a task since the slot was taken: the ring's memory is
// the next engine's only when Close has returned. The pump learns of a request with an id by Answered.
func (e *Engine) fill(id ring.ID, w uint64, op ring.Op, page, pages uint64, payload, p []byte) {
	copy(payload, p)
	e.mu.Lock()
	e.ring.Commit(w)
	if op == ring.OpWrite {
		e.timeWrite(w)
		e.addPending(w, page, pages)
		e.stats.Writes++
		e.stats.WrittenBytes += pages * block.PageSize
	} else {
		e.pendingDiscard(w, page, pages)
	}
	e.mu.Unlock()
	e.taskEnded()
	if id == (ring.ID{}) {
		e.wake.Notify()
	}
}

// tryReserve takes a slot, which fill completes. w is 0 without an error if the request is in the ring already; ring.ErrFull: wait for room.
func (e *Engine) tryReserve(id ring.ID, op ring.Op, page, pages uint64) (w uint64, payload []byte, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed != nil {
		return 0, nil, e.failed
	}
	if _, ok := e.ring.Find(id); ok && id != (ring.ID{}) {
		return 0, nil, nil
	}
	if op == ring.OpWrite && e.tidy.tight.holds(e.full) {
		if !e.lost() {
			if !e.tidy.tight.waits {
				e.tidy.tight.waits = true
				e.tend.Notify()
			}
			return 0, nil, ring.ErrFull // cleaning makes room, or finds that there is none to be made
		}
		return 0, nil, enospc(fmt.Errorf("volume %s: the network has no space for another extent, and cleaning finds none in this volume", e.spec.ID))
	}
	if e.dirty > 2*checkpointBytes && op == ring.OpWrite {
		return 0, nil, ring.ErrFull // the checkpoint under way bounds what a restart replays and what overlays hold
	}
	if w, payload, err = e.ring.Reserve(id, op, page, pages); err == nil {
		e.tasks++
		if op == ring.OpWrite {
			e.tidy.tight.spend(int64(pages) * block.PageSize)
		}
	}
	return w, payload, err
}

// waitRoom waits until slots were freed, or the engine ends.
func (e *Engine) waitRoom() {
	ev := e.Env.NewEvent()
	e.mu.Lock()
	if e.failed != nil {
		e.mu.Unlock()
		return
	}
	e.room = append(e.room, ev)
	e.mu.Unlock()
	e.wake.Notify()
	ev.WaitFor(retryPause)
}

// discards that are in the ring and not yet in the overlay.
type ringDiscard struct{ w, page, end uint64 }

// addPending makes the pages of a committed write readable from the ring, but for those that a later discard covers.
// The caller holds mu.
func (e *Engine) addPending(w, page, pages uint64) {
	for p := page; p < page+pages; p++ {
		if e.pending[p] < w && e.discardedAfter(p, w) == 0 {
			e.pending[p] = w
		}
	}
}

// discardedAfter is the latest discard in the ring, after w, that covers page; 0 if none. The caller holds mu.
func (e *Engine) discardedAfter(page, w uint64) (latest uint64) {
	for _, d := range e.ringDiscards {
		if d.w > w && d.page <= page && page < d.end {
			latest = max(latest, d.w)
		}
	}
	return latest
}

func (e *Engine) pendingDiscard(w, page, pages uint64) {
	e.ringDiscards = append(e.ringDiscards, ringDiscard{w, page, page + pages})
	e.forgetPending(w, page, pages)
}

// forgetPending takes out of pending what a discard at w covers. The caller holds mu.
func (e *Engine) forgetPending(w, page, pages uint64) {
	if pages < uint64(len(e.pending)) {
		for p := page; p < page+pages; p++ {
			if e.pending[p] < w {
				delete(e.pending, p)
			}
		}
		return
	}
	for p, at := range e.pending {
		if page <= p && p < page+pages && at < w {
			delete(e.pending, p)
		}
	}
}

// Resent tells that no request of a former process of this agent will be sent again any more.
func (e *Engine) Resent() {
	e.mu.Lock()
	e.ring.AllAnswered()
	e.freeSlots()
	e.mu.Unlock()
}

// Flush returns when everything written before it is durable at a quorum: with R = 3 it survives the loss of any node
// and a power cut of all. Without quorum it waits.
func (e *Engine) Flush() error {
	e.mu.Lock()
	if e.failed != nil {
		defer e.mu.Unlock()
		return e.failed
	}
	e.stats.Flushes++
	f := flushWaiter{wseq: e.ring.Next() - 1, done: nil}
	if f.wseq <= e.pumped && !e.reloading {
		f.seq = e.pumpedSeq
		if f.seq <= e.flushedTo() || f.wseq == 0 && f.seq <= e.progress.Committed() {
			e.mu.Unlock()
			return nil
		}
	}
	f.done = e.Env.NewEvent()
	e.flushes = append(e.flushes, f)
	wake := f.seq == 0 && !e.lone
	e.mu.Unlock()
	if wake {
		e.wake.Notify()
	}
	f.done.Wait()
	return e.Err()
}

// errRecovered is what waits for a record get when the journal is recovered in place: sequences above what a quorum had
// begin anew, so the record may be gone and its number another's (invariant E6).
var errRecovered = errors.New("the journal was recovered meanwhile")

// committedIn waits until record seq, appended in a session of this writer, is durable at a quorum.
func (e *Engine) committedIn(session uint32, seq uint64) error {
	e.mu.Lock()
	switch {
	case e.failed != nil:
		defer e.mu.Unlock()
		return e.failed
	case e.regain || e.epoch.Session != session:
		e.mu.Unlock()
		return errRecovered
	case seq <= e.progress.Committed():
		e.mu.Unlock()
		return nil
	}
	lost := false
	f := flushWaiter{seq: seq, lost: &lost, done: e.Env.NewEvent()}
	e.flushes = append(e.flushes, f)
	e.mu.Unlock()
	f.done.Wait()
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.failed == nil && lost {
		return errRecovered
	}
	return e.failed
}

// interrupt ends, for a recovery in place, all waits for records that it may take back.
func (e *Engine) interrupt() {
	e.mu.Lock()
	e.regain = true
	keep := e.flushes[:0:0]
	for _, f := range e.flushes {
		if f.lost == nil {
			keep = append(keep, f)
			continue
		}
		*f.lost = true
		f.done.Set()
	}
	e.flushes = keep
	e.mu.Unlock()
}

// again repeats f for as long as recoveries interrupt it; f learns whether this is its first turn.
func (e *Engine) again(f func(first bool) error) error {
	for first := true; ; first = false {
		err := f(first)
		if !errors.Is(err, errRecovered) {
			return err
		}
		e.Env.Sleep(retryPause)
	}
}

// committed waits until the journal is durable at a quorum up to seq.
func (e *Engine) committed(seq uint64) error {
	e.mu.Lock()
	if e.failed != nil || seq <= e.progress.Committed() {
		defer e.mu.Unlock()
		return e.failed
	}
	f := flushWaiter{seq: seq, done: e.Env.NewEvent()}
	e.flushes = append(e.flushes, f)
	e.mu.Unlock()
	f.done.Wait()
	return e.Err()
}

// lockFor locks jmu with room for a record of that size in the open extent; it rolls to a new extent if there is none,
// and refuses what none has room for: rolling would not end. On error, jmu is not locked.
func (e *Engine) lockFor(rec, payload int) error {
	for {
		e.jmu.Lock()
		if err := e.Err(); err != nil {
			e.jmu.Unlock()
			return err
		}
		switch {
		case e.paused:
			ev := e.Env.NewEvent()
			e.resumed = append(e.resumed, ev)
			e.jmu.Unlock()
			ev.Wait()
		case e.log.fits(rec, payload):
			e.syncSenders()
			return nil
		case !e.log.holds(rec, payload):
			capacity := e.log.capacity
			e.jmu.Unlock()
			return fmt.Errorf("volume %s: record of %d and %d bytes for extents of %d: %w", e.spec.ID, rec, payload, capacity, ErrRange)
		default:
			e.paused = true
			e.jmu.Unlock()
			err := e.openNext()
			e.resume()
			if err != nil {
				return err
			}
		}
	}
}

// pause stops appends for the caller, who calls resume. It fails once the engine has ended.
func (e *Engine) pause() error {
	for {
		e.jmu.Lock()
		if err := e.Err(); err != nil {
			e.jmu.Unlock()
			return err
		}
		if !e.paused {
			e.paused = true
			e.jmu.Unlock()
			return nil
		}
		ev := e.Env.NewEvent()
		e.resumed = append(e.resumed, ev)
		e.jmu.Unlock()
		ev.Wait()
	}
}

func (e *Engine) resume() {
	if r := recover(); r != nil {
		panic(r) // see release
	}
	e.jmu.Lock()
	e.paused = false
	list := e.resumed
	e.resumed = nil
	e.jmu.Unlock()
	for _, ev := range list {
		ev.Set()
	}
	e.wake.Notify()
}

// failLocked ends the engine from a place that holds jmu.
func (e *Engine) failLocked(err error) { e.Env.Go("fail", func() { e.fail(err) }) }
