package volumes

import (
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// newHistory tells whether the registry was not told yet of the history that a volume is in.
func (m *Manager) newHistory(a *attachment, h journal.History) bool {
	return !h.IsZero() && h.Epoch.Number != a.history.Load()
}

// noteHistory tells the registry and people when a weak volume went on in a new history: its recovery has missed replicas, and what
// they alone had acknowledged is lost to it. It is called again and again, and does nothing unless that has just happened.
func (m *Manager) noteHistory(a *attachment) {
	h := a.eng.Status().History
	if !m.newHistory(a, h) {
		return
	}
	known := false
	_, err := m.opt.Registry.Update(a.rec.ID, func(r *registry.Record) error {
		known = r.Lost == h.Epoch.Number
		r.Lost = h.Epoch.Number
		return nil
	})
	if err != nil {
		m.opt.Log.Warn("the registry does not take that data may be lost; tried again", "volume", a.rec.Name, "err", err)
		return
	}
	if a.history.Store(h.Epoch.Number); !known {
		m.opt.Events.Warn("DataLossPossible", a.rec.Name, "not all replicas answered within the time, and the volume is weak: it goes on from what the others have, "+
			"in a new history. What a missing one alone had acknowledged is not in it; when it returns, that is kept and listed by: mynetwork volume tails %s", a.rec.Name)
	}
}

// Tails lists what the stores keep of histories of a weak volume that were given up; with remove, it goes for ever. The volume must be open
// here.
func (m *Manager) Tails(name string, remove bool) ([]volume.Tail, error) {
	a, err := m.openHere(name)
	if err != nil {
		return nil, err
	}
	do := a.eng.Tails
	if remove {
		do = a.eng.RemoveTails
	}
	list, err := do()
	if err != nil {
		err = fmt.Errorf("tails of volume %q: %w", a.rec.Name, err)
	}
	return list, err
}
