//go:build envtest

package controllers_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/hack/apiserver"
)

// TestRealErrors: of two writes one fails: it is refused, or clashes, or is done and its answer lost. It only takes longer.
func TestRealErrors(t *testing.T) {
	w := newWorld(t, "errors", 3)
	want := map[string][]string{}
	w.operate(&apiserver.Tap{})
	w.life(func(point string) { want[point] = w.objects() })
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	seen := map[apiserver.Fault]int{}
	w.operate(&apiserver.Tap{Fail: func(int, string) apiserver.Fault {
		f := []apiserver.Fault{apiserver.None, apiserver.None, apiserver.None, apiserver.Refuse, apiserver.Clash, apiserver.Lose}[chance.IntN(6)]
		seen[f]++
		return f
	}})
	w.life(w.as(want))
	w.stop()
	for _, f := range []apiserver.Fault{apiserver.Refuse, apiserver.Clash, apiserver.Lose} {
		if seen[f] < 10 {
			t.Errorf("fault %d came %d times", f, seen[f])
		}
	}
}

// TestRealConflicts: somebody else changes every object all the time, so that what the operator read is always old.
func TestRealConflicts(t *testing.T) {
	w := newWorld(t, "conflicts", 3)
	w.operate(&apiserver.Tap{})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	changed := 0
	all.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{"example.org/noise":"%d"}}}`, i))
			objects := []client.Object{&v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: w.name}}, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: w.node(0)}},
				&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "mynetwork-" + w.name}}}
			for k := range 3 {
				objects = append(objects, w.storageNode(k))
			}
			for _, kind := range []client.Object{&appsv1.DaemonSet{}, &corev1.ConfigMap{}, &corev1.Service{}} {
				kind.SetName(w.name + "-agent")
				kind.SetNamespace(namespace)
				objects = append(objects, kind)
			}
			for _, o := range objects {
				if w.s.Admin.Patch(ctx, o, patch) == nil {
					changed++
				}
			}
		}
	})
	w.life(func(string) {})
	cancel()
	all.Wait()
	if changed < 100 {
		t.Errorf("only %d changes came between", changed)
	}
}

// TestRealTwice: what is applied again, by the user or by another operator, changes no generation, and the operator writes nothing.
func TestRealTwice(t *testing.T) {
	w := newWorld(t, "twice", 3)
	w.operate(&apiserver.Tap{})
	n := w.served()
	// The first node's figures change last: when they are counted, everything before has been looked at.
	told := func(bytes int64, summary string) {
		t.Helper()
		w.f.Use(w.node(0), bytes, 1)
		w.until("the figures are counted", func(ctx context.Context) error {
			if err := w.s.Admin.Get(ctx, client.ObjectKeyFromObject(n), n); err != nil || n.Status.Capacity.Summary != summary {
				return fmt.Errorf("they are %q, %v", n.Status.Capacity.Summary, err)
			}
			return nil
		})
	}
	told(1<<38, "8% of 3.0Ti")
	before := w.versions()
	if len(before) < 11 {
		t.Fatalf("there are only %v", before)
	}
	spec := fmt.Appendf(nil, `{"apiVersion":%q,"kind":"MyNetwork","metadata":{"name":%q},"spec":{"storage":{"path":%q}}}`, v1alpha1.GroupVersion().String(), n.Name, n.Spec.Storage.Path)
	for range 2 {
		w.must("apply", w.s.Admin.Patch(t.Context(), &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: n.Name}}, client.RawPatch(types.ApplyPatchType, spec), client.FieldOwner("user"), client.ForceOwnership))
	}
	tap := &apiserver.Tap{}
	w.operate(tap)
	told(1<<39, "17% of 3.0Ti")
	after := w.versions()
	for name, v := range after {
		if before[name] != v {
			t.Errorf("%s is of generation %d, it was of %d", name, v, before[name])
		}
	}
	if len(after) != len(before) {
		t.Errorf("there were %v and are %v", before, after)
	}
	calls, _ := tap.Calls()
	for call := range calls {
		switch verb, what, _ := strings.Cut(call, " "); {
		case verb == "GET" || verb == "LIST" || verb == "WATCH" || what == "events" || what == "leases" || strings.HasPrefix(what, "/"):
		case call == "PATCH mynetworks/status" || call == "PATCH storagenodes/status": // the figures
		default:
			t.Errorf("at rest the operator did %s %d times", call, calls[call])
		}
	}
	// Negative control: a changed setting is seen in what is compared.
	w.must("change", w.s.Admin.Patch(t.Context(), n, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"agent":{"logLevel":"debug"}}}`))))
	w.until("a change has another generation", func(context.Context) error {
		if now := w.versions(); now["DaemonSet twice-agent"] == after["DaemonSet twice-agent"] {
			return fmt.Errorf("%v", now)
		}
		return nil
	})
}

// versions are the generations of the network's objects; of those that have none, the checksum of what was applied.
func (w *world) versions() map[string]int64 {
	w.t.Helper()
	out := map[string]int64{}
	for _, l := range []client.ObjectList{&appsv1.DaemonSetList{}, &corev1.ConfigMapList{}, &corev1.ServiceList{}, &corev1.SecretList{}, &storagev1.StorageClassList{}, &policyv1.PodDisruptionBudgetList{}} {
		w.must("list", w.s.Admin.List(w.t.Context(), l, client.MatchingLabels{v1alpha1.LabelNetwork: w.name}))
		switch l := l.(type) {
		case *appsv1.DaemonSetList:
			for _, o := range l.Items {
				out["DaemonSet "+o.Name] = o.Generation
			}
		case *corev1.ConfigMapList:
			for _, o := range l.Items {
				out["ConfigMap "+o.Name+o.ResourceVersion] = 0
			}
		case *corev1.ServiceList:
			for _, o := range l.Items {
				out["Service "+o.Name+o.ResourceVersion] = 0
			}
		case *corev1.SecretList:
			for _, o := range l.Items {
				out["Secret "+o.Name+o.ResourceVersion] = 0
			}
		case *storagev1.StorageClassList:
			for _, o := range l.Items {
				out["StorageClass "+o.Name+o.ResourceVersion] = 0
			}
		case *policyv1.PodDisruptionBudgetList:
			for _, o := range l.Items {
				out["PodDisruptionBudget "+o.Name] = o.Generation
			}
		}
	}
	var nodes v1alpha1.StorageNodeList
	w.must("list", w.s.Admin.List(w.t.Context(), &nodes, client.MatchingFields{"spec.network": w.name}))
	for _, o := range nodes.Items {
		out["StorageNode "+o.Name] = o.Generation
	}
	n := w.network()
	w.must("network", w.s.Admin.Get(w.t.Context(), client.ObjectKeyFromObject(n), n))
	out["MyNetwork "+n.Name] = n.Generation
	return out
}

// TestRealAway: the API server is away until the operator has lost its lead. It goes on by itself when the server is back, in the same process,
// and finishes a deletion that was asked for meanwhile.
func TestRealAway(t *testing.T) {
	w := newWorld(t, "away", 3)
	w.lead = true
	tap := &apiserver.Tap{}
	w.operate(tap)
	n := w.served()
	tap.Away(true)
	w.must("deletion", w.s.Admin.Delete(t.Context(), n))
	w.until("the operator has tried again for a while", func(context.Context) error {
		if tap.Refused() < 100 {
			return fmt.Errorf("%d requests", tap.Refused())
		}
		return nil
	})
	tap.Away(false)
	w.until("the network is gone", func(context.Context) error {
		if left := w.objects(); len(left) > 0 {
			return fmt.Errorf("left: %s", strings.Join(left, "\n"))
		}
		return nil
	})
}
