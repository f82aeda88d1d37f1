package scrub

import (
	"context"
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/store"
)

// ErrNowhere tells that no other store that answers has a good copy.
var ErrNowhere = errors.New("no other store that answers has it")

const (
	// manyFindings is from how many damaged pages on a closed extent is fetched whole.
	manyFindings = 64
	// rounds is how often an extent is looked at again after its log was mended: behind it there may be more.
	rounds = 3
)

// areas counts runs of neighbouring damage.
func areas(found []store.Finding) (n int) {
	for i, f := range found {
		if i == 0 || f.Log != found[i-1].Log || f.Off != found[i-1].Off+found[i-1].Len {
			n++
		}
	}
	return n
}

// mend replaces what is damaged. It gives how many areas stay damaged, and why.
func (d *disk) mend(ctx context.Context, x block.ExtentID, found []store.Finding) (left int, err error) {
	sources := d.sources(x)
	for range rounds {
		log := false
		var bad []store.Finding
		if len(found) >= manyFindings && d.replace(x, sources) == nil {
			found = nil
		}
		for _, f := range found {
			if err = d.repair(ctx, x, f, sources); err != nil {
				bad = append(bad, f)
			} else if f.Log {
				log = true
			}
		}
		if len(bad) > 0 { // what cannot be mended piece by piece
			if rerr := d.replace(x, sources); rerr != nil {
				return areas(bad), errors.Join(err, rerr)
			}
		}
		if !log && len(bad) == 0 {
			return 0, nil
		}
		found = nil
		if err = d.store.ScrubPaced(x, func(int) error { return ctx.Err() }, func(f store.Finding) { found = append(found, f) }); err != nil {
			return 1, err
		}
		if len(found) == 0 {
			return 0, nil
		}
	}
	return areas(found), err
}

// sources lists the other stores that have an extent, in the layout's order.
func (d *disk) sources(x block.ExtentID) (out []block.StoreID) {
	for _, s := range d.s.opt.Placer.Candidates(x.Key()) {
		if s == d.store.ID || !d.s.opt.Placer.Alive(s) {
			continue
		}
		if st, err := d.s.opt.Client.Stat(s, x); err == nil && st.Held {
			out = append(out, s)
		}
	}
	return out
}

// repair fetches one damaged range. The store checks it before it is written.
func (d *disk) repair(ctx context.Context, x block.ExtentID, f store.Finding, sources []block.StoreID) error {
	typ, write := replica.TypeReadData, d.store.RepairData
	if f.Log {
		typ, write = replica.TypeReadLog, d.store.RepairLog
	}
	err := ErrNowhere
	for _, s := range sources {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		good := make([]byte, f.Len)
		rerr := d.s.opt.Client.Read(s, typ, x, f.Off, good)
		if rerr == nil {
			rerr = write(x, f.Off, good)
		}
		if rerr == nil {
			return nil
		}
		err = errors.Join(err, rerr)
	}
	return err
}

// replace fetches a closed extent whole, from a store whose copy ends in the record in which this one's does.
func (d *disk) replace(x block.ExtentID, sources []block.StoreID) error {
	mine, ok := d.store.Stat(x)
	if !ok || !mine.Durable.Closed || mine.Unknown {
		return fmt.Errorf("extent %s is not closed, and not fetched whole: %w", x, store.ErrCorrupt)
	}
	err := ErrNowhere
	for _, s := range sources {
		st, rerr := d.s.opt.Client.Stat(s, x)
		if rerr == nil && (st.Unknown || st.Chain.Seq != mine.Durable.Seq || st.Chain.Hash != mine.Durable.Hash) {
			rerr = fmt.Errorf("store %s has another end of extent %s: %w", s, x, store.ErrMismatch)
		}
		var log, data []byte
		if rerr == nil {
			log, data, rerr = d.s.opt.Client.Whole(s, x, &mine.Durable)
		}
		if rerr == nil {
			rerr = d.store.ReplaceExtent(x, mine.Chain, log, data)
		}
		if rerr == nil {
			return nil
		}
		err = errors.Join(err, rerr)
	}
	return err
}
