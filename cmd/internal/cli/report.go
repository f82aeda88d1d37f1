package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/cmd/internal/control"
	"mynetwork.io/mynetwork/cmd/internal/show"
	"mynetwork.io/mynetwork/cmd/internal/size"
)

// nodeReport is what one node did in the time of a report. A copy is a replication: what the node missed of an extent, from another node.
type nodeReport struct {
	Node         string            `json:"node"`
	Copies       uint64            `json:"copies"`
	Failed       uint64            `json:"copiesFailed"`
	Success      float64           `json:"successRate"` // 0 to 1; 1 if nothing was copied
	Bytes        uint64            `json:"copiedBytes"`
	MeanSeconds  float64           `json:"meanSeconds"`
	Rate         float64           `json:"bytesPerSecond"` // while copying
	Stored       int64             `json:"storedBytes"`
	Capacity     int64             `json:"capacityBytes"`
	Extents      int64             `json:"extents"`
	Share        float64           `json:"share"` // of what all nodes that answered store, 0 to 1
	Warnings     map[string]uint64 `json:"warnings"`
	Peers        []peerView        `json:"peers"`
	PeersMissing int               `json:"peersMissing"`
}

// reportView is a report. Nodes that do not answer are not in it; their peers say so.
type reportView struct {
	From  string       `json:"from"`
	To    string       `json:"to"`
	Nodes []nodeReport `json:"nodes"`
	Total nodeReport   `json:"total"`
}

func (a *app) reportCommand() *cobra.Command {
	var hours int32
	c := &cobra.Command{Use: "report", Short: "Sum up the last 24 hours", Long: "Sum up what the nodes did in the last hours: copies made, their success, time and throughput, where data lies, and peers.\n" +
		"It comes from the nodes' own history, which survives restarts; nodes that do not answer are missing."}
	c.Flags().Int32Var(&hours, "hours", 24, "how many hours, 1 to 24")
	return a.clientCommand(c, -1, func(ctx context.Context, _ []string) error {
		all, done, err := a.agents(ctx)
		if err != nil {
			return err
		}
		defer done()
		ctx, cancel := context.WithTimeout(ctx, a.values.Timeout)
		defer cancel()
		var list []*agentv1.ReportResponse
		var errs []error
		for _, c := range all {
			r, err := c.Report(ctx, &agentv1.ReportRequest{Hours: hours})
			if err != nil {
				errs = append(errs, control.Say(err))
				continue
			}
			list = append(list, r)
		}
		if len(list) == 0 {
			return errors.Join(errs...)
		}
		v := sumUp(list)
		return a.print.Print(v, v.rows)
	})
}

// sumUp makes one report of several nodes'.
func sumUp(list []*agentv1.ReportResponse) reportView {
	v := reportView{Nodes: []nodeReport{}, Total: nodeReport{Node: "all", Warnings: map[string]uint64{}, Peers: []peerView{}}}
	var totalMillis int64
	for _, r := range list {
		v.From, v.To = when(r.GetFromUnix()), when(r.GetToUnix())
		n := nodeReport{Node: r.GetNode(), Copies: r.GetCopies(), Failed: r.GetCopiesFailed(), Bytes: r.GetCopiedBytes(), Warnings: map[string]uint64{}, Peers: []peerView{}}
		n.rates(r.GetCopyingMillis())
		for reason, k := range r.GetWarnings() {
			n.Warnings[reason] = k
			v.Total.Warnings[reason] += k
		}
		for _, s := range r.GetStores() {
			n.Stored, n.Capacity, n.Extents = n.Stored+s.GetUsed(), n.Capacity+s.GetCapacity(), n.Extents+s.GetExtents()
		}
		for _, p := range r.GetPeers() {
			n.Peers = append(n.Peers, peerView{p.GetNode(), p.GetAddress(), p.GetAlive(), p.GetScore(), p.GetRttMicros(), p.GetBandwidth(), p.GetFailures()})
			if !p.GetAlive() {
				n.PeersMissing++
			}
		}
		t := &v.Total
		t.Copies, t.Failed, t.Bytes = t.Copies+n.Copies, t.Failed+n.Failed, t.Bytes+n.Bytes
		t.Stored, t.Capacity, t.Extents = t.Stored+n.Stored, t.Capacity+n.Capacity, t.Extents+n.Extents
		totalMillis += r.GetCopyingMillis()
		v.Nodes = append(v.Nodes, n)
	}
	v.Total.rates(totalMillis)
	v.Total.Share = 1
	for i := range v.Nodes {
		if v.Total.Stored > 0 {
			v.Nodes[i].Share = float64(v.Nodes[i].Stored) / float64(v.Total.Stored)
		}
	}
	return v
}

// rates fills in what follows from the counts.
func (n *nodeReport) rates(millis int64) {
	n.Success = 1
	if all := n.Copies + n.Failed; all > 0 {
		n.Success = float64(n.Copies) / float64(all)
	}
	if n.Copies > 0 {
		n.MeanSeconds = float64(millis) / 1000 / float64(n.Copies)
	}
	if millis > 0 {
		n.Rate = float64(n.Bytes) * 1000 / float64(millis)
	}
}

func (v *reportView) rows(r *show.Rows) {
	r.Head = []string{"NODE", "COPIES", "FAILED", "SUCCESS", "MEAN TIME", "COPIED", "THROUGHPUT", "STORED", "SHARE", "PEERS AWAY", "WARNINGS"}
	for _, n := range append(v.Nodes, v.Total) {
		away := fmt.Sprintf("%d of %d", n.PeersMissing, len(n.Peers))
		if n.Node == v.Total.Node {
			away = ""
		}
		var warnings []string
		for _, reason := range sorted(n.Warnings) {
			warnings = append(warnings, fmt.Sprintf("%s %d", reason, n.Warnings[reason]))
		}
		r.Add(n.Node, fmt.Sprint(n.Copies), fmt.Sprint(n.Failed), fmt.Sprintf("%.0f%%", n.Success*100), fmt.Sprintf("%.2f s", n.MeanSeconds), size.Format(int64(n.Bytes)),
			size.Format(int64(n.Rate))+"/s", fmt.Sprintf("%s of %s", size.Format(n.Stored), size.Format(n.Capacity)), fmt.Sprintf("%.0f%%", n.Share*100), away, strings.Join(warnings, ", "))
	}
}

func (a *app) metricsCommand() *cobra.Command {
	c := &cobra.Command{Use: "metrics", Short: "Print the metrics of one agent", Long: "Print what one agent exports, in Prometheus's text format: of --node, else of the first agent that answers."}
	return a.clientCommand(c, -1, func(ctx context.Context, _ []string) error {
		return a.withAny(ctx, func(ctx context.Context, c *control.Agent) error {
			r, err := c.Metrics(ctx, &agentv1.MetricsRequest{})
			if err != nil {
				return err
			}
			_, err = a.out.Write(r.GetText())
			return err
		})
	})
}

// heldView is what a store holds of a volume.
type heldView struct {
	Node     string `json:"node"`
	Store    string `json:"store"`
	Extents  int64  `json:"extents"`
	Data     int64  `json:"dataBytes"`
	Log      int64  `json:"logBytes"`
	Promised string `json:"promised"`
}

func (a *app) placementCommand() *cobra.Command {
	c := &cobra.Command{Use: "placement VOLUME", Short: "Show which nodes hold a volume", Args: cobra.ExactArgs(1),
		Long: "Show what the stores of all nodes that answer hold of a volume, and the writer's epoch that each has promised."}
	return a.clientCommand(c, 0, func(ctx context.Context, args []string) error {
		all, done, err := a.agents(ctx)
		if err != nil {
			return err
		}
		defer done()
		ctx, cancel := context.WithTimeout(ctx, a.values.Timeout)
		defer cancel()
		list := []heldView{}
		for _, c := range all {
			r, err := c.Placement(ctx, &agentv1.PlacementRequest{Volume: args[0]})
			if err != nil {
				return control.Say(err)
			}
			for _, h := range r.GetHeld() {
				list = append(list, heldView{r.GetNode(), h.GetStore(), h.GetExtents(), h.GetData(), h.GetLog(), h.GetPromised()})
			}
		}
		return a.print.Print(list, func(r *show.Rows) {
			r.Head = []string{"NODE", "STORE", "EXTENTS", "DATA", "JOURNAL", "PROMISED"}
			for _, h := range list {
				r.Add(h.Node, h.Store, fmt.Sprint(h.Extents), size.Format(h.Data), size.Format(h.Log), h.Promised)
			}
		})
	})
}
