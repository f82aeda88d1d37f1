package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"mynetwork.io/mynetwork/cmd/internal/settings"
	"mynetwork.io/mynetwork/controllers"
)

// ErrCluster tells that there is no way to a Kubernetes cluster.
var ErrCluster = errors.New("no Kubernetes cluster")

func (a *app) operatorCommand() *cobra.Command {
	c := &cobra.Command{Use: "operator", Short: "Run the networks of a Kubernetes cluster", ValidArgsFunction: cobra.NoFileCompletions,
		Long: "Make every MyNetwork of a Kubernetes cluster what its spec says, until SIGTERM or SIGINT. The cluster is that of the pod, else of\n" +
			"KUBECONFIG.\n\nAll flags are settings: see \"mynetwork help configuration\"."}
	a.reader.Flags(c.Flags(), settings.Operator)
	c.AddCommand(a.uninstallCheckCommand())
	return a.command(c, settings.Operator, func(ctx context.Context, _ []string) error {
		v := &a.values.Operator
		if v.Namespace == "" {
			return usage("--namespace is missing: the namespace in which the operator runs")
		}
		log, err := v.Logger()
		if err != nil {
			return err
		}
		cluster, err := cluster("mynetwork-operator/" + a.version)
		if err != nil {
			return err
		}
		return controllers.Run(ctx, cluster, v.Options(), log)
	})
}

func (a *app) uninstallCheckCommand() *cobra.Command {
	c := &cobra.Command{Use: "uninstall-check", Short: "Refuse while volumes are attached", ValidArgsFunction: cobra.NoFileCompletions,
		Long: "Exit with 5 and a list while any volume of the cluster is attached to a node. The Helm chart runs it before it is uninstalled."}
	return a.command(c, settings.Operator, func(ctx context.Context, _ []string) error {
		cluster, err := cluster("mynetwork-operator/" + a.version)
		if err != nil {
			return err
		}
		return controllers.UninstallCheck(ctx, cluster)
	})
}

// cluster is the way to the API server: that of the pod, else what KUBECONFIG or ~/.kube/config says.
func cluster(agent string) (*rest.Config, error) {
	c, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		c, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: this is no pod, and KUBECONFIG names none: %w", ErrCluster, err)
	}
	c.UserAgent = agent
	return c, nil
}
