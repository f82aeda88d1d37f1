package volume

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// A weak volume answers a FLUSH once one replica has everything before it. All else is as for other volumes, but for what follows from
// that, which is here (invariants R13 and R14 of core/replication): a recovery that misses a replica begins a new history after a while,
// what the journal does not have is set aside before it goes, and a writer that no majority confirms acknowledges nothing.

// DefaultPatience is how long a recovery of a weak volume waits for a replica that may hold what was acknowledged: a machine that
// starts again is back by then.
const DefaultPatience = 2 * time.Minute

// tick is the unit of time of core/replication.
const tick = 100 * time.Millisecond

func ticks(d time.Duration) uint64 { return uint64(d / tick) }

// weak tells whether one replica answers a FLUSH. It never changes.
func (e *Engine) weak() bool { return e.spec.Weak && e.spec.Replicas > 1 }

// flushQuorum is W of an extent with r members, whatever R is by now.
func (e *Engine) flushQuorum(r int) int {
	s := Spec{Replicas: r, Weak: e.spec.Weak}
	return s.Quorum()
}

// structure is how many members of an extent must have what the journal stands on.
func (e *Engine) structure(r int) int { return replication.Structure(r, e.flushQuorum(r)) }

// waited is how long a recovery has asked for an extent, and how long it is to ask.
func (e *Engine) waited(c *chase) replication.Patience {
	limit := e.Deps.Patience
	if limit == 0 {
		limit = DefaultPatience
	}
	return replication.Patience{Limit: ticks(limit), Waited: ticks(e.Env.Now() - c.since)}
}

// decide picks the log that a recovery goes on from. lost tells that replicas that do not answer may hold more that was acknowledged.
func (e *Engine) decide(c *chase, t *replication.Tails) (best replication.Tail, lost, ok bool) {
	if best, ok = t.Decide(); ok || !e.weak() {
		return best, false, ok
	}
	if least, known := c.floor[c.x]; known {
		if best, ok = t.Suffices(c.session, least); ok {
			return best, false, true
		}
	}
	best, ok = t.Abandon(e.waited(c))
	return best, ok, ok
}

// ownEnd reads, of a weak volume's extent that is not closed, where the records of the extent's own writer end in a store's log.
func (e *Engine) ownEnd(s block.StoreID, x block.ExtentID, st *replica.State) (own journal.Chain, err error) {
	if !e.weak() || !st.Held || st.Unknown || st.Chain.Closed || st.Chain.LogLen == 0 {
		return own, nil
	}
	log, err := e.readChain(s, x, &st.Chain)
	if err != nil {
		return own, err
	}
	var c journal.Chain
	err = c.Walk(log, func(r *journal.Record, h block.Hash) error {
		if own.LogLen == 0 || r.Epoch == own.Epoch {
			own.Advance(r, h)
		}
		return nil
	})
	return own, err
}

// acknowledged is what this writer's present session has had acknowledged, by extent: how far each must reach. The caller holds mu.
func (e *Engine) acknowledged() (acked map[block.ExtentID]uint64) {
	acked = make(map[block.ExtentID]uint64)
	for _, x := range e.progress.Extents() {
		acked[x.ID] = min(e.progress.Flushed(), x.Last)
	}
	return acked
}

// ahead looks, before a history is begun, whether the journal has gone on in another one that the registry does not know (it was
// restored from an old copy): errMoved. What an extent holds behind its open record was written after the registry had it.
func (e *Engine) ahead(c *chase, have journal.History) error {
	s := e.surveyStores(c.x.Volume, c.members)
	for x, holders := range s.held {
		_, open, err := s.first(x)
		if err != nil || !have.Epoch.Less(open.History.Epoch) {
			continue
		}
		for _, id := range holders {
			if st, err := e.Client.Stat(id, x); err == nil && st.Held && st.Chain.LogLen > uint32(journal.HeaderSize+len(open.Encode())) {
				return errMoved{journal.Position{Extent: x, Members: open.Members}}
			}
		}
	}
	return nil
}

// enterHistory takes the history over that the tail is in, or begins a new one behind it.
func (e *Engine) enterHistory(t *tail) {
	h := t.open.History
	if t.lost {
		h = journal.History{Epoch: e.epochNow(), Extent: t.extent, Seq: t.chain.Seq}
		e.Logf("volume %s: not all replicas of extent %s answer; history %s begins behind seq %d: what others may hold is given up, acknowledged data may be lost",
			e.spec.ID, t.extent, h.Epoch, t.chain.Seq)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.history = h
	e.unanchored = e.unanchored || t.lost
}

// anchorHistory has the registry's anchor pass where a new history begins. Until then another writer would find the replicas that this
// one did not wait for, and nothing may be served (invariant R13).
func (e *Engine) anchorHistory() error {
	for {
		e.mu.RLock()
		need, epoch := e.unanchored, e.epoch
		e.mu.RUnlock()
		if !need {
			return nil
		}
		e.moveAnchor()
		e.mu.Lock()
		if e.anchor.Anchor.Extent == e.progress.Current().ID {
			e.unanchored = false
		}
		e.mu.Unlock()
		f, err := e.Registry.Load(e.spec.ID)
		switch {
		case err == nil && (f.Epoch.Number != epoch.Number || f.Epoch.Token != epoch.Token):
			return fmt.Errorf("the registry is at epoch %s, this writer's is %s: %w", f.Epoch, epoch, replication.ErrFenced)
		case e.Err() != nil:
			return e.Err()
		}
		e.Env.Sleep(retryPause / 10)
	}
}

// flushedTo is the sequence up to which a FLUSH may be answered now. The caller holds mu.
func (e *Engine) flushedTo() uint64 {
	if e.weak() && !e.grip.Holds(ticks(e.Env.Now())) {
		return 0
	}
	return e.progress.Flushed()
}

// confirmed takes note that a majority, or half of an even number and the registry, has confirmed this writer's epoch. asked is when that
// was asked for.
func (e *Engine) confirmed(asked time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.grip.Confirm(ticks(asked), ticks(Lease))
	if e.progress != nil && e.failed == nil {
		e.answerFlushes()
	}
}

// confirmedBy is confirmed if enough of an extent's members have said so.
func (e *Engine) confirmedBy(good, members int, asked time.Duration) {
	if !e.weak() || good < e.structure(members) {
		return
	}
	if good < replication.Majority(members) {
		f, err := e.Registry.Load(e.spec.ID)
		if now := e.epochNow(); err != nil || f.Epoch.Number != now.Number || f.Epoch.Token != now.Token {
			return
		}
	}
	e.confirmed(asked)
}

// pullChosen has a store follow a log that a recovery has chosen. What it has beside that goes; of a weak volume it is set aside.
func (e *Engine) pullChosen(s block.StoreID, x block.ExtentID, source block.StoreID) (replica.State, error) {
	if e.weak() {
		return e.Client.PullKept(s, e.epochNow(), x, source)
	}
	return e.Client.PullChosen(s, e.epochNow(), x, source)
}

// freeCopy has a store free an extent that the journal does not need any more; of a weak volume, a copy that is not what the journal had is
// set aside.
func (e *Engine) freeCopy(s block.StoreID, x block.ExtentID, ent *blockmap.ExtentEntry) error {
	if !e.weak() {
		return e.Client.Free(s, e.epochNow(), x)
	}
	st, err := e.Client.Stat(s, x)
	switch {
	case err != nil:
		return err
	case !st.Held:
		return nil
	case st.Chain.Seq == ent.LastSeq && st.Chain.Hash == ent.LastHash:
		return e.Client.Free(s, e.epochNow(), x)
	}
	return e.Client.FreeKept(s, e.epochNow(), x)
}

// errAnew tells that the directory is being built anew, and says nothing of what may go.
var errAnew = errors.New("the directory is being read anew")

// freeSuperfluous is freeCopy of an extent that was found to be superfluous.
func (e *Engine) freeSuperfluous(s block.StoreID, x block.ExtentID) error {
	e.mu.RLock()
	o, known := e.cat.byID[x]
	ent := *e.cat.extents.at(o)
	anew := e.regain || e.reloading
	e.mu.RUnlock()
	switch {
	case anew:
		return errAnew
	case !known:
		return e.Client.Free(s, e.epochNow(), x)
	}
	return e.freeCopy(s, x, &ent)
}

// givenUpExtent tells whether an extent that the directory does not know may hold what was acknowledged in a history before. The caller
// holds mu.
func (e *Engine) givenUpExtent(x block.ExtentID) bool {
	return e.weak() && x.Epoch < e.history.Epoch.Number
}

// Tail is what a store keeps of a history that was given up: it may have been acknowledged, and is not in the volume.
type Tail struct {
	Store  block.StoreID
	Extent block.ExtentID // the name that it is kept under
	Seq    uint64         // of its last record
}

// Tails lists what the stores that answer keep of histories that were given up.
func (e *Engine) Tails() ([]Tail, error) {
	if !e.weak() {
		return nil, nil
	}
	if err := e.exclusive(); err != nil { // a recovery in place builds the directory anew, which says what is no part of the journal
		return nil, err
	}
	defer e.release()
	return e.tails()
}

func (e *Engine) tails() (out []Tail, err error) {
	stores := e.everyStore(true)
	var mu sync.Mutex
	e.each(stores, func(s block.StoreID) {
		aside, aerr := e.Client.SetAside(s, e.spec.ID)
		held, herr := e.Client.Holdings(s, e.spec.ID)
		mu.Lock()
		defer mu.Unlock()
		err = errors.Join(err, aerr, herr)
		for _, h := range aside {
			out = append(out, Tail{s, h.Extent, h.Seq})
		}
		e.mu.RLock()
		defer e.mu.RUnlock()
		for _, h := range held {
			if _, known := e.cat.byID[h.Extent]; !known && e.givenUpExtent(h.Extent) {
				out = append(out, Tail{s, h.Extent, h.Seq})
			}
		}
	}, nil)
	slices.SortFunc(out, func(a, b Tail) int {
		return slices.Compare([]byte(a.Extent.String()+a.Store.String()), []byte(b.Extent.String()+b.Store.String()))
	})
	return out, err
}

// RemoveTails frees, for ever, what the stores that answer keep of histories that were given up, and returns what that was.
func (e *Engine) RemoveTails() (out []Tail, err error) {
	if !e.weak() {
		return nil, nil
	}
	if err := e.exclusive(); err != nil {
		return nil, err
	}
	defer e.release()
	list, err := e.tails()
	for _, t := range list {
		if ferr := e.Client.Free(t.Store, e.epochNow(), t.Extent); ferr != nil {
			err = errors.Join(err, fmt.Errorf("extent %s: %w", t.Extent, ferr))
			continue
		}
		out = append(out, t)
	}
	return out, err
}

// wanted is whose answers a recovery waits for, for people.
func (e *Engine) wanted() string {
	if e.weak() {
		return "all replicas (the volume is weak: any of them may hold what was acknowledged)"
	}
	return "a majority"
}
