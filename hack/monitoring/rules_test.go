package monitoring

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
)

const step = time.Minute // of samples and of evaluations

// window is what is evaluated: the longest rule looks two hours back.
const window = 4 * time.Hour

// cases are series of a minute's samples, in Prometheus's own notation for tests: on which the rule must fire, and on which it must not.
// Each alert has one.
func cases() map[string]struct{ fires, quiet []string } {
	type c = struct{ fires, quiet []string }
	on := func(series string) c {
		return c{[]string{series + " 0x10 1x200"}, []string{series + " 0x250", series + " 0x20 1 0x200"}}
	}
	grows := func(series string) c { return c{[]string{series + " 0x30 1+1x200"}, []string{series + " 7x250"}} }
	const n = `network="main",node="n1"`
	return map[string]c{
		"MyNetworkVolumeFailed":  on(`mynetwork_volume_failed{` + n + `,volume="v"}`),
		"MyNetworkVolumeStalled": on(`mynetwork_volume_stalled{` + n + `,volume="v"}`),
		"MyNetworkVolumeFull":    on(`mynetwork_volume_full{` + n + `,volume="v"}`),
		"MyNetworkVolumeErrors":  grows(`mynetwork_volume_operation_errors_total{` + n + `,volume="v",operation="read"}`),
		"MyNetworkVolumeLastCopy": {[]string{`mynetwork_volume_copies_least{volume="v"} 3x10 1x200`, `mynetwork_volume_copies_wanted{volume="v"} 3x240`},
			[]string{`mynetwork_volume_copies_least{volume="v"} 1x240`, `mynetwork_volume_copies_wanted{volume="v"} 1x240`}},
		"MyNetworkVolumeDegraded": {[]string{`mynetwork_volume_copies_least{volume="v"} 3x10 2x200`, `mynetwork_volume_copies_wanted{volume="v"} 3x240`},
			[]string{`mynetwork_volume_copies_least{volume="v"} 0x100 2x20 3x120`, `mynetwork_volume_copies_wanted{volume="v"} 3x240`}},
		"MyNetworkVolumeSlow": {[]string{`mynetwork_volume_operation_seconds_bucket{` + n + `,volume="v",operation="flush",le="1"} 0+1x240`, `mynetwork_volume_operation_seconds_bucket{` + n + `,volume="v",operation="flush",le="5"} 0+60x240`,
			`mynetwork_volume_operation_seconds_bucket{` + n + `,volume="v",operation="flush",le="+Inf"} 0+60x240`},
			[]string{`mynetwork_volume_operation_seconds_bucket{` + n + `,volume="v",operation="flush",le="1"} 0+60x240`, `mynetwork_volume_operation_seconds_bucket{` + n + `,volume="v",operation="flush",le="5"} 0+60x240`,
				`mynetwork_volume_operation_seconds_bucket{` + n + `,volume="v",operation="flush",le="+Inf"} 0+60x240`}},
		"MyNetworkBadPages":             grows(`mynetwork_volume_pages_bad_total{` + n + `,volume="v"}`),
		"MyNetworkNodeUnreachable":      on(`mynetwork_node_unreachable{` + n + `}`),
		"MyNetworkAgentNotReady":        {[]string{`mynetwork_node_ready{` + n + `} 1x10 0x200`}, []string{`mynetwork_node_ready{` + n + `} 1x20 0x3 1x200`}},
		"MyNetworkNodeLastCopies":       on(`mynetwork_node_copies_last{` + n + `}`),
		"MyNetworkPeerUnreachable":      {[]string{`mynetwork_peer_up{` + n + `,peer="n2"} 1x10 0x200`}, []string{`mynetwork_peer_up{` + n + `,peer="n2"} 1x20 0x8 1x200`}},
		"MyNetworkNodePressure":         on(`mynetwork_node_pressure{` + n + `,resource="cpu"}`),
		"MyNetworkNodePressureCritical": {[]string{`mynetwork_agent_health_level{` + n + `,resource="cpu"} 1x10 2x200`}, []string{`mynetwork_agent_health_level{` + n + `,resource="cpu"} 1x240`}},
		"MyNetworkStoreFailed":          {[]string{`mynetwork_store_state{` + n + `,path="/d",state="Quarantined"} 0x10 1x200`}, []string{`mynetwork_store_state{` + n + `,path="/d",state="Serving"} 1x240`}},
		"MyNetworkStoreErrors":          grows(`mynetwork_store_errors_total{` + n + `,path="/d",operation="sync"}`),
		"MyNetworkStoreFilling": {[]string{`mynetwork_store_used_bytes{path="/d"} 50x10 93x200`, `mynetwork_store_capacity_bytes{path="/d"} 100x240`},
			[]string{`mynetwork_store_used_bytes{path="/d"} 89x100 97x100`, `mynetwork_store_capacity_bytes{path="/d"} 100x240`}},
		"MyNetworkStoreFull": {[]string{`mynetwork_store_used_bytes{path="/d"} 50x10 96x200`, `mynetwork_store_capacity_bytes{path="/d"} 100x240`},
			[]string{`mynetwork_store_used_bytes{path="/d"} 95x240`, `mynetwork_store_capacity_bytes{path="/d"} 100x240`}},
		"MyNetworkStoreSlow": {[]string{`mynetwork_store_sync_seconds_bucket{` + n + `,path="/d",le="0.25"} 0+1x240`, `mynetwork_store_sync_seconds_bucket{` + n + `,path="/d",le="1"} 0+60x240`, `mynetwork_store_sync_seconds_bucket{` + n + `,path="/d",le="+Inf"} 0+60x240`},
			[]string{`mynetwork_store_sync_seconds_bucket{` + n + `,path="/d",le="0.25"} 0+60x240`, `mynetwork_store_sync_seconds_bucket{` + n + `,path="/d",le="1"} 0+60x240`, `mynetwork_store_sync_seconds_bucket{` + n + `,path="/d",le="+Inf"} 0+60x240`}},
		"MyNetworkCertificateEnds": {[]string{`mynetwork_agent_certificate_expiry_timestamp_seconds{` + n + `} 100000x240`}, []string{`mynetwork_agent_certificate_expiry_timestamp_seconds{` + n + `} 600000x240`}},
		"MyNetworkScrubLate": {[]string{`mynetwork_scrub_last_complete_timestamp_seconds{` + n + `} 1x32000`},
			[]string{`mynetwork_scrub_last_complete_timestamp_seconds{` + n + `} 0x32000`, `mynetwork_scrub_last_complete_timestamp_seconds{` + n + `} 1800000x32000`}},
		"MyNetworkStalled":     on(`mynetwork_network_condition{network="main",condition="Stalled"}`),
		"MyNetworkDegraded":    on(`mynetwork_network_condition{network="main",condition="Degraded"}`),
		"MyNetworkCapacityLow": on(`mynetwork_network_condition{network="main",condition="CapacityLow"}`),
		"MyNetworkCapacityCritical": {[]string{`mynetwork_network_used_bytes{network="main"} 96x240`, `mynetwork_network_capacity_bytes{network="main"} 100x240`},
			[]string{`mynetwork_network_used_bytes{network="main"} 94x240`, `mynetwork_network_capacity_bytes{network="main"} 100x240`}},
		"MyNetworkRebuildStuck": {[]string{`mynetwork_network_copies_missing{network="main"} 0x10 5x200`}, []string{`mynetwork_network_copies_missing{network="main"} 300-1x240`}},
		"MyNetworkFailover":     {[]string{`mynetwork_operator_events_total{namespace="s",reason="VolumeFenced",type="Warning"} 0x30 2x200`}, []string{`mynetwork_operator_events_total{namespace="s",reason="Applied",type="Normal"} 0+1x240`}},
		"MyNetworkNoOperator":   {[]string{`mynetwork_operator_leading{pod="a"} 1x10 0x200`}, []string{`mynetwork_operator_leading{pod="a"} 1x100 0x200`, `mynetwork_operator_leading{pod="b"} 0x99 1x200`}},
		"MyNetworkCSIFailing": {[]string{`mynetwork_csi_operation_seconds_count{namespace="s",part="node",method="NodeStageVolume",code="Aborted"} 0+2x240`, `mynetwork_csi_operation_seconds_count{namespace="s",part="node",method="NodeStageVolume",code="OK"} 0+1x240`},
			[]string{`mynetwork_csi_operation_seconds_count{namespace="s",part="node",method="NodeStageVolume",code="Aborted"} 0+1x240`, `mynetwork_csi_operation_seconds_count{namespace="s",part="node",method="NodeStageVolume",code="OK"} 0+2x240`}},
	}
}

// fires evaluates a rule on series, and tells when it first was active and when it first fired; below 0: never.
func fires(t *testing.T, r rule, series []string) (active, fired time.Duration) {
	t.Helper()
	storage := promqltest.LoadedStorage(t, "load 1m\n  "+strings.Join(series, "\n  "))
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	q, err := engine.NewRangeQuery(t.Context(), storage, nil, r.Expr, start(series), start(series).Add(window), step)
	if err != nil {
		t.Fatal(err)
	}
	res := q.Exec(t.Context())
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	matrix, err := res.Matrix()
	if err != nil {
		t.Fatal(err)
	}
	var hold model.Duration
	if r.For != "" {
		if hold, err = model.ParseDuration(r.For); err != nil {
			t.Fatal(err)
		}
	}
	return first(matrix, time.Duration(hold))
}

// start is when evaluation begins: with the samples, or after 22 days of them, where a rule looks at weeks.
func start(series []string) time.Time {
	if strings.Contains(series[0], "x32000") {
		return time.Unix(22*24*3600, 0)
	}
	return time.Unix(0, 0)
}

// first is when a series of the result first had a value, and when it first had one in each evaluation of hold.
func first(m promql.Matrix, hold time.Duration) (active, fired time.Duration) {
	active, fired = -1, -1
	for _, s := range m {
		var since, last time.Duration = -1, -1
		for _, p := range s.Floats {
			at := time.Duration(p.T) * time.Millisecond
			if since < 0 || at-last > step {
				since = at
			}
			last = at
			if active < 0 || at < active {
				active = at
			}
			if at-since >= hold && (fired < 0 || at < fired) {
				fired = at
			}
		}
	}
	return active, fired
}

// TestRules: each rule fires on what it is for, not before its time, and not on what is well or has passed.
func TestRules(t *testing.T) {
	all := cases()
	for _, r := range alerts(t) {
		c, ok := all[r.Alert]
		if !ok {
			t.Errorf("%s has no case", r.Alert)
			continue
		}
		delete(all, r.Alert)
		t.Run(r.Alert, func(t *testing.T) {
			active, fired := fires(t, r, c.fires)
			if fired < 0 {
				t.Errorf("does not fire on %v", c.fires)
			}
			if hold, err := model.ParseDuration(r.For); err == nil && fired < active+time.Duration(hold) {
				t.Errorf("active after %v, fires after %v, for is %s", active, fired, r.For)
			}
			if same(c.quiet) {
				for _, series := range c.quiet {
					if _, at := fires(t, r, []string{series}); at >= 0 {
						t.Errorf("fires after %v on %s", at, series)
					}
				}
			} else if _, at := fires(t, r, c.quiet); at >= 0 {
				t.Errorf("fires after %v on %v", at, c.quiet)
			}
		})
	}
	for name := range all {
		t.Errorf("there is no alert %s", name)
	}
}

// same tells whether lines are of one series, each a case of its own.
func same(lines []string) bool {
	head, _, _ := strings.Cut(lines[0], " ")
	for _, l := range lines {
		if h, _, _ := strings.Cut(l, " "); h != head {
			return false
		}
	}
	return true
}

// TestFirst: what is interrupted begins anew.
func TestFirst(t *testing.T) {
	point := func(minutes ...int) (out promql.Matrix) {
		var s promql.Series
		for _, m := range minutes {
			s.Floats = append(s.Floats, promql.FPoint{T: int64(m) * 60000, F: 1})
		}
		return promql.Matrix{s}
	}
	if a, f := first(point(3, 4, 5), 2*time.Minute); a != 3*time.Minute || f != 5*time.Minute {
		t.Error(a, f)
	}
	if a, f := first(point(3, 4, 6, 7), 2*time.Minute); a != 3*time.Minute || f != -1 {
		t.Error(a, f)
	}
	if _, f := first(point(9), 0); f != 9*time.Minute {
		t.Error(f)
	}
}
