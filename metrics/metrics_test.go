package metrics

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"mynetwork.io/mynetwork/metrics/meter"
)

func families() []Family {
	return []Family{
		{"writes_total", Counter, []string{"volume"}, "Writes."},
		{"full", Gauge, nil, "Whether it is full."},
		{"write_seconds", Histogram, []string{"volume"}, "Time of writes."},
	}
}

// TestCollect: what a source puts is what is exported.
func TestCollect(t *testing.T) {
	var h meter.Histogram
	h.Observe(time.Millisecond)
	c := New(families(), func(e *Emitter) {
		e.Put("writes_total", 3, "v")
		e.Flag("full", true)
		e.Observed("write_seconds", h.Read(), "v")
	})
	want := `# HELP mynetwork_full Whether it is full.
# TYPE mynetwork_full gauge
mynetwork_full 1
# HELP mynetwork_writes_total Writes.
# TYPE mynetwork_writes_total counter
mynetwork_writes_total{volume="v"} 3
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), "mynetwork_full", "mynetwork_writes_total"); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(c, "mynetwork_write_seconds"); n != 1 {
		t.Errorf("%d histograms", n)
	}
}

// TestUnknown: what the table does not have, or has otherwise, fails the scrape.
func TestUnknown(t *testing.T) {
	for name, put := range map[string]func(e *Emitter){
		"no family":       func(e *Emitter) { e.Put("reads_total", 1) },
		"labels missing":  func(e *Emitter) { e.Put("writes_total", 1) },
		"labels too many": func(e *Emitter) { e.Put("full", 1, "v") },
		"histogram":       func(e *Emitter) { e.Put("write_seconds", 1, "v") },
		"no histogram":    func(e *Emitter) { e.Observed("writes_total", meter.Reading{}, "v") },
		"twice":           func(e *Emitter) { e.Put("full", 1); e.Put("full", 1) },
		"no text":         func(e *Emitter) { e.Put("writes_total", 1, "\xff") },
	} {
		r := prometheus.NewRegistry()
		r.MustRegister(New(families(), put))
		if _, err := r.Gather(); err == nil {
			t.Errorf("%s: exported", name)
		}
	}
}

// TestSeries: a histogram has three names in queries.
func TestSeries(t *testing.T) {
	f := families()
	if got := strings.Join(f[2].Series(), " "); got != "mynetwork_write_seconds_bucket mynetwork_write_seconds_sum mynetwork_write_seconds_count" {
		t.Error(got)
	}
	if got := strings.Join(f[1].Series(), " "); got != "mynetwork_full" {
		t.Error(got)
	}
}
