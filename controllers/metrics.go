package controllers

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"mynetwork.io/mynetwork/metrics/scrape"
)

// authorized lets only those read metrics whom the API server allows it.
func authorized(cfg *rest.Config, _ *http.Client) (server.Filter, error) {
	api, err := scrape.NewCluster(cfg)
	if err != nil {
		return nil, err
	}
	reviewer := scrape.NewReviewer(api, time.Now)
	return func(log logr.Logger, next http.Handler) (http.Handler, error) {
		return scrape.Handler(reviewer, next, slog.New(logr.ToSlogHandler(log))), nil
	}, nil
}

// export adds a collector to those of controller-runtime, in the place of the one of the operator before, which has ended.
func export(c prometheus.Collector) error {
	err := metrics.Registry.Register(c)
	var before prometheus.AlreadyRegisteredError
	if errors.As(err, &before) {
		metrics.Registry.Unregister(before.ExistingCollector)
		err = metrics.Registry.Register(c)
	}
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}
