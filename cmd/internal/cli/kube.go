package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/cmd/internal/inspect"
	"mynetwork.io/mynetwork/cmd/internal/settings"
)

// kubeOptions say which cluster is looked at: they are kubectl's own flags.
type kubeOptions struct {
	kubeconfig, context, namespace, system string
}

// way is the way to a cluster.
type way struct {
	config    *rest.Config
	reader    client.Reader
	clientset kubernetes.Interface
	namespace string // of the user
}

// kubeCommand makes a command that looks at a cluster with the user's own rights.
func (a *app) kubeCommand(c *cobra.Command, run func(ctx context.Context, w *way, f *inspect.Facts, args []string) error) *cobra.Command {
	var o kubeOptions
	flags := c.Flags()
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "file that says how to reach the cluster (default: KUBECONFIG, else ~/.kube/config)")
	flags.StringVar(&o.context, "context", "", "context of that file")
	flags.StringVarP(&o.namespace, "namespace", "n", "", "namespace of claims and pods (default: the context's)")
	flags.StringVar(&o.system, "system-namespace", "mynetwork-system", "namespace that MyNetwork runs in")
	a.reader.Flags(flags, settings.Client, "output", "timeout")
	c.ValidArgsFunction = cobra.NoFileCompletions
	return a.command(c, settings.Client, func(ctx context.Context, args []string) error {
		w, err := a.reach(&o)
		if err != nil {
			return err
		}
		brief, cancel := context.WithTimeout(ctx, a.values.Timeout)
		defer cancel()
		f, err := inspect.Gather(brief, w.reader, o.system, time.Now())
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCluster, err)
		}
		return run(ctx, w, f, args)
	})
}

func (a *app) reach(o *kubeOptions) (*way, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	config := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.context})
	w := &way{namespace: o.namespace}
	var err error
	if w.config, err = config.ClientConfig(); err != nil {
		return nil, fmt.Errorf("%w: %w; name a file by --kubeconfig or KUBECONFIG", ErrCluster, err)
	}
	w.config.UserAgent = "kubectl-mynetwork/" + a.version
	w.config.WarningHandler = rest.NoWarnings{}
	if w.namespace == "" {
		if w.namespace, _, err = config.Namespace(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCluster, err)
		}
	}
	scheme, err := inspect.Scheme()
	if err != nil {
		return nil, err
	}
	if w.reader, err = client.New(w.config, client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCluster, err)
	}
	if w.clientset, err = kubernetes.NewForConfig(w.config); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCluster, err)
	}
	return w, nil
}

// maxLog is how much of a container's log is taken, in bytes.
const maxLog = 4 << 20

var _ inspect.Pods = (*way)(nil)

// Logs implements inspect.Pods.
func (w *way) Logs(ctx context.Context, namespace, pod, container string, previous bool) ([]byte, error) {
	lines := int64(20000)
	r, err := w.clientset.CoreV1().Pods(namespace).GetLogs(pod, &corev1.PodLogOptions{Container: container, Previous: previous, TailLines: &lines, Timestamps: true}).Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, maxLog))
}

// Run implements inspect.Pods.
func (w *way) Run(ctx context.Context, namespace, pod, container string, command ...string) ([]byte, error) {
	req := w.clientset.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: container, Command: command, Stdout: true, Stderr: true}, clientgoscheme.ParameterCodec)
	e, err := remotecommand.NewWebSocketExecutor(w.config, "GET", req.URL().String())
	if err != nil {
		return nil, err
	}
	var out, errOut bytes.Buffer
	if err := e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut}); err != nil {
		return nil, fmt.Errorf("run %s in pod %s: %w: %s", strings.Join(command, " "), pod, err, strings.TrimSpace(errOut.String()))
	}
	return out.Bytes(), nil
}

// agentPods are the pods of agents that run.
func agentPods(f *inspect.Facts) (out []*corev1.Pod) {
	for i := range f.Pods {
		if p := &f.Pods[i]; p.Namespace == f.System && inspect.IsAgent(p) && p.Status.Phase == corev1.PodRunning {
			out = append(out, p)
		}
	}
	return out
}

// errNoAgents tells that no agent's pod could be asked.
var errNoAgents = errors.New("no pod of an agent runs, or may be looked into")

// create makes a file that nobody else may read, and fails if it is there.
func create(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}
