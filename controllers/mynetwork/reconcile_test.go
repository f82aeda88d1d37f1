package mynetwork_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

func TestThreeLinesMakeANetwork(t *testing.T) {
	w := newWorld(t, three("main")...)
	w.settle("main")
	for _, o := range []client.Object{&appsv1.DaemonSet{}, &corev1.ConfigMap{}, &corev1.Service{}} {
		get(w, namespace, "main-agent", o)
	}
	get(w, namespace, "main-holder", &appsv1.DaemonSet{})
	get(w, namespace, "main-authority", &corev1.Secret{})
	class := &storagev1.StorageClass{}
	get(w, "", "mynetwork-main", class)
	if class.Parameters["network"] != "main" || class.Provisioner != v1alpha1.DriverName {
		t.Errorf("class %+v", class)
	}
	for _, name := range []string{"a", "b", "c"} {
		n := &v1alpha1.StorageNode{}
		get(w, "", "main."+name, n)
		if n.Spec.Network != "main" || n.Spec.NodeName != name {
			t.Errorf("%+v", n.Spec)
		}
	}
	w.condition("main", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonAgentsNotReady)
	w.condition("main", v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonAgentsNotReady)
}

func TestAgentsMakeItServe(t *testing.T) {
	w := served(t)
	st := w.network("main").Status
	if st.Layout == nil || st.Layout.Version != 1 || st.Nodes.Summary != "3/3" || st.Capacity.Summary != "10% of 300.0Gi" || st.Activity != "Serving" {
		t.Errorf("%+v", st)
	}
	w.condition("main", v1alpha1.ConditionDegraded, metav1.ConditionFalse, v1alpha1.ReasonHealthy)
	w.condition("main", v1alpha1.ConditionRebalancing, metav1.ConditionFalse, v1alpha1.ReasonBalanced)
}

func TestSecondReconcileWritesNothing(t *testing.T) {
	w := served(t)
	before := w.writes.Load()
	events := len(w.events.Events)
	for range 3 {
		if _, err := w.reconcile("main"); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.writes.Load() - before; n != 0 || len(w.events.Events) != events {
		t.Errorf("%d writes and %d events at rest", n, len(w.events.Events)-events)
	}
	// Negative control: something to do is counted.
	if err := w.client.Delete(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "main-agent", Namespace: namespace}}); err != nil {
		t.Fatal(err)
	}
	before = w.writes.Load()
	if _, err := w.reconcile("main"); err != nil || w.writes.Load() == before {
		t.Errorf("a deleted Service was not made again: %v", err)
	}
}

// picture is everything that a world has, without what differs between two runs: keys, versions and times.
func (w *world) picture() string {
	w.t.Helper()
	hashes := regexp.MustCompile(`(/applied|/settings)":"[0-9a-f]+"`) // of settings: each world has a control key of its own
	var lines []string
	for _, list := range []client.ObjectList{&v1alpha1.MyNetworkList{}, &v1alpha1.StorageNodeList{}, &appsv1.DaemonSetList{}, &corev1.ConfigMapList{},
		&corev1.ServiceList{}, &corev1.SecretList{}, &storagev1.StorageClassList{}} {
		if err := w.client.List(w.t.Context(), list); err != nil {
			w.t.Fatal(err)
		}
		b, err := json.Marshal(list)
		if err != nil {
			w.t.Fatal(err)
		}
		var all struct{ Items []map[string]any }
		if err := json.Unmarshal(b, &all); err != nil {
			w.t.Fatal(err)
		}
		for _, o := range all.Items {
			delete(o["metadata"].(map[string]any), "resourceVersion")
			delete(o, "data")
			b, _ := json.Marshal(o)
			lines = append(lines, hashes.ReplaceAllString(fmt.Sprintf("%T %s", list, b), "$1"))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestInterruptedAnywhere(t *testing.T) {
	whole := newWorld(t, three("main")...)
	whole.settle("main")
	want, writes := whole.picture(), whole.writes.Load()
	if writes < 8 {
		t.Fatalf("only %d writes", writes)
	}
	for k := int64(1); k <= writes; k++ {
		// Errors and conflicts by turns: they take the same way, and each world costs a third of a second.
		fault := error(apierrors.NewConflict(schema.GroupResource{Resource: "things"}, "x", errInjected))
		if k%2 == 0 {
			fault = errInjected
		}
		w := newWorld(t, three("main")...)
		// The operator dies before write k: nothing after it happens, the status neither.
		w.fail = func(n int64) error {
			if n >= k {
				return fault
			}
			return nil
		}
		var err error
		for round := 0; err == nil && round < 5; round++ {
			_, err = w.reconcile("main")
		}
		if err == nil {
			t.Fatalf("write %d failed with %v and nobody heard of it", k, fault)
		}
		w.fail = nil
		w.settle("main")
		if got := w.picture(); got != want {
			t.Errorf("interrupted by %v before write %d:\n%s\nwant\n%s", fault, k, got, want)
		}
	}
}

func TestDeletionIsRefused(t *testing.T) {
	w := served(t, record("vol-1", "main"), record("vol-2", "other"))
	if err := w.client.Delete(t.Context(), w.network("main")); err != nil {
		t.Fatal(err)
	}
	w.settle("main")
	w.condition("main", v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonVolumesRemain)
	for _, c := range w.network("main").Status.Conditions {
		if c.Type == v1alpha1.ConditionStalled && (!strings.Contains(c.Message, "vol-1") || strings.Contains(c.Message, "vol-2")) {
			t.Errorf("message %q", c.Message)
		}
	}
	// It keeps serving: what is lost is made again.
	d := &appsv1.DaemonSet{}
	get(w, namespace, "main-agent", d)
	if err := w.client.Delete(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	w.settle("main")
	get(w, namespace, "main-agent", d)
}

func TestDeletionOrder(t *testing.T) {
	w := served(t)
	if err := w.client.Delete(t.Context(), w.network("main")); err != nil {
		t.Fatal(err)
	}
	left := func() (out []string) {
		if w.exists("", "mynetwork-main", &storagev1.StorageClass{}) {
			out = append(out, "class")
		}
		if w.exists(namespace, "main-agent", &appsv1.DaemonSet{}) {
			out = append(out, "agents")
		}
		if w.exists(namespace, "main-holder", &appsv1.DaemonSet{}) {
			out = append(out, "holders")
		}
		if w.exists("", "main.a", &v1alpha1.StorageNode{}) {
			out = append(out, "nodes")
		}
		if w.exists(namespace, "main-authority", &corev1.Secret{}) {
			out = append(out, "authority")
		}
		return out
	}
	order := []string{"class", "agents", "holders", "nodes", "authority"}
	for range 40 {
		if _, err := w.reconcile("main"); err != nil {
			t.Fatal(err)
		}
		if got := left(); !slices.Equal(got, order[len(order)-len(got):]) {
			t.Fatalf("left are %v: not in the order %v", got, order)
		}
		// The StorageNodes' own controller is not in this world.
		for _, name := range []string{"a", "b", "c"} {
			n := &v1alpha1.StorageNode{}
			if w.exists("", "main."+name, n) && n.DeletionTimestamp != nil {
				n.Finalizers = nil
				if err := w.client.Update(t.Context(), n); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if len(left()) != 0 || w.exists("", "main", &v1alpha1.MyNetwork{}) {
		t.Errorf("left: %v, network %v", left(), w.exists("", "main", &v1alpha1.MyNetwork{}))
	}
}

func TestAuthorityIsNeverMadeAgain(t *testing.T) {
	w := served(t)
	s := &corev1.Secret{}
	get(w, namespace, "main-authority", s)
	if err := w.client.Delete(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	w.settle("main")
	w.condition("main", v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonAuthorityMissing)
	if w.exists(namespace, "main-authority", &corev1.Secret{}) {
		t.Error("a new authority was made: all nodes are locked out")
	}
	// Restored, it goes on.
	s.ResourceVersion = ""
	if err := w.client.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	w.settle("main")
	w.condition("main", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	// Damaged, it says so.
	s.Data["tls.key"] = []byte("x")
	if err := w.client.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	w.settle("main")
	w.condition("main", v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonAuthorityInvalid)
}

func TestStorageNodesStay(t *testing.T) {
	w := served(t)
	if err := w.client.Delete(t.Context(), node("c")); err != nil {
		t.Fatal(err)
	}
	w.settle("main")
	n := &v1alpha1.StorageNode{}
	get(w, "", "main.c", n)
	if n.DeletionTimestamp != nil {
		t.Error("the StorageNode of a node that is gone was deleted")
	}
	if l := w.network("main").Status.Layout; l.Version != 1 {
		t.Errorf("a node that went away moved data at once: layout %d", l.Version)
	}
}

func TestTwoNetworksOnePath(t *testing.T) {
	young := net("young")
	young.UID, young.CreationTimestamp = "other", metav1.NewTime(start.Add(1e9))
	w := served(t, young)
	w.settle("young")
	w.condition("young", v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonPathInUse)
	if w.exists(namespace, "young-agent", &appsv1.DaemonSet{}) {
		t.Error("the younger network has agents")
	}
	w.settle("main")
	w.condition("main", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	young = w.network("young")
	young.Spec.Storage.Path = "/srv/young"
	if err := w.client.Update(t.Context(), young); err != nil {
		t.Fatal(err)
	}
	w.settle("young")
	if !w.exists(namespace, "young-agent", &appsv1.DaemonSet{}) {
		t.Error("with its own path it has no agents")
	}
}

func TestForeignObject(t *testing.T) {
	other := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "main-agent", Namespace: namespace}, Data: map[string]string{"theirs": "yes"}}
	w := newWorld(t, append(three("main"), other)...)
	w.settle("main")
	w.condition("main", v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonForeignObject)
	get(w, namespace, "main-agent", other)
	if other.Data["theirs"] != "yes" || len(other.Data) != 1 {
		t.Errorf("it was changed: %v", other.Data)
	}
}

// A StorageClass can not be changed: it is made anew. The fake API would let it be changed, so its refusal is injected.
func TestChangedClassIsMadeAnew(t *testing.T) {
	w := served(t)
	n := w.network("main")
	n.Spec.StorageClass.ReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	if err := w.client.Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	refused := false
	w.fail = func(int64) error {
		if !refused {
			refused = true
			return apierrors.NewInvalid(storagev1.SchemeGroupVersion.WithKind("StorageClass").GroupKind(), "mynetwork-main", nil)
		}
		return nil
	}
	before := &storagev1.StorageClass{}
	get(w, "", "mynetwork-main", before)
	w.settle("main")
	class := &storagev1.StorageClass{}
	get(w, "", "mynetwork-main", class)
	if *class.ReclaimPolicy != corev1.PersistentVolumeReclaimRetain || !refused || class.ResourceVersion != "1" {
		t.Errorf("%v, refused %v, version %s after %s", *class.ReclaimPolicy, refused, class.ResourceVersion, before.ResourceVersion)
	}
	w.condition("main", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
}

func TestBadSpecs(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world, n *v1alpha1.MyNetwork)
		reason string
	}{
		"no node": {func(_ *world, n *v1alpha1.MyNetwork) {
			n.Spec.Nodes.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"no": "such"}}
		}, v1alpha1.ReasonNoNodes},
		"selector": {func(_ *world, n *v1alpha1.MyNetwork) {
			n.Spec.Nodes.Selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "k", Operator: "Near"}}}
		}, v1alpha1.ReasonInvalidSpec},
		"paused":   {func(_ *world, n *v1alpha1.MyNetwork) { n.Spec.Paused = true }, v1alpha1.ReasonPaused},
		"no image": {func(w *world, _ *v1alpha1.MyNetwork) { w.r.Options.Image = "" }, v1alpha1.ReasonNoImage},
	} {
		t.Run(name, func(t *testing.T) {
			objects := three("main")
			w := newWorld(t, objects[1:]...)
			n := net("main")
			c.change(w, n)
			if err := w.client.Create(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			w.settle("main")
			w.condition("main", v1alpha1.ConditionStalled, metav1.ConditionTrue, c.reason)
			w.condition("main", v1alpha1.ConditionReady, metav1.ConditionFalse, c.reason)
		})
	}
}
