package warrants_test

import (
	"context"
	"crypto/ed25519"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/authority"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/controllers/warrants"
	"mynetwork.io/mynetwork/nodeagent/core/warrant"
)

const (
	uid       = "6a1f0e9c-0000-4000-8000-000000000001"
	volume    = "00112233445566778899aabbccddeeff"
	handle    = uid + "." + volume
	namespace = "mynetwork-system"
)

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func network() *v1alpha1.MyNetwork {
	return &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "main", UID: uid}}
}

func node(name string) *v1alpha1.StorageNode {
	return &v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: "main." + name}, Spec: v1alpha1.StorageNodeSpec{Network: "main", NodeName: name},
		Status: v1alpha1.StorageNodeStatus{Storage: true}}
}

func record(asks ...v1alpha1.VolumeRequest) *v1alpha1.VolumeRecord {
	return &v1alpha1.VolumeRecord{ObjectMeta: metav1.ObjectMeta{Name: handle}, Requests: asks, Fact: v1alpha1.VolumeFact{Epoch: 4},
		Spec: v1alpha1.VolumeRecordSpec{Network: "main", NetworkUID: uid, VolumeID: volume, Claim: &v1alpha1.ClaimReference{Namespace: "apps", Name: "data"}}}
}

func attach(node, id string) v1alpha1.VolumeRequest {
	return v1alpha1.VolumeRequest{Node: node, ID: id, Attach: true}
}

func remove(node, id string, epoch int64) v1alpha1.VolumeRequest {
	return v1alpha1.VolumeRequest{Node: node, ID: id, Deletion: &v1alpha1.DeletionRequest{Epoch: epoch, At: 99}}
}

func pv(phase corev1.PersistentVolumePhase) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pvc-1"}, Status: corev1.PersistentVolumeStatus{Phase: phase},
		Spec: corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{Namespace: "apps", Name: "data"},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: v1alpha1.DriverName, VolumeHandle: handle}}}}
}

func TestDecide(t *testing.T) {
	type facts = warrants.Facts
	ask := func(r v1alpha1.VolumeRequest) func(*facts) { return func(f *facts) { f.Request = &r } }
	on := func(dead bool, nodes ...string) func(*facts) {
		return func(f *facts) {
			for _, n := range nodes {
				f.Users = append(f.Users, warrants.User{Namespace: "apps", Pod: "p-" + n, Node: n, Dead: dead})
			}
		}
	}
	const granted, deleted = "grant", "deletion"
	for name, c := range map[string]struct {
		change []func(*facts)
		want   string // granted, deleted, or words of the refusal
	}{
		"a pod here":                            {[]func(*facts){on(false, "a")}, granted},
		"no pod anywhere":                       {nil, granted},
		"a pod elsewhere":                       {[]func(*facts){on(false, "b")}, "pod apps/p-b on node b uses the volume"},
		"many elsewhere":                        {[]func(*facts){on(false, "b", "c", "d", "e", "f")}, "2 more"},
		"pods here and elsewhere":               {[]func(*facts){on(false, "b", "a")}, granted},
		"a pod on a dead node":                  {[]func(*facts){on(true, "b")}, granted},
		"one dead, one not":                     {[]func(*facts){on(true, "b"), on(false, "c")}, "node c"},
		"no network":                            {[]func(*facts){func(f *facts) { f.Network = nil }}, "no MyNetwork"},
		"no node":                               {[]func(*facts){func(f *facts) { f.Node = nil }}, "does not belong"},
		"a node that leaves":                    {[]func(*facts){func(f *facts) { f.Node.DeletionTimestamp = &metav1.Time{} }}, "is leaving"},
		"a deleted volume":                      {[]func(*facts){func(f *facts) { f.Record.State.Deletion = &v1alpha1.VolumeDeletion{} }}, "is deleted"},
		"a record without a volume":             {[]func(*facts){func(f *facts) { f.Record.Spec.VolumeID = "zz" }}, "volumeID"},
		"nothing asked":                         {[]func(*facts){ask(v1alpha1.VolumeRequest{Node: "a"})}, "asks for nothing"},
		"both asked":                            {[]func(*facts){ask(v1alpha1.VolumeRequest{Node: "a", Attach: true, Deletion: &v1alpha1.DeletionRequest{}})}, "one thing"},
		"delete":                                {[]func(*facts){ask(remove("a", "1", 5))}, deleted},
		"delete, released":                      {[]func(*facts){ask(remove("a", "1", 5)), func(f *facts) { f.Volumes = []corev1.PersistentVolume{*pv(corev1.VolumeReleased)} }}, deleted},
		"delete, bound":                         {[]func(*facts){ask(remove("a", "1", 5)), func(f *facts) { f.Volumes = []corev1.PersistentVolume{*pv(corev1.VolumeBound)} }}, "claim apps/data"},
		"delete, cloned":                        {[]func(*facts){ask(remove("a", "1", 5)), func(f *facts) { f.Children = []string{"x"} }}, "1 volumes were cloned"},
		"delete, taken over since":              {[]func(*facts){ask(remove("a", "1", 3))}, "epoch 4"},
		"delete by nobody's node":               {[]func(*facts){ask(remove("a", "1", 5)), func(f *facts) { f.Node = nil }}, "does not belong"},
		"delete what is deleted":                {[]func(*facts){ask(remove("a", "1", 5)), func(f *facts) { f.Record.State.Deletion = &v1alpha1.VolumeDeletion{} }}, deleted},
		"delete while a pod, unbound, is there": {[]func(*facts){ask(remove("a", "1", 5)), on(false, "b")}, deleted},
	} {
		f := facts{Network: network(), Node: node("a"), Record: record(), Request: new(attach("a", "1")), Now: start}
		for _, change := range c.change {
			change(&f)
		}
		d := warrants.Decide(f)
		switch {
		case c.want == granted:
			if g := d.Grant; g == nil || d.Refused != "" || d.Deletion != nil || g.Node != "a" || g.Verbs != warrant.Writer || g.Volume.String() != volume ||
				g.NotAfter != start.Add(warrants.Validity).Unix() {
				t.Errorf("%s: %+v", name, d)
			}
		case c.want == deleted:
			if e := d.Deletion; e == nil || d.Refused != "" || d.Grant != nil || e.Volume.String() != volume || e.Epoch != 5 || e.At != 99 {
				t.Errorf("%s: %+v", name, d)
			}
		case d.Grant != nil || d.Deletion != nil || !strings.Contains(d.Refused, c.want):
			t.Errorf("%s: %+v, want %q", name, d, c.want)
		}
	}
}

// world is a fake API that counts writes.
type world struct {
	client client.Client
	keys   []ed25519.PublicKey
	writes atomic.Int64
	now    time.Time
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	w := &world{now: start}
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	data, err := authority.New(uid, start)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := authority.Load(data, uid)
	if err != nil {
		t.Fatal(err)
	}
	w.keys = []ed25519.PublicKey{ca.Control().Public().(ed25519.PublicKey)}
	objects = append(objects, network(), node("a"), node("b"), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "main-authority", Namespace: namespace}, Data: data})
	b := fake.NewClientBuilder().WithScheme(s).WithObjects(objects...).WithStatusSubresource(&v1alpha1.VolumeRecord{}, &v1alpha1.StorageNode{}, &v1alpha1.MyNetwork{}).
		WithIndex(&v1alpha1.StorageNode{}, mynetwork.FieldNetwork, func(o client.Object) []string { return []string{o.(*v1alpha1.StorageNode).Spec.Network} }).
		WithIndex(&v1alpha1.StorageNode{}, mynetwork.FieldNode, mynetwork.NodeOf).
		WithIndex(&corev1.PersistentVolume{}, warrants.FieldHandle, warrants.HandleOf).
		WithIndex(&corev1.Pod{}, "spec.nodeName", func(o client.Object) []string { return []string{o.(*corev1.Pod).Spec.NodeName} })
	w.client = interceptor.NewClient(b.Build(), interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			w.writes.Add(1)
			return c.Create(ctx, o, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			w.writes.Add(1)
			return c.Patch(ctx, o, p, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			w.writes.Add(1)
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	})
	return w
}

// answers reconciles the record and gives its answers.
func (w *world) answers(t *testing.T) []v1alpha1.VolumeAnswer {
	t.Helper()
	r := &warrants.Records{Client: w.client, Live: w.client, Namespace: namespace, Now: func() time.Time { return w.now }}
	key := client.ObjectKey{Name: handle}
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
		t.Fatal(err)
	}
	rec := &v1alpha1.VolumeRecord{}
	if err := w.client.Get(t.Context(), key, rec); err != nil {
		t.Fatal(err)
	}
	return rec.Status.Answers
}

// ask replaces the record's requests.
func (w *world) ask(t *testing.T, asks ...v1alpha1.VolumeRequest) {
	t.Helper()
	rec := &v1alpha1.VolumeRecord{}
	if err := w.client.Get(t.Context(), client.ObjectKey{Name: handle}, rec); err != nil {
		t.Fatal(err)
	}
	rec.Requests = asks
	if err := w.client.Update(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
}

func pod(name, node string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "apps"}, Spec: corev1.PodSpec{NodeName: node, Volumes: []corev1.Volume{{
		Name: "d", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}}}
}

func TestRecords(t *testing.T) {
	w := newWorld(t, record(attach("a", "1"), attach("b", "2")), pv(corev1.VolumeBound), pod("p", "a"))
	got := w.answers(t)
	if len(got) != 2 || got[0].Node != "a" || got[0].ID != "1" || !strings.Contains(got[1].Refused, "apps/p on node a") {
		t.Fatalf("%+v", got)
	}
	g, err := warrant.VerifyGrant(got[0].Grant, uid, w.keys)
	if err != nil || g.Node != "a" || g.Volume.String() != volume || g.Verbs != warrant.Writer || got[0].NotAfter.Unix() != g.NotAfter {
		t.Fatalf("%+v, %v", g, err)
	}
	before := w.writes.Load()
	w.now = w.now.Add(time.Hour)
	if again := w.answers(t); w.writes.Load() != before || len(again) != 2 {
		t.Errorf("%d writes at rest", w.writes.Load()-before)
	}
	// A new id is a new request; what is asked no more is answered no more.
	w.ask(t, attach("a", "3"))
	if got := w.answers(t); len(got) != 1 || got[0].ID != "3" || len(got[0].Grant) == 0 {
		t.Errorf("%+v", got)
	}
	// The pod ends: the other node may.
	if err := w.client.Delete(t.Context(), pod("p", "a")); err != nil {
		t.Fatal(err)
	}
	w.ask(t, attach("b", "4"))
	if got := w.answers(t); len(got) != 1 || len(got[0].Grant) == 0 {
		t.Errorf("%+v", got)
	}
	// A bound volume is not deleted, a released one is, and one that was cloned is not.
	w.ask(t, remove("b", "5", 5))
	if got := w.answers(t); !strings.Contains(got[0].Refused, "bound") {
		t.Errorf("%+v", got)
	}
	if err := w.client.Delete(t.Context(), pv(corev1.VolumeBound)); err != nil {
		t.Fatal(err)
	}
	w.ask(t, remove("b", "6", 5))
	if d, err := warrant.VerifyDeletion(w.answers(t)[0].Deletion, [16]byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}, uid, w.keys); err != nil || d.Epoch != 5 {
		t.Errorf("%+v, %v", d, err)
	}
	child := record()
	child.Name, child.Labels = "child", map[string]string{v1alpha1.LabelParent: volume}
	if err := w.client.Create(t.Context(), child); err != nil {
		t.Fatal(err)
	}
	w.ask(t, remove("b", "7", 5))
	if got := w.answers(t); !strings.Contains(got[0].Refused, "child") {
		t.Errorf("%+v", got)
	}
}

// A dead node's pod is in nobody's way: neither of who fences the volume nor of who takes it over.
func TestDeadNode(t *testing.T) {
	dead := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: v1alpha1.TaintUnreachable}}}}
	w := newWorld(t, record(attach("a", "1")), pv(corev1.VolumeBound), pod("p", "c"), dead)
	if got := w.answers(t); len(got[0].Grant) == 0 {
		t.Errorf("%+v", got)
	}
	dead.Spec.Taints[0].Key, dead.ResourceVersion = "other", ""
	w = newWorld(t, record(attach("a", "1")), pv(corev1.VolumeBound), pod("p", "c"), dead)
	if got := w.answers(t); got[0].Refused == "" {
		t.Errorf("control: %+v", got)
	}
}

func TestMembers(t *testing.T) {
	compute := node("z")
	compute.Status.Storage = false
	w := newWorld(t, compute)
	r := &warrants.Members{Client: w.client, Namespace: namespace, Now: func() time.Time { return w.now }}
	round := func() (grants map[string][]byte, secret *corev1.Secret) {
		t.Helper()
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "main"}}); err != nil {
			t.Fatal(err)
		}
		var list v1alpha1.StorageNodeList
		secret = &corev1.Secret{}
		if err := w.client.List(t.Context(), &list); err != nil {
			t.Fatal(err)
		}
		if err := w.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: v1alpha1.ControlSecret}, secret); err != nil {
			t.Fatal(err)
		}
		grants = map[string][]byte{}
		for _, n := range list.Items {
			grants[n.Spec.NodeName] = n.Status.MemberGrant
		}
		return grants, secret
	}
	first, secret := round()
	for name, b := range first {
		g, err := warrant.VerifyGrant(b, uid, w.keys)
		want := warrant.EveryVolume
		if name == "z" {
			want = warrant.Read
		}
		if err != nil || g.Node != name || !g.Volume.IsZero() || g.Verbs != want || g.Verbs&(warrant.Write|warrant.Attach) != 0 {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
	}
	if len(secret.Data) != 3 || !strings.Contains(string(secret.Data[uid+".crt"]), "CERTIFICATE") || !strings.Contains(string(secret.Data[uid+".ca"]), "CERTIFICATE") {
		t.Errorf("secret has %d keys", len(secret.Data))
	}
	before := w.writes.Load()
	w.now = w.now.Add(warrants.Validity / 4)
	if _, _ = round(); w.writes.Load() != before {
		t.Errorf("%d writes at rest", w.writes.Load()-before)
	}
	w.now = w.now.Add(warrants.Validity / 4)
	second, renewed := round()
	for name := range first {
		if slices.Equal(first[name], second[name]) {
			t.Errorf("the grant of %s was not renewed after half of its life", name)
		}
	}
	if string(renewed.Data[uid+".crt"]) == string(secret.Data[uid+".crt"]) || string(renewed.Data[uid+".key"]) == string(secret.Data[uid+".key"]) {
		t.Error("the certificate was not renewed after half of its life")
	}
	if err := w.client.Delete(t.Context(), network()); err != nil {
		t.Fatal(err)
	}
	if _, gone := round(); len(gone.Data) != 0 {
		t.Errorf("a network that is gone has %d keys", len(gone.Data))
	}
}
