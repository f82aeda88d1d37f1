package volumes

import (
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// Upkeep sums up how the copies of all volumes are that are open here. Synced is the layout with which all of them were in place, 0 while one
// is being opened or looked after; without open volumes it is the present one.
func (m *Manager) Upkeep() (sum volume.Upkeep) {
	sum.Version = m.opt.Members.Version() // before the engines are asked: one that is opened later knows this layout
	sum.Synced = sum.Version
	sum.Held, sum.Only = map[block.StoreID]int{}, map[block.StoreID]int{}
	open, opening := m.engines()
	if len(opening) > 0 {
		sum.Synced = 0
	}
	for _, e := range open {
		u := e.Upkeep()
		sum.Synced = min(sum.Synced, u.Synced)
		sum.Rolls = sum.Rolls || u.Rolls
		sum.Extents += u.Extents
		sum.Bytes += u.Bytes
		sum.Below += u.Below
		sum.Lost += u.Lost
		sum.Repair += u.Repair
		sum.Moving += u.Moving
		sum.Misplace += u.Misplace
		sum.Waiting += u.Waiting
		sum.Stuck += u.Stuck
		sum.Surplus += u.Surplus
		for s, n := range u.Held {
			sum.Held[s] += n
		}
		for s, n := range u.Only {
			sum.Only[s] += n
		}
	}
	return sum
}

// engines gives the engines that are open here, and the volumes that something else is done with.
func (m *Manager) engines() (open map[block.VolumeID]*volume.Engine, opening []block.VolumeID) {
	open = map[block.VolumeID]*volume.Engine{}
	m.mu.Lock()
	defer m.mu.Unlock()
	for v, s := range m.slots {
		switch {
		case s.open != nil && s.open.eng != nil:
			open[v] = s.open.eng
		case s.busy: // an operation opens it, or a caretaker has it
			opening = append(opening, v)
		}
	}
	return open, opening
}

// Unplaced lists the volumes that are open here, or being opened, and were not yet in place with a layout.
func (m *Manager) Unplaced(layout uint64) []block.VolumeID {
	open, out := m.engines()
	for v, e := range open {
		if e.Upkeep().Synced < layout {
			out = append(out, v)
		}
	}
	return out
}
