package agent

import (
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/health"
	"mynetwork.io/mynetwork/nodeagent/agent/stores"
)

// startHealth makes what watches how loaded this node is.
func (a *Agent) startHealth() {
	sampler := health.NewSampler("/proc", "/sys/fs/cgroup")
	a.health = health.NewMonitor(func(now time.Time) health.Figures {
		f := health.Figures{Disk: a.fullest()}
		f.CPU, f.Memory = sampler.Sample(now)
		f.Latency, f.Alive, f.Others = a.reach()
		return f
	}, a.loaded)
}

// fullest is the use of this node's fullest store, as a share of its capacity.
func (a *Agent) fullest() float64 {
	most := health.Unknown
	for _, s := range a.stores.Statuses() {
		switch {
		case s.State == stores.Full:
			most = 1
		case s.State == stores.Serving && s.Capacity > 0:
			most = max(most, float64(s.Used)/float64(s.Capacity))
		}
	}
	return most
}

// reach is the median round trip to the nodes that answer, and how many do of all.
func (a *Agent) reach() (latency time.Duration, alive, others int) {
	var trips []time.Duration
	for _, n := range a.members.States() {
		if n.Name == a.cfg.Node {
			continue
		}
		others++
		if !n.Alive {
			continue
		}
		alive++
		if t := a.pool.Health(n.Name).Report().RTT; t > 0 {
			trips = append(trips, t)
		}
	}
	return health.Median(trips), alive, others
}

// loaded tells of a level that changed.
func (a *Agent) loaded(c health.Change) {
	if c.To > c.From {
		a.events.Warn("Pressure", "", "%s is at %.0f%% of its threshold: %s", c.Resource, c.Ratio*100, c.To)
	} else {
		a.events.Info("PressureFalls", "", "%s is at %.0f%% of its threshold: %s", c.Resource, c.Ratio*100, c.To)
	}
	a.tell()
}
