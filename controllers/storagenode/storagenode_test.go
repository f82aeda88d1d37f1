package storagenode_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/controllers/status"
	"mynetwork.io/mynetwork/controllers/storagenode"
)

const namespace = "mynetwork-system"

var (
	start       = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	errInjected = errors.New("injected")
)

type world struct {
	t      *testing.T
	client client.Client
	r      *storagenode.Reconciler
	now    time.Time
	writes atomic.Int64
	fail   func(write int64) error
	bodies map[[32]byte][]byte // of layouts
	events *events.FakeRecorder
}

// newWorld has network main with nodes a, b, c: stores of 100 GiB, synced, guards not there yet.
func newWorld(t *testing.T, more ...client.Object) *world {
	t.Helper()
	w := &world{t: t, now: start}
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	objects := append(more, &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "main", UID: "u-1"},
		Status: v1alpha1.MyNetworkStatus{Layout: &v1alpha1.LayoutStatus{Version: 1}}})
	for i, name := range []string{"a", "b", "c"} {
		objects = append(objects,
			&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "n", Labels: map[string]string{"topology.kubernetes.io/zone": "z-" + name}}},
			&v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: "main." + name, Generation: 1, Finalizers: []string{v1alpha1.Finalizer}},
				Spec: v1alpha1.StorageNodeSpec{Network: "main", NodeName: name},
				Status: v1alpha1.StorageNodeStatus{LayoutVersion: 1, Agent: &v1alpha1.AgentStatus{Ready: true, SyncedVersion: 1, Copies: 7,
					Stores: []v1alpha1.StoreStatus{{ID: strings.Repeat(string(rune('1'+i)), 32), State: v1alpha1.StoreServing,
						Capacity: new(resource.MustParse("100Gi")), Used: new(resource.MustParse("10Gi"))}}}}})
	}
	b := fake.NewClientBuilder().WithScheme(s).WithObjects(objects...).WithStatusSubresource(&v1alpha1.StorageNode{}, &v1alpha1.MyNetwork{}, &corev1.Pod{}).
		WithIndex(&v1alpha1.StorageNode{}, mynetwork.FieldNetwork, func(o client.Object) []string { return []string{o.(*v1alpha1.StorageNode).Spec.Network} }).
		WithIndex(&v1alpha1.VolumeRecord{}, mynetwork.FieldNetwork, func(o client.Object) []string { return []string{o.(*v1alpha1.VolumeRecord).Spec.Network} })
	w.client = interceptor.NewClient(b.Build(), w.funcs())
	w.bodies, w.events = map[[32]byte][]byte{}, events.NewFakeRecorder(1000)
	w.r = &storagenode.Reconciler{Client: w.client, Live: w.client, Bodies: w, Events: w.events, Now: func() time.Time { return w.now },
		Options: storagenode.Options{Namespace: namespace, GuardImage: "pause:1"}}
	return w
}

func (w *world) write() error {
	n := w.writes.Add(1)
	if w.fail != nil {
		return w.fail(n)
	}
	return nil
}

func (w *world) funcs() interceptor.Funcs {
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return errors.Join(w.write(), c.Create(ctx, o, opts...))
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return errors.Join(w.write(), c.Delete(ctx, o, opts...))
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if err := w.write(); err != nil {
				return err
			}
			return c.Patch(ctx, o, p, opts...)
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			if err := w.write(); err != nil {
				return err
			}
			return c.Apply(ctx, o, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if err := w.write(); err != nil {
				return err
			}
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	}
}

func (w *world) reconcile() error {
	w.t.Helper()
	_, err := w.r.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "main"}})
	var list v1alpha1.StorageNodeList
	if e := w.client.List(w.t.Context(), &list); e != nil {
		w.t.Fatal(e)
	}
	for _, n := range list.Items {
		if v := status.Violations(n.Status.Conditions, n.Generation, n.Status.ObservedGeneration); len(n.Status.Conditions) > 0 && v != nil {
			w.t.Errorf("kstatus of %s: %v", n.Name, v)
		}
	}
	return err
}

func (w *world) settle() {
	w.t.Helper()
	for range 20 {
		before := w.writes.Load()
		if err := w.reconcile(); err != nil {
			w.t.Fatal(err)
		}
		if w.writes.Load() == before {
			return
		}
	}
	w.t.Fatal("it does not come to rest")
}

// runGuards makes the kubelet's part: guards are ready on nodes that take pods.
func (w *world) runGuards() {
	w.t.Helper()
	var pods corev1.PodList
	if err := w.client.List(w.t.Context(), &pods); err != nil {
		w.t.Fatal(err)
	}
	for i := range pods.Items {
		pods.Items[i].Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		if err := w.client.Status().Update(w.t.Context(), &pods.Items[i]); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) node(name string) *v1alpha1.StorageNode {
	w.t.Helper()
	n := &v1alpha1.StorageNode{}
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Name: "main." + name}, n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) edit(name string, change func(*v1alpha1.StorageNode)) {
	w.t.Helper()
	n := w.node(name)
	change(n)
	st := n.Status
	if err := w.client.Update(w.t.Context(), n); err != nil {
		w.t.Fatal(err)
	}
	n.Status = st
	if err := w.client.Status().Update(w.t.Context(), n); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) is(name, kind, reason string) {
	w.t.Helper()
	c := meta.FindStatusCondition(w.node(name).Status.Conditions, kind)
	if c == nil || c.Reason != reason || c.Status != metav1.ConditionTrue {
		w.t.Errorf("%s of %s is %+v, want %s", kind, name, c, reason)
	}
}

func (w *world) budget() int {
	w.t.Helper()
	b := &policyv1.PodDisruptionBudget{}
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: namespace, Name: "main-guard"}, b); err != nil {
		w.t.Fatal(err)
	}
	return b.Spec.MinAvailable.IntValue()
}

func TestStatusOfAHealthyNode(t *testing.T) {
	w := newWorld(t)
	w.settle()
	w.is("a", v1alpha1.ConditionReady, v1alpha1.ReasonReady)
	if st := w.node("a").Status; st.Zone != "z-a" || st.Weight != 100 || st.Summary != "10% of 100.0Gi" || !st.Storage || st.NodeUID != "n" {
		t.Errorf("%+v", st)
	}
	w.edit("a", func(n *v1alpha1.StorageNode) { n.Spec.Zone, n.Spec.Weight = new("mine"), new(int64(5)) })
	w.settle()
	if st := w.node("a").Status; st.Zone != "mine" || st.Weight != 5 {
		t.Errorf("%+v", st)
	}
}

func TestSecondReconcileWritesNothing(t *testing.T) {
	w := newWorld(t)
	w.settle()
	w.runGuards()
	w.settle()
	before := w.writes.Load()
	w.now = w.now.Add(time.Hour)
	for range 3 {
		if err := w.reconcile(); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.writes.Load() - before; n != 0 {
		t.Errorf("%d writes at rest", n)
	}
}

func TestInterruptedAnywhere(t *testing.T) {
	for k := int64(1); k < 12; k++ {
		w := newWorld(t)
		w.fail = func(n int64) error {
			if n >= k {
				return errInjected
			}
			return nil
		}
		if err := w.reconcile(); !errors.Is(err, errInjected) && w.writes.Load() >= k {
			t.Fatalf("write %d failed and nobody heard of it: %v", k, err)
		}
		w.fail = nil
		w.settle()
		w.is("c", v1alpha1.ConditionReady, v1alpha1.ReasonReady)
		if w.budget() != 3 {
			t.Errorf("budget %d", w.budget())
		}
	}
}

func TestBudgetFollows(t *testing.T) {
	w := newWorld(t)
	w.settle()
	if w.budget() != 3 {
		t.Errorf("without guards %d may stay", w.budget())
	}
	w.runGuards()
	w.settle()
	if w.budget() != 2 {
		t.Errorf("all well, and %d must stay", w.budget())
	}
	w.edit("b", func(n *v1alpha1.StorageNode) { n.Status.Agent.MissingCopies = 1 })
	w.settle()
	if w.budget() != 3 {
		t.Errorf("copies are missing, and %d must stay", w.budget())
	}
	var pods corev1.PodList
	if err := w.client.List(t.Context(), &pods); err != nil || len(pods.Items) != 3 {
		t.Fatal(len(pods.Items), err)
	}
	for _, p := range pods.Items {
		if o := metav1.GetControllerOf(&p); o == nil || o.Kind != "StorageNode" {
			t.Errorf("owner of %s: %+v", p.Name, o)
		}
		for _, tol := range p.Spec.Tolerations {
			if tol.Key == corev1.TaintNodeUnschedulable || tol.Key == "" {
				t.Errorf("a guard tolerates a cordon: %+v", tol)
			}
		}
	}
}

func TestAgentsReportIsLeft(t *testing.T) {
	w := newWorld(t)
	before := w.node("a").Status.Agent.DeepCopy()
	w.settle()
	if got := w.node("a").Status.Agent; got.Copies != before.Copies || len(got.Stores) != 1 || got.Stores[0].ID != before.Stores[0].ID {
		t.Errorf("%+v", got)
	}
}

func TestFormatGrant(t *testing.T) {
	id := strings.Repeat("f", 32)
	store := func(id string, s v1alpha1.StoreState) v1alpha1.StoreStatus {
		return v1alpha1.StoreStatus{ID: id, State: s}
	}
	for name, c := range map[string]struct {
		layout int64
		stores []v1alpha1.StoreStatus
		ok     []string
		want   string
	}{
		"first store":        {0, []v1alpha1.StoreStatus{store(id, v1alpha1.StoreNew)}, nil, id},
		"had others":         {1, []v1alpha1.StoreStatus{store(id, v1alpha1.StoreNew)}, nil, ""},
		"approved":           {1, []v1alpha1.StoreStatus{store(id, v1alpha1.StoreNew)}, []string{id}, id},
		"missing":            {1, []v1alpha1.StoreStatus{store(id, v1alpha1.StoreMissing)}, []string{id}, ""},
		"missing at first":   {0, []v1alpha1.StoreStatus{store(id, v1alpha1.StoreMissing)}, nil, ""},
		"another serves":     {0, []v1alpha1.StoreStatus{store(strings.Repeat("1", 32), v1alpha1.StoreServing), store(id, v1alpha1.StoreNew)}, nil, ""},
		"approved something": {1, []v1alpha1.StoreStatus{store(id, v1alpha1.StoreNew)}, []string{strings.Repeat("e", 32)}, ""},
	} {
		w := newWorld(t)
		w.edit("c", func(n *v1alpha1.StorageNode) {
			n.Spec.ApprovedStores, n.Status.LayoutVersion, n.Status.Agent.Stores = c.ok, c.layout, c.stores
		})
		w.settle()
		if got := w.node("c").Status.FormatGrant; got != c.want {
			t.Errorf("%s: granted %q, want %q", name, got, c.want)
		}
	}
}

func TestTaint(t *testing.T) {
	w := newWorld(t)
	w.settle()
	tainted := func() bool {
		n := &corev1.Node{}
		if err := w.client.Get(t.Context(), client.ObjectKey{Name: "c"}, n); err != nil {
			t.Fatal(err)
		}
		return len(n.Spec.Taints) == 1 && n.Spec.Taints[0].Key == v1alpha1.TaintUnreachable
	}
	word := func(who string, against ...string) {
		w.edit(who, func(n *v1alpha1.StorageNode) { n.Status.Agent.Unreachable = against })
		w.settle()
	}
	if word("a", "c"); tainted() {
		t.Error("tainted by one word")
	}
	if word("b", "c"); !tainted() {
		t.Error("not tainted by a majority")
	}
	w.is("c", v1alpha1.ConditionReconciling, v1alpha1.ReasonUnreachable)
	if f := w.node("c").Status.Fencing; f == nil || !f.Since.Time.Equal(start) || !f.Tainted {
		t.Errorf("%+v", f)
	}
	// The taint is every network's: as long as another one misses the node, it stays.
	for _, o := range []struct{ node, against string }{{"a", "c"}, {"b", "c"}, {"c", ""}} {
		n := &v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: "other." + o.node}, Spec: v1alpha1.StorageNodeSpec{Network: "other", NodeName: o.node},
			Status: v1alpha1.StorageNodeStatus{LayoutVersion: 1, Agent: &v1alpha1.AgentStatus{Unreachable: []string{o.against}}}}
		if err := w.client.Create(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	if word("a"); !tainted() || w.node("c").Status.Fencing != nil {
		t.Error("another network misses the node, and the taint is gone")
	}
	if err := w.client.Delete(t.Context(), &v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: "other.a"}}); err != nil {
		t.Fatal(err)
	}
	if word("a"); tainted() || w.node("c").Status.Fencing != nil {
		t.Error("back, and still tainted")
	}
	w.is("c", v1alpha1.ConditionReady, v1alpha1.ReasonReady)
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		change       func(*world)
		kind, reason string
	}{
		"missing": {func(w *world) {
			w.edit("c", func(n *v1alpha1.StorageNode) { n.Status.Agent.Stores[0].State = v1alpha1.StoreMissing })
		}, v1alpha1.ConditionStalled, v1alpha1.ReasonStoreMissing},
		"failed": {func(w *world) {
			w.edit("c", func(n *v1alpha1.StorageNode) { n.Status.Agent.Stores[0].State = v1alpha1.StoreQuarantined })
		}, v1alpha1.ConditionStalled, v1alpha1.ReasonStoreFailed},
		"no agent": {func(w *world) { w.edit("c", func(n *v1alpha1.StorageNode) { n.Status.Agent = nil }) }, v1alpha1.ConditionReconciling, v1alpha1.ReasonAgentMissing},
		"no node": {func(w *world) {
			if err := w.client.Delete(w.t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "c"}}); err != nil {
				w.t.Fatal(err)
			}
		}, v1alpha1.ConditionStalled, v1alpha1.ReasonNodeMissing},
		"no network": {func(w *world) {
			if err := w.client.Delete(w.t.Context(), &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "main"}}); err != nil {
				w.t.Fatal(err)
			}
		}, v1alpha1.ConditionStalled, v1alpha1.ReasonNetworkMissing},
		"drains": {func(w *world) {
			w.edit("c", func(n *v1alpha1.StorageNode) { n.Spec.Scheduling = v1alpha1.SchedulingDrained })
		}, v1alpha1.ConditionReconciling, v1alpha1.ReasonDraining},
		"drained": {func(w *world) {
			w.edit("c", func(n *v1alpha1.StorageNode) {
				n.Spec.Scheduling = v1alpha1.SchedulingDrained
				n.Status.Agent.Copies = 0
			})
			w.publish(2, "c")
		}, v1alpha1.ConditionReady, v1alpha1.ReasonDrained},
		"cordoned": {func(w *world) {
			w.edit("c", func(n *v1alpha1.StorageNode) { n.Spec.Scheduling = v1alpha1.SchedulingCordoned })
		}, v1alpha1.ConditionReady, v1alpha1.ReasonCordoned},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.change(w)
			w.settle()
			w.is("c", c.kind, c.reason)
		})
	}
}

// TestClearing: a store that gets space back is short of it, and its condition says whether somebody has to do something.
func TestClearing(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ clearing, reason, text string }{{"", v1alpha1.ReasonEnoughSpace, ""}, {"Unreferenced", v1alpha1.ReasonClearingSpace, "Unreferenced"},
		{"Exhausted", v1alpha1.ReasonSpaceExhausted, "Add disks"}, {"", v1alpha1.ReasonEnoughSpace, ""}} {
		w.edit("a", func(n *v1alpha1.StorageNode) { n.Status.Agent.Stores[0].Clearing = c.clearing })
		w.settle()
		k := meta.FindStatusCondition(w.node("a").Status.Conditions, v1alpha1.ConditionCapacityLow)
		if k == nil || (k.Status == metav1.ConditionTrue) != (c.clearing != "") || k.Reason != c.reason || !strings.Contains(k.Message, c.text) {
			t.Errorf("%q: %+v", c.clearing, k)
		}
	}
}

// TestPressure: what the agent says is beyond its threshold is a condition, which ends with it.
func TestPressure(t *testing.T) {
	w := newWorld(t)
	check := func(name string, is bool, reason, text string) {
		t.Helper()
		w.settle()
		c := meta.FindStatusCondition(w.node(name).Status.Conditions, v1alpha1.ConditionUnderPressure)
		if c == nil || (c.Status == metav1.ConditionTrue) != is || c.Reason != reason || !strings.Contains(c.Message, text) {
			t.Errorf("%s: %+v", name, c)
		}
	}
	check("a", false, v1alpha1.ReasonBelowThresholds, "")
	w.edit("a", func(n *v1alpha1.StorageNode) { n.Status.Agent.Pressure = []string{"cpu", "disk"} })
	check("a", true, v1alpha1.ReasonAboveThreshold, "cpu, disk")
	check("b", false, v1alpha1.ReasonBelowThresholds, "")
	w.edit("a", func(n *v1alpha1.StorageNode) { n.Status.Agent.Pressure = nil })
	check("a", false, v1alpha1.ReasonBelowThresholds, "")
}
