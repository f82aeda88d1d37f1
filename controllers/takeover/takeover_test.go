package takeover_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/failover"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/controllers/takeover"
)

var errInjected = errors.New("injected")

// world has node c dead and tainted, with pods db-0 and db-1, each with a volume that c holds at epoch 4.
type world struct {
	client client.Client
	r      *takeover.Reconciler
	events *events.FakeRecorder

	mu     sync.Mutex
	fenced []string         // volumes, in the order they were asked for
	refuse map[string]error // by volume
	writes int
	fail   int // the write that fails, and all after it; 0: none
	reads  int // of pods and claims
}

// Fence implements takeover.Fencer.
func (w *world) Fence(_ context.Context, _ *v1alpha1.MyNetwork, volume, node string, epoch int64, dead []string) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if node != "c" || len(dead) != 1 || dead[0] != "c" {
		return 0, fmt.Errorf("asked to fence %s from %s, dead %v: %w", volume, node, dead, errInjected)
	}
	w.fenced = append(w.fenced, volume)
	return epoch + 1, w.refuse[volume]
}

func storageNode(name string, unreachable ...string) *v1alpha1.StorageNode {
	return &v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: "main." + name}, Spec: v1alpha1.StorageNodeSpec{Network: "main", NodeName: name},
		Status: v1alpha1.StorageNodeStatus{Zone: "z", LayoutVersion: 1, Agent: &v1alpha1.AgentStatus{Ready: true, Unreachable: unreachable, Stores: []v1alpha1.StoreStatus{{ID: "s"}}}}}
}

func pod(name string, volumes ...corev1.Volume) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name, UID: types.UID("uid-" + name)}, Spec: corev1.PodSpec{NodeName: "c",
		Volumes: append(volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data-" + name}}})}}
}

// volume is a claim with its volume and record, held by node c.
func volume(name string) []client.Object {
	return []client.Object{
		&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "data-" + name}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv-" + name}},
		&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + name}, Spec: corev1.PersistentVolumeSpec{
			AccessModes:            []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: v1alpha1.DriverName, VolumeHandle: "rec-" + name}}}},
		&v1alpha1.VolumeRecord{ObjectMeta: metav1.ObjectMeta{Name: "rec-" + name}, Spec: v1alpha1.VolumeRecordSpec{Network: "main", NetworkUID: "u-1", VolumeID: "id-" + name},
			Fact: v1alpha1.VolumeFact{Epoch: 4}, State: v1alpha1.VolumeState{Holder: "c", HolderEpoch: 4}},
	}
}

func newWorld(t *testing.T, change func(o client.Object)) *world {
	t.Helper()
	w := &world{events: events.NewFakeRecorder(1000), refuse: map[string]error{}}
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	objects := []client.Object{&v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "main", UID: "u-1"}},
		storageNode("a", "c"), storageNode("b", "c"), storageNode("c"), storageNode("d", "c"), pod("db-0"), pod("db-1"),
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{failover.Taint()}}}}
	objects = append(append(objects, volume("db-0")...), volume("db-1")...)
	for _, o := range objects {
		if change != nil {
			change(o)
		}
	}
	write := func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.writes++; w.fail > 0 && w.writes >= w.fail {
			return errInjected
		}
		return nil
	}
	b := fake.NewClientBuilder().WithScheme(s).WithObjects(objects...).WithStatusSubresource(&v1alpha1.VolumeRecord{}, &v1alpha1.StorageNode{}).
		WithIndex(&v1alpha1.StorageNode{}, mynetwork.FieldNetwork, func(o client.Object) []string { return []string{o.(*v1alpha1.StorageNode).Spec.Network} }).
		WithIndex(&corev1.Pod{}, "spec.nodeName", func(o client.Object) []string { return []string{o.(*corev1.Pod).Spec.NodeName} })
	w.client = interceptor.NewClient(b.Build(), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, k client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, ok := o.(*corev1.PersistentVolumeClaim); ok {
				w.reads++
			}
			return c.Get(ctx, k, o, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, o client.ObjectList, opts ...client.ListOption) error {
			if _, ok := o.(*corev1.PodList); ok {
				w.reads++
			}
			return c.List(ctx, o, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			if err := write(); err != nil {
				return err
			}
			return c.Delete(ctx, o, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if err := write(); err != nil {
				return err
			}
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	})
	w.r = &takeover.Reconciler{Client: w.client, Live: w.client, Events: w.events, Fencer: w, Now: time.Now}
	return w
}

func (w *world) round(t *testing.T) ctrl.Result {
	t.Helper()
	res, err := w.r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "main"}})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// left are the pods that are there.
func (w *world) left(t *testing.T) string {
	t.Helper()
	var list corev1.PodList
	if err := w.client.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return strings.Join(names, " ")
}

// said are the events that were told.
func (w *world) said() (out []string) {
	for {
		select {
		case e := <-w.events.Events:
			out = append(out, e)
		default:
			return out
		}
	}
}

func TestTakeover(t *testing.T) {
	w := newWorld(t, nil)
	w.round(t)
	if w.left(t) != "" || len(w.fenced) != 2 {
		t.Fatalf("left %q, fenced %v", w.left(t), w.fenced)
	}
	rec := &v1alpha1.VolumeRecord{}
	if err := w.client.Get(t.Context(), client.ObjectKey{Name: "rec-db-0"}, rec); err != nil || rec.Status.FencedNode != "c" || rec.Status.FencedEpoch != 5 {
		t.Errorf("%+v, %v", rec.Status, err)
	}
	all := strings.Join(w.said(), "\n")
	if strings.Count(all, v1alpha1.EventPodDeleted) != 4 || strings.Count(all, v1alpha1.EventVolumeFenced) != 2 {
		t.Errorf("on two pods, their claims and records:\n%s", all)
	}
	before := w.writes
	if res := w.round(t); w.writes != before || res.RequeueAfter == 0 || len(w.said()) != 0 || len(w.fenced) != 2 {
		t.Errorf("%d writes at rest, %+v", w.writes-before, res)
	}
}

func TestTaintFirst(t *testing.T) {
	w := newWorld(t, func(o client.Object) {
		if n, ok := o.(*corev1.Node); ok {
			n.Spec.Taints = nil
		}
	})
	w.round(t)
	if reads := w.reads; w.left(t) != "db-0 db-1" || len(w.fenced) != 0 || reads != 0 {
		t.Errorf("left %q, fenced %v, %d reads", w.left(t), w.fenced, reads)
	}
}

func TestNobodyDead(t *testing.T) {
	w := newWorld(t, func(o client.Object) {
		if n, ok := o.(*v1alpha1.StorageNode); ok {
			n.Status.Agent.Unreachable = nil
		}
	})
	if res := w.round(t); w.reads != 0 || res.RequeueAfter != 0 || w.left(t) != "db-0 db-1" {
		t.Errorf("%d reads, %+v", w.reads, res)
	}
}

func TestFenceFails(t *testing.T) {
	w := newWorld(t, nil)
	w.refuse["id-db-0"] = errInjected
	if res := w.round(t); w.left(t) != "db-0" || res.RequeueAfter == 0 {
		t.Fatalf("left %q, %+v", w.left(t), res)
	}
	w.refuse = nil
	if w.round(t); w.left(t) != "" {
		t.Errorf("left %q", w.left(t))
	}
}

// Another driver's volume, and a hand on the switch: the pod stays, and the command is told once.
func TestKept(t *testing.T) {
	for name, change := range map[string]func(client.Object){
		"another driver": func(o client.Object) {
			if v, ok := o.(*corev1.PersistentVolume); ok && v.Name == "pv-db-0" {
				v.Spec.CSI.Driver = "other"
			}
			if p, ok := o.(*corev1.Pod); ok && p.Name == "db-0" {
				p.Spec.Volumes = append(p.Spec.Volumes, pod("db-1").Spec.Volumes...) // and one of ours
			}
		},
		"annotated": func(o client.Object) {
			if p, ok := o.(*corev1.Pod); ok && p.Name == "db-0" {
				p.Annotations = map[string]string{v1alpha1.AnnotationFailover: "never"}
			}
		},
		"manual": func(o client.Object) {
			if n, ok := o.(*v1alpha1.MyNetwork); ok {
				n.Spec.Failover = v1alpha1.FailoverManual
			}
		},
	} {
		w := newWorld(t, change)
		w.round(t)
		if !strings.Contains(w.left(t), "db-0") || (name == "manual") != strings.Contains(w.left(t), "db-1") {
			t.Errorf("%s: left %q", name, w.left(t))
		}
		if all := strings.Join(w.said(), "\n"); !strings.Contains(all, v1alpha1.EventPodKept) || !strings.Contains(all, "kubectl delete pod --namespace apps db-0") {
			t.Errorf("%s:\n%s", name, all)
		}
		w.round(t)
		if again := w.said(); len(again) != 0 {
			t.Errorf("%s: told again: %v", name, again)
		}
	}
}

// Between the look and the deletion a new pod of that name came.
func TestNewPodIsLeft(t *testing.T) {
	w := newWorld(t, nil)
	inner := w.client
	w.r.Client = interceptor.NewClient(inner.(client.WithWatch), interceptor.Funcs{
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			d := &client.DeleteOptions{}
			d.ApplyOptions(opts)
			if d.Preconditions == nil || d.Preconditions.UID == nil || *d.Preconditions.UID != o.GetUID() || d.GracePeriodSeconds == nil || *d.GracePeriodSeconds != 0 {
				t.Errorf("deleted with %+v", d)
			}
			return c.Delete(ctx, o, opts...)
		}})
	w.round(t)
}

func TestInterruptedAnywhere(t *testing.T) {
	whole := newWorld(t, nil)
	whole.round(t)
	if whole.writes != 4 {
		t.Fatalf("%d writes", whole.writes)
	}
	for k := 1; k <= whole.writes; k++ {
		w := newWorld(t, nil)
		w.fail = k
		w.round(t)
		if w.left(t) == "" {
			t.Errorf("write %d failed, and all is done", k)
		}
		w.fail = 0
		w.r = &takeover.Reconciler{Client: w.client, Live: w.client, Events: w.events, Fencer: w, Now: time.Now} // another operator
		if w.round(t); w.left(t) != "" {
			t.Errorf("interrupted before write %d: left %q", k, w.left(t))
		}
	}
}
