package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/agents"
	"mynetwork.io/mynetwork/controllers/authority"
	"mynetwork.io/mynetwork/controllers/contentgroup"
	"mynetwork.io/mynetwork/controllers/figures"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/controllers/snapshotter"
	"mynetwork.io/mynetwork/controllers/storagenode"
	"mynetwork.io/mynetwork/controllers/takeover"
	"mynetwork.io/mynetwork/controllers/warrants"
)

// Times of leader election. A new leader is there after leaseDuration at most, when the old one died without a word. The renewal
// gives up after two lost tries and some room for a slow API server: 8 > 6 > 2 + 2.
const (
	leaseDuration = 8 * time.Second
	renewDeadline = 6 * time.Second
	retryPeriod   = 2 * time.Second
	leaseName     = "operator.storage.mynetwork.io"
)

// Options are the operator's settings.
type Options struct {
	// Namespace is where the operator, agents and holders run. Required.
	Namespace string
	// Image of agents; HolderImage of holders, empty: Image. Networks can name their own.
	Image, HolderImage string
	// GuardImage of guard pods. Empty: registry.k8s.io/pause:3.10.
	GuardImage string
	// AgentServiceAccount and HolderServiceAccount. Empty: mynetwork-agent, mynetwork-holder.
	AgentServiceAccount, HolderServiceAccount string
	// MetricsAddress and ProbeAddress to listen on; "0" is none.
	MetricsAddress, ProbeAddress string
	// LeaderElection lets several operators run, of which one leads.
	LeaderElection bool
	// Dial connects to the control port of an agent, host:port. nil: by TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// ErrOptions tells that the options can not be used.
var ErrOptions = errors.New("operator's options")

// Validate checks the options and fills in defaults.
func (o *Options) Validate() error {
	if o.Namespace == "" {
		return fmt.Errorf("%w: Namespace is missing", ErrOptions)
	}
	if o.GuardImage == "" {
		o.GuardImage = "registry.k8s.io/pause:3.10"
	}
	if o.AgentServiceAccount == "" {
		o.AgentServiceAccount = "mynetwork-agent"
	}
	if o.HolderServiceAccount == "" {
		o.HolderServiceAccount = "mynetwork-holder"
	}
	return nil
}

// Scheme knows Kubernetes' own types and those of this API.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(s); err != nil {
		return nil, err
	}
	return s, v1alpha1.AddToScheme(s)
}

// ManagerOptions are the options of the manager to call Setup with. What the operator runs is read in its own
// namespace only: it needs no right to any other's.
func ManagerOptions(o Options, s *runtime.Scheme) ctrl.Options {
	own := cache.ByObject{Namespaces: map[string]cache.Config{o.Namespace: {}}}
	m := ctrl.Options{
		Scheme:                        s,
		HealthProbeBindAddress:        "0", // see probes
		LeaderElection:                o.LeaderElection,
		LeaderElectionID:              leaseName,
		LeaderElectionNamespace:       o.Namespace,
		LeaderElectionReleaseOnCancel: true, // the program ends when the manager does
		LeaseDuration:                 new(leaseDuration),
		RenewDeadline:                 new(renewDeadline),
		RetryPeriod:                   new(retryPeriod),
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}: own, &corev1.Secret{}: own, &corev1.ConfigMap{}: own, &corev1.Service{}: own, &appsv1.DaemonSet{}: own, &appsv1.Deployment{}: own,
			&policyv1.PodDisruptionBudget{}: own, &discoveryv1.EndpointSlice{}: own}},
	}
	m.Metrics.BindAddress = o.MetricsAddress
	m.Metrics.SecureServing = true
	m.Metrics.FilterProvider = authorized
	m.Controller.SkipNameValidation = new(true) // a test runs one operator after the other
	return m
}

// Rates of requests to the API server, in a second. Its own priority and fairness is what limits clients; the defaults of the client
// would hold up a failover behind a thousand nodes' statuses.
const (
	requestRate  = 100
	requestBurst = 200
)

// maxFailed is how often the operator begins anew without ever leading before its error is told.
const maxFailed = 5

// Run runs the operator until ctx ends. When the API server is away it waits for it, and when it lost the lead it begins anew, in the
// same process: a process that ends is started again by the kubelet with pauses that grow to minutes. It returns an error if it
// can not go on.
func Run(ctx context.Context, cluster *rest.Config, o Options, log *slog.Logger) error {
	if err := o.Validate(); err != nil {
		return err
	}
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	if err := probes(ctx, o.ProbeAddress); err != nil {
		return fmt.Errorf("operator: %w", err)
	}
	cluster = rest.CopyConfig(cluster)
	cluster.QPS, cluster.Burst = requestRate, requestBurst
	for failed := 0; ; {
		if !answers(ctx, cluster, func(err error) { log.Warn("waits for the API server", "err", err) }) {
			return nil
		}
		led, err := lead(ctx, cluster, o, log)
		if ctx.Err() != nil {
			return nil
		}
		if failed++; led {
			failed = 0
		}
		if failed >= maxFailed {
			return fmt.Errorf("operator: %w", err)
		}
		log.Warn("operator begins anew", "err", err)
	}
}

// errBack tells that the API server was away and is back.
var errBack = errors.New("the API server was away")

// lead runs a manager until it loses the lead, fails, or the API server was away. It tells whether it led.
func lead(ctx context.Context, cluster *rest.Config, o Options, log *slog.Logger) (led bool, err error) {
	s, err := Scheme()
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m, err := ctrl.NewManager(onOutage(cluster, func() { cancel(errBack) }), ManagerOptions(o, s))
	if err != nil {
		return false, err
	}
	if err := Setup(ctx, m, o); err != nil {
		return false, err
	}
	log.Info("operator starts", "namespace", o.Namespace, "image", o.Image)
	err = m.Start(ctx)
	select {
	case <-m.Elected():
		led = true
	default:
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	return led || errors.Is(err, errBack), err
}

// Setup adds all controllers to a manager. What they do is exported by controller-runtime's registry, until the next Setup.
func Setup(ctx context.Context, m ctrl.Manager, o Options) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if err := mynetwork.AddIndexes(ctx, m.GetFieldIndexer()); err != nil {
		return fmt.Errorf("indexes: %w", err)
	}
	if err := m.GetFieldIndexer().IndexField(ctx, &corev1.PersistentVolume{}, warrants.FieldHandle, warrants.HandleOf); err != nil {
		return fmt.Errorf("indexes: %w", err)
	}
	c, events := m.GetClient(), figures.NewEvents(m.GetEventRecorder("mynetwork-operator"))
	if err := export(figures.New(figures.Source{Reader: m.GetCache(), Leads: m.Elected(), Events: events})); err != nil {
		return err
	}
	lines := &agents.Agents{Client: c, Namespace: o.Namespace, Now: time.Now, Dial: o.Dial}
	for _, r := range []interface{ SetupWithManager(ctrl.Manager) error }{
		&mynetwork.Reconciler{Client: c, Events: events, Bodies: lines, Now: time.Now, Options: mynetwork.Options{Namespace: o.Namespace,
			Image: o.Image, HolderImage: o.HolderImage, AgentServiceAccount: o.AgentServiceAccount, HolderServiceAccount: o.HolderServiceAccount}},
		&storagenode.Reconciler{Client: c, Live: m.GetAPIReader(), Bodies: lines, Events: events, Now: time.Now, Options: storagenode.Options{Namespace: o.Namespace, GuardImage: o.GuardImage}},
		&takeover.Reconciler{Client: c, Live: m.GetAPIReader(), Events: events, Fencer: lines, Now: time.Now},
		&snapshotter.Reconciler{Client: c, Namespace: o.Namespace},
		&contentgroup.Reconciler{Client: c, Events: events, Modifier: lines, Now: time.Now},
		&contentgroup.Views{Client: c, Live: m.GetAPIReader()},
		&warrants.Records{Client: c, Live: m.GetAPIReader(), Namespace: o.Namespace, Now: time.Now},
		&warrants.Members{Client: c, Namespace: o.Namespace, Now: time.Now},
		&authority.Reconciler{Client: c, Events: events, Namespace: o.Namespace, Account: o.AgentServiceAccount, Now: time.Now},
	} {
		if err := r.SetupWithManager(m); err != nil {
			return fmt.Errorf("controller %T: %w", r, err)
		}
	}
	return nil
}
