package volume

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// chase is where a recovery is on its way along the chain of extents.
type chase struct {
	x       block.ExtentID
	members []block.StoreID
	damaged map[block.StoreID]bool // replicas whose log of x is
	sure    bool                   // x is part of the journal and was not freed: it was looked for in all stores, or reached from such a one
	waits   int                    // how often it was not known where the journal goes on
	since   time.Duration          // when x was first asked for
	lost    bool                   // of a weak volume: replicas that did not answer may have more

	floor   map[block.ExtentID]uint64 // a recovery in place of a weak volume: what its writer has acknowledged
	session block.Epoch               // in which session
}

// move goes on to another extent. Late answers may still look into the old map.
func (c *chase) move(to block.ExtentID, members []block.StoreID, now time.Duration) {
	c.x, c.members, c.damaged, c.since = to, members, make(map[block.StoreID]bool), now
}

// findTail follows the chain of extents from the anchor to its end, taking promises on the way, and restores the end
// to a quorum.
func (e *Engine) findTail(anchor journal.Position) (*tail, error) {
	c := chase{floor: e.floor, session: e.floorOf}
	c.move(anchor.Extent, anchor.Members, e.Env.Now())
	for {
		t, err := e.chaseOne(&c)
		var moved errMoved
		switch {
		case errors.Is(err, errNoCopy), errors.Is(err, replica.ErrUnreachable) && e.Err() == nil:
			continue // a replica may be gone for good: decide again, from who answers now
		case errors.As(err, &moved):
			c.move(moved.to.Extent, moved.to.Members, e.Env.Now())
			c.sure = true
			continue
		case err != nil || !t.chain.Closed:
			return t, err
		}
		closed, err := lastClosed(t.log)
		if err != nil {
			return nil, err
		}
		c.move(closed.Next, closed.Members, e.Env.Now())
	}
}

// chaseOne decides on the log of one extent and restores it to a quorum; if it is closed, a quorum confirms it too.
// errNoCopy: it has to be decided again. errMoved: this extent is no part of the journal any more.
func (e *Engine) chaseOne(c *chase) (*tail, error) {
	tails, best, lost, err := e.promise(c)
	if err != nil {
		return nil, err
	}
	if !best.Held {
		return nil, e.refind(c, tails)
	}
	log, err := e.readEqual(c, tails, &best)
	if isDamage(err) {
		e.doubt(c.damaged, c.x, best.Store, err)
		return nil, errNoCopy
	}
	if err != nil {
		return nil, fmt.Errorf("journal of extent %s: %w", c.x, err)
	}
	first, _, err := journal.Parse(log)
	if err != nil {
		return nil, err
	}
	open, err := journal.DecodeOpen(first.Body)
	if err != nil {
		return nil, err
	}
	if lost && !c.lost {
		if err := e.ahead(c, open.History); err != nil {
			return nil, err
		}
		c.lost = true
	}
	t := &tail{extent: c.x, members: c.members, chain: best.Chain, log: log, open: open, lost: c.lost}
	if err = e.restore(t, tails, best); err == nil && t.chain.Closed {
		err = e.confirm(t)
	}
	if errors.Is(err, errDamaged) {
		e.doubt(c.damaged, c.x, best.Store, err)
		return nil, errNoCopy
	}
	return t, err
}

// readEqual reads the chosen log; from another replica that has it too, which best names then, if the first can not be read.
func (e *Engine) readEqual(c *chase, tails *replication.Tails, best *replication.Tail) ([]byte, error) {
	log, err := e.readChain(best.Store, c.x, &best.Chain)
	if err == nil || isDamage(err) {
		return log, err
	}
	behind := tails.Behind(*best)
	for _, s := range c.members {
		if s == best.Store || !tails.Has(s) || slices.ContainsFunc(behind, func(b replication.Tail) bool { return b.Store == s }) {
			continue
		}
		if other, oerr := e.readChain(s, c.x, &best.Chain); oerr == nil {
			best.Store = s
			return other, nil
		}
	}
	return nil, err
}

// readChain reads an extent's log and checks that it ends exactly as c says, and who wrote it. It asks until the store answers; it gives
// up when what it gets is wrong.
func (e *Engine) readChain(s block.StoreID, x block.ExtentID, c *journal.Chain) ([]byte, error) {
	log := make([]byte, c.LogLen)
	for try := 0; ; try++ {
		err := e.readStream(s, replica.TypeReadLog, x, 0, log)
		if err == nil {
			break
		}
		if !errors.Is(err, replica.ErrUnreachable) || e.Err() != nil || try == patience {
			return nil, err
		}
		e.Env.Sleep(retryPause)
	}
	return log, errors.Join(checkLog(log, c.Seq, c.Hash), e.authentic(x.Volume, log))
}

// authentic checks that a writer with the volume's key wrote a log: its last record vouches for all before it. Without a key
// there is nothing to check.
func (e *Engine) authentic(v block.VolumeID, log []byte) error {
	if e.codec.group == nil {
		return nil
	}
	var last []byte
	for rest := log; len(rest) > 0; {
		_, n, err := journal.Parse(rest)
		if err != nil {
			return err
		}
		last, rest = rest[:n], rest[n:]
	}
	if r, _, err := journal.Parse(last); err != nil || r.MAC != e.codec.mac(v, journal.HashOf(last)) {
		return fmt.Errorf("keyed hash of the last record: wrong key or forged log: %w", errors.Join(err, block.ErrMismatch))
	}
	return nil
}

// vouched tells whether a store's copy of an extent carries the keyed hash of its last record. The chain leaves it out, so a pull copies it as
// it is at the source, rotten too, and only who has the key can tell.
func (e *Engine) vouched(s block.StoreID, x block.ExtentID, st *replica.State) bool {
	if e.codec.group == nil {
		return true
	}
	_, err := e.readChain(s, x, &st.Chain)
	return err == nil
}

// checkLog verifies that log is an extent's whole log that ends in record seq with hash h.
func checkLog(log []byte, seq uint64, h block.Hash) error {
	var c journal.Chain
	if err := c.Walk(log, func(*journal.Record, block.Hash) error { return nil }); err != nil {
		return err
	}
	if c.Seq != seq || c.Hash != h {
		return fmt.Errorf("log ends in seq %d, want %d: %w", c.Seq, seq, journal.ErrChain)
	}
	return nil
}

func lastClosed(log []byte) (c journal.Closed, err error) {
	err = errors.Join(walkLog(log, func(r *journal.Record) error {
		if r.Type == journal.TypeClosed {
			c, err = journal.DecodeClosed(r.Body)
		}
		return err
	}), err)
	return c, err
}

// walkLog visits the records of an extent's log that was checked before.
func walkLog(log []byte, visit func(r *journal.Record) error) error {
	for len(log) > 0 {
		r, n, err := journal.Parse(log)
		if err != nil {
			return err
		}
		if err := visit(&r); err != nil {
			return err
		}
		log = log[n:]
	}
	return nil
}
