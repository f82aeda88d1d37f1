// Package snapshotter starts the snapshotter, a Deployment that the chart makes without replicas, once the cluster serves the snapshot
// API, and stops it when the API goes. The sidecar ends with an error where that API is not served.
//
// # Invariants
//
//  1. The snapshotter runs if, and only if, the API's definitions are there. (TestFollowsTheAPI)
//  2. Who wants more replicas, sets them: they are left. (TestFollowsTheAPI)
//
// A Reconciler holds no state.
package snapshotter

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Name is the name of the Deployment.
const Name = "mynetwork-csi-snapshotter"

// Definition is the definition whose presence tells of the snapshot API.
const Definition = "volumesnapshotclasses.snapshot.storage.k8s.io"

// GroupDefinition is the one that tells of groups of snapshots.
const GroupDefinition = "volumegroupsnapshotclasses.groupsnapshot.storage.k8s.io"

// Metadata is a definition of a custom resource, of which only the metadata is read and watched.
func Metadata() *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{}
	m.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	return m
}

// IsSnapshotAPI tells of the snapshot APIs' definitions.
func IsSnapshotAPI() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(o client.Object) bool { return o.GetName() == Definition || o.GetName() == GroupDefinition })
}

// Reconciler starts and stops the snapshotter. All fields are required.
type Reconciler struct {
	Client    client.Client
	Namespace string
}

// SetupWithManager starts the controller.
func (r *Reconciler) SetupWithManager(m ctrl.Manager) error {
	own := predicate.NewPredicateFuncs(func(o client.Object) bool { return o.GetName() == Name && o.GetNamespace() == r.Namespace })
	to := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: r.Namespace, Name: Name}}}
	})
	return ctrl.NewControllerManagedBy(m).Named("snapshotter").For(&appsv1.Deployment{}, builder.WithPredicates(own)).
		WatchesMetadata(Metadata(), to, builder.WithPredicates(IsSnapshotAPI())).Complete(r)
}

// Reconcile does one round. It returns the API's errors, for a retry.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	d := &appsv1.Deployment{}
	if err := r.Client.Get(ctx, req.NamespacedName, d); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	err := r.Client.Get(ctx, client.ObjectKey{Name: Definition}, Metadata())
	if err != nil && !apierrors.IsNotFound(err) {
		return ctrl.Result{}, fmt.Errorf("snapshot API: %w", err)
	}
	served, runs := err == nil, d.Spec.Replicas == nil || *d.Spec.Replicas > 0
	if served == runs {
		return ctrl.Result{}, nil
	}
	before := d.DeepCopy()
	d.Spec.Replicas = new(int32(0))
	if served {
		d.Spec.Replicas = new(int32(1))
	}
	if err := r.Client.Patch(ctx, d, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("scale %s: %w", Name, err)
	}
	return ctrl.Result{}, nil
}
