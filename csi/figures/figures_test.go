package figures

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"google.golang.org/grpc/codes"
)

// TestCalls: calls are counted by method and code, those under way too, under clean names.
func TestCalls(t *testing.T) {
	var c Calls
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c.Collector("node"))
	c.Begin("NodeStageVolume")(codes.OK)
	c.Begin("NodeStageVolume")(codes.OK)
	c.Begin("NodeStageVolume")(codes.Aborted)
	end := c.Begin("NodeGetInfo")
	active := `# HELP mynetwork_csi_operations_active Calls under way.
# TYPE mynetwork_csi_operations_active gauge
mynetwork_csi_operations_active{part="node"} `
	if err := testutil.GatherAndCompare(r, strings.NewReader(active+"1\n"), "mynetwork_csi_operations_active"); err != nil {
		t.Error(err)
	}
	end(codes.OK)
	if err := testutil.GatherAndCompare(r, strings.NewReader(active+"0\n"), "mynetwork_csi_operations_active"); err != nil {
		t.Error(err)
	}
	got, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, f := range got {
		for _, m := range f.GetMetric() {
			if h := m.GetHistogram(); h != nil {
				counts[m.GetLabel()[1].GetValue()+" "+m.GetLabel()[0].GetValue()] = h.GetSampleCount()
			}
		}
	}
	if counts["NodeStageVolume OK"] != 2 || counts["NodeStageVolume Aborted"] != 1 || counts["NodeGetInfo OK"] != 1 || len(counts) != 3 {
		t.Error(counts)
	}
	found, err := promlint.NewWithMetricFamilies(got).Lint()
	if err != nil || len(found) != 0 {
		t.Error(found, err)
	}
}
