package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/hack/apiserver"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// Options say which network a fleet belongs to.
type Options struct {
	Network string
	// Port of the agents' control servers; 0: v1alpha1.PortControl.
	Port int32
	// Workers is how many agents may speak at a time. 0: 8.
	Workers int
	// Failed hears of errors that are tried again. nil: nobody.
	Failed func(error)
	// Enrols has each agent ask for its certificate before it reports, as a real one does at its first start.
	Enrols bool
	// Cache to watch with, which Run starts. nil: one of its own.
	Cache cache.Cache
}

// Fleet is the nodes of one network.
type Fleet struct {
	o       Options
	s       *apiserver.Server
	queue   workqueue.TypedRateLimitingInterface[string]
	serving *server

	mu     sync.Mutex
	nodes  map[string]*node
	places map[string]*node // by address
	asked  map[string]*node // by name of the request for a certificate
	layout int64            // version of the network's present layout
	uid    string
}

// node is one node with its agent. Guarded by the Fleet's mutex.
type node struct {
	name, address string
	down          bool // no agent answers or reports
	client        client.Client
	object        string // name of the StorageNode; empty: none yet
	granted       string
	drained       bool
	pods          map[string]bool // DaemonSets that have a pod here
	asked         string          // name of its request for a certificate
	certified     bool
	status        v1alpha1.AgentStatus
	sent          *v1alpha1.AgentStatus
	bodies        map[[32]byte][]byte
	fences        []string // ids of volumes that this agent fenced
}

// New makes a fleet without nodes.
func New(s *apiserver.Server, o Options) *Fleet {
	if o.Port == 0 {
		o.Port = v1alpha1.PortControl
	}
	if o.Workers == 0 {
		o.Workers = 8
	}
	f := &Fleet{o: o, s: s, nodes: map[string]*node{}, places: map[string]*node{}, asked: map[string]*node{}}
	f.queue = workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](20*time.Millisecond, 5*time.Second))
	f.serving = newServer(f)
	return f
}

// NewCache makes a cache for Options.Cache.
func NewCache(s *apiserver.Server) (cache.Cache, error) {
	return cache.New(s.Config, cache.Options{Scheme: s.Scheme, Mapper: s.Admin.RESTMapper()})
}

// Run plays until ctx ends.
func (f *Fleet) Run(ctx context.Context) error {
	c, err := f.o.Cache, error(nil)
	if c == nil {
		c, err = NewCache(f.s)
	}
	if err != nil {
		return err
	}
	heard := func(o any) { f.heard(ctx, o) }
	of := []client.Object{&v1alpha1.MyNetwork{}, &v1alpha1.StorageNode{}, &appsv1.DaemonSet{}, &corev1.Pod{}}
	if f.o.Enrols {
		of = append(of, &certv1.CertificateSigningRequest{})
	}
	for _, o := range of {
		i, err := c.GetInformer(ctx, o)
		if err != nil {
			return err
		}
		if _, err := i.AddEventHandler(toolscache.ResourceEventHandlerFuncs{AddFunc: heard, UpdateFunc: func(_, o any) { heard(o) }, DeleteFunc: f.gone}); err != nil {
			return err
		}
	}
	var all sync.WaitGroup
	all.Go(func() { <-ctx.Done(); f.queue.ShutDown(); f.serving.stop() })
	for range f.o.Workers {
		all.Go(func() { f.work(ctx) })
	}
	err = c.Start(ctx)
	all.Wait()
	return err
}

// Kinds of work in the queue; an agent's is its node's name behind agentWork.
const (
	agentWork  = "agent "
	guardWork  = "guard "
	daemonWork = "daemon "
)

func (f *Fleet) work(ctx context.Context) {
	for {
		item, over := f.queue.Get()
		if over {
			return
		}
		err := f.do(ctx, item)
		switch {
		case err == nil || ctx.Err() != nil:
			f.queue.Forget(item)
		default:
			if f.o.Failed != nil {
				f.o.Failed(fmt.Errorf("%s: %w", item, err))
			}
			f.queue.AddRateLimited(item)
		}
		f.queue.Done(item)
	}
}

func (f *Fleet) do(ctx context.Context, item string) error {
	if name, ok := cut(item, agentWork); ok {
		return f.report(ctx, name)
	}
	if name, ok := cut(item, guardWork); ok {
		return f.guard(ctx, name)
	}
	name, _ := cut(item, daemonWork)
	return f.daemons(ctx, name)
}

func cut(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || s[:len(prefix)] != prefix {
		return "", false
	}
	return s[len(prefix):], true
}

// heard takes what the API server says.
func (f *Fleet) heard(_ context.Context, o any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch o := o.(type) {
	case *v1alpha1.MyNetwork:
		if o.Name != f.o.Network {
			return
		}
		f.uid = string(o.UID)
		if l := o.Status.Layout; l != nil && l.Version != f.layout {
			f.layout = l.Version
			for name := range f.nodes {
				f.queue.Add(agentWork + name)
			}
		}
	case *v1alpha1.StorageNode:
		n := f.nodes[o.Spec.NodeName]
		if o.Spec.Network != f.o.Network || n == nil {
			return
		}
		n.object, n.granted, n.drained = o.Name, o.Status.FormatGrant, o.Spec.Scheduling == v1alpha1.SchedulingDrained
		if o.Status.Agent == nil {
			n.sent = nil
		}
		f.queue.Add(agentWork + n.name)
	case *appsv1.DaemonSet:
		if o.Labels[v1alpha1.LabelNetwork] == f.o.Network {
			f.queue.Add(daemonWork + o.Name)
		}
	case *corev1.Pod:
		if o.Labels[v1alpha1.LabelNetwork] == f.o.Network && o.Labels[v1alpha1.LabelComponent] == "guard" && !ready(o) {
			f.queue.Add(guardWork + o.Name)
		}
	case *certv1.CertificateSigningRequest:
		if n := f.asked[o.Name]; n != nil && len(o.Status.Certificate) > 0 {
			n.certified = true
			delete(f.asked, o.Name)
			f.queue.Add(agentWork + n.name)
		}
	}
}

func (f *Fleet) gone(o any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch o := o.(type) {
	case *v1alpha1.StorageNode:
		if n := f.nodes[o.Spec.NodeName]; o.Spec.Network == f.o.Network && n != nil {
			n.object, n.sent, n.granted = "", nil, ""
		}
	case *corev1.Pod:
		if n := f.nodes[o.Spec.NodeName]; n != nil && o.Labels[v1alpha1.LabelNetwork] == f.o.Network {
			delete(n.pods, strings.TrimSuffix(o.Name, "-"+n.name))
		}
	case *v1alpha1.MyNetwork:
		if o.Name == f.o.Network {
			f.layout, f.uid = 0, ""
			for _, n := range f.nodes {
				n.bodies = map[[32]byte][]byte{}
			}
		}
	}
}

func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue })
}

// Label marks the nodes of a network's fleet; its value is the network.
const Label = "fleet.mynetwork.io/network"

// capacity of a node's one store, in bytes.
const capacity = 1 << 40

// Add adds nodes with an empty disk each. Zones are z0, z1 and z2 by turns.
func (f *Fleet) Add(ctx context.Context, names ...string) error {
	var errs []error
	for _, name := range names {
		c, err := f.s.Agent(name)
		if err != nil {
			return err
		}
		f.mu.Lock()
		i := len(f.nodes)
		n := &node{name: name, address: fmt.Sprintf("10.%d.%d.%d", 80+i/62500, i/250%250, i%250+1), client: c, bodies: map[[32]byte][]byte{}, pods: map[string]bool{},
			status: v1alpha1.AgentStatus{Ready: true, Version: "fleet", Stores: []v1alpha1.StoreStatus{{ID: fmt.Sprintf("%031x1", i+1), Path: "/var/lib/mynetwork/store", State: v1alpha1.StoreNew}}}}
		f.nodes[name], f.places[n.address] = n, n
		f.mu.Unlock()
		err = f.s.Admin.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name,
			Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelTopologyZone: fmt.Sprintf("z%d", i%3), Label: f.o.Network}}})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			errs = append(errs, err)
		}
	}
	f.queue.Add(daemonWork + f.o.Network + "-agent")
	f.queue.Add(daemonWork + f.o.Network + "-holder")
	return errors.Join(errs...)
}

// change changes a node and has its agent report.
func (f *Fleet) change(name string, how func(n *node)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.nodes[name]; n != nil {
		how(n)
		f.queue.Add(agentWork + name)
	}
}

// Kill lets a node's agent report and answer no more; all others report that they can not reach it.
func (f *Fleet) Kill(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes[name].down = true
	f.unreachable()
}

// Revive undoes Kill.
func (f *Fleet) Revive(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes[name].down = false
	f.unreachable()
	f.queue.Add(agentWork + name)
}

// maxWatched is how many nodes each one watches: those that follow it by name, as package failover counts.
const maxWatched = 64

func (f *Fleet) unreachable() {
	var names []string
	for name := range f.nodes {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		var out []string
		for k := 1; k <= min(maxWatched, len(names)-1); k++ {
			if other := names[(i+k)%len(names)]; f.nodes[other].down {
				out = append(out, other)
			}
		}
		n := f.nodes[name]
		if !slices.Equal(n.status.Unreachable, out) {
			n.status.Unreachable = out
			f.queue.Add(agentWork + name)
		}
	}
}

// Use says how many bytes of a node are used, and how many copies lie there.
func (f *Fleet) Use(name string, bytes, copies int64) {
	f.change(name, func(n *node) {
		n.status.Stores[0].Used, n.status.Copies = resource.NewQuantity(bytes, resource.BinarySI), copies
	})
}

// Store says how a node's store is.
func (f *Fleet) Store(name string, state v1alpha1.StoreState, message string) {
	f.change(name, func(n *node) { n.status.Stores[0].State, n.status.Stores[0].Message = state, message })
}

// Last says of how many copies a node has the last.
func (f *Fleet) Last(name string, copies int64) {
	f.change(name, func(n *node) { n.status.LastCopies = copies })
}

// Fences lists the volumes that a node's agent fenced.
func (f *Fleet) Fences(name string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.nodes[name].fences)
}

// Have counts the nodes that have a body.
func (f *Fleet) Have(hash [32]byte) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, node := range f.nodes {
		if node.bodies[hash] != nil {
			n++
		}
	}
	return n
}

// Layout is the one of this hash, nil if no node has it.
func (f *Fleet) Layout(hash [32]byte) *placement.Layout {
	f.mu.Lock()
	var body []byte
	for _, n := range f.nodes {
		if body = n.bodies[hash]; body != nil {
			break
		}
	}
	f.mu.Unlock()
	if body == nil {
		return nil
	}
	l, err := placement.Decode(body)
	if err != nil {
		return nil
	}
	return l
}
