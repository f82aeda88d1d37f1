package agent

import (
	"mynetwork.io/mynetwork/nodeagent/agent/demand"
	"mynetwork.io/mynetwork/nodeagent/core/adaptive"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// roomMark and lowMark are shares of a store in percent: one that is filled to less than the first has room for more copies of what is read much;
// one that is filled to the second or more is short of space.
const (
	roomMark = 85
	lowMark  = 90
)

// startDemand makes what has copies follow reads.
func (a *Agent) startDemand() {
	a.demand = demand.New(demand.Options{Rules: a.cfg.Adaptive, Every: a.cfg.AdaptiveEvery, Volumes: a.demanded, Network: a.roomy, Adapt: a.volumes.Adapt, Log: a.cfg.Log})
}

// demanded says of the volumes that are open here how much they were read, and how their copies are.
func (a *Agent) demanded() (out []demand.Volume) {
	for _, i := range a.volumes.Open() {
		e := a.volumes.Engine(i.ID.String())
		if e == nil || e.Err() != nil || i.Meter == nil {
			continue
		}
		up := e.Upkeep()
		v := demand.Volume{ID: i.ID, Name: i.Name, Reads: i.Meter.Reads.Took.Read().Count, Bytes: i.Meter.Reads.Bytes.Load(), Copies: e.Replicas(), Weak: i.Weak,
			Bounds:   adaptive.Bounds{Least: i.Adaptive.Least, Most: i.Adaptive.Most},
			Degraded: up.Below > 0 || e.Usage().Copies < e.Replicas(), Moving: up.Synced != a.members.Version()}
		if v.Bounds.On() {
			v.Held = copiesOf(e)
		}
		out = append(out, v)
	}
	return out
}

// copiesOf counts the copies of closed extents that each store has, as the volume's directory names them.
func copiesOf(e *volume.Engine) map[block.StoreID]int {
	out := map[block.StoreID]int{}
	for _, x := range e.Directory() {
		for _, s := range x.Members {
			out[s]++
		}
	}
	return out
}

// roomy says where there is room for copies.
func (a *Agent) roomy() (n demand.Network) {
	zones := map[string]bool{}
	for _, node := range a.members.States() {
		takes, roomy := false, false
		for _, s := range node.Stores {
			site := a.members.Site(s.ID)
			if !site.Takes || s.Quarantined || s.Capacity == 0 {
				continue
			}
			takes = true
			zones[site.Zone] = true
			roomy = roomy || s.Used < s.Capacity/100*roomMark
			n.Low = n.Low || s.Used >= s.Capacity/100*lowMark
		}
		if takes && roomy && node.Alive {
			n.Room++
		}
	}
	n.Zones = len(zones)
	if a.members.Strict() {
		n.Room = min(n.Room, n.Zones)
	}
	return n
}
