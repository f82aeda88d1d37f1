package warrants

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/authority"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/controllers/pace"
	"mynetwork.io/mynetwork/nodeagent/core/warrant"
)

// controlName is who the CSI controller is on the agents' control port.
const controlName = "csi"

// look is how often grants and certificates are looked at without a change.
const look = time.Hour

// Members keeps the grants of nodes as members of networks, and the CSI controller's certificates. A request names a network.
// All fields are required.
type Members struct {
	Client    client.Client
	Namespace string
	Now       func() time.Time
}

// SetupWithManager starts the controller. The manager's cache has to have the index mynetwork.FieldNetwork.
func (r *Members) SetupWithManager(m ctrl.Manager) error {
	to := func(name func(client.Object) string) handler.EventHandler {
		return handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: name(o)}}}
		})
	}
	return ctrl.NewControllerManagedBy(m).Named("members").For(&v1alpha1.MyNetwork{}).
		Watches(&v1alpha1.StorageNode{}, pace.Mapped(func(o client.Object) string { return o.(*v1alpha1.StorageNode).Spec.Network }, nil, nil), builder.WithPredicates(grants())).
		Watches(&corev1.Secret{}, to(func(o client.Object) string { return o.GetLabels()[v1alpha1.LabelNetwork] })).
		Complete(r)
}

// grants lets those changes of StorageNodes through that a grant depends on. Each round verifies the grants of all nodes.
func grants() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		b, ok1 := e.ObjectOld.(*v1alpha1.StorageNode)
		a, ok2 := e.ObjectNew.(*v1alpha1.StorageNode)
		return !ok1 || !ok2 || b.Generation != a.Generation || (b.DeletionTimestamp == nil) != (a.DeletionTimestamp == nil) || b.Status.Storage != a.Status.Storage ||
			!bytes.Equal(b.Status.MemberGrant, a.Status.MemberGrant)
	}}
}

// Reconcile does one round for a network.
func (r *Members) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	if err := r.certificates(ctx); err != nil {
		return ctrl.Result{}, fmt.Errorf("certificates of the CSI controller: %w", err)
	}
	n := &v1alpha1.MyNetwork{}
	if err := r.Client.Get(ctx, req.NamespacedName, n); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	ca, err := load(ctx, r.Client, r.Namespace, n)
	if apierrors.IsNotFound(err) || errors.Is(err, authority.ErrInvalid) {
		return ctrl.Result{RequeueAfter: look}, nil // the network's own status says so
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	var nodes v1alpha1.StorageNodeList
	if err := r.Client.List(ctx, &nodes, client.MatchingFields{mynetwork.FieldNetwork: n.Name}); err != nil {
		return ctrl.Result{}, err
	}
	var errs []error
	for i := range nodes.Items {
		errs = append(errs, r.member(ctx, n, &nodes.Items[i], ca))
	}
	return ctrl.Result{RequeueAfter: look}, errors.Join(errs...)
}

// Member is what a node may do to every volume of its network. Who stores data repairs and frees copies; others only read, as the
// clone of a volume does.
func Member(n *v1alpha1.StorageNode, now time.Time) warrant.Grant {
	g := warrant.Grant{Node: n.Spec.NodeName, Verbs: warrant.Read, NotAfter: now.Add(Validity).Unix()}
	if n.Status.Storage {
		g.Verbs = warrant.EveryVolume
	}
	return g
}

// member renews a node's grant if that is due.
func (r *Members) member(ctx context.Context, n *v1alpha1.MyNetwork, node *v1alpha1.StorageNode, ca *authority.CA) error {
	now := r.Now()
	want := Member(node, now)
	keys := []ed25519.PublicKey{ca.Control().Public().(ed25519.PublicKey)}
	have, err := warrant.VerifyGrant(node.Status.MemberGrant, string(n.UID), keys)
	if err == nil && have.Node == want.Node && have.Verbs == want.Verbs && !due(time.Unix(have.NotAfter, 0), now) || node.DeletionTimestamp != nil {
		return nil
	}
	b, err := want.Encode(string(n.UID), ca.Control())
	if err != nil {
		return err
	}
	before := node.DeepCopy()
	node.Status.MemberGrant, node.Status.MemberGrantEnds = b, metav1.NewTime(time.Unix(want.NotAfter, 0))
	if err := r.Client.Status().Patch(ctx, node, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("grant of node %s: %w", node.Name, err)
	}
	return nil
}

// due tells whether what ends then is to be renewed: a third of its life has passed.
func due(end, now time.Time) bool { return end.Sub(now) < Validity*2/3 }

// certificates keeps the Secret of the CSI controller: those of all networks, and of no others.
func (r *Members) certificates(ctx context.Context) error {
	var networks v1alpha1.MyNetworkList
	if err := r.Client.List(ctx, &networks); err != nil {
		return err
	}
	have := &corev1.Secret{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: v1alpha1.ControlSecret}, have)
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return err
	}
	data := map[string][]byte{}
	for i := range networks.Items {
		if err := r.certificate(ctx, &networks.Items[i], have.Data, data); err != nil {
			return err
		}
	}
	switch {
	case missing && len(data) == 0, equality.Semantic.DeepEqual(have.Data, data) && !missing:
		return nil
	case missing:
		return r.Client.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ControlSecret, Namespace: r.Namespace,
			Labels: map[string]string{"app.kubernetes.io/name": "mynetwork", v1alpha1.LabelComponent: "csi-controller"}}, Data: data})
	}
	before := have.DeepCopy()
	have.Data = data
	return r.Client.Patch(ctx, have, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}

// certificate takes a network's certificate over, or makes a new one if that is due.
func (r *Members) certificate(ctx context.Context, n *v1alpha1.MyNetwork, have, into map[string][]byte) error {
	ca, err := load(ctx, r.Client, r.Namespace, n)
	if apierrors.IsNotFound(err) || errors.Is(err, authority.ErrInvalid) {
		return nil
	}
	if err != nil {
		return err
	}
	uid := string(n.UID)
	crt, key := have[uid+".crt"], have[uid+".key"]
	if !r.usable(crt, ca) || len(key) == 0 {
		if crt, key, err = ca.Issue(controlName, r.Now()); err != nil {
			return err
		}
	}
	into[uid+".crt"], into[uid+".key"], into[uid+".ca"] = crt, key, ca.Bundle()
	return nil
}

// usable tells whether a certificate is one of the authority and need not be renewed yet.
func (r *Members) usable(crt []byte, ca *authority.CA) bool {
	block, _ := pem.Decode(crt)
	if block == nil {
		return false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || due(cert.NotAfter, r.Now()) {
		return false
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Bundle())
	_, err = cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: r.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err == nil
}
