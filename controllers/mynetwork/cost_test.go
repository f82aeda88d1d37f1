package mynetwork_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/controllers/snapshotter"
)

// asked is a client that counts what its mapper is asked for. A mapper that does not know a kind asks the API server, three requests each time.
type asked struct {
	client.Client
	n *atomic.Int64
}

func (a asked) RESTMapper() meta.RESTMapper { return mapper{a.Client.RESTMapper(), a.n} }

type mapper struct {
	meta.RESTMapper
	n *atomic.Int64
}

func (m mapper) RESTMapping(k schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	m.n.Add(1)
	return m.RESTMapper.RESTMapping(k, versions...)
}

// A cluster without the snapshot API is not asked for it in each round; with its definition there, it is.
func TestAsksForNoSnapshotAPI(t *testing.T) {
	w := served(t)
	var n atomic.Int64
	w.r.Client = asked{w.r.Client, &n}
	for range 10 {
		if _, err := w.reconcile("main"); err != nil {
			t.Fatal(err)
		}
	}
	if n.Load() != 0 {
		t.Errorf("the mapper was asked %d times", n.Load())
	}
	api := snapshotter.Metadata()
	api.Name = snapshotter.Definition
	if err := w.client.Create(t.Context(), api); err != nil {
		t.Fatal(err)
	}
	if _, err := w.reconcile("main"); err != nil {
		t.Fatal(err)
	}
	if n.Load() == 0 {
		t.Error("the definition is there, and the mapper was not asked")
	}
}

// However many nodes a network starts with, one event tells of their StorageNodes.
func TestOneEventForAllNodes(t *testing.T) {
	objects := []client.Object{net("main")}
	for i := range 50 {
		objects = append(objects, node(fmt.Sprintf("n%02d", i)))
	}
	w := newWorld(t, objects...)
	w.settle("main")
	told := 0
	for len(w.events.Events) > 0 {
		if e := <-w.events.Events; strings.Contains(e, "StorageNode") {
			told++
			if !strings.Contains(e, "50 nodes") {
				t.Error(e)
			}
		}
	}
	if told != 1 {
		t.Errorf("%d events", told)
	}
}

// report has the agent of a node report a store, and its StorageNode be Ready since now.
func (w *world) report(node string) {
	w.t.Helper()
	w.edit("main."+node, func(n *v1alpha1.StorageNode) {
		n.Status.Agent = &v1alpha1.AgentStatus{Ready: true, Stores: []v1alpha1.StoreStatus{{ID: fmt.Sprintf("%032x", node), State: v1alpha1.StoreServing, Capacity: new(resource.MustParse("100Gi"))}}}
		n.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonReady, LastTransitionTime: metav1.NewTime(w.now)}}
	})
}

// A network that starts waits for nodes that are starting, and gets one layout: at once when all are there, or without those that do not come.
func TestJoining(t *testing.T) {
	version := func(w *world) int64 {
		if l := w.network("main").Status.Layout; l != nil {
			return l.Version
		}
		return 0
	}
	round := func(w *world, after time.Duration, want int64) {
		t.Helper()
		w.now = w.now.Add(after)
		if _, err := w.reconcile("main"); err != nil {
			t.Fatal(err)
		}
		if got := version(w); got != want {
			t.Errorf("after %s: layout %d, want %d", after, got, want)
		}
	}
	t.Run("all come", func(t *testing.T) {
		w := newWorld(t, three("main")...)
		w.settle("main")
		w.report("a")
		round(w, 0, 0)
		w.report("b")
		round(w, time.Second, 0)
		w.report("c")
		round(w, 0, 1)
		if n := w.layout("main").Len(); n != 3 {
			t.Errorf("%d members", n)
		}
	})
	t.Run("one does not come", func(t *testing.T) {
		w := newWorld(t, three("main")...)
		w.settle("main")
		w.report("a")
		round(w, mynetwork.JoinQuiet-time.Second, 0)
		w.report("b")
		round(w, mynetwork.JoinQuiet-time.Second, 0)
		round(w, time.Second, 1)
		// The one that comes late is the last: it waits for nobody, only for the time between layouts.
		w.report("c")
		round(w, mynetwork.MinLayoutPeriod, 2)
	})
	t.Run("they never stop coming", func(t *testing.T) {
		objects := []client.Object{net("main")}
		for i := range 40 {
			objects = append(objects, node(fmt.Sprintf("n%02d", i)))
		}
		w := newWorld(t, objects...)
		w.settle("main")
		started, i := w.now, 0
		for ; version(w) == 0 && i < 40; i++ {
			w.report(fmt.Sprintf("n%02d", i))
			round := mynetwork.JoinQuiet / 2
			w.now = w.now.Add(round)
			if _, err := w.reconcile("main"); err != nil {
				t.Fatal(err)
			}
		}
		if took := w.now.Sub(started); took != mynetwork.JoinLimit {
			t.Errorf("a layout after %s, %d nodes", took, i)
		}
	})
	t.Run("who leaves does not wait", func(t *testing.T) {
		w := served(t, node("d")) // served has all four
		if err := w.client.Create(t.Context(), node("e")); err != nil {
			t.Fatal(err)
		}
		w.settle("main") // e has not reported
		w.now = w.now.Add(time.Minute)
		w.edit("main.d", func(n *v1alpha1.StorageNode) { n.Spec.Scheduling = v1alpha1.SchedulingDrained })
		round(w, 0, 2)
	})
}

// Of many nodes layouts come less often: each one has every node write a report.
func TestLayoutsOfManyAreRarer(t *testing.T) {
	s := crowd(t, 2000)
	for _, c := range []struct {
		age time.Duration
		due bool
	}{{mynetwork.MinLayoutPeriod, false}, {39 * time.Second, false}, {40 * time.Second, true}} {
		s.Network.Status.Layout.Published = metav1.NewTime(s.Now.Add(-c.age))
		p, err := mynetwork.Compute(s)
		if err != nil {
			t.Fatal(err)
		}
		if (p.Layout != nil) != c.due || !c.due && p.RequeueAfter != 40*time.Second-c.age {
			t.Errorf("a layout that is %s old: next one now %v, else after %s", c.age, p.Layout != nil, p.RequeueAfter)
		}
	}
}

// A round that makes a layout takes memory by the nodes, and not by their square.
func TestLayoutRoundIsLinear(t *testing.T) {
	cost := func(n int) float64 {
		s := crowd(t, n)
		s.Agents = &appsv1.DaemonSet{}
		s.StorageNodes[0].Spec.Scheduling = v1alpha1.SchedulingDrained
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p, err := mynetwork.Compute(s)
		runtime.ReadMemStats(&after)
		if err != nil || p.Layout == nil {
			t.Fatalf("no layout: %v, %+v", err, p)
		}
		return float64(after.TotalAlloc - before.TotalAlloc)
	}
	if a, b := cost(500), cost(4000); b > 1.5*8*a {
		t.Errorf("4000 nodes take %.1f times the memory of 500", b/a)
	}
}
