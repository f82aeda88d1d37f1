package metrics

import (
	"sync/atomic"
	"time"

	m "mynetwork.io/mynetwork/metrics"
	"mynetwork.io/mynetwork/metrics/meter"
	"mynetwork.io/mynetwork/nodeagent/agent/demand"
	"mynetwork.io/mynetwork/nodeagent/agent/health"
	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/agent/space"
	"mynetwork.io/mynetwork/nodeagent/agent/stores"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/cache"
	"mynetwork.io/mynetwork/nodeagent/core/clearing"
	"mynetwork.io/mynetwork/nodeagent/peer"
	"mynetwork.io/mynetwork/nodeagent/store"
)

// Care is what those who look after data set as they go. The zero value is usable.
type Care struct {
	ScrubBytes, ScrubFound, ScrubRepaired atomic.Uint64
	ScrubComplete                         atomic.Int64 // Unix seconds; 0: never yet
	MovedBytes                            atomic.Uint64
	MoveLeft, MoveRate, CopiesMissing     atomic.Int64
}

// Parts are what is asked at a scrape. All are required.
type Parts struct {
	Node, Version string
	Volumes       func() []volumes.Info // that are open here
	Stores        func() []StoreReading
	Pulls         *meter.Operations
	Peers         func() []members.State // this node among them
	Health        func(node string) peer.Report
	Cache         func() cache.Metrics
	CacheBytes    int64
	Layout        func() uint64
	Certificate   func() time.Time // when it ends; zero: not known
	Refused, Lost *atomic.Uint64
	Events        func() uint64
	Care          *Care
	Adapted       func() map[demand.Change]uint64
	Clearings     func() map[space.Begin]uint64
	Levels        func() map[string]health.Reading
	Now           func() time.Time
}

// StoreReading is one store at one moment.
type StoreReading struct {
	stores.Status
	Usage    store.Usage // zero unless it is open
	Extents  int
	Volumes  int
	Disk     *stores.DiskMeter // nil: none is open
	Clearing clearing.Stage
	Freed    uint64 // bytes
}

// New makes the collector.
func New(p Parts) *m.Collector {
	return m.New(Families(), func(e *m.Emitter) {
		p.node(e)
		for _, v := range p.Volumes() {
			p.volume(e, &v)
			work(e, &v)
		}
		for _, s := range p.Stores() {
			s.put(e)
		}
		for _, n := range p.Peers() {
			if n.Name != p.Node {
				putPeer(e, &n, p.Health(n.Name))
			}
		}
		for c, n := range p.Adapted() {
			e.Put("volume_copies_adapted_total", float64(n), c.Volume, string(c.Why))
		}
		for b, n := range p.Clearings() {
			e.Put("store_clearings_total", float64(n), b.Store.String(), b.Path, b.Stage.String())
		}
		p.replication(e)
	})
}

func (p *Parts) node(e *m.Emitter) {
	e.Put("agent_info", 1, p.Node, p.Version)
	e.Put("agent_layout_version", float64(p.Layout()))
	if t := p.Certificate(); !t.IsZero() {
		e.Put("agent_certificate_expiry_timestamp_seconds", float64(t.Unix()))
	}
	e.Put("agent_connections_refused_total", float64(p.Refused.Load()))
	e.Put("agent_peers_lost_total", float64(p.Lost.Load()))
	e.Put("agent_events_total", float64(p.Events()))
	for resource, r := range p.Levels() {
		e.Put("agent_health_level", float64(r.Level), resource)
		e.Put("agent_health_ratio", r.Ratio, resource)
	}
	c := p.Cache()
	e.Put("cache_hits_total", float64(c.Hits))
	e.Put("cache_misses_total", float64(c.Misses))
	e.Put("cache_bytes", float64(max(c.Bytes, 0)))
	e.Put("cache_capacity_bytes", float64(max(p.CacheBytes, 0)))
}

func (p *Parts) volume(e *m.Emitter, v *volumes.Info) {
	n := v.Name
	e.Put("volume_info", 1, n, v.ID.String(), v.Claim.Namespace, v.Claim.Name, string(v.Kind))
	e.Put("volume_size_bytes", float64(v.Size), n)
	e.Put("volume_used_bytes", float64(v.Used), n)
	e.Flag("volume_failed", v.Err != nil, n)
	e.Flag("volume_weak", v.Weak, n)
	e.Flag("volume_stalled", v.Err == nil && v.Meter != nil && v.Meter.Stalled(p.Now()), n)
	e.Put("volume_copies_wanted", float64(v.Replicas), n)
	e.Put("volume_copies_least", float64(v.Copies), n)
	if v.Adaptive.Least > 0 {
		e.Put("volume_copies_bound", float64(v.Adaptive.Least), n, "least")
		e.Put("volume_copies_bound", float64(v.Adaptive.Most), n, "most")
	}
	e.Put("volume_limit_operations", float64(v.Limits.IOPS), n)
	e.Put("volume_limit_bytes", float64(v.Limits.BytesPerSecond), n)
	st := v.Status
	if st == nil {
		return
	}
	failed := 0
	for _, r := range st.Members {
		if r.Failed {
			failed++
		}
	}
	e.Flag("volume_full", st.Full, n)
	e.Put("volume_replicas_failed", float64(failed), n)
	e.Put("volume_extents", float64(st.Extents), n)
	e.Put("volume_extents_degraded", float64(st.Degraded), n)
	e.Put("volume_ring_used_bytes", float64(st.RingUsed), n)
	e.Put("volume_journal_records_uncommitted", float64(max(st.Appended, st.Committed)-st.Committed), n)
	e.Put("volume_snapshots", float64(len(st.Snapshots)), n)
}

// work is what a volume's users and its engine have done since it was opened.
func work(e *m.Emitter, v *volumes.Info) {
	if w := v.Meter; w != nil {
		for _, o := range []struct {
			name string
			*meter.Operations
		}{{"read", &w.Reads}, {"write", &w.Writes}, {"flush", &w.Flushes}, {"discard", &w.Discards}} {
			e.Observed("volume_operation_seconds", o.Took.Read(), v.Name, o.name)
			e.Put("volume_operation_bytes_total", float64(o.Bytes.Load()), v.Name, o.name)
			e.Put("volume_operation_errors_total", float64(o.Errors.Load()), v.Name, o.name)
			e.Put("volume_operation_stalls_total", float64(o.Stalls.Load()), v.Name, o.name)
			e.Put("volume_operations_waiting", float64(o.Inside()), v.Name, o.name)
		}
	}
	if v.Status == nil {
		return
	}
	c := &v.Status.Stats
	for name, n := range map[string]uint64{"journal_bytes": c.JournalBytes, "checkpoints": c.Checkpoints, "extents_rolled": c.Rolls, "recoveries": c.Recoveries,
		"pages_bad": c.BadPages, "pages_repaired": c.Repaired, "reads_hedged": c.Hedged, "hedges_won": c.HedgesWon, "extents_cleaned": c.Cleaned, "extents_freed": c.Freed, "scrubs": c.ScrubPasses} {
		e.Put("volume_"+name+"_total", float64(n), v.Name)
	}
}

func (s *StoreReading) put(e *m.Emitter) {
	id := s.ID.String()
	for _, st := range []stores.State{stores.New, stores.Serving, stores.Full, stores.Missing, stores.Quarantined} {
		e.Flag("store_state", st == s.State, id, s.Path, string(st))
	}
	if s.Usage.Total > 0 {
		e.Put("store_capacity_bytes", float64(s.Usage.Total), id, s.Path)
		e.Put("store_used_bytes", float64(s.Usage.Used), id, s.Path)
		e.Put("store_free_bytes", float64(s.Usage.UserFree), id, s.Path)
		e.Put("store_live_bytes", float64(s.Usage.Live), id, s.Path)
	}
	if s.Disk == nil {
		return
	}
	for _, stage := range clearing.Stages() {
		e.Flag("store_clearing", stage == s.Clearing, id, s.Path, stage.String())
	}
	e.Put("store_freed_bytes_total", float64(s.Freed), id, s.Path)
	e.Put("store_extents", float64(s.Extents), id, s.Path)
	e.Put("store_volumes", float64(s.Volumes), id, s.Path)
	d := s.Disk
	e.Observed("store_sync_seconds", d.Syncs.Took.Read(), id, s.Path)
	e.Observed("store_read_seconds", d.Reads.Took.Read(), id, s.Path)
	e.Observed("store_write_seconds", d.Writes.Took.Read(), id, s.Path)
	e.Put("store_read_bytes_total", float64(d.Reads.Bytes.Load()), id, s.Path)
	e.Put("store_written_bytes_total", float64(d.Writes.Bytes.Load()), id, s.Path)
	e.Put("store_errors_total", float64(d.Reads.Errors.Load()), id, s.Path, "read")
	e.Put("store_errors_total", float64(d.Writes.Errors.Load()), id, s.Path, "write")
	e.Put("store_errors_total", float64(d.Syncs.Errors.Load()), id, s.Path, "sync")
}

func putPeer(e *m.Emitter, n *members.State, r peer.Report) {
	e.Flag("peer_up", n.Alive, n.Name)
	e.Put("peer_round_trip_seconds", r.RTT.Seconds(), n.Name)
	e.Put("peer_bandwidth_bytes", r.Bandwidth, n.Name)
	e.Put("peer_score", r.Score(), n.Name)
	latency, bandwidth := r.Parts()
	e.Put("peer_score_parts", latency, n.Name, "latency")
	e.Put("peer_score_parts", bandwidth, n.Name, "bandwidth")
	e.Put("peer_score_parts", r.Reliability, n.Name, "reliability")
	e.Put("peer_score_parts", r.Reputation, n.Name, "reputation")
	e.Put("peer_failures_total", float64(r.Failures), n.Name)
}

func (p *Parts) replication(e *m.Emitter) {
	e.Observed("replication_seconds", p.Pulls.Took.Read())
	e.Put("replication_bytes_total", float64(p.Pulls.Bytes.Load()))
	e.Put("replication_errors_total", float64(p.Pulls.Errors.Load()))
	e.Put("replication_active", float64(p.Pulls.Inside()))
	c := p.Care
	e.Put("scrub_bytes_total", float64(c.ScrubBytes.Load()))
	e.Put("scrub_errors_found_total", float64(c.ScrubFound.Load()))
	e.Put("scrub_errors_repaired_total", float64(c.ScrubRepaired.Load()))
	e.Put("scrub_last_complete_timestamp_seconds", float64(c.ScrubComplete.Load()))
	e.Put("move_bytes_total", float64(c.MovedBytes.Load()))
	e.Put("move_bytes_left", float64(c.MoveLeft.Load()))
	e.Put("move_rate_bytes", float64(c.MoveRate.Load()))
	e.Put("move_copies_missing", float64(c.CopiesMissing.Load()))
}
