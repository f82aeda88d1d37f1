package metrics

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	m "mynetwork.io/mynetwork/metrics"
	"mynetwork.io/mynetwork/metrics/meter"
	"mynetwork.io/mynetwork/nodeagent/agent/demand"
	"mynetwork.io/mynetwork/nodeagent/agent/health"
	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/agent/space"
	"mynetwork.io/mynetwork/nodeagent/agent/stores"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/cache"
	"mynetwork.io/mynetwork/nodeagent/core/adaptive"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/clearing"
	"mynetwork.io/mynetwork/nodeagent/export/metered"
	"mynetwork.io/mynetwork/nodeagent/peer"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/store"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// busy is a node with one of everything.
func busy() Parts {
	w := &metered.Meter{}
	w.Writes.Ended(time.Now(), 4096, nil)
	w.Reads.Ended(time.Now(), 4096, errors.New("disk"))
	v := volumes.Info{Record: registry.Record{ID: block.VolumeID{1}, Name: "pvc-1", Size: 1 << 30, Replicas: 3, Copies: 2, Used: 5 << 20,
		Claim: registry.Claim{Namespace: "shop", Name: "db"}, Limits: registry.Limits{IOPS: 100}, Adaptive: registry.Adaptive{Least: 3, Most: 5}}, State: volumes.Attached, Kind: volumes.Fuse, Meter: w,
		Status: &volume.Status{Committed: 5, Appended: 7, Extents: 3, Degraded: 1, RingUsed: 8192, Members: []volume.MemberStatus{{Failed: true}, {}}, Stats: volume.Stats{JournalBytes: 9000}}}
	ended := volumes.Info{Record: registry.Record{ID: block.VolumeID{2}, Name: "pvc-2", Weak: true}, Err: errors.New("fenced")}
	var d stores.DiskMeter
	d.Syncs.Ended(time.Now(), 0, nil)
	pulls := &meter.Operations{}
	pulls.Ended(time.Now(), 1<<20, nil)
	care := &Care{}
	care.ScrubBytes.Add(77)
	return Parts{Node: "n1", Version: "v1", Volumes: func() []volumes.Info { return []volumes.Info{v, ended} },
		Stores: func() []StoreReading {
			return []StoreReading{{Status: stores.Status{ID: block.StoreID{1}, Path: "/data", State: stores.Serving}, Usage: store.Usage{Total: 100, Used: 40, UserFree: 52, Live: 30}, Extents: 4, Volumes: 1, Disk: &d},
				{Status: stores.Status{ID: block.StoreID{2}, Path: "/other", State: stores.Missing}}}
		},
		Pulls: pulls, Peers: func() []members.State {
			return []members.State{{Node: members.Node{Name: "n1"}, Alive: true}, {Node: members.Node{Name: "n2"}, Alive: true}, {Node: members.Node{Name: "n3"}}}
		},
		Health: func(string) peer.Report { return peer.Report{RTT: time.Millisecond, Reliability: 1, Reputation: 1} },
		Cache:  func() cache.Metrics { return cache.Metrics{Hits: 3, Misses: 1, Bytes: 4096} }, CacheBytes: 1 << 20,
		Layout: func() uint64 { return 7 }, Certificate: func() time.Time { return time.Unix(2000000000, 0) }, Refused: &atomic.Uint64{}, Lost: &atomic.Uint64{},
		Events: func() uint64 { return 12 }, Care: care, Clearings: func() map[space.Begin]uint64 {
			return map[space.Begin]uint64{{Store: block.StoreID{1}, Path: "/data", Stage: clearing.Deleted}: 1}
		}, Adapted: func() map[demand.Change]uint64 {
			return map[demand.Change]uint64{{Volume: "db", Why: adaptive.ReadHot}: 2}
		}, Levels: (&health.Judge{}).Read, Now: time.Now}
}

// TestLint: names, types and helps are as Prometheus wants them. The control has a name that is not.
func TestLint(t *testing.T) {
	for _, c := range []struct {
		collector prometheus.Collector
		clean     bool
	}{
		{New(busy()), true},
		{m.New([]m.Family{{Name: "reads", Kind: m.Counter, Help: "Reads."}}, func(e *m.Emitter) { e.Put("reads", 1) }), false},
	} {
		r := prometheus.NewPedanticRegistry()
		r.MustRegister(c.collector)
		got, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		found, err := promlint.NewWithMetricFamilies(got).Lint()
		if err != nil || (len(found) == 0) != c.clean {
			t.Errorf("%v %v", found, err)
		}
	}
}

// TestComplete: a node with one of everything exports each family of the table, and the values are what the parts said.
func TestComplete(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(New(busy()))
	got, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range got {
		names = append(names, f.GetName())
	}
	for _, f := range Families() {
		if !slices.Contains(names, f.FullName()) {
			t.Errorf("%s is in the table and not exported", f.FullName())
		}
	}
	want := `# HELP mynetwork_volume_journal_records_uncommitted Journal records appended that no quorum has yet.
# TYPE mynetwork_volume_journal_records_uncommitted gauge
mynetwork_volume_journal_records_uncommitted{volume="pvc-1"} 2
# HELP mynetwork_volume_replicas_failed Replicas of the open extent that were left out.
# TYPE mynetwork_volume_replicas_failed gauge
mynetwork_volume_replicas_failed{volume="pvc-1"} 1
# HELP mynetwork_volume_failed 1 if the volume's engine has ended here, by a fence or an error: its device answers EIO.
# TYPE mynetwork_volume_failed gauge
mynetwork_volume_failed{volume="pvc-1"} 0
mynetwork_volume_failed{volume="pvc-2"} 1
# HELP mynetwork_peer_up 1 if the node answers this one.
# TYPE mynetwork_peer_up gauge
mynetwork_peer_up{peer="n2"} 1
mynetwork_peer_up{peer="n3"} 0
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "mynetwork_volume_journal_records_uncommitted", "mynetwork_volume_replicas_failed",
		"mynetwork_volume_failed", "mynetwork_peer_up"); err != nil {
		t.Error(err)
	}
}

// TestBounded: the label values that this package makes up itself are few.
func TestBounded(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(New(busy()))
	got, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := 0
	for _, f := range got {
		for _, metric := range f.GetMetric() {
			series++
			if h := metric.GetHistogram(); h != nil {
				series += len(h.GetBucket()) + 2
			}
		}
	}
	if series > 400 { // of two volumes, one of which has ended, one open store and two peers
		t.Errorf("%d series", series)
	}
	t.Logf("%d series", series)
}

// TestGone: what is closed is exported no more.
func TestGone(t *testing.T) {
	p := busy()
	list := p.Volumes()
	p.Volumes = func() []volumes.Info { return list }
	c := New(p)
	if n := testutil.CollectAndCount(c, "mynetwork_volume_info"); n != 2 {
		t.Errorf("%d volumes", n)
	}
	list = nil
	if n := testutil.CollectAndCount(c, "mynetwork_volume_info"); n != 0 {
		t.Errorf("%d volumes are left", n)
	}
}
