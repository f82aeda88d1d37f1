package contentgroup_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/contentgroup"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/controllers/status"
)

func group(change func(*v1alpha1.ContentGroupSpec)) *v1alpha1.ContentGroup {
	g := &v1alpha1.ContentGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: "g", Generation: 1},
		Spec: v1alpha1.ContentGroupSpec{Network: "main", Kind: v1alpha1.GroupVolume, Claim: "data"}}
	change(&g.Spec)
	return g
}

func record(namespace string) *v1alpha1.VolumeRecord {
	return &v1alpha1.VolumeRecord{ObjectMeta: metav1.ObjectMeta{Name: "vol-" + namespace}, Spec: v1alpha1.VolumeRecordSpec{Network: "main", Copies: 3,
		Claim: &v1alpha1.ClaimReference{Namespace: namespace, Name: "data"}}, Fact: v1alpha1.VolumeFact{Epoch: 5, Token: "0011223344556677"}}
}

// run reconciles twice, checks kstatus and that the second time wrote nothing, and returns the group and the client.
func run(t *testing.T, g *v1alpha1.ContentGroup, objects ...client.Object) (*v1alpha1.ContentGroup, client.Client) {
	t.Helper()
	s := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(s).WithObjects(append(objects, g)...).WithStatusSubresource(&v1alpha1.ContentGroup{}).
		WithIndex(&v1alpha1.VolumeRecord{}, mynetwork.FieldClaim, mynetwork.ClaimOf).
		WithIndex(&v1alpha1.ContentGroup{}, mynetwork.FieldClaim, mynetwork.GroupClaimOf).Build()
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	r := &contentgroup.Reconciler{Client: c, Now: func() time.Time { now = now.Add(time.Hour); return now }}
	version := ""
	for i := range 2 {
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(g)}); err != nil {
			t.Fatal(err)
		}
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(g), g); err != nil {
			t.Fatal(err)
		}
		if i == 1 && g.ResourceVersion != version {
			t.Error("a second reconcile wrote")
		}
		version = g.ResourceVersion
	}
	if v := status.Violations(g.Status.Conditions, g.Generation, g.Status.ObservedGeneration); v != nil {
		t.Error(v)
	}
	return g, c
}

func net() *v1alpha1.MyNetwork {
	return &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "main"}}
}

func nothing(*v1alpha1.ContentGroupSpec) {}

func TestShowsItsVolume(t *testing.T) {
	r := record("app")
	r.State = v1alpha1.VolumeState{Copies: 2, Snapshots: []v1alpha1.VolumeSnapshot{{ID: "ab", Name: "s"}}}
	g, _ := run(t, group(nothing), net(), r)
	if st := g.Status; st.Volume != "vol-app" || st.Copies != 3 || st.StateCount != 2 || len(st.States) != 2 || st.States[1].Kind != v1alpha1.StateSnapshot || !meta.IsStatusConditionTrue(st.Conditions, "Ready") ||
		!meta.IsStatusConditionTrue(st.Conditions, "Degraded") {
		t.Errorf("%+v", st)
	}
}

// A weak volume that went on without a replica says so in its group as long as its record does, and then no more.
func TestDataLossIsSaid(t *testing.T) {
	r := record("app")
	r.State.DataLoss, r.State.History = v1alpha1.DataLossPossible, 4
	g, _ := run(t, group(nothing), net(), r)
	if c := meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionDataLoss); c == nil || c.Status != metav1.ConditionTrue || c.Reason != v1alpha1.ReasonPossible {
		t.Errorf("%+v", c)
	}
	g, _ = run(t, group(nothing), net(), record("app"))
	if c := meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionDataLoss); c != nil {
		t.Errorf("control: %+v", c)
	}
}

func TestSecondReconcileWritesNothing(t *testing.T) { run(t, group(nothing), net(), record("app")) }

func TestNoOtherNamespace(t *testing.T) {
	g, _ := run(t, group(nothing), net(), record("other"))
	if g.Status.Volume != "" || g.Status.Copies != 0 {
		t.Errorf("it shows another namespace's volume: %+v", g.Status)
	}
}

func TestRecordsAreLeft(t *testing.T) {
	r := record("app")
	_, c := run(t, group(func(s *v1alpha1.ContentGroupSpec) { s.Copies = new(int32(5)) }), net(), r)
	got := &v1alpha1.VolumeRecord{}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(r), got); err != nil || got.ResourceVersion != "999" || got.Spec.Copies != 3 {
		t.Errorf("%v %+v", err, got)
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		g       *v1alpha1.ContentGroup
		objects []client.Object
		reason  string
	}{
		"no network": {group(nothing), nil, v1alpha1.ReasonNetworkMissing},
		"files":      {group(func(s *v1alpha1.ContentGroupSpec) { s.Kind = v1alpha1.GroupFiles }), []client.Object{net()}, v1alpha1.ReasonInvalidSpec},
		"no claim":   {group(func(s *v1alpha1.ContentGroupSpec) { s.Claim = "" }), []client.Object{net()}, v1alpha1.ReasonInvalidSpec},
		"no volume":  {group(nothing), []client.Object{net()}, v1alpha1.ReasonProgressing},
		"copies":     {group(func(s *v1alpha1.ContentGroupSpec) { s.Copies = new(int32(5)) }), []client.Object{net(), record("app")}, v1alpha1.ReasonInvalidSpec},
	} {
		g, _ := run(t, c.g, c.objects...)
		if got := meta.FindStatusCondition(g.Status.Conditions, "Ready"); got.Status != metav1.ConditionFalse || got.Reason != c.reason {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// A volume that was made for a claim gets a view beside it, and nobody's group is touched.
func TestViews(t *testing.T) {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "data", UID: "c-1"}}
	rec := func(change func(*v1alpha1.VolumeRecord)) *v1alpha1.VolumeRecord {
		r := &v1alpha1.VolumeRecord{ObjectMeta: metav1.ObjectMeta{Name: "v1"}, Spec: v1alpha1.VolumeRecordSpec{Network: "main",
			Claim: &v1alpha1.ClaimReference{Namespace: "apps", Name: "data"}}}
		if change != nil {
			change(r)
		}
		return r
	}
	theirs := &v1alpha1.ContentGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "data"}, Spec: v1alpha1.ContentGroupSpec{Network: "other"}}
	for name, c := range map[string]struct {
		objects []client.Object
		network string // of the group; empty: none
	}{
		"made":              {[]client.Object{claim, rec(nil)}, "main"},
		"without a claim":   {[]client.Object{claim, rec(func(r *v1alpha1.VolumeRecord) { r.Spec.Claim = nil })}, ""},
		"the claim is gone": {[]client.Object{rec(nil)}, ""},
		"a deleted volume":  {[]client.Object{claim, rec(func(r *v1alpha1.VolumeRecord) { r.State.Deletion = &v1alpha1.VolumeDeletion{} })}, ""},
		"in the making": {[]client.Object{claim, rec(func(r *v1alpha1.VolumeRecord) {
			r.Labels = map[string]string{v1alpha1.LabelState: v1alpha1.StateMaking}
		})}, ""},
		"somebody's group": {[]client.Object{claim, rec(nil), theirs}, "other"},
	} {
		s := runtime.NewScheme()
		for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
			if err := add(s); err != nil {
				t.Fatal(err)
			}
		}
		cl := fake.NewClientBuilder().WithScheme(s).WithObjects(c.objects...).Build()
		r := &contentgroup.Views{Client: cl, Live: cl}
		for range 2 { // it can be repeated
			if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "v1"}}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		g := &v1alpha1.ContentGroup{}
		err := cl.Get(t.Context(), client.ObjectKey{Namespace: "apps", Name: "data"}, g)
		if client.IgnoreNotFound(err) != nil || (err == nil) != (c.network != "") || g.Spec.Network != c.network {
			t.Errorf("%s: %+v, %v", name, g.Spec, err)
		}
		if c.network == "main" && (len(g.OwnerReferences) != 1 || g.OwnerReferences[0].UID != "c-1" || g.Spec.Claim != "data") {
			t.Errorf("%s: %+v", name, g)
		}
	}
}
