package cli

import (
	"strings"
	"testing"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/cmd/internal/show"
)

// TestSumUp: rates follow from counts, a node that copied nothing had no failure, and shares add up to one.
func TestSumUp(t *testing.T) {
	v := sumUp([]*agentv1.ReportResponse{
		{Node: "a", Copies: 3, CopiesFailed: 1, CopiedBytes: 6000, CopyingMillis: 3000, Warnings: map[string]uint64{"NodeLost": 2}, Stores: []*agentv1.Store{{Used: 30, Capacity: 100, Extents: 3}},
			Peers: []*agentv1.Peer{{Node: "b", Alive: true}, {Node: "c"}}},
		{Node: "b", Stores: []*agentv1.Store{{Used: 10, Capacity: 100, Extents: 1}}, Warnings: map[string]uint64{"NodeLost": 1}},
	})
	a, b, all := v.Nodes[0], v.Nodes[1], v.Total
	if a.Success != 0.75 || a.MeanSeconds != 1 || a.Rate != 2000 || a.Share != 0.75 || a.PeersMissing != 1 {
		t.Errorf("%+v", a)
	}
	if b.Success != 1 || b.MeanSeconds != 0 || b.Rate != 0 || b.Share != 0.25 {
		t.Errorf("%+v", b)
	}
	if all.Copies != 3 || all.Failed != 1 || all.Stored != 40 || all.Extents != 4 || all.Warnings["NodeLost"] != 3 || all.MeanSeconds != 1 {
		t.Errorf("%+v", all)
	}
	var r show.Rows
	v.rows(&r)
	if len(r.Rows) != 3 || !strings.Contains(strings.Join(r.Rows[0], " "), "75%") || !strings.Contains(strings.Join(r.Rows[2], " "), "NodeLost 3") {
		t.Errorf("%v", r.Rows)
	}
	if none := sumUp([]*agentv1.ReportResponse{{Node: "n"}}); none.Nodes[0].Share != 0 || none.Total.Success != 1 {
		t.Errorf("%+v", none)
	}
}
