package cli

import (
	"context"

	"github.com/spf13/cobra"

	"mynetwork.io/mynetwork/cmd/internal/plugin"
	"mynetwork.io/mynetwork/cmd/internal/settings"
	"mynetwork.io/mynetwork/csi/driver"
)

func (a *app) csiCommand() *cobra.Command {
	return family("csi", "Serve Kubernetes' storage interface", a.csiNodeCommand(), a.csiControllerCommand(), a.csiProbeCommand())
}

func (a *app) csiNodeCommand() *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "Serve the kubelet of this node, and mount for its agents", ValidArgsFunction: cobra.NoFileCompletions,
		Long: "Serve the kubelet of this node until SIGTERM or SIGINT. It makes the directories of the networks that the node belongs to, mounts\n" +
			"volumes for pods and, over a unix socket per network, FUSE and loop devices for agents: the only part that needs privilege.\n" +
			"It may be killed under live I/O.\n\nAll flags are settings: see \"mynetwork help configuration\"."}
	a.reader.Flags(c.Flags(), settings.CSI, "node", "namespace", "kubelet", "run", "root", "max-volumes", "log-level")
	return a.command(c, settings.CSI, func(ctx context.Context, _ []string) error {
		v := &a.values.CSI
		log, err := v.Logger()
		if err != nil {
			return err
		}
		if v.Node == "" {
			return usage("--node is missing: the name of the Kubernetes node that this process is on")
		}
		way, err := cluster("mynetwork-csi/" + a.version)
		if err != nil {
			return err
		}
		return plugin.Node(ctx, plugin.NodeConfig{Node: v.Node, Namespace: v.Namespace, Kubelet: v.Kubelet, Run: v.Run, Root: v.Root,
			Volumes: int64(v.MaxVolumes), Version: a.version, Cluster: way, Log: log})
	})
}

func (a *app) csiControllerCommand() *cobra.Command {
	c := &cobra.Command{Use: "controller", Short: "Serve the CSI sidecars of the cluster", ValidArgsFunction: cobra.NoFileCompletions,
		Long: "Serve provisioner, resizer and snapshotter over a unix socket until SIGTERM or SIGINT. It reaches agents by their control ports.\n\n" +
			"All flags are settings: see \"mynetwork help configuration\"."}
	a.reader.Flags(c.Flags(), settings.CSI, "socket", "control", "namespace", "metrics-address", "log-level")
	return a.command(c, settings.CSI, func(ctx context.Context, _ []string) error {
		v := &a.values.CSI
		log, err := v.Logger()
		if err != nil {
			return err
		}
		way, err := cluster("mynetwork-csi/" + a.version)
		if err != nil {
			return err
		}
		return plugin.Controller(ctx, plugin.ControllerConfig{Metrics: v.MetricsAddress, Socket: v.Socket, Control: v.Control, Namespace: v.Namespace, Version: a.version,
			Cluster: way, Log: log})
	})
}

func (a *app) csiProbeCommand() *cobra.Command {
	c := &cobra.Command{Use: "probe", Short: "Ask the driver at a socket whether it is well", ValidArgsFunction: cobra.NoFileCompletions,
		Long: "Ask the driver at a unix socket whether it is well; exit 0 if so. It is what a liveness probe runs."}
	a.reader.Flags(c.Flags(), settings.CSI, "socket")
	return a.command(c, settings.CSI, func(ctx context.Context, _ []string) error {
		return driver.Probe(ctx, a.values.CSI.Socket)
	})
}
