package volumes

import (
	"slices"
	"time"

	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/volume/siblings"
)

// Copies are looked at so often, in memory. The registry is told of a number that has been the same for two looks and differs from what it was
// told last: a volume whose copies do not change costs the API nothing, and a node that comes and goes not more than a call per change.
const copiesEvery = 2 * time.Second

// watchCopies tells the registry when the fewest copies of any part of the volume change, until the engine has ended.
func (m *Manager) watchCopies(a *attachment) {
	told := a.eng.Usage().Copies // by noteHolder, or by a former process
	if r, err := m.opt.Registry.Get(a.rec.ID); err == nil {
		told = r.Copies
	}
	last := told
	var slow []siblings.Verdict
	for !a.eng.Done().WaitFor(copiesEvery) {
		m.noteHistory(a)
		slow = m.tellSlow(a, slow)
		use := a.eng.Usage()
		steady := use.Copies == last
		last = use.Copies
		if !steady || last == told {
			continue
		}
		_, err := m.opt.Registry.Update(a.rec.ID, func(r *registry.Record) error {
			r.Used, r.Copies = use.Bytes, use.Copies
			return nil
		})
		if err != nil {
			m.opt.Log.Warn("the registry does not take how many copies a volume has; tried again", "volume", a.rec.Name, "err", err)
			continue
		}
		if told = last; told < a.eng.Replicas() {
			m.opt.Events.Warn("Degraded", a.rec.Name, "%d of %d copies are there", told, a.eng.Replicas())
		} else {
			m.opt.Events.Info("Whole", a.rec.Name, "all %d copies are there", told)
		}
	}
}

// tellSlow tells of replicas that were found to be slower than the others since told.
func (m *Manager) tellSlow(a *attachment, told []siblings.Verdict) []siblings.Verdict {
	now := a.eng.Status().Slow
	for _, v := range now {
		if slices.ContainsFunc(told, func(t siblings.Verdict) bool { return t.Store == v.Store && t.Until == v.Until }) {
			continue
		}
		m.opt.Events.Warn("ReplicaSlow", a.rec.Name, "node %s (store %s) has what is written %s after the other replicas: what is written next goes elsewhere, if another node has room; look at its disk and its network",
			m.opt.Members.Site(v.Store).Node, v.Store, v.Behind.Round(time.Millisecond))
	}
	return now
}
