package stores

import (
	"time"

	"mynetwork.io/mynetwork/metrics/meter"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/disk"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// DiskMeter is what a store asked of its disk.
type DiskMeter = disk.Meter

// Pull is one copy that a store of this node made of what it missed of an extent.
type Pull struct {
	Volume block.VolumeID
	Bytes  int64 // that came
	Took   time.Duration
	Failed bool
}

// Pulls counts them.
func (s *Set) Pulls() *meter.Operations { return &s.pulled }

// counted counts a request that is a pull, or frees a copy, when it is answered.
func (d *door) counted(typ replica.Type, body []byte, to replica.Replier) replica.Replier {
	if typ == replica.TypeFree && len(body) >= headSize {
		had := d.has(block.GetExtentID(body[volumeAt:]))
		return pullReplier{to, func(st replica.Status) {
			if st == replica.StatusOK {
				d.store.load.freed.Add(uint64(had))
				d.store.gaveBack()
			}
		}}
	}
	if typ != replica.TypePull || len(body) < headSize {
		return to
	}
	x := block.GetExtentID(body[volumeAt:])
	had := d.has(x)
	m := &d.set.pulled
	start := m.Begin()
	return pullReplier{to, func(st replica.Status) {
		p := Pull{Volume: x.Volume, Took: time.Since(start), Failed: st != replica.StatusOK}
		var err error
		if p.Failed {
			err = replica.ErrorOf(st, nil)
		} else {
			p.Bytes = max(0, d.has(x)-had)
		}
		m.Ended(start, p.Bytes, err)
		m.End()
		if d.set.opt.Pulled != nil {
			d.set.opt.Pulled(p)
		}
	}}
}

// has is how many bytes of an extent are here.
func (d *door) has(x block.ExtentID) int64 {
	st, _ := d.store.Stat(x)
	return int64(st.Chain.LogLen) + int64(st.Chain.DataLen)
}

// pullReplier tells how a request was answered.
type pullReplier struct {
	replica.Replier
	ended func(replica.Status)
}

// Reply implements replica.Replier.
func (r pullReplier) Reply(st replica.Status, parts ...[]byte) {
	r.ended(st)
	r.Replier.Reply(st, parts...)
}
