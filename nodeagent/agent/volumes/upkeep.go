package volumes

import (
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// Upkeep sums up how the copies of all volumes are that are open here. Synced is the layout with which all of them were in place;
// without open volumes it is the present one.
func (m *Manager) Upkeep() (sum volume.Upkeep) {
	sum.Version = m.opt.Members.Version()
	sum.Synced = sum.Version
	sum.Held, sum.Only = map[block.StoreID]int{}, map[block.StoreID]int{}
	m.mu.Lock()
	var open []*volume.Engine
	for _, s := range m.slots {
		if s.open != nil && s.open.eng != nil {
			open = append(open, s.open.eng)
		}
	}
	m.mu.Unlock()
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
