package volume

import (
	"errors"
	"fmt"
	"maps"
	"sync"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// each runs f for every store at once, as tasks, and returns when enough says so or all are through.
func (e *Engine) each(stores []block.StoreID, f func(s block.StoreID), enough func() bool) {
	news := e.Env.NewSignal()
	var mu sync.Mutex
	left := len(stores)
	for _, s := range stores {
		e.Env.Go("ask", func() {
			f(s)
			mu.Lock()
			left--
			mu.Unlock()
			news.Notify()
		})
	}
	for {
		mu.Lock()
		n := left
		mu.Unlock()
		if n == 0 || (enough != nil && enough()) {
			return
		}
		news.Wait()
	}
}

// promise has a majority of an extent's members refuse all writers below this epoch, and decides which of their logs
// the volume goes on from. It asks until that is possible or the engine is fenced.
//
// lost tells that the volume is weak, and that replicas that do not answer may hold more that was acknowledged. If best is not held,
// the journal has to be looked for: no member has the extent, or some may have freed it, or they do not answer for long; if it is known to be
// part of the journal, where that goes on.
func (e *Engine) promise(c *chase) (known *replication.Tails, best replication.Tail, lost bool, err error) {
	x, members, damaged := c.x, c.members, maps.Clone(c.damaged) // who answers late still looks when another log is found to be damaged
	var mu sync.Mutex
	tails := &replication.Tails{Replicas: len(members), Quorum: e.flushQuorum(len(members)), Unfreed: c.sure}
	var fence error
	for round := 0; ; round++ {
		e.each(members, func(s block.StoreID) {
			st, perr := e.promiseTo(s, x)
			var own journal.Chain
			rotten := damaged[s]
			if perr == nil && !rotten {
				own, perr = e.ownEnd(s, x, &st)
				rotten = isDamage(perr)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(perr, replication.ErrFenced):
				fence = perr
			case rotten && (perr == nil || isDamage(perr)):
				tails.Add(replication.Tail{Store: s, Unknown: true}) // its log is not what it says: see doubt
			case perr == nil:
				tails.Add(replication.Tail{Store: s, Held: st.Held, Freed: st.Freed, Past: st.Past, Unknown: st.Unknown, Chain: st.Chain, Own: own})
			}
		}, func() bool {
			mu.Lock()
			defer mu.Unlock()
			_, _, ok := e.decide(c, tails)
			return ok || fence != nil
		})
		mu.Lock()
		best, lost, ok := e.decide(c, tails)
		ferr, granted, known := fence, tails.Granted(), tails.Clone()
		mu.Unlock()
		switch {
		case ferr != nil:
			return nil, best, false, ferr
		case ok:
			return known, best, lost, nil
		case e.Err() != nil:
			return nil, best, false, e.Err()
		case !c.sure && (round >= patience || granted >= replication.Majority(len(members)) && len(known.Freed()) > 0):
			return known, replication.Tail{}, false, nil
		case c.sure && !e.weak() && round >= 3*patience:
			return known, replication.Tail{}, false, nil
		case round%25 == 24:
			e.Logf("volume %s: waiting for %s of extent %s: %d of %d replicas answer", e.spec.ID, e.wanted(), x, granted, len(members))
		}
		e.Env.Sleep(retryPause)
	}
}

// promiseTo has one store promise this epoch. If it may have lost a higher promise to damage, it takes the word of a
// writer that finds its own epoch in the registry now, and of no other.
func (e *Engine) promiseTo(s block.StoreID, x block.ExtentID) (replica.State, error) {
	epoch := e.epochNow()
	st, err := e.Client.Promise(s, epoch, x)
	if !errors.Is(err, replica.ErrUnsure) {
		return st, err
	}
	f, rerr := e.Registry.Load(e.spec.ID)
	if rerr != nil || f.Epoch.Number != epoch.Number || f.Epoch.Token != epoch.Token {
		return st, errors.Join(err, rerr)
	}
	return e.Client.PromiseFresh(s, epoch, x)
}

// settle ends a store's doubt if that is why it refused an order, which is given again later.
func (e *Engine) settle(s block.StoreID, x block.ExtentID, err error) {
	if errors.Is(err, replica.ErrUnsure) {
		e.Env.Go("settle", func() { _, _ = e.promiseTo(s, x) }) // the next refusal tells if that was in vain
	}
}

// tail is the end of the journal as recovery found it.
type tail struct {
	extent  block.ExtentID
	members []block.StoreID
	good    []block.StoreID // hold exactly chain
	chain   journal.Chain
	open    journal.Open
	log     []byte
	lost    bool // of a weak volume: replicas that did not answer may have more
}

// errDamaged tells that the log which recovery chose can not be copied as it is.
var errDamaged = errors.New("the longest log is damaged")

// errNoCopy tells that for some time nobody could copy the log which recovery chose: its only holder may be gone.
var errNoCopy = errors.New("the longest log is not copied")

// patience is how often a step of recovery is tried with the replicas that were chosen before others are asked again.
const patience = 10

func isDamage(err error) bool {
	return errors.Is(err, journal.ErrChain) || errors.Is(err, journal.ErrFormat) || errors.Is(err, journal.ErrShort) || errors.Is(err, block.ErrMismatch) ||
		errors.Is(err, errDamaged)
}

// doubt takes note that a replica's log is damaged: like one that ends in a bad record, it counts for the promise and
// not for the tail. What it alone holds beyond the others was never acknowledged, if enough of the others answer to
// tell; else the recovery waits for them (invariant R4).
func (e *Engine) doubt(damaged map[block.StoreID]bool, x block.ExtentID, s block.StoreID, err error) {
	damaged[s] = true
	e.Logf("volume %s: store %s has the longest log of extent %s and it is damaged; others are asked: %v", e.spec.ID, s, x, err)
	e.Env.Sleep(retryPause)
}

// restore brings the chosen log to a quorum of the extent before anything is built on it.
func (e *Engine) restore(t *tail, tails *replication.Tails, best replication.Tail) error {
	need := e.structure(len(t.members))
	good := map[block.StoreID]bool{best.Store: true}
	for _, s := range t.members {
		if tails.Has(s) {
			good[s] = true
		}
	}
	for _, b := range tails.Behind(best) {
		delete(good, b.Store)
	}
	good[best.Store] = true
	for try := 0; len(good) < need; try++ {
		if try == patience {
			return errNoCopy
		}
		if err := e.pullFrom(best.Store, t, good); err != nil && (len(good) < need || !errors.Is(err, errDamaged)) {
			return err
		}
		if len(good) < need {
			e.Env.Sleep(retryPause)
		}
	}
	for _, s := range t.members {
		if good[s] {
			t.good = append(t.good, s)
		}
	}
	return nil
}

// pullFrom has the members that are not good yet promise and pull; who ends up with the chosen log becomes good.
func (e *Engine) pullFrom(source block.StoreID, t *tail, good map[block.StoreID]bool) error {
	var rest []block.StoreID
	for _, s := range t.members {
		if !good[s] {
			rest = append(rest, s)
		}
	}
	var mu sync.Mutex
	var fence, bad error
	e.each(rest, func(s block.StoreID) {
		_, err := e.promiseTo(s, t.extent)
		var st replica.State
		if err == nil {
			st, err = e.pullChosen(s, t.extent, source)
		}
		mu.Lock()
		defer mu.Unlock()
		if errors.Is(err, replication.ErrFenced) {
			fence = err
		}
		if errors.Is(err, block.ErrMismatch) {
			bad = errors.Join(errDamaged, err)
		}
		if err == nil && st.Chain.Seq == t.chain.Seq && st.Chain.Hash == t.chain.Hash {
			good[s] = true
		}
	}, nil)
	if fence != nil {
		return fence
	}
	return errors.Join(e.Err(), bad)
}

// confirm has a quorum of a closed extent note that this epoch went on from its log as it is. Without it, a log of an
// epoch between that one's and this, which a minority may hold, would win the next recovery (invariant R6): the closed
// record itself is of an earlier epoch, and nothing can be appended behind it.
//
// errNoCopy: replicas that had the log do not answer any more; the recovery decides again, from who answers now.
func (e *Engine) confirm(t *tail) error {
	need := e.structure(len(t.members))
	for try := 0; ; try++ {
		var mu sync.Mutex
		var fence error
		good := 0
		e.each(t.good, func(s block.StoreID) {
			_, err := e.Client.Confirm(s, e.epochNow(), t.extent, &t.chain)
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, replication.ErrFenced) {
				fence = err
			}
			if err == nil {
				good++
			}
		}, nil)
		switch {
		case fence != nil:
			return fence
		case good >= need:
			return nil
		case e.Err() != nil:
			return e.Err()
		case try == patience:
			return errNoCopy
		}
		e.Env.Sleep(retryPause)
	}
}

// recover takes the volume over at the present epoch, from the anchor on: it finds and restores the tail, loads the
// state, seals what the former writer left, and opens a new extent. The journal is paused by the caller. When it
// returns nil, everything before is durable at a quorum under this epoch, and reads and writes may be served.
func (e *Engine) recover(anchor journal.Position) error {
	t, err := e.findTail(anchor)
	if err != nil {
		return err
	}
	logs, err := e.loadLogs(t)
	if err != nil {
		return fmt.Errorf("journal before %s: %w", t.extent, err)
	}
	if err := e.load(t, logs); err != nil {
		return fmt.Errorf("state at %s: %w", t.extent, err)
	}
	if err := e.joins(); err != nil {
		return err
	}
	e.enterHistory(t)
	e.adopt(t)
	if err := e.openNext(); err != nil {
		return err
	}
	e.jmu.Lock()
	seq := e.log.chain.Seq
	e.jmu.Unlock()
	asked := e.Env.Now()
	if err := e.reached(seq); err != nil {
		return err
	}
	if err := e.anchorHistory(); err != nil {
		return err
	}
	e.confirmedBy(e.structure(e.copies()), e.copies(), asked)
	e.mu.Lock()
	e.lastQuorum = e.Env.Now()
	e.stats.Recoveries++
	e.freeSlots()
	e.mu.Unlock()
	return nil
}

// joins refuses to go on with a ring whose first writes the journal lacks: those behind them would leave a gap in the middle, where a volume
// that goes back ends (invariant E8). It can be so after damage, or where a weak volume's replica is given up.
func (e *Engine) joins() error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.ring == nil || e.pumped >= e.ring.Freed() {
		return nil
	}
	return fmt.Errorf("the journal ends with write %d, the last that the ring has let go of is %d: %w", e.pumped, e.ring.Freed(), ErrCut)
}

// reached waits until the journal is durable at a quorum up to seq. errRecovered: too few replicas are left of the extents
// that this needs, or they do not answer; the recovery has to begin again, a session later.
func (e *Engine) reached(seq uint64) error {
	deadline := e.Env.Now() + suspicion
	f := flushWaiter{seq: seq, done: e.Env.NewEvent()}
	e.mu.Lock()
	done := seq <= e.progress.Committed()
	if !done {
		e.flushes = append(e.flushes, f)
	}
	e.mu.Unlock()
	for !done {
		if done = f.done.WaitFor(retryPause); done {
			break
		}
		if live, quorum := e.liveMembers(); live < quorum || e.Env.Now() > deadline {
			return errRecovered
		}
	}
	return e.Err()
}

// recoverAtOpen is recover for an engine that has no healer yet.
func (e *Engine) recoverAtOpen(anchor journal.Position) error {
	for {
		err := e.recover(anchor)
		if !errors.Is(err, errRecovered) {
			return err
		}
		e.Logf("volume %s: recovery lost its quorum on the way and begins again", e.spec.ID)
		e.mu.Lock()
		e.epoch.Session++
		if e.ring != nil {
			e.ring.SetEpoch(e.epoch)
		}
		e.mu.Unlock()
	}
}

// adopt makes the tail extent the present one, with the replicas that hold it.
func (e *Engine) adopt(t *tail) {
	e.jmu.Lock()
	defer e.jmu.Unlock()
	l := &e.log
	l.extent, l.chain, l.capacity = t.extent, t.chain, t.open.Capacity+1<<20 // the closing records always fit
	l.senders = nil
	e.mu.Lock()
	defer e.mu.Unlock()
	l.ordinal = e.cat.byID[t.extent]
	e.progress = replication.NewProgress(t.chain.Seq)
	// Quorums are of this extent, whatever R is by now: recovery counts the same way.
	x := e.progress.Open(t.extent, t.chain.Seq, e.structure(len(t.members)), t.members)
	for i := range x.Members {
		m := &x.Members[i]
		m.Failed = true
		for _, s := range t.good {
			if s == m.Store {
				m.Failed, m.Durable = false, t.chain.Seq
			}
		}
		w := e.newSender(t.extent, m.Store)
		w.failed = m.Failed
		l.senders = append(l.senders, w)
	}
	e.orderSenders()
	if l.block != nil {
		l.block.ordinal = l.ordinal
	}
}
