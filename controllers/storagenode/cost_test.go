package storagenode_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// A new layout is no news for StorageNodes that were members before: it costs no write of each.
func TestLayoutWritesNoNode(t *testing.T) {
	w := newWorld(t)
	w.settle()
	n := &v1alpha1.MyNetwork{}
	if err := w.client.Get(t.Context(), client.ObjectKey{Name: "main"}, n); err != nil {
		t.Fatal(err)
	}
	n.Status.Layout.Version = 2
	if err := w.client.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	before := w.writes.Load()
	w.edit("c", func(n *v1alpha1.StorageNode) { n.Status.LayoutVersion = 0 }) // but one that comes in with it
	w.settle()
	if got := w.writes.Load() - before; got != 1 || w.node("c").Status.LayoutVersion != 2 || w.node("a").Status.LayoutVersion != 1 {
		t.Errorf("%d writes, c is a member since %d, a since %d", got, w.node("c").Status.LayoutVersion, w.node("a").Status.LayoutVersion)
	}
}

// A round writes a part of many nodes, and a dead one first, whatever its name is.
func TestRoundsAreBounded(t *testing.T) {
	const more = 500
	var objects []client.Object
	for i := range more {
		name := fmt.Sprintf("z-%03d", i) // so that a and b watch c; as objects they come before it
		objects = append(objects, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}},
			&v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: "main.aa-" + name, Generation: 1, Finalizers: []string{v1alpha1.Finalizer}}, Spec: v1alpha1.StorageNodeSpec{Network: "main", NodeName: name}})
	}
	w := newWorld(t, objects...)
	for _, name := range []string{"a", "b"} {
		w.edit(name, func(n *v1alpha1.StorageNode) { n.Status.Agent.Unreachable = []string{"c"} })
	}
	rounds, done := 0, int64(0)
	for {
		before := w.writes.Load()
		res, err := w.r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "main"}})
		if err != nil {
			t.Fatal(err)
		}
		wrote := w.writes.Load() - before
		if wrote == 0 {
			break
		}
		if rounds++; rounds == 1 && (w.node("c").Status.Fencing == nil || res.RequeueAfter <= 0 || res.RequeueAfter > 1e9) {
			t.Errorf("after the first round c is %+v, and the next comes after %s", w.node("c").Status, res.RequeueAfter)
		}
		if done += wrote; wrote > 210 { // taint, budget and guards besides
			t.Errorf("round %d wrote %d times", rounds, wrote)
		}
	}
	if rounds < 3 || done < more {
		t.Errorf("%d rounds, %d writes", rounds, done)
	}
}
