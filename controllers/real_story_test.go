//go:build envtest

package controllers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/hack/apiserver"
)

// life is the whole life of a network: it comes up, has a volume that a pod on its first node writes, loses that node and gets it back,
// loses the volume, and goes. At points that it names, look is called.
func (w *world) life(look func(point string)) {
	w.t.Helper()
	n := w.served()
	v := w.volume(n, 0)
	w.answered(v, "a grant", func(a v1alpha1.VolumeAnswer) bool { return len(a.Grant) > 0 })
	w.rests(n)
	look("served")
	w.failover(n, v)
	w.rests(n)
	look("back")
	w.gone(n, v)
	look("gone")
}

// rests waits until the network has its volume and nothing is left to do.
func (w *world) rests(n *v1alpha1.MyNetwork) {
	w.t.Helper()
	w.is(n, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	w.until("the network is at rest", func(ctx context.Context) error {
		if err := w.s.Admin.Get(ctx, client.ObjectKeyFromObject(n), n); err != nil || n.Status.Volumes != 1 || n.Status.Activity != "Serving" {
			return fmt.Errorf("%d volumes, %s, %v", n.Status.Volumes, n.Status.Activity, err)
		}
		return nil
	})
}

// app is a namespace for a pod with a claim.
func (w *world) app() string { return "app-" + w.name }

// volume makes a volume with its record, as the CSI driver and an agent do, and a pod on node i that uses it; the agent asks for it.
func (w *world) volume(n *v1alpha1.MyNetwork, i int) *v1alpha1.VolumeRecord {
	w.t.Helper()
	ctx, id := w.t.Context(), strings.Repeat("0a", 16)
	handle := string(n.UID) + "." + id
	if err := w.s.Admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.app()}}); err != nil && !apierrors.IsAlreadyExists(err) {
		w.t.Fatal(err)
	}
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	w.must("claim", w.s.Admin.Create(ctx, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data", Namespace: w.app()}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: modes, StorageClassName: new("mynetwork-" + w.name), VolumeName: "pv-" + w.name, Resources: corev1.VolumeResourceRequirements{Requests: size}}}))
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + w.name}, Spec: corev1.PersistentVolumeSpec{Capacity: size, AccessModes: modes, StorageClassName: "mynetwork-" + w.name,
		ClaimRef:               &corev1.ObjectReference{Namespace: w.app(), Name: "data"},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: v1alpha1.DriverName, VolumeHandle: handle}}}}
	w.must("volume", w.s.Admin.Create(ctx, pv))
	pv.Status.Phase = corev1.VolumeBound
	w.must("bound", w.s.Admin.Status().Update(ctx, pv))
	w.must("pod", w.s.Admin.Create(ctx, w.user(i)))
	c := w.agent(i)
	v := &v1alpha1.VolumeRecord{ObjectMeta: metav1.ObjectMeta{Name: handle}, Spec: v1alpha1.VolumeRecordSpec{Network: w.name, NetworkUID: string(n.UID), VolumeID: id, Name: "v",
		Capacity: resource.MustParse("1Gi"), Copies: 3, Claim: &v1alpha1.ClaimReference{Namespace: w.app(), Name: "data"}}}
	w.must("record", c.Create(ctx, v))
	v.Fact = v1alpha1.VolumeFact{Epoch: 1, Token: strings.Repeat("1", 16)}
	v.State = v1alpha1.VolumeState{Holder: w.node(i), HolderEpoch: 1}
	v.Requests = []v1alpha1.VolumeRequest{{Node: w.node(i), ID: strings.Repeat("1", 16), Attach: true, At: metav1.Now()}}
	w.must("request", c.Update(ctx, v))
	return v
}

// user is a pod on node i that uses the volume.
func (w *world) user(i int) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "db-0", Namespace: w.app()}, Spec: corev1.PodSpec{NodeName: w.node(i), Containers: []corev1.Container{{Name: "c", Image: "i"}},
		Volumes: []corev1.Volume{{Name: "d", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}}}
}

func (w *world) answered(v *v1alpha1.VolumeRecord, what string, is func(v1alpha1.VolumeAnswer) bool) {
	w.t.Helper()
	w.until(what+" is the answer", func(ctx context.Context) error {
		if err := w.s.Admin.Get(ctx, client.ObjectKeyFromObject(v), v); err != nil {
			return err
		}
		if !slices.ContainsFunc(v.Status.Answers, is) {
			return fmt.Errorf("answers are %+v", v.Status.Answers)
		}
		return nil
	})
}

// failover: the volume's node dies, the volume is fenced and its pod freed, and the node comes back.
func (w *world) failover(n *v1alpha1.MyNetwork, v *v1alpha1.VolumeRecord) {
	w.t.Helper()
	w.f.Kill(w.node(0))
	w.until("the volume is fenced, its pod freed, its node tainted", func(ctx context.Context) error {
		if err := w.s.Admin.Get(ctx, client.ObjectKeyFromObject(v), v); err != nil {
			return err
		}
		if v.Status.FencedNode != w.node(0) || v.Status.FencedEpoch != 2 {
			return fmt.Errorf("fenced is %q %d", v.Status.FencedNode, v.Status.FencedEpoch)
		}
		if p := w.user(0); w.there(p) {
			return fmt.Errorf("the pod is there")
		}
		return w.tainted(true)
	})
	w.is(n, v1alpha1.ConditionDegraded, metav1.ConditionTrue, v1alpha1.ReasonNodesDown)
	if fenced := append(w.f.Fences(w.node(1)), w.f.Fences(w.node(2))...); len(fenced) == 0 || len(w.f.Fences(w.node(0))) > 0 {
		w.t.Errorf("fences asked of the living: %v, of the dead: %v", fenced, w.f.Fences(w.node(0)))
	}
	w.f.Revive(w.node(0))
	w.until("the node is untainted", func(context.Context) error { return w.tainted(false) })
	w.is(n, v1alpha1.ConditionDegraded, metav1.ConditionFalse, v1alpha1.ReasonHealthy)
	w.is(n, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	w.is(w.storageNode(0), v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
}

func (w *world) tainted(want bool) error {
	n := &corev1.Node{}
	if err := w.s.Admin.Get(w.t.Context(), client.ObjectKey{Name: w.node(0)}, n); err != nil {
		return err
	}
	if is := slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintUnreachable }); is != want {
		return fmt.Errorf("tainted is %t", is)
	}
	return nil
}

// gone deletes the claim and its volume, the record as agents do, and the network.
func (w *world) gone(n *v1alpha1.MyNetwork, v *v1alpha1.VolumeRecord) {
	w.t.Helper()
	ctx := w.t.Context()
	w.refused("deletion of a network with a volume", w.s.Admin.Delete(ctx, n), "still has 1 volumes")
	ask := func(id string) {
		w.must("record", w.s.Admin.Get(ctx, client.ObjectKeyFromObject(v), v))
		v.Requests = []v1alpha1.VolumeRequest{{Node: w.node(1), ID: strings.Repeat(id, 16), At: metav1.Now(), Deletion: &v1alpha1.DeletionRequest{Epoch: 1, At: 1}}}
		w.must("request", w.agent(1).Update(ctx, v))
	}
	ask("2")
	w.answered(v, "a refusal", func(a v1alpha1.VolumeAnswer) bool { return strings.Contains(a.Refused, "is bound") })
	free := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
	for _, o := range []client.Object{&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data", Namespace: w.app()}}, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + w.name}}} {
		w.must("finalizers", w.s.Admin.Patch(ctx, o, free)) // those of Kubernetes' controllers, which do not run
		w.must("deletion", w.s.Admin.Delete(ctx, o))
	}
	ask("3")
	w.answered(v, "a signed deletion", func(a v1alpha1.VolumeAnswer) bool { return len(a.Deletion) > 0 })
	v.Labels = map[string]string{v1alpha1.LabelState: "deleted"}
	v.State.Deletion, v.Requests = &v1alpha1.VolumeDeletion{At: metav1.Now(), Signed: v.Status.Answers[0].Deletion}, nil
	w.must("mark", w.agent(1).Update(ctx, v))
	w.must("remove", w.agent(1).Delete(ctx, v))
	w.until("the network can be deleted", func(ctx context.Context) error { return w.s.Admin.Delete(ctx, n) })
	w.until("the network is gone, and all that was made for it", func(ctx context.Context) error {
		if left := w.objects(); len(left) > 0 {
			return fmt.Errorf("left: %s", strings.Join(left, "\n"))
		}
		return nil
	})
}

// objects lists everything of the network as text, without what differs between two runs.
func (w *world) objects() (out []string) {
	w.t.Helper()
	network := client.MatchingLabels{v1alpha1.LabelNetwork: w.name}
	for _, l := range []client.ObjectList{&appsv1.DaemonSetList{}, &corev1.ConfigMapList{}, &corev1.ServiceList{}, &corev1.SecretList{}, &storagev1.StorageClassList{},
		&policyv1.PodDisruptionBudgetList{}} {
		out = append(out, w.list(l, network)...)
	}
	out = append(out, w.list(&corev1.PodList{}, client.MatchingLabels{v1alpha1.LabelNetwork: w.name, v1alpha1.LabelComponent: "guard"})...)
	out = append(out, w.list(&v1alpha1.StorageNodeList{}, client.MatchingFields{"spec.network": w.name})...)
	out = append(out, w.list(&v1alpha1.MyNetworkList{}, client.MatchingFields{"metadata.name": w.name})...)
	slices.Sort(out)
	return out
}

// Runs differ in keys, uids, times, in what is made from them, and in how many layouts and generations there were.
var (
	stamps = regexp.MustCompile(`"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z"`)
	hexes  = regexp.MustCompile(`"[0-9a-f]{12,}"`)
	uids   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
)

func (w *world) list(l client.ObjectList, o client.ListOption) (out []string) {
	w.t.Helper()
	w.must("list", w.s.Admin.List(w.t.Context(), l, o))
	b, err := json.Marshal(l)
	w.must("encode", err)
	var all struct{ Items []map[string]any }
	w.must("decode", json.Unmarshal(b, &all))
	for _, o := range all.Items {
		meta := o["metadata"].(map[string]any)
		for _, k := range []string{"resourceVersion", "managedFields", "generation", "creationTimestamp", "uid"} {
			delete(meta, k)
		}
		if st, ok := o["status"].(map[string]any); ok {
			for _, k := range []string{"memberGrant", "capacity", "layoutVersion", "layout"} {
				delete(st, k)
			}
			if agent, ok := st["agent"].(map[string]any); ok {
				delete(agent, "syncedVersion")
				delete(agent, "inPlaceVersion")
			}
		}
		delete(o, "data")
		delete(o, "immutable")
		b, _ := json.Marshal(o)
		text := stamps.ReplaceAllString(string(b), `"TIME"`)
		out = append(out, fmt.Sprintf("%T ", l)+uids.ReplaceAllString(hexes.ReplaceAllString(text, `"HEX"`), "UID"))
	}
	return out
}

// TestRealLife: one operator that nothing happens to.
func TestRealLife(t *testing.T) {
	w := newWorld(t, "life", 3)
	w.operate(&apiserver.Tap{})
	w.life(func(string) {})
}

// TestRealKilled ends an operator before writes of a network's life, and after them before it heard of them, by turns, and starts a
// fresh one: in the end everything is as if nothing had happened. MYNETWORK_TEST_KILLS=all does so at every write, else at one of 12.
func TestRealKilled(t *testing.T) {
	w := newWorld(t, "killed", 3)
	want := map[string][]string{}
	whole := &apiserver.Tap{}
	w.operate(whole)
	w.life(func(point string) { want[point] = w.objects() })
	writes, step := whole.Writes(), 12
	if writes < 20 {
		t.Fatalf("a life has only %d writes", writes)
	}
	if os.Getenv("MYNETWORK_TEST_KILLS") == "all" {
		step = 1
	}
	for n := 1; n <= writes; n += step {
		fault := apiserver.Dead
		if n/step%2 == 1 {
			fault = apiserver.Unheard
		}
		t.Run(fmt.Sprintf("%d of %d", n, writes), func(t *testing.T) { w.t = t; w.killed(n, fault, want) })
		if t.Failed() {
			return
		}
	}
	w.t = t
}

// killed is a life whose operator is killed at its n-th write.
func (w *world) killed(n int, fault apiserver.Fault, want map[string][]string) {
	tap := &apiserver.Tap{Fail: func(i int, _ string) apiserver.Fault {
		if i == n {
			return fault
		}
		return apiserver.None
	}}
	w.operate(tap)
	over, fresh := make(chan struct{}), make(chan func(), 1)
	go func() {
		select {
		case <-tap.Killed():
			fresh <- w.run(&apiserver.Tap{})
		case <-over: // this life had fewer writes
			fresh <- func() {}
		}
	}()
	defer func() { close(over); (<-fresh)() }()
	w.life(w.as(want))
}

// as compares everything with what was there at the same point of an undisturbed life.
func (w *world) as(want map[string][]string) func(point string) {
	return func(point string) {
		w.t.Helper()
		w.until("at point "+point+" everything is as in an undisturbed life", func(context.Context) error {
			got := w.objects()
			other := func(a, b []string) string {
				for _, line := range a {
					if !slices.Contains(b, line) {
						return line
					}
				}
				return "nothing"
			}
			if !slices.Equal(got, want[point]) {
				return fmt.Errorf("%d objects, wanted %d; beyond these there is\n%s\nand missing is\n%s", len(got), len(want[point]), other(got, want[point]), other(want[point], got))
			}
			return nil
		})
	}
}
