package contentgroup_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/agents"
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

// agent is who sets copies.
type agent struct {
	asked []string
	err   error
}

func (a *agent) Modify(_ context.Context, n *v1alpha1.MyNetwork, volumeID, holder string, c agents.Copies) error {
	text := func(p *int32) string {
		if p == nil {
			return "-"
		}
		return fmt.Sprint(*p)
	}
	a.asked = append(a.asked, fmt.Sprintf("%s %s at %q: %s %s %s", n.Name, volumeID, holder, text(c.Copies), text(c.Min), text(c.Max)))
	return a.err
}

// run reconciles twice, checks kstatus and that the second time wrote nothing, and returns the group and the client.
func run(t *testing.T, g *v1alpha1.ContentGroup, objects ...client.Object) (*v1alpha1.ContentGroup, client.Client) {
	t.Helper()
	g, c, _ := runWith(t, &agent{err: fmt.Errorf("%w: not these", agents.ErrRefused)}, g, objects...)
	return g, c
}

// runWith is run with an agent; it gives the events too.
func runWith(t *testing.T, a *agent, g *v1alpha1.ContentGroup, objects ...client.Object) (*v1alpha1.ContentGroup, client.Client, []string) {
	t.Helper()
	recorder := events.NewFakeRecorder(10)
	s := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(s).WithObjects(append(objects, g)...).WithStatusSubresource(&v1alpha1.ContentGroup{}).
		WithIndex(&v1alpha1.VolumeRecord{}, mynetwork.FieldClaim, mynetwork.ClaimOf).
		WithIndex(&v1alpha1.ContentGroup{}, mynetwork.FieldClaim, mynetwork.GroupClaimOf).Build()
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	r := &contentgroup.Reconciler{Client: c, Events: recorder, Modifier: a, Now: func() time.Time { now = now.Add(time.Hour); return now }}
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
	var told []string
	for len(recorder.Events) > 0 {
		told = append(told, <-recorder.Events)
	}
	return g, c, told
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

// TestCopies: what a group asks for and the record does not say is asked of the agent that has the volume, and of nothing else.
func TestCopies(t *testing.T) {
	bounds := func(least, most int32) func(*v1alpha1.ContentGroupSpec) {
		return func(s *v1alpha1.ContentGroupSpec) { s.MinCopies, s.MaxCopies = &least, &most }
	}
	for name, c := range map[string]struct {
		spec   func(*v1alpha1.ContentGroupSpec)
		status v1alpha1.ContentGroupStatus
		record func(*v1alpha1.VolumeRecord)
		asks   string // of copies, least and most
		reason string // of Ready
	}{
		"nothing":           {nothing, v1alpha1.ContentGroupStatus{}, nil, "", v1alpha1.ReasonReady},
		"copies":            {func(s *v1alpha1.ContentGroupSpec) { s.Copies = new(int32(5)) }, v1alpha1.ContentGroupStatus{}, nil, "5 - -", v1alpha1.ReasonProgressing},
		"equal copies":      {func(s *v1alpha1.ContentGroupSpec) { s.Copies = new(int32(3)) }, v1alpha1.ContentGroupStatus{}, nil, "", v1alpha1.ReasonReady},
		"bounds":            {bounds(3, 5), v1alpha1.ContentGroupStatus{}, nil, "- 3 5", v1alpha1.ReasonProgressing},
		"equal bounds":      {bounds(3, 5), v1alpha1.ContentGroupStatus{}, func(r *v1alpha1.VolumeRecord) { r.Spec.MinCopies, r.Spec.MaxCopies = 3, 5 }, "", v1alpha1.ReasonReady},
		"taken away":        {nothing, v1alpha1.ContentGroupStatus{MinCopies: new(int32(3)), MaxCopies: new(int32(5))}, func(r *v1alpha1.VolumeRecord) { r.Spec.MinCopies, r.Spec.MaxCopies = 3, 5 }, "- 0 0", v1alpha1.ReasonProgressing},
		"another's":         {nothing, v1alpha1.ContentGroupStatus{}, func(r *v1alpha1.VolumeRecord) { r.Spec.MinCopies, r.Spec.MaxCopies = 3, 5 }, "", v1alpha1.ReasonReady},
		"against another's": {func(s *v1alpha1.ContentGroupSpec) { s.Copies = new(int32(4)) }, v1alpha1.ContentGroupStatus{}, func(r *v1alpha1.VolumeRecord) { r.Spec.MinCopies, r.Spec.MaxCopies = 3, 5 }, "", v1alpha1.ReasonInvalidSpec},
		"another network":   {bounds(3, 5), v1alpha1.ContentGroupStatus{}, func(r *v1alpha1.VolumeRecord) { r.Spec.NetworkUID = "another" }, "", v1alpha1.ReasonReady},
	} {
		r := record("app")
		r.Spec.VolumeID, r.State.Holder = "v", "n1"
		if c.record != nil {
			c.record(r)
		}
		g := group(c.spec)
		g.Status = c.status
		a := &agent{}
		g, cl, _ := runWith(t, a, g, net(), r)
		want := 0
		if c.asks != "" {
			want = 2 // the record has not followed in between
		}
		if len(a.asked) != want || want > 0 && a.asked[0] != `main v at "n1": `+c.asks {
			t.Errorf("%s: asked %q", name, a.asked)
		}
		if got := meta.FindStatusCondition(g.Status.Conditions, "Ready"); got.Reason != c.reason {
			t.Errorf("%s: %+v", name, got)
		}
		if got := (&v1alpha1.VolumeRecord{}); cl.Get(t.Context(), client.ObjectKeyFromObject(r), got) != nil || got.ResourceVersion != "999" {
			t.Errorf("%s: the record was written", name)
		}
	}
}

// TestAsksOnce: once the record follows, nothing more is asked; the status has the bounds that were set, and why copies last changed; both are told once.
func TestAsksOnce(t *testing.T) {
	g := group(func(s *v1alpha1.ContentGroupSpec) { s.MinCopies, s.MaxCopies = new(int32(3)), new(int32(5)) })
	r := record("app")
	a := &agent{}
	g, _, told := runWith(t, a, g, net(), r)
	if g.Status.MinCopies == nil || *g.Status.MaxCopies != 5 || len(told) != 1 || !strings.Contains(told[0], "CopiesSet") || !strings.Contains(told[0], "3 to 5") {
		t.Errorf("%+v, %q", g.Status, told)
	}
	g.ResourceVersion, a.asked = "", nil
	r.Spec.MinCopies, r.Spec.MaxCopies, r.Spec.Copies, r.State.CopiesReason, r.State.CopiesChanged = 3, 5, 4, "ReadHot", metav1.Unix(1000, 0)
	g, _, told = runWith(t, a, g, net(), r)
	if len(a.asked) != 0 || len(told) != 1 || !strings.Contains(told[0], "4 copies instead of 3: ReadHot") {
		t.Errorf("asked %q, told %q", a.asked, told)
	}
	if g.Status.CopiesReason != "ReadHot" || !g.Status.CopiesChanged.Equal(&r.State.CopiesChanged) || g.Status.Copies != 4 {
		t.Errorf("%+v", g.Status)
	}
}

// TestRefusedAndAway: what an agent refuses is a person's matter and keeps its words; one that is away is asked again.
func TestRefusedAndAway(t *testing.T) {
	for _, c := range []struct {
		err           error
		reason, words string
	}{{fmt.Errorf("%w: 5 copies on 3 nodes", agents.ErrRefused), v1alpha1.ReasonInvalidSpec, "5 copies on 3 nodes"}, {errors.New("no route"), v1alpha1.ReasonProgressing, "tried again: no route"}} {
		a := &agent{err: c.err}
		g, _, told := runWith(t, a, group(func(s *v1alpha1.ContentGroupSpec) { s.MinCopies, s.MaxCopies = new(int32(3)), new(int32(5)) }), net(), record("app"))
		if got := meta.FindStatusCondition(g.Status.Conditions, "Ready"); got.Reason != c.reason || !strings.Contains(got.Message, c.words) || g.Status.MinCopies != nil || len(told) != 0 {
			t.Errorf("%+v, %v, %q", got, g.Status.MinCopies, told)
		}
	}
}

// TestTwoGroups: of two groups that set the copies of one claim the first by name does.
func TestTwoGroups(t *testing.T) {
	set := func(s *v1alpha1.ContentGroupSpec) { s.Copies = new(int32(5)) }
	first, last := group(set), group(set)
	first.Name, last.Name = "a", "z"
	a := &agent{}
	g, _, _ := runWith(t, a, last, net(), record("app"), first)
	if got := meta.FindStatusCondition(g.Status.Conditions, "Ready"); len(a.asked) != 0 || got.Reason != v1alpha1.ReasonInvalidSpec || !strings.Contains(got.Message, "group a") {
		t.Errorf("asked %q: %+v", a.asked, got)
	}
	last.ResourceVersion, first.ResourceVersion = "", ""
	if runWith(t, a, first, net(), record("app"), last); len(a.asked) == 0 {
		t.Error("nobody asked")
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
