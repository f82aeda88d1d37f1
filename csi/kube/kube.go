// Package kube is what the driver reads of Kubernetes: which networks there are, whether a node belongs to them and where their
// agents run. What it tells people are events.
//
// Everything comes from a cache that watches; without the API it says what was last known, and before it has heard anything it
// says so (ErrNotYet). No call to it waits for the API, but Node.
//
// # Concurrency
//
// A Source is safe for concurrent use.
package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/csi/remote"
	"mynetwork.io/mynetwork/csi/request"
)

// ErrNotYet tells that nothing was heard of the API since the process began.
var ErrNotYet = errors.New("the API has not answered yet")

// Options are what a Source reads.
type Options struct {
	Namespace string // where agents run
	Slices    bool   // also the addresses of agents
}

// Source is what is known of the cluster. Make one with New.
type Source struct {
	opt     Options
	cache   cache.Cache
	known   client.Reader // the cache
	direct  client.Reader // the API
	synced  atomic.Bool
	changed chan struct{}
}

var _ remote.Places = (*Source)(nil)

// Scheme has the kinds that are read.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	return s, errors.Join(v1alpha1.AddToScheme(s), corev1.AddToScheme(s), discoveryv1.AddToScheme(s))
}

// New makes a Source. Run must follow.
func New(c *rest.Config, o Options) (*Source, error) {
	s, err := Scheme()
	if err != nil {
		return nil, fmt.Errorf("kinds of the API: %w", err)
	}
	by := map[client.Object]cache.ByObject{&v1alpha1.MyNetwork{}: {}}
	if o.Slices {
		of, err := labels.Parse(v1alpha1.LabelNetwork)
		if err != nil {
			return nil, fmt.Errorf("label of agents' addresses: %w", err)
		}
		by[&discoveryv1.EndpointSlice{}] = cache.ByObject{Namespaces: map[string]cache.Config{o.Namespace: {LabelSelector: of}}}
	}
	out := &Source{opt: o, changed: make(chan struct{}, 1)}
	if out.cache, err = cache.New(c, cache.Options{Scheme: s, ByObject: by}); err != nil {
		return nil, fmt.Errorf("cache of the API: %w", err)
	}
	out.known = out.cache
	if out.direct, err = client.New(c, client.Options{Scheme: s}); err != nil {
		return nil, fmt.Errorf("client of the API: %w", err)
	}
	return out, nil
}

// Run watches until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	kinds := []client.Object{&v1alpha1.MyNetwork{}}
	if s.opt.Slices {
		kinds = append(kinds, &discoveryv1.EndpointSlice{})
	}
	for _, k := range kinds {
		i, err := s.cache.GetInformer(ctx, k, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watch %T: %w", k, err)
		}
		note := func(any) { s.note() }
		if _, err := i.AddEventHandler(toolscache.ResourceEventHandlerFuncs{AddFunc: note, DeleteFunc: note,
			UpdateFunc: func(_, _ any) { s.note() }}); err != nil {
			return fmt.Errorf("watch %T: %w", k, err)
		}
	}
	go func() {
		if s.cache.WaitForCacheSync(ctx) {
			s.synced.Store(true)
			s.note()
		}
	}()
	return s.cache.Start(ctx)
}

func (s *Source) note() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Changed has a value when something may have changed since the last one was taken.
func (s *Source) Changed() <-chan struct{} { return s.changed }

// Networks lists the networks, by name. ErrNotYet.
func (s *Source) Networks(ctx context.Context) ([]v1alpha1.MyNetwork, error) {
	if !s.synced.Load() {
		return nil, fmt.Errorf("list networks: %w", ErrNotYet)
	}
	var list v1alpha1.MyNetworkList
	if err := s.known.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.MyNetwork) int { return compare(a.Name, b.Name) })
	return list.Items, nil
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Name implements remote.Places.
func (s *Source) Name(ctx context.Context, uid string) (string, bool, error) {
	list, err := s.Networks(ctx)
	if errors.Is(err, ErrNotYet) {
		return "", false, fmt.Errorf("%w: %w", err, request.ErrNetwork)
	}
	for _, n := range list {
		if n.UID == types.UID(uid) {
			return n.Name, true, err
		}
	}
	return "", false, err
}

// Addresses implements remote.Places. Of two agents of a node, one ends: the other one counts.
func (s *Source) Addresses(ctx context.Context, name string) (map[string]string, error) {
	var list discoveryv1.EndpointSliceList
	err := s.known.List(ctx, &list, client.InNamespace(s.opt.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: name + "-agent"})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	out, ends := map[string]string{}, map[string]bool{}
	for _, l := range list.Items {
		port := strconv.Itoa(v1alpha1.PortControl)
		for _, p := range l.Ports {
			if p.Name != nil && *p.Name == "control" && p.Port != nil {
				port = strconv.Itoa(int(*p.Port))
			}
		}
		for _, e := range l.Endpoints {
			if e.NodeName == nil || len(e.Addresses) == 0 {
				continue
			}
			ending := e.Conditions.Terminating != nil && *e.Conditions.Terminating
			if _, have := out[*e.NodeName]; !have || ends[*e.NodeName] && !ending {
				out[*e.NodeName], ends[*e.NodeName] = net.JoinHostPort(e.Addresses[0], port), ending
			}
		}
	}
	return out, nil
}

// Chosen tells whether a node belongs to a network by its labels. It asks the API.
func (s *Source) Chosen(ctx context.Context, n *v1alpha1.MyNetwork, node string) (bool, error) {
	if n.Spec.Nodes.Selector == nil {
		return true, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(n.Spec.Nodes.Selector)
	if err != nil {
		return false, fmt.Errorf("selector of network %s: %w", n.Name, err)
	}
	var have metav1.PartialObjectMetadata
	have.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
	if err := s.direct.Get(ctx, types.NamespacedName{Name: node}, &have); err != nil {
		return false, fmt.Errorf("labels of node %s: %w", node, err)
	}
	return selector.Matches(labels.Set(have.Labels)), nil
}
