package metrics

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	m "mynetwork.io/mynetwork/metrics"
)

// Bounds of what a neighbour may show.
const (
	neighbourTimeout = time.Second
	neighbourBytes   = 1 << 20
)

// Neighbour gathers the metrics that another program of this node shows on a unix socket. One that is away shows nothing.
type Neighbour struct {
	path   string
	client *http.Client
}

// NewNeighbour makes a Neighbour for a socket.
func NewNeighbour(path string) *Neighbour {
	t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}
	return &Neighbour{path, &http.Client{Transport: t, Timeout: neighbourTimeout}}
}

// Gather implements prometheus.Gatherer.
func (n *Neighbour) Gather() ([]*dto.MetricFamily, error) {
	resp, err := n.client.Get("http://localhost/metrics")
	if err != nil {
		return nil, nil // it is being replaced: the figures of this process are not held up by it
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics on %s: %s", n.path, resp.Status)
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	found, err := p.TextToMetricFamilies(io.LimitReader(resp.Body, neighbourBytes))
	if err != nil {
		return nil, fmt.Errorf("metrics on %s: %w", n.path, err)
	}
	var out []*dto.MetricFamily
	for name, f := range found {
		if strings.HasPrefix(name, m.Prefix) {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out, nil
}
