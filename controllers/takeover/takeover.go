package takeover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/failover"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/controllers/pace"
)

// Fencer takes volumes from nodes.
type Fencer interface {
	// Fence takes the next epoch of a volume from a node, by an agent that is on none of the dead. It gives the epoch that a majority
	// of replicas promised, or an error if the node may still write.
	Fence(ctx context.Context, n *v1alpha1.MyNetwork, volumeID, node string, epoch int64, dead []string) (int64, error)
}

// Times between rounds while a node is dead.
const (
	again  = 2 * time.Second  // something failed
	watch  = 10 * time.Second // pods that were bound before the taint may show late
	atOnce = 8                // volumes that are fenced at a time
)

// Reconciler takes over what dead nodes have. A request names a network. All exported fields are required.
type Reconciler struct {
	Client client.Client
	Live   client.Reader // reads pods and claims from the API server itself
	Events events.EventRecorder
	Fencer Fencer
	Now    func() time.Time

	mu   sync.Mutex
	told map[string]map[types.UID]string // by network: pods that were kept, with the reason that was told
}

// SetupWithManager starts the controller. The manager's cache has to have the index mynetwork.FieldNetwork.
func (r *Reconciler) SetupWithManager(m ctrl.Manager) error {
	network := func(o client.Object) string { return o.(*v1alpha1.StorageNode).Spec.Network }
	return ctrl.NewControllerManagedBy(m).Named("takeover").For(&v1alpha1.MyNetwork{}).
		Watches(&v1alpha1.StorageNode{}, pace.Mapped(network, urgent, nil), builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return deaths(e.ObjectOld, e.ObjectNew) }})).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.networks), builder.WithPredicates(mynetwork.NodeChanged())).
		Complete(r)
}

// urgent tells of changes of a StorageNode that say that somebody died, or lives.
func urgent(before, after client.Object) bool {
	b, a := before.(*v1alpha1.StorageNode), after.(*v1alpha1.StorageNode)
	was, is := b.Status.Agent, a.Status.Agent
	return (b.Status.Fencing == nil) != (a.Status.Fencing == nil) || was != nil && is != nil && !slices.Equal(was.Unreachable, is.Unreachable)
}

// deaths tells of all changes that the judgement about the dead depends on: beside those, who has a voice. Figures start no round.
func deaths(before, after client.Object) bool {
	b, a := before.(*v1alpha1.StorageNode), after.(*v1alpha1.StorageNode)
	was, is := b.Status.Agent, a.Status.Agent
	return urgent(before, after) || (b.Status.LayoutVersion == 0) != (a.Status.LayoutVersion == 0) || (was == nil) != (is == nil) || is != nil && len(was.Stores) != len(is.Stores)
}

func (r *Reconciler) networks(ctx context.Context, _ client.Object) (out []reconcile.Request) {
	var list v1alpha1.MyNetworkList
	if err := r.Client.List(ctx, &list); err != nil {
		return nil // the next change comes
	}
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return out
}

// Reconcile does one round for a network. It returns the API's errors, for a retry.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	n := &v1alpha1.MyNetwork{}
	if err := r.Client.Get(ctx, req.NamespacedName, n); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	s, dead, err := r.gather(ctx, n)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("dead nodes of network %s: %w", n.Name, err)
	}
	if len(dead) == 0 {
		return ctrl.Result{}, nil
	}
	plan := failover.Judge(s)
	failed := r.fence(ctx, s, plan)
	plan = failover.Judge(s)
	failed = errors.Join(failed, r.free(ctx, s, plan))
	r.keep(s, plan)
	if failed != nil {
		ctrl.LoggerFrom(ctx).Error(failed, "taking over from dead nodes; it is tried again", "network", n.Name, "dead", dead)
		return ctrl.Result{RequeueAfter: again}, nil
	}
	return ctrl.Result{RequeueAfter: watch}, nil
}

// gather reads what is judged. Of nodes that are not both suspected and tainted it reads nothing.
func (r *Reconciler) gather(ctx context.Context, n *v1alpha1.MyNetwork) (s *failover.State, dead []string, err error) {
	s = &failover.State{Network: n, Claims: map[string]map[string]failover.Claim{}, Records: map[string]*v1alpha1.VolumeRecord{}}
	var nodes v1alpha1.StorageNodeList
	if err := r.Client.List(ctx, &nodes, client.MatchingFields{mynetwork.FieldNetwork: n.Name}); err != nil {
		return nil, nil, err
	}
	s.StorageNodes = nodes.Items
	suspects := failover.Suspects(nodes.Items)
	if s.Kubelets, err = failover.Kubelets(ctx, r.Live, suspects); err != nil {
		return nil, nil, err
	}
	s.Now = r.Now()
	for _, name := range suspects {
		node := &corev1.Node{}
		if err := r.Client.Get(ctx, client.ObjectKey{Name: name}, node); client.IgnoreNotFound(err) != nil {
			return nil, nil, err
		} else if err != nil || !tainted(node) {
			continue // its taint starts the next round
		}
		dead = append(dead, name)
		s.Nodes = append(s.Nodes, *node)
		var pods corev1.PodList
		if err := r.Live.List(ctx, &pods, client.MatchingFields{"spec.nodeName": name}); err != nil {
			return nil, nil, fmt.Errorf("pods of node %s: %w", name, err)
		}
		for i := range pods.Items {
			if err := r.claims(ctx, s, &pods.Items[i]); err != nil {
				return nil, nil, err
			}
		}
		s.Pods = append(s.Pods, pods.Items...)
	}
	return s, dead, nil
}

func tainted(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintUnreachable })
}

// claims reads the claims of a pod, and their volumes and records.
func (r *Reconciler) claims(ctx context.Context, s *failover.State, pod *corev1.Pod) error {
	for i := range pod.Spec.Volumes {
		name := claimOf(pod, &pod.Spec.Volumes[i])
		if _, known := s.Claims[pod.Namespace][name]; name == "" || known {
			continue
		}
		claim := &corev1.PersistentVolumeClaim{}
		if err := r.Live.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: name}, claim); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("claim %s/%s: %w", pod.Namespace, name, err)
		} else if err != nil {
			continue // not known: the pod is kept
		}
		c, err := r.claim(ctx, s, claim)
		if err != nil {
			return fmt.Errorf("claim %s/%s: %w", pod.Namespace, name, err)
		}
		if s.Claims[pod.Namespace] == nil {
			s.Claims[pod.Namespace] = map[string]failover.Claim{}
		}
		s.Claims[pod.Namespace][name] = c
	}
	return nil
}

// claimOf is the claim that a pod's volume stands for; empty if it is none.
func claimOf(pod *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return pod.Name + "-" + v.Name
	}
	return ""
}

// claim says what a claim's volume is, and reads its record if it is one of the network.
func (r *Reconciler) claim(ctx context.Context, s *failover.State, claim *corev1.PersistentVolumeClaim) (c failover.Claim, err error) {
	if claim.Spec.VolumeName == "" {
		return c, nil
	}
	v := &corev1.PersistentVolume{}
	if err := r.Live.Get(ctx, client.ObjectKey{Name: claim.Spec.VolumeName}, v); err != nil {
		return c, client.IgnoreNotFound(err)
	}
	c.ReadOnly = len(v.Spec.AccessModes) > 0
	for _, m := range v.Spec.AccessModes {
		c.ReadOnly = c.ReadOnly && m == corev1.ReadOnlyMany
	}
	if v.Spec.CSI == nil || v.Spec.CSI.Driver != v1alpha1.DriverName {
		return c, nil
	}
	rec := &v1alpha1.VolumeRecord{}
	if err := r.Live.Get(ctx, client.ObjectKey{Name: v.Spec.CSI.VolumeHandle}, rec); err != nil {
		return c, client.IgnoreNotFound(err)
	}
	if rec.Spec.NetworkUID == string(s.Network.UID) {
		c.Ours, c.Record = true, rec.Name
		s.Records[rec.Name] = rec
	}
	return c, nil
}

// fence takes the plan's volumes from their nodes, and notes it in their records, of the state too.
func (r *Reconciler) fence(ctx context.Context, s *failover.State, p failover.Plan) error {
	errs := make([]error, len(p.Fence))
	slots := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, name := range p.Fence {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = r.fenceOne(ctx, s.Network, s.Records[name], p.Dead)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (r *Reconciler) fenceOne(ctx context.Context, n *v1alpha1.MyNetwork, rec *v1alpha1.VolumeRecord, dead []string) error {
	node := rec.State.Holder
	epoch, err := r.Fencer.Fence(ctx, n, rec.Spec.VolumeID, node, rec.Fact.Epoch, dead)
	if err != nil {
		return fmt.Errorf("fence volume %s: %w", rec.Name, err)
	}
	before := rec.DeepCopy()
	rec.Status.FencedNode, rec.Status.FencedEpoch = node, epoch
	if err := r.Client.Status().Patch(ctx, rec, client.MergeFrom(before)); err != nil {
		rec.Status = before.Status
		return fmt.Errorf("note that volume %s is fenced: %w", rec.Name, err)
	}
	r.Events.Eventf(rec, nil, corev1.EventTypeWarning, v1alpha1.EventVolumeFenced, "Fence", "node %s is unreachable, and can not write the volume any more", node)
	return nil
}

// free deletes the plan's pods.
func (r *Reconciler) free(ctx context.Context, s *failover.State, p failover.Plan) error {
	var errs []error
	for _, name := range p.Delete {
		pod := find(s, name)
		uid := pod.UID
		err := r.Client.Delete(ctx, pod, client.GracePeriodSeconds(0), client.Preconditions{UID: &uid})
		if client.IgnoreNotFound(err) != nil {
			errs = append(errs, fmt.Errorf("delete pod %s/%s: %w", name.Namespace, name.Name, err))
			continue
		}
		r.tell(pod, corev1.EventTypeNormal, v1alpha1.EventPodDeleted, fmt.Sprintf("node %s is unreachable and its volumes are fenced: pod %s was deleted, so that it starts elsewhere", name.Node, name.Name))
	}
	return errors.Join(errs...)
}

func find(s *failover.State, name failover.PodName) *corev1.Pod {
	i := slices.IndexFunc(s.Pods, func(p corev1.Pod) bool { return p.Namespace == name.Namespace && p.Name == name.Name })
	return &s.Pods[i]
}

// tell tells of a pod, on it and on its claims.
func (r *Reconciler) tell(pod *corev1.Pod, kind, reason, note string) {
	r.Events.Eventf(pod, nil, kind, reason, "Failover", "%s", note)
	for i := range pod.Spec.Volumes {
		if name := claimOf(pod, &pod.Spec.Volumes[i]); name != "" {
			r.Events.Eventf(&corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: pod.Namespace, Name: name}, nil, kind, reason, "Failover", "%s", note)
		}
	}
}

// keep tells, once for each reason, of pods that a person has to judge.
func (r *Reconciler) keep(s *failover.State, p failover.Plan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	told := map[types.UID]string{}
	for _, k := range p.Kept {
		pod := find(s, k.PodName)
		told[pod.UID] = k.Reason
		if r.told[s.Network.Name][pod.UID] != k.Reason {
			r.tell(pod, corev1.EventTypeWarning, v1alpha1.EventPodKept, fmt.Sprintf("node %s is unreachable, and pod %s is not deleted: %s. If you know that it does not run any more: %s",
				k.Node, k.Name, k.Reason, k.Command))
		}
	}
	if r.told == nil {
		r.told = map[string]map[types.UID]string{}
	}
	r.told[s.Network.Name] = told
}
