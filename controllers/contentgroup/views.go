package contentgroup

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/mynetwork"
)

// Views makes a group for each volume that was made for a claim, beside the claim and under its name. A request names a
// VolumeRecord. All fields are required.
type Views struct {
	Client client.Client
	Live   client.Reader // reads claims from the API server itself: nobody keeps all claims of a cluster
}

// SetupWithManager starts the controller.
func (r *Views) SetupWithManager(m ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(m).Named("views").For(&v1alpha1.VolumeRecord{}).Complete(r)
}

// Reconcile makes the group of one record, if there is none of that name. What is there is left: it may be a user's. The claim
// owns the group, so it goes with it.
func (r *Views) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	rec := &v1alpha1.VolumeRecord{}
	if err := r.Client.Get(ctx, req.NamespacedName, rec); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	c := rec.Spec.Claim
	if c == nil || !mynetwork.Live(rec) {
		return ctrl.Result{}, nil
	}
	key := client.ObjectKey{Namespace: c.Namespace, Name: c.Name}
	err := r.Client.Get(ctx, key, &v1alpha1.ContentGroup{})
	if err == nil || !apierrors.IsNotFound(err) {
		return ctrl.Result{}, err
	}
	claim := &corev1.PersistentVolumeClaim{}
	if err := r.Live.Get(ctx, key, claim); err != nil || claim.DeletionTimestamp != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	err = r.Client.Create(ctx, &v1alpha1.ContentGroup{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: c.Name, OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "v1", Kind: "PersistentVolumeClaim", Name: claim.Name, UID: claim.UID}}},
		Spec: v1alpha1.ContentGroupSpec{Network: rec.Spec.Network, Kind: v1alpha1.GroupVolume, Claim: c.Name},
	})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return ctrl.Result{}, fmt.Errorf("view of volume %s: %w", rec.Name, err)
	}
	return ctrl.Result{}, nil
}
