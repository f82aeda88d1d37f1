package volume

import (
	"fmt"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// DefaultScrubPeriod is how long one pass over every copy of a volume takes.
const DefaultScrubPeriod = 14 * 24 * time.Hour

// ScrubReport is what a scrub of one extent, or of a whole volume, has seen.
type ScrubReport struct {
	Extents  int
	Copies   int
	Bytes    int64
	Bad      int // damaged ranges found
	Repaired int
	Skipped  int // copies on stores that did not answer
}

func (r *ScrubReport) add(o ScrubReport) {
	r.Extents += o.Extents
	r.Copies += o.Copies
	r.Bytes += o.Bytes
	r.Bad += o.Bad
	r.Repaired += o.Repaired
	r.Skipped += o.Skipped
}

// scrubLoop reads every copy of every extent once per period, spread evenly.
func (e *Engine) scrubLoop() {
	period := e.ScrubPeriod
	if period < 0 {
		return // the stores' own scrub does it
	}
	if period == 0 {
		period = DefaultScrubPeriod
	}
	next := uint32(1)
	for e.Err() == nil {
		e.mu.RLock()
		n := e.cat.extents.n
		e.mu.RUnlock()
		e.failedSet.WaitFor(period / time.Duration(max(n, 1)))
		if e.Err() != nil || n <= 1 {
			continue
		}
		if next >= n {
			next = 1
			e.mu.Lock()
			e.stats.ScrubPasses++
			e.mu.Unlock()
		}
		e.scrubExtent(next)
		next++
	}
}

// Scrub has every replica check every byte of the volume that it holds, and repairs what is damaged from good copies.
// progress, if not nil, is told after each extent how far it is.
func (e *Engine) Scrub(progress func(done, total int, r ScrubReport)) (total ScrubReport, err error) {
	e.mu.RLock()
	n := int(e.cat.extents.n)
	e.mu.RUnlock()
	for o := 1; o < n; o++ {
		if err := e.Err(); err != nil {
			return total, err
		}
		total.add(e.scrubExtent(uint32(o)))
		if progress != nil {
			progress(o, n-1, total)
		}
	}
	if total.Repaired < total.Bad {
		return total, fmt.Errorf("volume %s: %d of %d damaged ranges could not be repaired: %w", e.spec.ID, total.Bad-total.Repaired, total.Bad, block.ErrMismatch)
	}
	return total, nil
}

// scrubExtent checks and repairs the copies of one extent.
func (e *Engine) scrubExtent(ordinal uint32) (r ScrubReport) {
	e.mu.RLock()
	ent := *e.cat.extents.at(ordinal) // none, if a recovery in place has made the directory shorter
	e.mu.RUnlock()
	if ent.State != blockmap.ExtentOpen && ent.State != blockmap.ExtentClosed {
		return r
	}
	x := extentID(e.spec.ID, &ent)
	members := e.membersOf(x, &ent)
	r.Extents = 1
	for _, s := range members {
		found, err := e.Client.Scrub(s, x)
		e.doubtful(found, err)
		if err != nil {
			r.Skipped++
			continue
		}
		if st, serr := e.Client.Stat(s, x); serr != nil || ent.State == blockmap.ExtentClosed && !endsAs(&st, &ent) {
			e.auditAgain() // damage that another writer found, and mended, leaves the store in doubt
		}
		r.Copies++
		r.Bytes += int64(ent.DataBytes) + int64(ent.LogBytes)
		r.Bad += len(found)
		failed := 0
		for _, f := range found {
			if e.mend(s, x, f, members) {
				r.Repaired++
			} else {
				failed++
			}
		}
		if failed > 0 && e.copyAnew(s, x, members) {
			r.Repaired += failed
		}
	}
	e.mu.Lock()
	e.stats.BadPages += uint64(r.Bad)
	e.stats.Repaired += uint64(r.Repaired)
	e.mu.Unlock()
	if r.Bad > 0 {
		e.Logf("volume %s: scrub of extent %s found %d damaged ranges and repaired %d", e.spec.ID, x, r.Bad, r.Repaired)
	}
	return r
}

// mend replaces one damaged range by what another replica has there. The replica being mended checks it first.
func (e *Engine) mend(s block.StoreID, x block.ExtentID, f replica.Finding, members []block.StoreID) bool {
	typ := replica.TypeReadLog
	if f.Data {
		typ = replica.TypeReadData
	}
	for _, from := range members {
		if from == s {
			continue
		}
		good := make([]byte, f.N)
		if e.readStream(from, typ, x, f.Off, good) != nil {
			continue
		}
		if e.Client.Repair(s, e.epochNow(), x, f.Off, f.Data, good) == nil {
			return true
		}
	}
	return false
}

// copyAnew has a store drop a copy that cannot be mended and pull it again. That is done only to extents that no recovery
// can need any more (a replica's vote must not get lost), and only while enough others hold all of it.
func (e *Engine) copyAnew(s block.StoreID, x block.ExtentID, members []block.StoreID) bool {
	e.mu.RLock()
	ordinal, known := e.cat.byID[x]
	ent := *e.cat.extents.at(ordinal)
	old := ordinal < e.oldest() && ent.State == blockmap.ExtentClosed
	e.mu.RUnlock()
	if !old || !known {
		return false
	}
	var whole []block.StoreID
	for _, m := range members {
		if m == s {
			continue
		}
		found, err := e.Client.Scrub(m, x)
		e.doubtful(found, err)
		st, serr := e.Client.Stat(m, x)
		if err == nil && serr == nil && len(found) == 0 && st.Chain.Seq == ent.LastSeq && st.Chain.Hash == ent.LastHash {
			whole = append(whole, m)
		}
	}
	if len(whole) < min(2, int(ent.Replicas)-1) || len(whole) == 0 {
		return false
	}
	if e.free(s, x) != nil {
		return false
	}
	st, err := e.Client.Pull(s, e.epochNow(), x, whole[0])
	return err == nil && st.Chain.Hash == ent.LastHash
}
