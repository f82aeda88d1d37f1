package plugin

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/client-go/util/cert"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/csi/figures"
	"mynetwork.io/mynetwork/metrics/scrape"
	"mynetwork.io/mynetwork/nodeagent/export/socket"
)

// metricsServer serves the controller's metrics to whom the API server allows them, with a certificate of its own that nobody signed.
func metricsServer(c *ControllerConfig, calls *figures.Calls) (func(context.Context) error, error) {
	r := prometheus.NewRegistry()
	for _, part := range []prometheus.Collector{collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), calls.Collector("controller")} {
		if err := r.Register(part); err != nil {
			return nil, err
		}
	}
	certPEM, keyPEM, err := cert.GenerateSelfSignedCertKeyWithFixtures("mynetwork-csi-controller", nil, nil, "")
	if err != nil {
		return nil, fmt.Errorf("metrics: make a certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	api, err := scrape.NewCluster(c.Cluster)
	if err != nil {
		return nil, err
	}
	o := scrape.Options{Gatherer: r, Authorizer: scrape.NewReviewer(api, time.Now), Log: c.Log,
		TLS: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}}}
	ln, err := scrape.Listen(c.Metrics, o)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return scrape.Serve(ctx, ln, o) }, nil
}

// showCalls shows the node part's metrics to the agents' user beside a mounter's socket, until ctx ends.
func showCalls(ctx context.Context, mounter string, calls *figures.Calls) error {
	r := prometheus.NewRegistry()
	if err := r.Register(calls.Collector("node")); err != nil {
		return err
	}
	ln, err := socket.ListenFor(filepath.Join(filepath.Dir(mounter), v1alpha1.NameFigures), v1alpha1.AgentUser)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4}), ReadHeaderTimeout: time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(ln); err != nil && ctx.Err() == nil {
		return fmt.Errorf("show metrics to agents: %w", err)
	}
	return nil
}
