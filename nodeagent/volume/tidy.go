package volume

import (
	"errors"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/throttle"
)

// A volume's writes go before its cleaning. What is copied stands before them in the one journal, on the connections and in the replicas' commits: a
// flush waits for all of it. So a pass that nobody waits for asks before each block that it copies, and goes as fast as core/throttle says from how long
// writes take until a quorum has them, but not so slowly that garbage wins: as fast at least as writes make garbage, times the square of the pressure. A pass ends early
// for who waits for its end, and for a checkpoint that is due.
const (
	garbageShare  = 3                // halves of what lives that closed extents hold beyond it at pressure 1
	garbageSlack  = 64 << 20         // bytes of garbage beyond that
	pressing      = 2.0              // pressure from which on cleaning does not hold back
	busyTarget    = 50               // percent: cleanTarget while garbage comes and the pressure is below 1, so that no more is copied than is gained
	busyFor       = time.Second      // so long after a write the volume counts as being written to
	leftPause     = 20 * time.Second // so long after a pass that has left something for quieter times the next one looks whether these are here
	followTime    = 2 * healPause    // a pass begins so soon after the one before, if there is more to do
	wantCopies    = 16 << 20         // bytes that a pass copies at most, but for its first extent, while writes wait for room
	trickle       = 1 << 20          // bytes of garbage a second, below which a volume is kept as tidy as one that is not written to
	othersTime    = 5 * time.Second  // so long a volume that can make no room waits for others to make some
	garbageMemory = 5 * time.Second  // over which the rate of garbage is a mean
)

// tidy is how cleaning goes on. Guarded by Engine.mu.
type tidy struct {
	garbage int64         // bytes that became garbage since the last pass began
	began   time.Duration // when that was
	rate    float64       // bytes of garbage a second
	next    time.Duration // no pass begins before
	more    bool          // there is work for another pass, whatever has become garbage since
	left    bool          // there is work for one when the volume is written to less
	saved   bool          // all that was copied is in the block table of the latest checkpoint

	hopeless bool          // cleaning can not make the room that the engine lacks: a pass has freed nothing, or even cleaners have no room
	since    time.Duration // that is so

	tight  tight
	beside throttle.State
	copied uint64 // last record of the last block that was copied, until a quorum has it; 0: it has
	probe  probe
}

// probe is the one write whose way from the ring to a quorum is timed.
type probe struct {
	wseq, seq uint64 // of the slot, 0: none is timed; of its record, 0: it is not in the journal
	since     time.Duration
	last      time.Duration // when the one before was through
}

// appended notes that slot w is in the journal as seq.
func (p *probe) appended(w, seq uint64) {
	if p.wseq != 0 && p.seq == 0 && w >= p.wseq {
		p.seq = seq
	}
}

// timeWrite begins to time the write of slot w, if none is timed. The caller holds mu.
func (e *Engine) timeWrite(w uint64) {
	if p := &e.tidy.probe; p.wseq == 0 {
		p.wseq, p.seq, p.since = w, 0, e.Env.Now()
	}
}

// timeQuorum takes note of what a quorum has got. The caller holds mu.
func (e *Engine) timeQuorum() {
	t, committed := &e.tidy, e.progress.Committed()
	through := t.probe.seq != 0 && t.probe.seq <= committed
	copied := t.copied != 0 && t.copied <= committed
	if !through && !copied {
		return
	}
	now := e.Env.Now()
	if through {
		t.beside.Took(int64(now), int64(now-t.probe.since))
		e.Pace.Wrote()
		t.probe = probe{last: now}
	}
	if copied {
		t.copied = 0
		t.beside.End(int64(now))
	}
}

// cleanDue tells whether enough has become garbage for a pass, or freed extents wait for holders that were away.
func (e *Engine) cleanDue(now time.Duration) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	t := &e.tidy
	if e.wanting() || t.tight.due() {
		return true
	}
	if now < t.next {
		return false
	}
	return t.more || (t.left && now-t.began > leftPause) || t.garbage > cleanWorth || (t.garbage > 0 && now-t.began > 12*cleanPause)
}

// giveUp notes that cleaning can not make the room that the engine lacks.
func (t *tidy) giveUp(now time.Duration) {
	if !t.hopeless {
		t.hopeless, t.since = true, now
	}
}

// lost tells that nobody makes room: writes are refused. The caller holds mu.
func (e *Engine) lost() bool {
	return e.full && e.tidy.hopeless && e.Env.Now()-e.tidy.since > othersTime
}

// wanting tells that writes wait for the room that cleaning may make. The caller holds mu.
func (e *Engine) wanting() bool { return e.full && !e.tidy.hopeless }

// Tidy is Clean beside writes, as the engine does it by itself: the pass holds back for them, and ends early for who waits for its end.
func (e *Engine) Tidy() error {
	_, err := e.clean(&cleaner{e: e, victims: make(map[uint32]bool), target: cleanTarget, beside: true})
	return err
}

// begin notes that a pass begins, and how fast garbage comes. The caller holds mu.
func (t *tidy) begin(now time.Duration) {
	since := now - t.began
	if since > 0 {
		t.rate = (t.rate*float64(garbageMemory) + float64(t.garbage)*float64(time.Second)) / float64(garbageMemory+since)
	}
	t.garbage, t.began, t.next, t.more, t.saved = 0, now, now+cleanPause, false, false
	t.left, t.tight.wrote, t.tight.waits = false, 0, false
	t.beside.Start(int64(now))
}

// ended notes that a pass has ended; more: the next one may follow at once. The caller holds mu.
func (t *tidy) ended(now time.Duration, ok, more bool) {
	t.copied, t.saved = 0, ok
	t.beside.End(int64(now))
	if ok && more {
		t.more, t.next = true, now
	}
}

// followsOn tells whether a pass begins so soon after another one that the checkpoint at the end of that serves as the one at its beginning: all that was copied
// is in the table that it names.
func (e *Engine) followsOn() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.tidy.saved && e.Env.Now()-e.lastCheck < followTime
}

// pressureOf tells how much more closed extents hold than what lives in them: 1 is what is kept while there are writes.
func pressureOf(extents *extentTable, live []int64) float64 {
	var held, lives int64
	for o, x := range extents.all() {
		if x.State == blockmap.ExtentClosed {
			held, lives = held+int64(x.DataBytes), lives+live[o]*block.PageSize
		}
	}
	return float64(held-lives) / float64(lives*garbageShare/2+garbageSlack)
}

// fits takes away those of a pass for want of room whose copies would need much of what is left of it: a pass that finds no room for its copies
// frees nothing. The emptiest one stays.
func (c *cleaner) fits(live []int64) {
	var copies int64
	for i, o := range c.order {
		if copies += live[o] * block.PageSize; i > 0 && copies > wantCopies {
			c.order, c.more = c.order[:i], true
			return
		}
	}
}

// written tells whether the volume is being written to, and garbage comes at more than a trickle. The caller holds mu.
func (e *Engine) written() bool {
	p := &e.tidy.probe
	if e.tidy.rate < trickle {
		return false
	}
	return p.wseq != 0 || p.last != 0 && e.Env.Now()-p.last < busyFor
}

// leastRate is how fast a pass has to copy, bytes a second, so that it gains as much as becomes garbage meanwhile, times the square of the pressure: so garbage
// comes to rest where the pressure is not much above 1.
func leastRate(garbage, pressure float64, copies, frees int64) float64 {
	return garbage * pressure * pressure * float64(copies) / float64(max(frees-copies, block.PageSize))
}

// targetNow is how full an extent may be at most that the pass takes, percent.
func (c *cleaner) targetNow() int64 {
	c.e.mu.RLock()
	defer c.e.mu.RUnlock()
	if c.beside && !c.wanted && !c.tight && c.pressure < 1 && c.e.written() {
		return busyTarget
	}
	return c.target
}

// errCut ends a pass early. What it has copied is as good as by a whole pass.
var errCut = errors.New("the pass ends early")

// leave takes out of the pass the extents that it has not copied whole.
func (c *cleaner) leave(rest []uint32) {
	c.cut = true
	c.e.mu.RLock()
	defer c.e.mu.RUnlock()
	for _, o := range rest {
		delete(c.victims, o)
		c.freed -= int64(c.e.cat.extents.at(o).DataBytes)
	}
}

// awaited tells whether a pass is to end with the extent that it is at: somebody waits for its end and nobody for what it does, or there is no room any more, of which its
// copies take, and what it has emptied gives, or a write waits for a pass that goes by the room.
func (c *cleaner) awaited() bool {
	c.e.mu.RLock()
	defer c.e.mu.RUnlock()
	return c.beside && c.e.queued > 0 || (c.e.full || c.e.tidy.tight.waits) && !c.wanted && !c.tight
}

// makeWay is called before each block that is copied. It returns when that may begin; false: the pass is to end.
func (c *cleaner) makeWay() bool {
	if c.scarce() {
		return false
	}
	for {
		c.e.mu.Lock()
		wait, goOn := c.turn()
		c.e.mu.Unlock()
		if wait == 0 || !goOn {
			return goOn
		}
		c.e.failedSet.WaitFor(wait)
	}
}

// turn tells how long to wait before asking again; 0: the next block may be copied. goOn is false if the pass is to end. The caller holds mu.
func (c *cleaner) turn() (wait time.Duration, goOn bool) {
	e := c.e
	t, now := &e.tidy, e.Env.Now()
	due, _ := e.checkpointDueLocked(now)
	if e.failed != nil || e.regain || c.beside && due && !c.wanted && !c.tight { // the end of a pass for want of room is the checkpoint that is due
		return 0, false
	}
	if c.beside && e.queued == 0 && !e.full && !c.tight && !t.tight.waits && c.pressure < pressing {
		asks := throttle.Turn{At: int64(now), Waiting: -1, Least: c.least, Full: e.ring != nil && e.ring.Used() > e.ring.Size()/2}
		if t.probe.wseq != 0 {
			asks.Waiting = int64(now - t.probe.since)
		}
		if t.copied == 0 { // what was to be copied had no page that lives
			t.beside.End(int64(now))
		}
		wait = time.Duration(t.beside.Wait(c.rules, asks))
	}
	if wait == 0 {
		t.beside.Begin()
	}
	return wait, true
}
