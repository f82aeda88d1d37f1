package warrants

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/authority"
	"mynetwork.io/mynetwork/controllers/mynetwork"
)

// FieldHandle is the index of PersistentVolumes of this driver by their handle, which is the name of the VolumeRecord.
const FieldHandle = "spec.csi.volumeHandle"

// HandleOf is the value of FieldHandle.
func HandleOf(o client.Object) []string {
	v, ok := o.(*corev1.PersistentVolume)
	if !ok || v.Spec.CSI == nil || v.Spec.CSI.Driver != v1alpha1.DriverName {
		return nil
	}
	return []string{v.Spec.CSI.VolumeHandle}
}

// workers answer requests: each is a few calls to the API, and a pod waits for it.
const workers = 4

// Records answers the requests of VolumeRecords. All fields are required.
type Records struct {
	Client    client.Client
	Live      client.Reader // reads from the API server itself: pods, and what must not be old
	Namespace string        // where the authorities' Secrets are
	Now       func() time.Time
}

// SetupWithManager starts the controller. The manager's cache has to have the indexes FieldHandle and mynetwork.FieldNode.
func (r *Records) SetupWithManager(m ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(m).Named("requests").For(&v1alpha1.VolumeRecord{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).Complete(r)
}

// Reconcile answers what is not answered of one record. It returns the API's errors, for a retry.
func (r *Records) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	rec := &v1alpha1.VolumeRecord{}
	if err := r.Client.Get(ctx, req.NamespacedName, rec); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	answers := standing(rec)
	var key ed25519.PrivateKey
	for i := range rec.Requests {
		ask := &rec.Requests[i]
		if slices.ContainsFunc(answers, func(a v1alpha1.VolumeAnswer) bool { return a.Node == ask.Node }) {
			continue
		}
		f, err := r.gather(ctx, rec, ask)
		if err != nil {
			return ctrl.Result{}, fmt.Errorf("request of node %s on volume %s: %w", ask.Node, rec.Name, err)
		}
		if key == nil && f.Network != nil {
			if key, err = r.key(ctx, f.Network); err != nil {
				return ctrl.Result{}, err
			}
		}
		a, err := answer(f, Decide(f), key)
		if err != nil {
			return ctrl.Result{}, fmt.Errorf("request of node %s on volume %s: %w", ask.Node, rec.Name, err)
		}
		answers = append(answers, a)
	}
	slices.SortFunc(answers, func(a, b v1alpha1.VolumeAnswer) int { return compare(a.Node, b.Node) })
	if equality.Semantic.DeepEqual(answers, rec.Status.Answers) {
		return ctrl.Result{}, nil
	}
	before := rec.DeepCopy()
	rec.Status.Answers = answers
	if err := r.Client.Status().Patch(ctx, rec, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("answer on volume %s: %w", rec.Name, err)
	}
	return ctrl.Result{}, nil
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

// standing are the answers to requests that are still there.
func standing(rec *v1alpha1.VolumeRecord) (out []v1alpha1.VolumeAnswer) {
	for _, a := range rec.Status.Answers {
		if slices.ContainsFunc(rec.Requests, func(q v1alpha1.VolumeRequest) bool { return q.Node == a.Node && q.ID == a.ID }) {
			out = append(out, a)
		}
	}
	return out
}

// answer signs what was decided.
func answer(f Facts, d Decision, key ed25519.PrivateKey) (v1alpha1.VolumeAnswer, error) {
	a := v1alpha1.VolumeAnswer{Node: f.Request.Node, ID: f.Request.ID, Refused: d.Refused}
	var err error
	switch {
	case d.Grant != nil:
		a.NotAfter = metav1.NewTime(time.Unix(d.Grant.NotAfter, 0))
		a.Grant, err = d.Grant.Encode(string(f.Network.UID), key)
	case d.Deletion != nil:
		a.Deletion = d.Deletion.Encode(string(f.Network.UID), key)
	}
	return a, err
}

// key is the control key of a network.
func (r *Records) key(ctx context.Context, n *v1alpha1.MyNetwork) (ed25519.PrivateKey, error) {
	ca, err := load(ctx, r.Client, r.Namespace, n)
	if err != nil {
		return nil, err
	}
	return ca.Control(), nil
}

// load reads the authority of a network.
func load(ctx context.Context, c client.Reader, namespace string, n *v1alpha1.MyNetwork) (*authority.CA, error) {
	secret := &corev1.Secret{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: authority.SecretName(n.Name)}, secret); err != nil {
		return nil, fmt.Errorf("authority of network %s: %w", n.Name, err)
	}
	ca, err := authority.Load(secret.Data, string(n.UID))
	if err != nil {
		return nil, fmt.Errorf("authority of network %s: %w", n.Name, err)
	}
	return ca, nil
}

// gather finds what Decide needs.
func (r *Records) gather(ctx context.Context, rec *v1alpha1.VolumeRecord, ask *v1alpha1.VolumeRequest) (Facts, error) {
	f := Facts{Record: rec, Request: ask, Now: r.Now()}
	n := &v1alpha1.MyNetwork{}
	switch err := r.Client.Get(ctx, client.ObjectKey{Name: rec.Spec.Network}, n); {
	case err == nil && string(n.UID) == rec.Spec.NetworkUID:
		f.Network = n
	case client.IgnoreNotFound(err) != nil:
		return f, err
	}
	var nodes v1alpha1.StorageNodeList
	if err := r.Client.List(ctx, &nodes, client.MatchingFields{mynetwork.FieldNode: ask.Node}); err != nil {
		return f, err
	}
	for i := range nodes.Items {
		if s := &nodes.Items[i]; s.Spec.NodeName == ask.Node && s.Spec.Network == rec.Spec.Network {
			f.Node = s
		}
	}
	var err error
	if f.Volumes, err = r.volumes(ctx, rec); err != nil {
		return f, err
	}
	if ask.Deletion != nil {
		f.Children, err = r.children(ctx, rec)
		return f, err
	}
	if f.Users, err = r.users(ctx, f.Volumes, ask.Node); err != nil {
		return f, err
	}
	for i := range f.Users {
		if f.Users[i].Dead, err = r.dead(ctx, f.Users[i].Node); err != nil {
			return f, err
		}
	}
	return f, nil
}

// dead tells whether a node has the unreachable taint. It has it before its volumes are fenced: who fences them needs a grant.
func (r *Records) dead(ctx context.Context, node string) (bool, error) {
	n := &corev1.Node{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: node}, n); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintUnreachable }), nil
}

// volumes are the PersistentVolumes of a record, as they are now: the index tells their names, or, if it is late, the record's claim.
func (r *Records) volumes(ctx context.Context, rec *v1alpha1.VolumeRecord) (out []corev1.PersistentVolume, err error) {
	var known corev1.PersistentVolumeList
	if err := r.Client.List(ctx, &known, client.MatchingFields{FieldHandle: rec.Name}); err != nil {
		return nil, err
	}
	var names []string
	for i := range known.Items {
		names = append(names, known.Items[i].Name)
	}
	if c := rec.Spec.Claim; len(names) == 0 && c != nil {
		claim := &corev1.PersistentVolumeClaim{}
		switch err := r.Live.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: c.Name}, claim); {
		case err == nil && claim.Spec.VolumeName != "":
			names = append(names, claim.Spec.VolumeName)
		case client.IgnoreNotFound(err) != nil:
			return nil, err
		}
	}
	for _, name := range names {
		v := &corev1.PersistentVolume{}
		switch err := r.Live.Get(ctx, client.ObjectKey{Name: name}, v); {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, err
		case slices.Contains(HandleOf(v), rec.Name):
			out = append(out, *v)
		}
	}
	return out, nil
}

// users are the pods that use volumes. Those of the node that asks come first, and alone if there are any: then nothing else matters.
func (r *Records) users(ctx context.Context, volumes []corev1.PersistentVolume, node string) (out []User, err error) {
	for i := range volumes {
		ref := volumes[i].Spec.ClaimRef
		if ref == nil {
			continue
		}
		space := client.InNamespace(ref.Namespace)
		for _, where := range [][]client.ListOption{{space, client.MatchingFields{"spec.nodeName": node}}, {space}} {
			var pods corev1.PodList
			if err := r.Live.List(ctx, &pods, where...); err != nil {
				return nil, fmt.Errorf("pods of namespace %s: %w", ref.Namespace, err)
			}
			for k := range pods.Items {
				if p := &pods.Items[k]; uses(p, ref.Name) {
					out = append(out, User{Namespace: p.Namespace, Pod: p.Name, Node: p.Spec.NodeName})
				}
			}
			if len(out) > 0 {
				break
			}
		}
	}
	return out, nil
}

// uses tells whether a pod that is bound to a node, and has not ended, mounts a claim.
func uses(p *corev1.Pod, claim string) bool {
	if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return false
	}
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim || v.Ephemeral != nil && p.Name+"-"+v.Name == claim
	})
}

// children are the live records that name this one as their parent.
func (r *Records) children(ctx context.Context, rec *v1alpha1.VolumeRecord) (out []string, err error) {
	var list v1alpha1.VolumeRecordList
	if err := r.Live.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelParent: rec.Spec.VolumeID}); err != nil {
		return nil, err
	}
	for i := range list.Items {
		if c := &list.Items[i]; c.State.Deletion == nil && c.Spec.NetworkUID == rec.Spec.NetworkUID {
			out = append(out, c.Name)
		}
	}
	return out, nil
}
