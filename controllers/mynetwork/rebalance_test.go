package mynetwork_test

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// TestRebalance: the plan is in the status from the layout's publication on, follows what agents report, and goes when all is done.
func TestRebalance(t *testing.T) {
	w := served(t)
	w.now = w.now.Add(time.Hour)
	if err := w.client.Create(t.Context(), node("d")); err != nil {
		t.Fatal(err)
	}
	w.settle("main")
	w.edit("main.d", func(n *v1alpha1.StorageNode) {
		n.Status.Agent = &v1alpha1.AgentStatus{Ready: true, Stores: []v1alpha1.StoreStatus{{ID: strings.Repeat("d", 32), State: v1alpha1.StoreServing,
			Capacity: new(resource.MustParse("100Gi")), Used: new(resource.MustParse("0"))}}}
	})
	w.settle("main")
	r := w.network("main").Status.Rebalance
	if r == nil || r.Layout != 2 || r.Shards == 0 || r.BytesLeft.Value() != r.Bytes.Value() || r.Bytes.Value() < 7<<30 || r.Bytes.Value() > 8<<30 { // a quarter of 30 GiB
		t.Fatalf("plan %+v", r)
	}
	if c := meta.FindStatusCondition(w.network("main").Status.Conditions, v1alpha1.ConditionRebalancing); c == nil || !strings.Contains(c.Message, "left") {
		t.Errorf("condition %+v", c)
	}
	w.now = w.now.Add(time.Minute)
	w.edit("main.a", func(n *v1alpha1.StorageNode) { n.Status.Agent.Copies = 1000 })
	w.edit("main.d", func(n *v1alpha1.StorageNode) { n.Status.Agent.MissingCopies = 125 })
	w.settle("main")
	r = w.network("main").Status.Rebalance
	if left := r.BytesLeft.Value(); r.CopiesLeft != 125 || left < 3<<30 || left > 4<<30 || r.BytesPerSecond == nil || !r.Finishes.After(w.now) {
		t.Fatalf("on the way %+v", r)
	}
	w.told("")
	w.agents("main")
	w.settle("main")
	if r := w.network("main").Status.Rebalance; r != nil || !w.told(v1alpha1.EventRebalanced) {
		t.Errorf("done, and still %+v", r)
	}
	w.condition("main", v1alpha1.ConditionRebalancing, metav1.ConditionFalse, v1alpha1.ReasonBalanced)
}

// TestPlanCountsData: what others have on the disks of the network does not move, and is in no plan.
func TestPlanCountsData(t *testing.T) {
	w := served(t)
	w.now = w.now.Add(time.Hour)
	for _, name := range []string{"main.a", "main.b", "main.c"} {
		w.edit(name, func(n *v1alpha1.StorageNode) { n.Status.Agent.Stores[0].Data = new(resource.MustParse("1Gi")) })
	}
	if err := w.client.Create(t.Context(), node("d")); err != nil {
		t.Fatal(err)
	}
	w.settle("main")
	w.edit("main.d", func(n *v1alpha1.StorageNode) {
		n.Status.Agent = &v1alpha1.AgentStatus{Ready: true, Stores: []v1alpha1.StoreStatus{{ID: strings.Repeat("d", 32), State: v1alpha1.StoreServing,
			Capacity: new(resource.MustParse("100Gi")), Used: new(resource.MustParse("50Gi")), Data: new(resource.MustParse("0"))}}}
	})
	w.settle("main")
	if r := w.network("main").Status.Rebalance; r == nil || r.Bytes.Value() < 700<<20 || r.Bytes.Value() > 800<<20 {
		t.Fatalf("plan %+v, want a quarter of 3 GiB", r)
	}
}

// TestTakenOutIsNotBehind: once the others hold all of a layout without a node that was taken out, nothing moves any more, although that node
// never says that it has that layout. Before, something does.
func TestTakenOutIsNotBehind(t *testing.T) {
	w := served(t, node("d"))
	w.now = w.now.Add(time.Hour)
	w.missed("c")
	w.now = w.now.Add(mynetwork.DownAfter)
	w.settle("main")
	if w.state("c") != placement.Down {
		t.Fatal("the node was not taken out")
	}
	w.condition("main", v1alpha1.ConditionRebalancing, metav1.ConditionTrue, v1alpha1.ReasonMovingData)
	version := w.network("main").Status.Layout.Version
	for _, name := range []string{"main.a", "main.b", "main.d"} {
		w.edit(name, func(n *v1alpha1.StorageNode) { n.Status.Agent.SyncedVersion = version })
	}
	w.settle("main")
	w.condition("main", v1alpha1.ConditionRebalancing, metav1.ConditionFalse, v1alpha1.ReasonBalanced)
	w.condition("main", v1alpha1.ConditionDegraded, metav1.ConditionTrue, v1alpha1.ReasonNodesDown)
}
