package plugin

import (
	"context"
	"log/slog"

	"k8s.io/client-go/rest"

	"mynetwork.io/mynetwork/csi/agents"
	"mynetwork.io/mynetwork/csi/driver"
	"mynetwork.io/mynetwork/csi/figures"
	"mynetwork.io/mynetwork/csi/kube"
	"mynetwork.io/mynetwork/csi/remote"
)

// ControllerConfig is what the controller's part works with.
type ControllerConfig struct {
	Socket    string // for the sidecars
	Control   string // directory with the certificates for agents
	Namespace string // where agents run
	Metrics   string // address that metrics are served on; empty: nowhere
	Version   string
	Cluster   *rest.Config
	Log       *slog.Logger
}

// Controller serves the sidecars.
func Controller(ctx context.Context, c ControllerConfig) error {
	source, err := kube.New(c.Cluster, kube.Options{Namespace: c.Namespace, Slices: true})
	if err != nil {
		return err
	}
	to := remote.New(c.Control, source)
	defer to.Close()
	control := agents.Control{Agents: to}
	calls := &figures.Calls{}
	d, err := driver.New(driver.Config{Calls: calls, Agents: to, Version: c.Version, Log: c.Log, Controller: true, Barrier: control, Modifier: control, Topology: true})
	if err != nil {
		return err
	}
	ln, err := driver.Listen(ctx, c.Socket)
	if err != nil {
		return err
	}
	parts := []func(context.Context) error{source.Run, func(ctx context.Context) error { return d.Serve(ctx, ln) }}
	if c.Metrics != "" {
		serve, err := metricsServer(&c, calls)
		if err != nil {
			return err
		}
		parts = append(parts, serve)
	}
	return all(ctx, parts...)
}
