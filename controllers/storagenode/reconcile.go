package storagenode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/apply"
	"mynetwork.io/mynetwork/controllers/failover"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/controllers/pace"
)

// Reconciler keeps the StorageNodes of networks; a request names a network. All fields are required.
type Reconciler struct {
	Client  client.Client
	Live    client.Reader // reads Leases of nodes from the API server itself
	Bodies  Bodies
	Events  events.EventRecorder
	Now     func() time.Time
	Options Options

	clocks  clocks
	layouts layouts
}

// Bodies fetches layouts; mynetwork.LayoutBodies is one.
type Bodies interface {
	// Fetch returns the encoding whose BLAKE3-256 is hash. The caller does not change it.
	Fetch(ctx context.Context, n *v1alpha1.MyNetwork, hash [32]byte) ([]byte, error)
}

// SetupWithManager starts the controller. The manager's cache has to have the index of mynetwork.AddIndexes.
func (r *Reconciler) SetupWithManager(m ctrl.Manager) error {
	network := func(o client.Object) string { return o.GetLabels()[v1alpha1.LabelNetwork] }
	return ctrl.NewControllerManagedBy(m).Named("storagenode").For(&v1alpha1.MyNetwork{}).
		Watches(&v1alpha1.StorageNode{}, pace.Mapped(func(o client.Object) string { return o.(*v1alpha1.StorageNode).Spec.Network }, urgent, mynetwork.FiguresOnly)).
		Watches(&corev1.Pod{}, pace.Mapped(network, nil, nil), builder.WithPredicates(predicate.NewPredicateFuncs(isGuard))).
		Watches(&policyv1.PodDisruptionBudget{}, pace.Mapped(network, nil, nil)).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.networksOf), builder.WithPredicates(mynetwork.NodeChanged())).
		Complete(r)
}

// isGuard tells of guard pods, of all that run in the namespace.
func isGuard(o client.Object) bool { return o.GetLabels()[v1alpha1.LabelComponent] == "guard" }

// urgent tells of changes of a StorageNode that can not wait: what people want of it, its end, and all that tells of deaths. That an agent comes
// can: a thousand of them do when a network starts.
func urgent(before, after client.Object) bool {
	b, ok1 := before.(*v1alpha1.StorageNode)
	a, ok2 := after.(*v1alpha1.StorageNode)
	if !ok1 || !ok2 || b.Generation != a.Generation || (b.DeletionTimestamp == nil) != (a.DeletionTimestamp == nil) || (b.Status.Fencing == nil) != (a.Status.Fencing == nil) {
		return true
	}
	was, is := b.Status.Agent, a.Status.Agent
	switch {
	case is == nil:
		return was != nil
	case was == nil:
		return len(is.Unreachable) > 0
	}
	return was.Ready && !is.Ready || !slices.Equal(was.Unreachable, is.Unreachable)
}

// networksOf lists the networks that a Kubernetes node belongs to.
func (r *Reconciler) networksOf(ctx context.Context, o client.Object) (out []reconcile.Request) {
	var list v1alpha1.StorageNodeList
	if err := r.Client.List(ctx, &list, client.MatchingFields{mynetwork.FieldNode: o.GetName()}); err != nil {
		return nil // the resync comes
	}
	for i := range list.Items {
		req := reconcile.Request{NamespacedName: client.ObjectKey{Name: list.Items[i].Spec.Network}}
		if list.Items[i].Spec.NodeName == o.GetName() && !slices.Contains(out, req) {
			out = append(out, req)
		}
	}
	return out
}

// suspicion is how often a suspected node is looked at, whose kubelet still lives.
const suspicion = time.Second

// perRound is how many StorageNodes a round writes: as many as the client may in two seconds, so that a death is not noticed behind a thousand
// of them. soon is when the rest follows; the cache has heard of what was written then.
const (
	perRound = 200
	soon     = 100 * time.Millisecond
	atOnce   = 8 // of them that are written at a time
)

// resync is how often nodes are looked at without a change, for what changes by time alone.
const resync = time.Minute

// Reconcile does one round for a network.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	s, err := r.gather(ctx, req.Name)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("nodes of network %s: %w", req.Name, err)
	}
	if len(s.StorageNodes) == 0 && len(s.Guards) == 0 {
		return ctrl.Result{}, nil
	}
	p := Compute(s)
	more, err := r.apply(ctx, s, p)
	switch {
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("nodes of network %s: %w", req.Name, err)
	case more:
		return ctrl.Result{RequeueAfter: soon}, nil
	case p.Waits:
		return ctrl.Result{RequeueAfter: suspicion}, nil
	}
	return ctrl.Result{RequeueAfter: resync}, nil
}

func (r *Reconciler) gather(ctx context.Context, name string) (*State, error) {
	s := &State{Options: r.Options, Now: r.Now(), Name: name, Nodes: map[string]*corev1.Node{}}
	n := &v1alpha1.MyNetwork{}
	switch err := r.Client.Get(ctx, client.ObjectKey{Name: name}, n); {
	case err == nil:
		s.Network = n
	case !apierrors.IsNotFound(err):
		return nil, err
	}
	var own v1alpha1.StorageNodeList
	if err := r.Client.List(ctx, &own, client.MatchingFields{mynetwork.FieldNetwork: name}); err != nil {
		return nil, err
	}
	s.StorageNodes = own.Items
	var err error
	if s.Kubelets, err = failover.Kubelets(ctx, r.Live, failover.Suspects(own.Items)); err != nil {
		return nil, err
	}
	for i := range own.Items {
		node := &corev1.Node{}
		switch err := r.Client.Get(ctx, client.ObjectKey{Name: own.Items[i].Spec.NodeName}, node); {
		case err == nil:
			s.Nodes[node.Name] = node
		case !apierrors.IsNotFound(err):
			return nil, err
		}
	}
	var records v1alpha1.VolumeRecordList
	if err := r.Client.List(ctx, &records, client.MatchingFields{mynetwork.FieldNetwork: name}); err != nil {
		return nil, err
	}
	s.volumes(records.Items)
	if slices.ContainsFunc(own.Items, leaves) {
		s.Layout = r.layouts.present(ctx, r.Bodies, s.Network)
	}
	var pods corev1.PodList
	if err := r.Client.List(ctx, &pods, client.InNamespace(r.Options.Namespace), client.MatchingLabels(labels(s))); err != nil {
		return nil, err
	}
	s.Guards = pods.Items
	s.Skews = r.clocks.look(ctx, r.Live, s.Now)
	return s, nil
}

// leaves tells of a node that is to leave, or to give all of its data away.
func leaves(n v1alpha1.StorageNode) bool {
	return n.DeletionTimestamp != nil || n.Spec.Scheduling == v1alpha1.SchedulingDrained
}

// volumes sums up what records say.
func (s *State) volumes(records []v1alpha1.VolumeRecord) {
	s.Fenced, s.Called, s.Attached = map[string][]string{}, map[string]string{}, map[string][]string{}
	named := slices.ContainsFunc(s.StorageNodes, func(n v1alpha1.StorageNode) bool {
		return leaves(n) || n.Status.Agent != nil && len(n.Status.Agent.LastVolumes) > 0
	})
	for i := range records {
		rec := &records[i]
		if n := rec.Status.FencedNode; n != "" && failover.Fenced(rec, n) {
			s.Fenced[n] = append(s.Fenced[n], rec.Name)
		}
		if !mynetwork.Live(rec) {
			continue
		}
		s.Records++
		s.Copies = max(s.Copies, int(rec.Spec.Copies))
		if n := rec.State.Copies; n > 0 && n < rec.Spec.Copies {
			s.Short = append(s.Short, called(rec))
		}
		if named {
			s.Called[rec.Spec.VolumeID] = called(rec)
			if h := rec.State.Holder; h != "" && rec.State.HolderEpoch == rec.Fact.Epoch {
				s.Attached[h] = append(s.Attached[h], called(rec))
			}
		}
	}
	slices.Sort(s.Short)
	for _, names := range s.Attached {
		slices.Sort(names)
	}
}

// called is what people know a volume by.
func called(r *v1alpha1.VolumeRecord) string {
	if c := r.Spec.Claim; c != nil && c.Name != "" {
		return c.Namespace + "/" + c.Name
	}
	return r.Spec.Name
}

// apply does what a plan says. An error of one part does not hold up the others. It tells whether more is left than one round does.
func (r *Reconciler) apply(ctx context.Context, s *State, p *Plan) (more bool, err error) {
	var errs []error
	for _, name := range p.Taint {
		errs = append(errs, r.taint(ctx, s, name, true))
	}
	for _, name := range p.Untaint {
		other, err := r.missed(ctx, s.Name, name)
		if err == nil && other == "" {
			err = r.taint(ctx, s, name, false)
		}
		errs = append(errs, err)
	}
	if p.Budget != nil { // before guards go: a budget that is too narrow only delays
		a := apply.Applier{Client: r.Client, Network: s.Name, UID: s.Network.UID}
		_, err := a.Apply(ctx, p.Budget)
		errs = append(errs, err)
	}
	left := perRound
	for _, g := range p.Guards {
		if left--; left < 0 {
			break
		}
		if err := r.Client.Create(ctx, g); !apierrors.IsAlreadyExists(err) {
			errs = append(errs, err)
		}
	}
	for _, g := range p.DropGuards {
		errs = append(errs, client.IgnoreNotFound(r.Client.Delete(ctx, g)))
	}
	more, err = r.nodes(ctx, s, p)
	return more || left < 0, errors.Join(append(errs, err)...)
}

// nodes writes the StorageNodes that a plan changes, those that fail or are back first.
func (r *Reconciler) nodes(ctx context.Context, s *State, p *Plan) (more bool, err error) {
	finalizers := set(slices.Concat(p.AddFinalizer, p.RemoveFinalizer))
	var first, then []*v1alpha1.StorageNode
	for i := range s.StorageNodes {
		switch n := &s.StorageNodes[i]; {
		case !finalizers[n.Name] && equality.Semantic.DeepEqual(n.Status, p.Statuses[n.Name]):
		case (n.Status.Fencing == nil) != (p.Statuses[n.Name].Fencing == nil):
			first = append(first, n)
		default:
			then = append(then, n)
		}
	}
	changed := append(first, then...)
	round := changed[:min(len(changed), perRound)]
	errs, slots := make([]error, len(round)), make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, n := range round {
		slots <- struct{}{}
		all.Go(func() {
			errs[i] = r.node(ctx, n, p, finalizers[n.Name])
			<-slots
		})
	}
	all.Wait()
	return len(round) < len(changed), errors.Join(errs...)
}

// missed names another network that suspects a node: the taint is common to all of them.
func (r *Reconciler) missed(ctx context.Context, network, node string) (string, error) {
	var all v1alpha1.StorageNodeList
	if err := r.Client.List(ctx, &all); err != nil {
		return "", err
	}
	by := map[string][]v1alpha1.StorageNode{}
	for _, n := range all.Items {
		if n.Spec.Network != network {
			by[n.Spec.Network] = append(by[n.Spec.Network], n)
		}
	}
	for other, nodes := range by {
		if slices.Contains(failover.Suspects(nodes), node) {
			return other, nil
		}
	}
	return "", nil
}

// taint sets or takes back our taint, and no other.
func (r *Reconciler) taint(ctx context.Context, s *State, name string, set bool) error {
	n := s.Nodes[name]
	before := n.DeepCopy()
	n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintUnreachable })
	reason := v1alpha1.EventNodeUntainted
	if set {
		reason = v1alpha1.EventNodeTainted
		n.Spec.Taints = append(n.Spec.Taints, failover.Taint())
	}
	if err := r.Client.Patch(ctx, n, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("taint of node %s: %w", name, err)
	}
	r.Events.Eventf(n, nil, corev1.EventTypeWarning, reason, "Taint", "%s of network %s", v1alpha1.TaintUnreachable, s.Name)
	return nil
}

// node writes the finalizer and the status of one StorageNode, if they changed.
func (r *Reconciler) node(ctx context.Context, n *v1alpha1.StorageNode, p *Plan, finalizer bool) error {
	want := p.Statuses[n.Name]
	if finalizer {
		before := n.DeepCopy()
		if n.DeletionTimestamp == nil {
			controllerutil.AddFinalizer(n, v1alpha1.Finalizer)
		} else {
			controllerutil.RemoveFinalizer(n, v1alpha1.Finalizer)
		}
		err := r.Client.Patch(ctx, n, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
		if err != nil || n.DeletionTimestamp != nil {
			return client.IgnoreNotFound(err)
		}
	}
	if equality.Semantic.DeepEqual(n.Status, want) {
		return nil
	}
	// Without a lock: the agent writes its own part of the status at any time, and the patch has only ours.
	before := n.DeepCopy()
	want.Agent = n.Status.Agent
	n.Status = want
	if err := r.Client.Status().Patch(ctx, n, client.MergeFrom(before)); err != nil {
		return client.IgnoreNotFound(err)
	}
	n.Status.Conditions = want.Conditions
	r.tell(n, before.Status.Conditions)
	return nil
}
