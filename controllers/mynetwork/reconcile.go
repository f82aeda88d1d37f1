package mynetwork

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/apply"
	"mynetwork.io/mynetwork/controllers/authority"
	"mynetwork.io/mynetwork/controllers/pace"
	"mynetwork.io/mynetwork/controllers/snapshotter"
	"mynetwork.io/mynetwork/controllers/status"
)

// FieldNetwork is the index of StorageNodes and VolumeRecords by network. The API server serves it as a field selector too.
const FieldNetwork = "spec.network"

// foreignPeriod is how often a network that waits for somebody else's object to go looks again.
const foreignPeriod = time.Minute

// Reconciler makes networks what their specs say. Client, Events, Now and Options.Namespace are required; without Bodies no layout
// is published.
type Reconciler struct {
	Client  client.Client
	Events  events.EventRecorder
	Bodies  LayoutBodies
	Now     func() time.Time
	Options Options
}

// SetupWithManager starts the controller. The manager's cache has to have the index of AddIndexes.
func (r *Reconciler) SetupWithManager(m ctrl.Manager) error {
	all := handler.EnqueueRequestsFromMapFunc(r.all)
	named := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: o.GetLabels()[v1alpha1.LabelNetwork]}}}
	})
	return ctrl.NewControllerManagedBy(m).Named("mynetwork").For(&v1alpha1.MyNetwork{}).
		Watches(&corev1.Node{}, all, builder.WithPredicates(NodeChanged())).
		Watches(&v1alpha1.StorageNode{}, pace.Mapped(networkOf, urgent, FiguresOnly)).
		Watches(&v1alpha1.VolumeRecord{}, pace.Mapped(networkOf, nil, nil)).
		Watches(&appsv1.DaemonSet{}, named).
		Watches(&corev1.ConfigMap{}, named).
		Watches(&corev1.Service{}, named).
		Watches(&corev1.Secret{}, named).
		Watches(&storagev1.StorageClass{}, named).
		WatchesMetadata(snapshotter.Metadata(), all, builder.WithPredicates(snapshotter.IsSnapshotAPI())).
		Complete(r)
}

// NodeChanged lets those changes of Kubernetes nodes through that say something about a network: labels and taints. What a kubelet
// reports every few minutes says nothing, and would cost a round of every network each time.
func NodeChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		old, ok1 := e.ObjectOld.(*corev1.Node)
		now, ok2 := e.ObjectNew.(*corev1.Node)
		return !ok1 || !ok2 || old.UID != now.UID || !maps.Equal(old.Labels, now.Labels) || !equality.Semantic.DeepEqual(old.Spec.Taints, now.Spec.Taints)
	}}
}

// urgent tells of changes of a StorageNode that a network acts on: its spec, its end, its death.
func urgent(before, after client.Object) bool {
	b, ok1 := before.(*v1alpha1.StorageNode)
	a, ok2 := after.(*v1alpha1.StorageNode)
	return !ok1 || !ok2 || b.Generation != a.Generation || (b.DeletionTimestamp == nil) != (a.DeletionTimestamp == nil) || (b.Status.Fencing == nil) != (a.Status.Fencing == nil)
}

// FiguresOnly tells of changes of a StorageNode that are but of figures: those of its agent's report, and the summary that the operator makes of them.
func FiguresOnly(before, after client.Object) bool {
	b, ok1 := before.(*v1alpha1.StorageNode)
	a, ok2 := after.(*v1alpha1.StorageNode)
	if !ok1 || !ok2 || b.UID != a.UID || b.Generation != a.Generation || !b.DeletionTimestamp.Equal(a.DeletionTimestamp) ||
		!maps.Equal(b.Labels, a.Labels) || !maps.Equal(b.Annotations, a.Annotations) || !slices.Equal(b.Finalizers, a.Finalizers) {
		return false
	}
	was, is := b.Status.DeepCopy(), a.Status.DeepCopy()
	was.Agent, is.Agent = was.Agent.Facts(), is.Agent.Facts()
	was.Summary, is.Summary = "", ""
	return equality.Semantic.DeepEqual(was, is)
}

// FieldNode is the index of StorageNodes by the Kubernetes node that they stand for. The API server serves it as a field selector too.
const FieldNode = "spec.nodeName"

// FieldClaim is the index of VolumeRecords by the claim that they were made for, and of ContentGroups by the one that they show, as ClaimKey
// says it.
const FieldClaim = "spec.claim"

// ClaimKey is a value of FieldClaim.
func ClaimKey(namespace, name string) string { return namespace + "/" + name }

// NodeOf and ClaimOf are the values of FieldNode and FieldClaim.
func NodeOf(o client.Object) []string { return []string{o.(*v1alpha1.StorageNode).Spec.NodeName} }

// ClaimOf: see NodeOf.
func ClaimOf(o client.Object) []string {
	if c := o.(*v1alpha1.VolumeRecord).Spec.Claim; c != nil {
		return []string{ClaimKey(c.Namespace, c.Name)}
	}
	return nil
}

// GroupClaimOf: see ClaimOf.
func GroupClaimOf(o client.Object) []string {
	if g := o.(*v1alpha1.ContentGroup); g.Spec.Claim != "" {
		return []string{ClaimKey(g.Namespace, g.Spec.Claim)}
	}
	return nil
}

// AddIndexes makes the indexes that the reconcilers list by.
func AddIndexes(ctx context.Context, i client.FieldIndexer) error {
	if err := errors.Join(i.IndexField(ctx, &v1alpha1.StorageNode{}, FieldNode, NodeOf), i.IndexField(ctx, &v1alpha1.VolumeRecord{}, FieldClaim, ClaimOf)); err != nil {
		return err
	}
	if err := i.IndexField(ctx, &v1alpha1.ContentGroup{}, FieldClaim, GroupClaimOf); err != nil {
		return err
	}
	for _, o := range []client.Object{&v1alpha1.StorageNode{}, &v1alpha1.VolumeRecord{}} {
		if err := i.IndexField(ctx, o, FieldNetwork, func(o client.Object) []string { return []string{networkOf(o)} }); err != nil {
			return err
		}
	}
	return nil
}

func networkOf(o client.Object) string {
	switch o := o.(type) {
	case *v1alpha1.StorageNode:
		return o.Spec.Network
	case *v1alpha1.VolumeRecord:
		return o.Spec.Network
	}
	return ""
}

func (r *Reconciler) all(ctx context.Context, _ client.Object) (out []reconcile.Request) {
	var list v1alpha1.MyNetworkList
	if err := r.Client.List(ctx, &list); err != nil {
		return nil // the resync comes
	}
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return out
}

// Reconcile does one round. It returns the API's errors, for a retry; the status then has what was done before.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	n := &v1alpha1.MyNetwork{}
	if err := r.Client.Get(ctx, req.NamespacedName, n); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	s, err := r.gather(ctx, n)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("network %s: %w", n.Name, err)
	}
	p, err := Compute(s)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("network %s: %w", n.Name, err)
	}
	if p.AddFinalizer {
		if err := r.finalizer(ctx, n, controllerutil.AddFinalizer); err != nil {
			return ctrl.Result{}, err
		}
	}
	applied := r.apply(ctx, s, p)
	done, deleted := r.delete(ctx, n, p)
	if p.RemoveFinalizer && done && applied == nil && deleted == nil {
		return ctrl.Result{}, r.finalizer(ctx, n, controllerutil.RemoveFinalizer)
	}
	if err := r.report(ctx, s, p, errors.Join(applied, deleted)); err != nil {
		return ctrl.Result{}, err
	}
	if p.RemoveFinalizer && !done {
		p.RequeueAfter = time.Second
	}
	return ctrl.Result{RequeueAfter: p.RequeueAfter}, nil
}

// finalizer changes the finalizers by their own patch, which fails if the object changed.
func (r *Reconciler) finalizer(ctx context.Context, n *v1alpha1.MyNetwork, change func(client.Object, string) bool) error {
	before := n.DeepCopy()
	if !change(n, v1alpha1.Finalizer) {
		return nil
	}
	err := r.Client.Patch(ctx, n, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("finalizer of network %s: %w", n.Name, err)
	}
	return nil
}

func (r *Reconciler) applier(n *v1alpha1.MyNetwork) apply.Applier {
	return apply.Applier{Client: r.Client, Network: n.Name, UID: n.UID}
}

// apply makes the authority, the objects, and the layout's body, in this order, and stops at the first error.
func (r *Reconciler) apply(ctx context.Context, s *State, p *Plan) error {
	if p.MakeAuthority {
		data, err := authority.New(string(s.Network.UID), s.Now)
		if err != nil {
			return err
		}
		// Create, never apply: of two operators only one can make it.
		if err := r.Client.Create(ctx, authoritySecret(s, data)); err != nil {
			return fmt.Errorf("make authority: %w", err)
		}
	}
	a := r.applier(s.Network)
	made := 0
	defer func() {
		if made > 0 { // one event for all: a network's start would bring one of each node
			r.Events.Eventf(s.Network, nil, corev1.EventTypeNormal, v1alpha1.EventApplied, "Apply", "StorageNodes of %d nodes", made)
		}
	}()
	for _, o := range p.Apply {
		changed, err := a.Apply(ctx, o)
		if apierrors.IsInvalid(err) {
			changed, err = r.replace(ctx, a, o, err)
		}
		if err != nil {
			return err
		}
		if _, node := o.(*v1alpha1.StorageNode); node && changed {
			made++
		} else if changed {
			r.Events.Eventf(s.Network, nil, corev1.EventTypeNormal, v1alpha1.EventApplied, "Apply", "%T %s", o, client.ObjectKeyFromObject(o))
		}
	}
	if p.Layout == nil {
		return nil
	}
	if r.Bodies == nil {
		return ErrNoBody
	}
	if err := r.Bodies.Store(ctx, s.Network, p.Layout); err != nil {
		return fmt.Errorf("store layout %d: %w", p.Layout.Version(), err)
	}
	return nil
}

// replace makes a StorageClass anew whose fixed fields changed. Volumes do not depend on the object that they were made by.
func (r *Reconciler) replace(ctx context.Context, a apply.Applier, o client.Object, invalid error) (bool, error) {
	if _, ok := o.(*storagev1.StorageClass); !ok {
		return false, invalid
	}
	if _, err := a.Delete(ctx, o); err != nil {
		return false, err
	}
	return a.Apply(ctx, o)
}

// delete removes what the plan says, one after the other. It tells whether all is gone.
func (r *Reconciler) delete(ctx context.Context, n *v1alpha1.MyNetwork, p *Plan) (done bool, err error) {
	a := r.applier(n)
	for _, o := range p.Delete {
		gone, err := a.Delete(ctx, o)
		if err != nil || !gone {
			return false, err
		}
	}
	return true, nil
}

// report writes the status in one patch, if it changed, and tells events. An error that stopped the plan becomes the outcome.
func (r *Reconciler) report(ctx context.Context, s *State, p *Plan, failed error) error {
	n := s.Network
	if failed != nil {
		p.Status.Layout, p.Status.ObservedGeneration = n.Status.Layout, n.Status.ObservedGeneration
		o := status.OutcomeProgressing(v1alpha1.EventFailed, "%v; it is tried again", failed)
		if errors.Is(failed, apply.ErrForeign) {
			o = status.OutcomeStalled(v1alpha1.ReasonForeignObject, "%v", failed)
		}
		status.Replace(&p.Status.Conditions, n.Status.Conditions, n.Generation, o, s.Now)
		p.Status.ObservedGeneration = status.Observed(n.Status.ObservedGeneration, n.Generation, o)
		p.Status.Activity = activity(p.Status.Conditions, o, p.Status.Rebalance)
		p.Events = []Event{{Warning: true, Reason: o.Reason, Note: o.Message}}
	}
	if !equality.Semantic.DeepEqual(n.Status, p.Status) {
		before := n.DeepCopy()
		n.Status = p.Status
		err := r.Client.Status().Patch(ctx, n, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
		if client.IgnoreNotFound(err) != nil {
			return errors.Join(failed, fmt.Errorf("status of network %s: %w", n.Name, err))
		}
		for _, e := range p.Events {
			kind := corev1.EventTypeNormal
			if e.Warning {
				kind = corev1.EventTypeWarning
			}
			r.Events.Eventf(n, nil, kind, e.Reason, "Reconcile", "%s", e.Note)
		}
	}
	if errors.Is(failed, apply.ErrForeign) {
		p.RequeueAfter = foreignPeriod // nobody tells when a foreign object goes
		return nil
	}
	return failed
}
