package mynetwork_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
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
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

const namespace = "mynetwork-system"

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

var errInjected = errors.New("injected")

// world is a fake API with a reconciler, a clock and agents' bodies of layouts.
type world struct {
	t      *testing.T
	client client.Client
	r      *mynetwork.Reconciler
	now    time.Time
	bodies bodies
	events *events.FakeRecorder
	writes atomic.Int64
	fail   func(write int64) error // of the write with this number, from 1
}

type bodies map[[32]byte][]byte

func (b bodies) Fetch(_ context.Context, _ *v1alpha1.MyNetwork, h [32]byte) ([]byte, error) {
	if body, ok := b[h]; ok {
		return body, nil
	}
	return nil, mynetwork.ErrNoBody
}

func (b bodies) Store(_ context.Context, _ *v1alpha1.MyNetwork, l *placement.Layout) error {
	body, err := l.AppendBinary(nil)
	b[[32]byte(l.Hash())] = body
	return err
}

func newScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, metav1.AddMetaToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	w := &world{t: t, now: start, bodies: bodies{}, events: events.NewFakeRecorder(10000)}
	write := func() error {
		n := w.writes.Add(1)
		if w.fail != nil {
			return w.fail(n)
		}
		return nil
	}
	b := fake.NewClientBuilder().WithScheme(newScheme(t)).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.MyNetwork{}, &v1alpha1.StorageNode{}, &appsv1.DaemonSet{})
	for _, o := range []client.Object{&v1alpha1.StorageNode{}, &v1alpha1.VolumeRecord{}} {
		b = b.WithIndex(o, mynetwork.FieldNetwork, func(o client.Object) []string {
			switch o := o.(type) {
			case *v1alpha1.StorageNode:
				return []string{o.Spec.Network}
			case *v1alpha1.VolumeRecord:
				return []string{o.Spec.Network}
			}
			return nil
		})
	}
	inner := b.Build()
	w.client = interceptor.NewClient(inner, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if err := write(); err != nil {
				return err
			}
			return c.Create(ctx, o, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			if err := write(); err != nil {
				return err
			}
			return c.Delete(ctx, o, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if err := write(); err != nil {
				return err
			}
			return c.Patch(ctx, o, p, opts...)
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			if err := write(); err != nil {
				return err
			}
			return c.Apply(ctx, o, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if err := write(); err != nil {
				return err
			}
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	})
	w.r = &mynetwork.Reconciler{Client: w.client, Events: w.events, Bodies: w.bodies, Now: func() time.Time { return w.now },
		Options: mynetwork.Options{Namespace: namespace, Image: "example.org/mynetwork:1"}}
	return w
}

// reconcile does one round, and checks kstatus on what it left.
func (w *world) reconcile(name string) (ctrl.Result, error) {
	w.t.Helper()
	res, err := w.r.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: name}})
	n := &v1alpha1.MyNetwork{}
	if e := w.client.Get(w.t.Context(), client.ObjectKey{Name: name}, n); e == nil && len(n.Status.Conditions) > 0 {
		if v := status.Violations(n.Status.Conditions, n.Generation, n.Status.ObservedGeneration); v != nil {
			w.t.Errorf("kstatus: %v in %+v", v, n.Status)
		}
	}
	return res, err
}

// settle reconciles until nothing is written any more.
func (w *world) settle(name string) {
	w.t.Helper()
	for range 50 {
		before := w.writes.Load()
		res, err := w.reconcile(name)
		if err != nil {
			w.t.Fatal(err)
		}
		w.now = w.now.Add(res.RequeueAfter)
		if w.writes.Load() == before {
			return
		}
	}
	w.t.Fatal("it does not come to rest")
}

func (w *world) network(name string) *v1alpha1.MyNetwork {
	w.t.Helper()
	n := &v1alpha1.MyNetwork{}
	get(w, "", name, n)
	return n
}

func get(w *world, ns, name string, into client.Object) {
	w.t.Helper()
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: ns, Name: name}, into); err != nil {
		w.t.Fatalf("%T %s: %v", into, name, err)
	}
}

func (w *world) exists(ns, name string, into client.Object) bool {
	w.t.Helper()
	err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: ns, Name: name}, into)
	if client.IgnoreNotFound(err) != nil {
		w.t.Fatal(err)
	}
	return err == nil
}

// condition fails unless the network's condition is as given.
func (w *world) condition(name, kind string, value metav1.ConditionStatus, reason string) {
	w.t.Helper()
	for _, c := range w.network(name).Status.Conditions {
		if c.Type == kind {
			if c.Status != value || c.Reason != reason {
				w.t.Errorf("%s is %s, %s (%s), want %s, %s", kind, c.Status, c.Reason, c.Message, value, reason)
			}
			return
		}
	}
	w.t.Errorf("there is no condition %s", kind)
}

// agents makes the nodes' agents report a store of 100 GiB, synced to the present layout, and the DaemonSet ready.
func (w *world) agents(name string) {
	w.t.Helper()
	var list v1alpha1.StorageNodeList
	if err := w.client.List(w.t.Context(), &list); err != nil {
		w.t.Fatal(err)
	}
	layout := int64(0)
	if l := w.network(name).Status.Layout; l != nil {
		layout = l.Version
	}
	for i := range list.Items {
		n := &list.Items[i]
		n.Status.Agent = &v1alpha1.AgentStatus{Ready: true, SyncedVersion: layout, Stores: []v1alpha1.StoreStatus{{ID: fmt.Sprintf("%032x", i+1),
			State: v1alpha1.StoreServing, Capacity: new(resource.MustParse("100Gi")), Used: new(resource.MustParse("10Gi"))}}}
		if err := w.client.Status().Update(w.t.Context(), n); err != nil {
			w.t.Fatal(err)
		}
	}
	d := &appsv1.DaemonSet{}
	get(w, namespace, name+"-agent", d)
	d.Status.NumberReady, d.Status.ObservedGeneration = int32(len(list.Items)), d.Generation
	if err := w.client.Status().Update(w.t.Context(), d); err != nil {
		w.t.Fatal(err)
	}
}

// served is a world in which a network of three nodes serves.
func served(t *testing.T, more ...client.Object) *world {
	t.Helper()
	w := newWorld(t, append(more, three("main")...)...)
	w.settle("main")
	w.agents("main")
	w.settle("main")
	w.agents("main")
	w.settle("main")
	w.condition("main", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	return w
}

func net(name string) *v1alpha1.MyNetwork {
	return &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "uid-" + "of-" + "it", Generation: 1, CreationTimestamp: metav1.NewTime(start)}}
}

func node(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}}}
}

func three(name string) []client.Object {
	return []client.Object{net(name), node("a"), node("b"), node("c")}
}

func record(name, network string) *v1alpha1.VolumeRecord {
	return &v1alpha1.VolumeRecord{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.VolumeRecordSpec{Network: network}}
}
