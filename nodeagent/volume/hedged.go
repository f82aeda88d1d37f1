package volume

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/hedge"
	"mynetwork.io/mynetwork/nodeagent/disk"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// What this process has is read where it is asked for, unless its disk hangs (readHere). Every other read is a query: one replica is asked, and when it is late another
// one too (core/hedge says when). The first answer that has the right bytes ends the query; what comes later is dropped. (invariants Q1-Q4)

// hedges is what is known of how fast replicas answer.
type hedges struct {
	mu sync.Mutex
	st *hedge.State
}

// source is a store that may have an extent.
type source struct {
	store  block.StoreID
	own    Local // nil: by message
	holder bool  // it is known to hold the extent
	alive  bool
	rank   int // see hedge.Rank
}

// sources lists where to read an extent, best first: of those that are believed alive, those that hold it and stores of this process; then those that are fast.
func (r reader) sources(x block.ExtentID) []source {
	all, holders := r.e.holdersFirst(x)
	return r.ranked(all, holders)
}

// ranked is sources for some stores, of which so many of the first hold the extent.
func (r reader) ranked(all []block.StoreID, holders int) []source {
	e := r.e
	out := make([]source, 0, len(all))
	for i, s := range all {
		o := source{store: s, own: e.Local(s), holder: i < holders}
		if r.local && o.own == nil {
			continue
		}
		o.alive = o.own != nil || e.answers(s)
		out = append(out, o)
	}
	if r.local {
		return out
	}
	now := int64(e.Env.Now())
	e.hedges.mu.Lock()
	for i := range out {
		out[i].rank = e.hedges.st.Rank(now, out[i].store, out[i].own != nil)
	}
	e.hedges.mu.Unlock()
	slices.SortStableFunc(out, func(a, b source) int { return a.order() - b.order() })
	return out
}

func (s *source) order() int {
	at := 2 * s.rank
	if s.own == nil {
		at++
	}
	if !s.holder && s.own == nil {
		at += 1 << 16
	}
	if !s.alive {
		at += 1 << 17
	}
	return at
}

// query reads one range of an extent's stream.
type query struct {
	e    *Engine
	typ  replica.Type
	x    block.ExtentID
	off  uint32
	dst  []byte   // the reader's; written to under mu, while the reader waits, by one answer at a time
	from []source // who is to be asked yet
	all  bool     // from began with every store that there is; else with those that are known to hold the extent
	news task.Signal

	mu    sync.Mutex
	left  bool // the reader has gone, and dst with it (invariant Q1)
	used  bool // dst holds an answer that the reader has not done with
	asked []asked
	in    []answer
	owed  int
	late  time.Duration // when another replica is to be asked
}

// asked is one replica that was asked.
type asked struct {
	source
	began time.Duration
	over  bool // it has answered, or nobody waits for it any more
	hedge bool // another one was late
}

// answer is what a replica said. Its bytes are in dst, or, if that was in use, apart.
type answer struct {
	by    int
	apart []byte
	err   error
}

// ask fills p with what the stream of x has at off, from the first store whose bytes check takes, which looks at p. It tells which store that was, and which
// had wrong bytes. A reader at hand asks only what needs no waiting.
func (r reader) ask(typ replica.Type, x block.ExtentID, off uint32, p []byte, check func() error) (good block.StoreID, bad []block.StoreID, err error) {
	last := errElsewhere
	var from []source
	if r.local {
		from = r.sources(x)
	} else {
		known := r.e.knownHolders(x)
		from = r.ranked(known, len(known))
	}
	if r.local || !r.waits {
		for _, s := range from {
			if s.own == nil {
				continue
			}
			err := r.readHere(s.own, typ, x, off, p)
			if err == nil {
				err = check()
			}
			if err == nil {
				return s.store, nil, nil
			}
			last = worse(last, err)
		}
	}
	if r.local {
		return good, nil, last
	}
	q := &query{e: r.e, typ: typ, x: x, off: off, dst: p, from: from, news: r.e.Env.NewSignal()}
	defer q.leave()
	return q.run(check)
}

// A disk that a device's thread was held up by for hangs is not waited for by one in the next distrust: only a task is, which another replica overtakes. As long as
// a disk is not known to hang, handing a read to a task would cost more than the disk does. As long as a hang has not ended, nobody gets a turn.
const (
	hangs    = 20 * time.Millisecond
	distrust = 10 * time.Second
)

// readHere reads from a store of this process: what is in memory at once. A device's thread that gets the turn waits for the disk, too, unless that hangs.
func (r reader) readHere(l Local, typ replica.Type, x block.ExtentID, off uint32, p []byte) error {
	err := readNow(l, typ, x, off, p)
	e := r.e
	if r.turn == nil || !wouldWait(err) {
		return err
	}
	began := e.Env.Now()
	if began < time.Duration(e.hung.Load()) || !r.turn.Take() {
		return err
	}
	defer r.turn.Give()
	if typ == replica.TypeReadLog {
		err = l.ReadLog(x, off, p)
	} else {
		err = l.ReadData(x, off, p)
	}
	if now := e.Env.Now(); now-began >= hangs {
		e.hung.Store(int64(now + distrust))
	}
	return err
}

func readNow(l Local, typ replica.Type, x block.ExtentID, off uint32, p []byte) error {
	if typ == replica.TypeReadLog {
		return l.ReadLogNow(x, off, p)
	}
	return l.ReadDataNow(x, off, p)
}

// run asks replicas until one has the right bytes, or none has.
func (q *query) run(check func() error) (good block.StoreID, bad []block.StoreID, err error) {
	last := errElsewhere
	q.another(false)
	for q.waits() {
		a, ok := q.next()
		if !ok {
			if err := q.e.Err(); err != nil {
				return good, bad, err
			}
			last = worse(last, q.overdue())
			continue
		}
		if err = a.err; err == nil {
			if err = check(); err == nil {
				q.won(a.by)
				return q.asked[a.by].store, bad, nil
			}
			bad = append(bad, q.asked[a.by].store)
			err = fmt.Errorf("store %s: %w", q.asked[a.by].store, err)
			q.done()
		}
		last = worse(last, err)
		if !q.waits() {
			q.another(false)
		}
	}
	return good, bad, last
}

// waits tells whether an answer is to come, or has not been looked at.
func (q *query) waits() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.owed > 0 || len(q.in) > 0
}

// another asks the next replica, if there is one.
func (q *query) another(hedged bool) {
	if !q.all && (len(q.from) == 0 || !q.from[0].alive) { // a store that is not known to hold it may, and one that answers tells more
		q.all = true
		from := reader{e: q.e}.sources(q.x)
		q.mu.Lock()
		q.from = slices.DeleteFunc(from, func(s source) bool {
			return slices.ContainsFunc(q.asked, func(a asked) bool { return a.store == s.store })
		})
		q.mu.Unlock()
	}
	if len(q.from) == 0 {
		return
	}
	s := q.from[0]
	q.from = q.from[1:]
	e, now := q.e, q.e.Env.Now()
	e.hedges.mu.Lock()
	if len(q.asked) == 0 {
		e.hedges.st.Read()
	}
	patience := e.hedges.st.Asked(int64(now), s.store, len(q.dst))
	e.hedges.mu.Unlock()
	q.mu.Lock()
	by := len(q.asked)
	q.asked = append(q.asked, asked{source: s, began: now, hedge: hedged})
	q.owed++
	q.late = now + time.Duration(patience)
	q.mu.Unlock()
	if s.own == nil && len(q.dst) <= replica.MaxRead {
		e.Client.ReadThen(s.store, q.typ, q.x, q.off, len(q.dst), func(p []byte, err error) { q.take(by, s.store, now, p, err) })
		return
	}
	e.Env.Go("own read", func() {
		p := make([]byte, len(q.dst)) // as long as the disk takes, whoever still waits
		err := e.readStream(s.store, q.typ, q.x, q.off, p)
		q.take(by, s.store, now, p, err)
	})
}

// take notes an answer, whose bytes are borrowed.
func (q *query) take(by int, s block.StoreID, began time.Duration, p []byte, err error) {
	e := q.e
	e.hedges.mu.Lock()
	e.hedges.st.Ended(int64(e.Env.Now()), s, len(q.dst), int64(began), err == nil)
	e.hedges.mu.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.left || q.asked[by].over {
		return
	}
	q.asked[by].over = true
	q.owed--
	a := answer{by: by, err: err}
	switch {
	case err != nil:
	case q.used:
		a.apart = bytes.Clone(p)
	default:
		copy(q.dst, p)
		q.used = true
	}
	q.in = append(q.in, a)
	q.news.Notify()
}

// next waits for an answer, or until it is time to look.
func (q *query) next() (a answer, ok bool) {
	for {
		q.mu.Lock()
		if i := q.first(); i >= 0 {
			a = q.in[i]
			q.in = slices.Delete(q.in, i, i+1)
			if a.apart != nil {
				copy(q.dst, a.apart)
				q.used = true
			}
			q.mu.Unlock()
			return a, true
		}
		until := q.late
		for i := range q.asked {
			if o := &q.asked[i]; !o.over && o.own == nil {
				until = min(until, o.began+replica.Timeout)
			}
		}
		q.mu.Unlock()
		if wait := until - q.e.Env.Now(); wait <= 0 || !q.news.WaitFor(wait) {
			return answer{}, false
		}
	}
}

// first is the answer to be looked at first: that whose bytes are in dst; -1 if there is none. mu is held.
func (q *query) first() int {
	for i := range q.in {
		if q.in[i].err == nil && q.in[i].apart == nil {
			return i
		}
	}
	return min(len(q.in), 1) - 1
}

// done frees dst for the next answer.
func (q *query) done() {
	q.mu.Lock()
	q.used = false
	q.mu.Unlock()
}

// overdue gives up who is silent for too long, and asks another replica if those that were asked are late and that may be done.
func (q *query) overdue() (err error) {
	now := q.e.Env.Now()
	q.mu.Lock()
	for i := range q.asked {
		if o := &q.asked[i]; !o.over && o.own == nil && now-o.began >= replica.Timeout {
			o.over = true
			q.owed--
			err = fmt.Errorf("store %s, no answer in %v: %w", o.store, replica.Timeout, replica.ErrUnreachable)
		}
	}
	late, owed := now >= q.late, q.owed
	q.mu.Unlock()
	switch {
	case owed == 0:
		q.another(false)
	case late && q.mayHedge(now):
		q.another(true)
	case late:
		q.mu.Lock()
		q.late = now + hedgeLook
		q.mu.Unlock()
	}
	return err
}

// hedgeLook is how often a late read looks whether it may be sent to another replica by now.
const hedgeLook = 100 * time.Millisecond

// mayHedge tells whether there is a replica that may do better, and a hedge left.
func (q *query) mayHedge(now time.Duration) bool {
	if len(q.from) == 0 || !q.from[0].holder || !q.from[0].alive {
		return false
	}
	e := q.e
	e.hedges.mu.Lock()
	ok := e.hedges.st.Hedge(int64(now))
	e.hedges.mu.Unlock()
	if ok {
		e.mu.Lock()
		e.stats.Hedged++
		e.mu.Unlock()
	}
	return ok
}

// won counts a hedge that was of use.
func (q *query) won(by int) {
	if !q.asked[by].hedge {
		return
	}
	q.e.mu.Lock()
	q.e.stats.HedgesWon++
	q.e.mu.Unlock()
}

// leave ends the query: nothing that still comes touches the reader's memory.
func (q *query) leave() {
	q.mu.Lock()
	q.left = true
	q.mu.Unlock()
}

// wouldWait tells that a read at hand needs the disk, which says nothing of the bytes.
func wouldWait(err error) bool { return errors.Is(err, disk.ErrWouldWait) }
