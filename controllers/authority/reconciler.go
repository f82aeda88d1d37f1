package authority

import (
	"context"
	"fmt"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// Reconciler judges and signs requests. All fields are required. Client should read pods and Secrets of Namespace only.
type Reconciler struct {
	Client    client.Client
	Events    events.EventRecorder
	Namespace string
	Account   string // name of the agents' ServiceAccount
	Now       func() time.Time
}

// fieldNode is the index of StorageNodes that mynetwork.AddIndexes makes.
const fieldNode = "spec.nodeName"

// workers sign requests: each is two writes, and a network's start brings a request of each node.
const workers = 4

// waiting is how long a request that may yet pass waits for its next look.
const waiting = 2 * time.Second

// SetupWithManager starts the controller.
func (r *Reconciler) SetupWithManager(m ctrl.Manager) error {
	ours := predicate.NewPredicateFuncs(func(o client.Object) bool {
		c, ok := o.(*certv1.CertificateSigningRequest)
		return ok && c.Spec.SignerName == v1alpha1.SignerName
	})
	return ctrl.NewControllerManagedBy(m).Named("certificates").For(&certv1.CertificateSigningRequest{}, builder.WithPredicates(ours)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).Complete(r)
}

// Reconcile judges one request. It returns the API's errors, for a retry.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	csr := &certv1.CertificateSigningRequest{}
	if err := r.Client.Get(ctx, req.NamespacedName, csr); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if csr.Spec.SignerName != v1alpha1.SignerName || len(csr.Status.Certificate) > 0 || has(csr, certv1.CertificateDenied) || has(csr, certv1.CertificateFailed) {
		return ctrl.Result{}, nil
	}
	facts, ca, err := r.gather(ctx, csr)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("request %s: %w", csr.Name, err)
	}
	// It is judged again although it may be approved: an approval is not ours alone to give, the signature is.
	switch d := Judge(&csr.Spec, facts); {
	case d.Verdict == Deny:
		return ctrl.Result{}, r.deny(ctx, csr, d.Message)
	case d.Verdict == Wait || ca == nil:
		return ctrl.Result{RequeueAfter: waiting}, nil
	default:
		return ctrl.Result{}, r.sign(ctx, csr, ca, d)
	}
}

func has(csr *certv1.CertificateSigningRequest, kind certv1.RequestConditionType) bool {
	for _, c := range csr.Status.Conditions {
		if c.Type == kind {
			return true
		}
	}
	return false
}

// gather finds what Judge needs. The network is the one that the request names; ca is nil as long as there is none.
func (r *Reconciler) gather(ctx context.Context, csr *certv1.CertificateSigningRequest) (f Facts, ca *CA, err error) {
	f.User = "system:serviceaccount:" + r.Namespace + ":" + r.Account
	_, uid, err := parse(csr.Spec.Request)
	if err != nil {
		return f, nil, nil // Judge says what is wrong with it
	}
	if name := PodOf(&csr.Spec); name != "" {
		pod := &corev1.Pod{}
		switch err := r.Client.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: name}, pod); {
		case err == nil:
			f.Pod = pod
		case !apierrors.IsNotFound(err):
			return f, nil, err
		}
	}
	var networks v1alpha1.MyNetworkList
	if err := r.Client.List(ctx, &networks); err != nil {
		return f, nil, err
	}
	for i := range networks.Items {
		if string(networks.Items[i].UID) == uid {
			f.Network = &networks.Items[i]
		}
	}
	if f.Network == nil {
		return f, nil, nil
	}
	var nodes v1alpha1.StorageNodeList // of the node alone: a network's start brings a request of each
	if err := r.Client.List(ctx, &nodes, client.MatchingFields{fieldNode: claim(&csr.Spec, claimNode)}); err != nil {
		return f, nil, err
	}
	for _, n := range nodes.Items {
		if n.Spec.Network == f.Network.Name {
			f.StorageNodes = append(f.StorageNodes, n)
		}
	}
	secret := &corev1.Secret{}
	if err := r.Client.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: SecretName(f.Network.Name)}, secret); err != nil {
		return f, nil, client.IgnoreNotFound(err)
	}
	ca, err = Load(secret.Data, uid)
	return f, ca, err
}

func (r *Reconciler) deny(ctx context.Context, csr *certv1.CertificateSigningRequest, message string) error {
	now := metav1.NewTime(r.Now())
	csr.Status.Conditions = append(csr.Status.Conditions, certv1.CertificateSigningRequestCondition{Type: certv1.CertificateDenied,
		Status: corev1.ConditionTrue, Reason: v1alpha1.EventCertificateDenied, Message: message, LastUpdateTime: now, LastTransitionTime: now})
	if err := r.Client.SubResource("approval").Update(ctx, csr); err != nil {
		return fmt.Errorf("deny request %s: %w", csr.Name, err)
	}
	r.Events.Eventf(csr, nil, corev1.EventTypeWarning, v1alpha1.EventCertificateDenied, "Deny", "%s", message)
	return nil
}

// sign approves and signs, in two writes; a request that was only approved is signed by the next reconcile.
func (r *Reconciler) sign(ctx context.Context, csr *certv1.CertificateSigningRequest, ca *CA, d Decision) error {
	if !has(csr, certv1.CertificateApproved) {
		now := metav1.NewTime(r.Now())
		csr.Status.Conditions = append(csr.Status.Conditions, certv1.CertificateSigningRequestCondition{Type: certv1.CertificateApproved,
			Status: corev1.ConditionTrue, Reason: v1alpha1.EventCertificateIssued, Message: d.Message, LastUpdateTime: now, LastTransitionTime: now})
		if err := r.Client.SubResource("approval").Update(ctx, csr); err != nil {
			return fmt.Errorf("approve request %s: %w", csr.Name, err)
		}
	}
	cert, err := ca.Certify(d.Node, d.Key, r.Now())
	if err != nil {
		return err
	}
	csr.Status.Certificate = cert
	if err := r.Client.Status().Update(ctx, csr); err != nil {
		return fmt.Errorf("sign request %s: %w", csr.Name, err)
	}
	r.Events.Eventf(csr, nil, corev1.EventTypeNormal, v1alpha1.EventCertificateIssued, "Sign", "node %s has a certificate for %s", d.Node, Validity)
	return nil
}
