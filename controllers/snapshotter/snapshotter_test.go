package snapshotter_test

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"mynetwork.io/mynetwork/controllers/snapshotter"
)

func TestFollowsTheAPI(t *testing.T) {
	s := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	if err := metav1.AddMetaToScheme(s); err != nil {
		t.Fatal(err)
	}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: snapshotter.Name, Namespace: "n"}, Spec: appsv1.DeploymentSpec{Replicas: new(int32(0))}}
	c := fake.NewClientBuilder().WithScheme(s).WithObjects(d).Build()
	r := &snapshotter.Reconciler{Client: c, Namespace: "n"}
	round := func(want int32) {
		t.Helper()
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(d)}); err != nil {
			t.Fatal(err)
		}
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(d), d); err != nil || *d.Spec.Replicas != want {
			t.Errorf("%d replicas, want %d, %v", *d.Spec.Replicas, want, err)
		}
	}
	round(0)
	api := snapshotter.Metadata()
	api.Name = snapshotter.Definition
	if err := c.Create(t.Context(), api); err != nil {
		t.Fatal(err)
	}
	round(1)
	d.Spec.Replicas = new(int32(3))
	if err := c.Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	round(3)
	if err := c.Delete(t.Context(), api); err != nil {
		t.Fatal(err)
	}
	round(0)
}
