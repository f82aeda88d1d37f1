package volumes

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/task"
	"mynetwork.io/mynetwork/nodeagent/volume/siblings"
)

// Copies are looked at so often, in memory, those of all volumes by one task. The registry is told of a number that has been the same for two looks and
// differs from what it was told last: a volume whose copies do not change costs the API nothing, and a node that comes and goes not more than a call per
// change.
const copiesEvery = 2 * time.Second

// copyWatch is what is remembered of a volume between two looks.
type copyWatch struct {
	told, last int
	slow       []siblings.Verdict
	telling    atomic.Bool // a task of its own tells what the last look has found, and has the rest of this until it is done
}

// watchCopies has the volume looked at until its engine has ended.
func (m *Manager) watchCopies(a *attachment) {
	w := &copyWatch{told: a.eng.Usage().Copies} // by noteHolder, or by a former process
	if r, err := m.opt.Registry.Get(a.rec.ID); err == nil {
		w.told = r.Copies
	}
	w.last = w.told
	m.mu.Lock()
	first := m.watched == nil
	if first {
		m.watched = map[*attachment]*copyWatch{}
	}
	m.watched[a] = w
	m.mu.Unlock()
	if first {
		m.wg.Go(m.lookAtCopies)
	}
	a.eng.Done().Wait()
	m.mu.Lock()
	delete(m.watched, a)
	m.mu.Unlock()
}

// lookAtCopies looks at all volumes until the manager closes.
func (m *Manager) lookAtCopies() {
	t := time.NewTimer(task.UntilBeat(copiesEvery))
	defer t.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-t.C:
		}
		t.Reset(task.UntilBeat(copiesEvery))
		m.mu.Lock()
		watched := maps.Clone(m.watched)
		m.mu.Unlock()
		for a, w := range watched {
			if !w.telling.Load() && m.look(a, w) {
				w.telling.Store(true)
				m.wg.Go(func() {
					m.tell(a, w)
					w.telling.Store(false)
				})
			}
		}
	}
}

// look looks at one volume, and reports whether there is anything to tell.
func (m *Manager) look(a *attachment, w *copyWatch) bool {
	if a.eng.Err() != nil {
		return false
	}
	copies := a.eng.Usage().Copies
	steady := copies == w.last
	w.last = copies
	st := a.eng.Status()
	if len(st.Slow) == 0 {
		w.slow = nil
	}
	return steady && copies != w.told || m.newHistory(a, st.History) || !slices.Equal(st.Slow, w.slow)
}

// tell tells the registry and people what a look has found.
func (m *Manager) tell(a *attachment, w *copyWatch) {
	m.noteHistory(a)
	w.slow = m.tellSlow(a, w.slow)
	use := a.eng.Usage()
	if use.Copies != w.last || w.last == w.told {
		return
	}
	_, err := m.opt.Registry.Update(a.rec.ID, func(r *registry.Record) error {
		r.Used, r.Copies = use.Bytes, use.Copies
		return nil
	})
	if err != nil {
		m.opt.Log.Warn("the registry does not take how many copies a volume has; tried again", "volume", a.rec.Name, "err", err)
		return
	}
	if w.told = w.last; w.told < a.eng.Replicas() {
		m.opt.Events.Warn("Degraded", a.rec.Name, "%d of %d copies are there", w.told, a.eng.Replicas())
	} else {
		m.opt.Events.Info("Whole", a.rec.Name, "all %d copies are there", w.told)
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
