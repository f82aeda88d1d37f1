//go:build envtest

package controllers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/hack/apiserver"
)

// messages are those of all rules in the definitions' schemas.
func messages(t *testing.T) (out []string) {
	t.Helper()
	files, err := filepath.Glob("../config/crd/storage.mynetwork.io_*.yaml")
	if err != nil || len(files) != 4 {
		t.Fatalf("%v %v", files, err)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			rules, _ := v["x-kubernetes-validations"].([]any)
			for _, r := range rules {
				out = append(out, r.(map[string]any)["message"].(string))
			}
			for _, e := range v {
				walk(e)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var crd any
		if err := yaml.Unmarshal(b, &crd); err != nil {
			t.Fatal(err)
		}
		walk(crd)
	}
	return out
}

// TestRealRules: the API server refuses what each rule of the schemas forbids, with the rule's own words. No rule is left out.
func TestRealRules(t *testing.T) {
	c, ctx := shared.Admin, t.Context()
	var heard []string
	refused := func(what string, err error) {
		t.Helper()
		if !apierrors.IsInvalid(err) {
			t.Errorf("%s: %v", what, err)
			return
		}
		heard = append(heard, err.Error())
	}
	network := func(name string, change func(*v1alpha1.MyNetworkSpec)) *v1alpha1.MyNetwork {
		n := &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.MyNetworkSpec{Nodes: v1alpha1.NodesSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"no": "node"}}},
			Storage: v1alpha1.StorageSpec{Path: "/srv/" + name}}}
		if change != nil {
			change(&n.Spec)
		}
		return n
	}
	refused("name", c.Create(ctx, network("1st", nil)))
	for what, change := range map[string]func(*v1alpha1.MyNetworkSpec){
		"cache":    func(s *v1alpha1.MyNetworkSpec) { s.Agent.CacheSize = new(resource.MustParse("2Ti")) },
		"capacity": func(s *v1alpha1.MyNetworkSpec) { s.Storage.Capacity = new(resource.MustParse("1Mi")) },
		"path":     func(s *v1alpha1.MyNetworkSpec) { s.Storage.Path = "/srv/../etc" },
		"class":    func(s *v1alpha1.MyNetworkSpec) { s.StorageClass.Name = "My_Class" },
		"down":     func(s *v1alpha1.MyNetworkSpec) { s.Nodes.DownAfter = &metav1.Duration{Duration: time.Second} },
		"copies":   func(s *v1alpha1.MyNetworkSpec) { s.Volumes.Copies = 2 },
	} {
		refused(what, c.Create(ctx, network("rules", change)))
	}
	// made makes an object and tries changes of it, each alone.
	made := func(o client.Object, changes ...func(client.Object)) {
		t.Helper()
		if err := c.Create(ctx, o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = c.Patch(t.Context(), o, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))
		})
		defer func() { _ = c.Delete(ctx, o) }()
		for i, change := range changes {
			changed := o.DeepCopyObject().(client.Object)
			change(changed)
			refused(fmt.Sprintf("%T, change %d", o, i), c.Update(ctx, changed, client.DryRunAll))
		}
	}
	made(network("rules", nil), func(o client.Object) { o.(*v1alpha1.MyNetwork).Spec.Storage.Path = "/srv/other" })
	made(&v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: "rules.a"}, Spec: v1alpha1.StorageNodeSpec{Network: "rules", NodeName: "a"}},
		func(o client.Object) { o.(*v1alpha1.StorageNode).Spec.Network = "other" },
		func(o client.Object) { o.(*v1alpha1.StorageNode).Spec.NodeName = "b" })
	made(&v1alpha1.ContentGroup{ObjectMeta: metav1.ObjectMeta{Name: "rules", Namespace: "default"}, Spec: v1alpha1.ContentGroupSpec{Network: "rules", Kind: v1alpha1.GroupVolume, Claim: "c"}},
		func(o client.Object) { o.(*v1alpha1.ContentGroup).Spec.Network = "other" },
		func(o client.Object) { o.(*v1alpha1.ContentGroup).Spec.Kind = v1alpha1.GroupFiles },
		func(o client.Object) { o.(*v1alpha1.ContentGroup).Spec.MinCopies = new(int32(3)) },
		func(o client.Object) {
			s := &o.(*v1alpha1.ContentGroup).Spec
			s.MinCopies, s.MaxCopies = new(int32(5)), new(int32(3))
		},
		func(o client.Object) {
			s := &o.(*v1alpha1.ContentGroup).Spec
			s.Copies, s.MinCopies, s.MaxCopies = new(int32(3)), new(int32(3)), new(int32(5))
		})
	record, changes := recordRules()
	made(record, changes...)
	for _, m := range messages(t) {
		if !slices.ContainsFunc(heard, func(h string) bool { return strings.Contains(h, m) }) {
			t.Errorf("no refusal had the words of the rule %q", m)
		}
	}
}

// recordRules is a record and what must not be changed of it.
func recordRules() (*v1alpha1.VolumeRecord, []func(client.Object)) {
	id := strings.Repeat("0c", 16)
	r := &v1alpha1.VolumeRecord{ObjectMeta: metav1.ObjectMeta{Name: "rules." + id},
		Spec: v1alpha1.VolumeRecordSpec{Network: "rules", NetworkUID: "11111111-1111-4111-8111-111111111111", VolumeID: id, Name: "v", Capacity: resource.MustParse("1Gi"), Copies: 3, Writes: v1alpha1.WriteStrong},
		Fact: v1alpha1.VolumeFact{Epoch: 5, Token: strings.Repeat("a", 16)}, State: v1alpha1.VolumeState{Deletion: &v1alpha1.VolumeDeletion{At: metav1.Now(), Signed: []byte("x")}}}
	on := func(f func(*v1alpha1.VolumeRecord)) func(client.Object) {
		return func(o client.Object) { f(o.(*v1alpha1.VolumeRecord)) }
	}
	return r, []func(client.Object){
		on(func(r *v1alpha1.VolumeRecord) { r.Fact = v1alpha1.VolumeFact{} }),
		on(func(r *v1alpha1.VolumeRecord) { r.Fact.Epoch = 4 }),
		on(func(r *v1alpha1.VolumeRecord) { r.Fact.Token = strings.Repeat("b", 16) }),
		on(func(r *v1alpha1.VolumeRecord) {
			r.Spec.Parent = &v1alpha1.VolumeParent{VolumeID: strings.Repeat("0d", 16), SnapshotID: strings.Repeat("0e", 16)}
		}),
		on(func(r *v1alpha1.VolumeRecord) { r.Spec.Encrypted = true }),
		on(func(r *v1alpha1.VolumeRecord) { r.Spec.Name = "w" }),
		on(func(r *v1alpha1.VolumeRecord) { r.Spec.Network = "other" }),
		on(func(r *v1alpha1.VolumeRecord) { r.Spec.NetworkUID = "21111111-1111-4111-8111-111111111111" }),
		on(func(r *v1alpha1.VolumeRecord) { r.Spec.VolumeID = strings.Repeat("0f", 16) }),
		on(func(r *v1alpha1.VolumeRecord) { r.Spec.Writes = v1alpha1.WriteWeak }),
		on(func(r *v1alpha1.VolumeRecord) { r.State.Deletion = nil }),
		on(func(r *v1alpha1.VolumeRecord) { r.State.Deletion, r.State.Holder = nil, "a" }),
	}
}

// policies reads how many rules each admission policy has.
func policies(t *testing.T) map[string]int {
	t.Helper()
	b, err := os.ReadFile("../config/admission/policies.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for doc := range strings.SplitSeq(string(b), "\n---\n") {
		var p admissionv1.ValidatingAdmissionPolicy
		if err := yaml.Unmarshal([]byte(doc), &p); err != nil {
			t.Fatal(err)
		}
		if p.Kind == "ValidatingAdmissionPolicy" {
			out[p.Name] = len(p.Spec.Validations)
		}
	}
	return out
}

// TestRealPolicies: each rule of the admission policies refuses what it is for, with words, and lets the rest through.
func TestRealPolicies(t *testing.T) {
	w := newWorld(t, "policies", 3)
	w.operate(&apiserver.Tap{})
	n := w.served()
	proved := map[string]int{}
	refused := func(policy, what string, err error, words string) {
		t.Helper()
		proved["mynetwork-"+policy]++
		w.refused(what, err, words)
	}
	w.policyOfReports(refused)
	w.policyOfRecords(n, refused)
	w.policyOfPods(refused)
	second := w.network()
	second.Name, second.Spec.Storage.Path = "policies-two", second.Spec.Storage.Path+"/below"
	refused("paths", "a path within another's", w.s.Admin.Create(t.Context(), second), "is used by MyNetwork policies")
	second.Spec.Storage.Path += "-not"
	second.Spec.Storage.Path = "/srv/policies-two"
	w.must("a path beside", w.s.Admin.Create(t.Context(), second))
	t.Cleanup(func() { w.discard(second.Name) })
	w.is(second, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonAgentsNotReady) // its nodes have no agents here
	for _, name := range []string{"volumes", "lastCopies"} {
		patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"status":{%q:2}}`, name))
		words := map[string]string{"volumes": "still has 2 volumes", "lastCopies": "2 nodes of MyNetwork policies hold data that has no other copy"}[name]
		w.stop() // it would count again
		w.must("status", w.s.Admin.Status().Patch(t.Context(), n, patch))
		refused("deletion", "deletion with "+name, w.s.Admin.Delete(t.Context(), n), words)
		w.must("status", w.s.Admin.Status().Patch(t.Context(), n, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"status":{%q:0}}`, name))))
	}
	for name, rules := range policies(t) {
		if proved[name] != rules {
			t.Errorf("policy %s has %d rules, and %d were seen to refuse", name, rules, proved[name])
		}
	}
}

type refusal func(policy, what string, err error, words string)

// policyOfReports: an agent reports about its own node, and writes no field that is the operator's.
func (w *world) policyOfReports(refused refusal) {
	ctx, c := w.t.Context(), w.agent(0)
	patch := func(i int, status string) error {
		return c.Status().Patch(ctx, w.storageNode(i), client.RawPatch(types.MergePatchType, []byte(`{"status":{`+status+`}}`)))
	}
	refused("agent-reports", "another's report", patch(1, `"agent":{"ready":true}`), "for the node that it runs on")
	w.must("its own report", patch(0, `"agent":{"ready":true}`))
	for field, value := range map[string]string{"observedGeneration": "9", "conditions": "[]", "summary": `"x"`, "zone": `"x"`, "weight": "9", "storage": "false", "nodeUID": `"x"`, "layoutVersion": "9",
		"formatGrant": `"` + strings.Repeat("0", 32) + `"`, "memberGrant": `"eHg="`, "memberGrantEnds": `"2030-01-01T00:00:00Z"`, "fencing": `{"since":"2030-01-01T00:00:00Z"}`} {
		refused("agent-reports", field, patch(0, fmt.Sprintf("%q:%s", field, value)), "status."+field+" is the operator's")
	}
}

// policyOfRecords: an agent speaks for itself.
func (w *world) policyOfRecords(n *v1alpha1.MyNetwork, refused refusal) {
	ctx, c := w.t.Context(), w.agent(0)
	id := strings.Repeat("0b", 16)
	r := &v1alpha1.VolumeRecord{ObjectMeta: metav1.ObjectMeta{Name: string(n.UID) + "." + id}, Spec: v1alpha1.VolumeRecordSpec{Network: w.name, NetworkUID: string(n.UID),
		VolumeID: id, Name: "v", Capacity: resource.MustParse("1Gi"), Copies: 3}}
	nobody, err := w.s.Client(w.s.Identity("mynetwork-agent", nil))
	w.must("client", err)
	refused("agent-records", "a token without a node", nobody.Create(ctx, r.DeepCopy()), "not bound to a node")
	w.must("record", c.Create(ctx, r))
	other := r.DeepCopy()
	other.State.Holder = w.node(1)
	refused("agent-records", "another as holder", c.Update(ctx, other), "as the holder")
	other = r.DeepCopy()
	other.Requests = []v1alpha1.VolumeRequest{{Node: w.node(1), ID: strings.Repeat("2", 16), Attach: true, At: metav1.Now()}}
	refused("agent-records", "a request for another", c.Update(ctx, other), "asks for another node")
	refused("agent-records", "removal of a live record", c.Delete(ctx, r), "live volume")
	err = c.Status().Patch(ctx, r, client.RawPatch(types.MergePatchType, []byte(`{"status":{"fencedEpoch":9}}`)))
	if !apierrors.IsForbidden(err) {
		w.t.Errorf("an agent wrote the operator's answers: %v", err)
	}
	w.must("remove", w.s.Admin.Delete(ctx, r))
}

// policyOfPods: the namespace is for MyNetwork's own pods.
func (w *world) policyOfPods(refused refusal) {
	pod := func(change func(*corev1.Pod)) error {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "stranger", Namespace: namespace}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
		change(p)
		return w.s.Admin.Create(w.t.Context(), p, client.DryRunAll)
	}
	host := corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}
	refused("pods", "a directory of the node", pod(func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "h", VolumeSource: host}} }), "directories of the node")
	refused("pods", "privileged", pod(func(p *corev1.Pod) {
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
	}), "is privileged")
	refused("pods", "the node's network", pod(func(p *corev1.Pod) { p.Spec.HostNetwork = true }), "shares the node's")
	w.must("an ordinary pod", pod(func(*corev1.Pod) {}))
}
