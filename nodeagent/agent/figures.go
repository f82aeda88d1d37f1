package agent

import (
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/metrics/scrape"
	kube "mynetwork.io/mynetwork/nodeagent/agent/cluster"
	"mynetwork.io/mynetwork/nodeagent/agent/metrics"
	"mynetwork.io/mynetwork/nodeagent/peer"
)

// startMetrics makes what is exported, and listens where it is served.
func (a *Agent) startMetrics() (err error) {
	c := &a.cfg
	a.figures = prometheus.NewRegistry()
	for _, part := range []prometheus.Collector{collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), a.collector()} {
		if err := a.figures.Register(part); err != nil {
			return err
		}
	}
	if c.Metrics == "" {
		return nil
	}
	if a.kube != nil && c.Cluster.Reviews == nil {
		if c.Cluster.Reviews, err = kube.Reviews(); err != nil {
			return err
		}
	}
	at := c.Metrics
	if a.kube != nil && strings.HasPrefix(at, ":") {
		at = net.JoinHostPort(c.Cluster.Address, at[1:])
	}
	a.scraped, err = scrape.Listen(at, a.scraping())
	return err
}

// scraping says to whom metrics are served.
func (a *Agent) scraping() scrape.Options {
	o := scrape.Options{Gatherer: a.gatherer(), Log: a.cfg.Log}
	if a.kube != nil {
		o.TLS, o.Authorizer = a.trust.creds.PublicConfig(), scrape.NewReviewer(a.cfg.Cluster.Reviews, time.Now)
	}
	return o
}

// gatherer gives this agent's metrics and, in a cluster, those that the node plugin shows beside its mounter's socket.
func (a *Agent) gatherer() prometheus.Gatherer {
	if a.cfg.Mounter == "" || a.kube == nil {
		return a.figures
	}
	return prometheus.Gatherers{a.figures, metrics.NewNeighbour(filepath.Join(filepath.Dir(a.cfg.Mounter), v1alpha1.NameFigures))}
}

func (a *Agent) collector() prometheus.Collector {
	return metrics.New(metrics.Parts{
		Node: a.cfg.Node, Version: a.cfg.Version, Volumes: a.volumes.Open, Stores: a.storeReadings, Pulls: a.stores.Pulls(), Peers: a.members.States,
		Health: func(node string) peer.Report { return a.pool.Health(node).Report() }, Cache: a.cache.Metrics, CacheBytes: a.cfg.CacheBytes,
		Layout: a.members.Version, Certificate: func() time.Time { return a.trust.creds.Self().NotAfter }, Refused: &a.refused, Lost: &a.lost,
		Events: a.events.Count, Care: &a.care, Adapted: a.demand.Changes, Clearings: a.space.Begun, Levels: a.health.Read, Now: time.Now,
	})
}

// storeReadings looks at each directory of a store.
func (a *Agent) storeReadings() (out []metrics.StoreReading) {
	open := a.stores.All()
	for _, st := range a.stores.Statuses() {
		r := metrics.StoreReading{Status: st}
		for _, s := range open {
			if s.ID != st.ID {
				continue
			}
			r.Disk, r.Clearing, r.Freed = s.Disk, s.Clearing(), s.Load().Freed
			r.Usage, _ = s.Usage() // a quarantined store says so in its state
			for _, v := range s.Store.Volumes() {
				r.Extents += v.Extents
				if v.Extents > 0 {
					r.Volumes++
				}
			}
		}
		out = append(out, r)
	}
	return out
}

// unsaved notes that the history could not be written: the next try has all of it.
func (a *Agent) unsaved(err error) {
	a.cfg.Log.Warn("the node's history is not saved yet", "err", err)
}
