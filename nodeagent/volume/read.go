package volume

import (
	"errors"
	"fmt"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// Read fills p with the content at off. It waits for replicas as long as there is hope; wrong bytes are never returned:
// if no replica has the right ones the answer is EIO.
func (e *Engine) Read(p []byte, off int64) error {
	page, pages, err := e.pageRange(off, int64(len(p)))
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.stats.Reads++
	e.stats.ReadBytes += uint64(len(p))
	e.mu.Unlock()
	var tries readTries
	for {
		err := error(errStale)
		before := e.readState()
		if !e.stale() {
			err = reader{e: e}.readPages(page, pages, p)
		}
		after := e.readState()
		if err == nil && after.session == before.session {
			return nil
		}
		if ferr := e.Err(); ferr != nil && err != nil {
			return ferr
		}
		if after != before {
			continue // addresses that were looked up before may mean something else now, or nothing (invariant E7)
		}
		if live, quorum := e.liveMembers(); tries.final(err, e.Env.Now(), live >= quorum) {
			return eio(fmt.Errorf("volume %s page %d+%d: %w", e.spec.ID, page, pages, err))
		}
		e.Env.Sleep(retryPause)
	}
}

// readState is what an attempt to read holds on to: the session, as a recovery gives addresses other meanings, and how many checkpoints there were, as cleaning between
// two moves pages and frees what an earlier root names.
type readState struct {
	session     uint32
	checkpoints uint64
}

func (e *Engine) readState() readState {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return readState{e.epoch.Session, e.stats.Checkpoints}
}

// readTries tells when a read that fails again and again has failed.
type readTries struct {
	since    time.Duration // since when replicas answer, and none has the page
	answered bool
}

// final takes the error of an attempt under one root, and whether a quorum lives; true: there is no hope.
func (t *readTries) final(err error, now time.Duration, quorum bool) bool {
	switch {
	case !transient(err):
		return true
	case errors.Is(err, replica.ErrUnreachable):
		t.answered = false
		return false
	case !t.answered:
		t.since, t.answered = now, true
	}
	return quorum && now > t.since+readPatience
}

// Turn is the right of a thread to wait for a disk: see export.Turn.
type Turn interface {
	Take() bool
	Give()
}

// TryRead is Read if that needs no waiting but for a disk of this process that is not known to hang, for which the caller gets the turn: ok = false means that nothing
// was decided.
func (e *Engine) TryRead(p []byte, off int64, turn Turn) (ok bool, err error) {
	page, pages, err := e.pageRange(off, int64(len(p)))
	if err != nil {
		return true, err
	}
	if err := e.Err(); err != nil {
		return true, err
	}
	session := e.epochNow().Session
	if pages > maxGather || e.stale() {
		return false, nil
	}
	if err := (reader{e: e, local: true, turn: turn}).readSome(page, p); err != nil || e.epochNow().Session != session {
		return false, nil
	}
	e.mu.Lock()
	e.stats.Reads++
	e.stats.ReadBytes += uint64(len(p))
	e.mu.Unlock()
	return true, nil
}

// errStale is why reads wait while no majority has confirmed this writer for a lease: another may have taken over.
var errStale = fmt.Errorf("no majority of replicas has answered for %v: %w", Lease, replica.ErrUnreachable)

func (e *Engine) stale() bool {
	now := e.Env.Now()
	e.mu.RLock()
	defer e.mu.RUnlock()
	return now-e.lastQuorum > Lease || e.reloading
}

// readPatience is how long a read is tried again when replicas answer but none has the page: a block may just be
// moving. While replicas do not answer at all it waits for them.
const readPatience = 10 * time.Second

func transient(err error) bool {
	return errors.Is(err, replica.ErrUnreachable) || errors.Is(err, replica.ErrNotHeld) || errors.Is(err, replica.ErrBusy)
}

// maxGather is how many pages one pass resolves.
const maxGather = 256

// readPages reads a range in passes.
func (r reader) readPages(page, pages uint64, p []byte) error {
	for pages > 0 {
		n := min(pages, maxGather)
		if err := r.readSome(page, p[:n*block.PageSize]); err != nil {
			return err
		}
		page, pages, p = page+n, pages-n, p[n*block.PageSize:]
	}
	return nil
}

// readSome reads a range of at most maxGather pages.
func (r reader) readSome(first uint64, p []byte) error {
	if len(p) <= block.PageSize {
		return r.gather(first, p)
	}
	c := r.e.checks.Get().(*checks)
	defer c.end(r.e)
	r.later = c
	if err := r.gather(first, p); err != nil {
		return err
	}
	r.later = nil
	return c.settle(r)
}

// gather is readSome but for the checks that it leaves to later.
func (r reader) gather(first uint64, p []byte) error {
	e := r.e
	n := len(p) / block.PageSize
	var addrs [maxGather]blockmap.Addr
	var known [maxGather]bool // in p already, or address known
	var done [maxGather]bool  // in p already
	e.mu.RLock()
	root := e.view.root
	left := e.readRing(first, p, known[:n], done[:n])
	for _, l := range e.view.layers {
		if left == 0 {
			break
		}
		left -= overlayRange(l.edits, first, addrs[:n], known[:n])
	}
	e.mu.RUnlock()
	for i := 0; i < n && left > 0; {
		if known[i] {
			i++
			continue
		}
		j := i
		for j < n && !known[j] {
			j++
		}
		if err := blockmap.LookupRange(r, root, first+uint64(i), addrs[i:j]); err != nil {
			return fmt.Errorf("map: %w", err)
		}
		left -= j - i
		i = j
	}
	for i := 0; i < n; {
		if done[i] {
			i++
			continue
		}
		j := i + 1
		for j < n && !done[j] && addrs[i] != 0 && addrs[j] == addrs[i]+blockmap.Addr(j-i) {
			j++
		}
		dst := p[i*block.PageSize : j*block.PageSize]
		if addrs[i] == 0 {
			clear(dst)
		} else if err := r.fetch(addrs[i], j-i, dst); err != nil {
			return err
		}
		i = j
	}
	return nil
}

// overlayRange looks up what is not known yet, and returns how many pages it found.
func overlayRange(o *blockmap.Overlay, first uint64, addrs []blockmap.Addr, known []bool) (found int) {
	if o.Len() == 0 {
		return 0
	}
	for i := range addrs {
		if known[i] {
			continue
		}
		if a, ok := o.Lookup(first + uint64(i)); ok {
			addrs[i], known[i] = a, true
			found++
		}
	}
	return found
}

// readRing copies pages that are in the ring and returns how many are left. The caller holds mu.
func (e *Engine) readRing(first uint64, p []byte, known, done []bool) (left int) {
	left = len(known)
	if len(e.pending) == 0 && len(e.ringDiscards) == 0 {
		return left
	}
	for i := range known {
		page := first + uint64(i)
		dst := p[i*block.PageSize : (i+1)*block.PageSize]
		if w, ok := e.pending[page]; ok {
			if s, ok := e.ring.Get(w); ok && s.Op == ring.OpWrite {
				copy(dst, s.Payload[(page-s.Page)*block.PageSize:])
				known[i], done[i] = true, true
				left--
				continue
			}
		}
		if len(e.ringDiscards) > 0 && e.discardedAfter(page, 0) != 0 {
			clear(dst)
			known[i], done[i] = true, true
			left--
		}
	}
	return left
}
