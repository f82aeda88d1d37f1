package mynetwork

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// TestFiguresOnly: what somebody has to act on is never taken for figures, which wait.
func TestFiguresOnly(t *testing.T) {
	agent := func(f func(*v1alpha1.AgentStatus)) func(*v1alpha1.StorageNode) {
		return func(n *v1alpha1.StorageNode) { f(n.Status.Agent) }
	}
	for name, c := range map[string]struct {
		change  func(*v1alpha1.StorageNode)
		figures bool
	}{
		"nothing":       {func(*v1alpha1.StorageNode) {}, true},
		"used":          {agent(func(a *v1alpha1.AgentStatus) { a.Stores[0].Used = resource.NewQuantity(9, resource.BinarySI) }), true},
		"data":          {agent(func(a *v1alpha1.AgentStatus) { a.Stores[0].Data = resource.NewQuantity(9, resource.BinarySI) }), true},
		"grown":         {agent(func(a *v1alpha1.AgentStatus) { a.Stores[0].Capacity = resource.NewQuantity(200, resource.BinarySI) }), true},
		"copies":        {agent(func(a *v1alpha1.AgentStatus) { a.Copies, a.MissingCopies = 7, 3 }), true},
		"summary":       {func(n *v1alpha1.StorageNode) { n.Status.Summary = "2% of 1Ti" }, true},
		"resource only": {func(n *v1alpha1.StorageNode) { n.ResourceVersion = "2" }, true},
		"complete":      {agent(func(a *v1alpha1.AgentStatus) { a.MissingCopies = 0 }), false},
		"not ready":     {agent(func(a *v1alpha1.AgentStatus) { a.Ready = false }), false},
		"synced":        {agent(func(a *v1alpha1.AgentStatus) { a.SyncedVersion = 2 }), false},
		"unreachable":   {agent(func(a *v1alpha1.AgentStatus) { a.Unreachable = []string{"n2"} }), false},
		"full":          {agent(func(a *v1alpha1.AgentStatus) { a.Stores[0].State = v1alpha1.StoreFull }), false},
		"clearing":      {agent(func(a *v1alpha1.AgentStatus) { a.Stores[0].Clearing = "Deleted" }), false},
		"pressure":      {agent(func(a *v1alpha1.AgentStatus) { a.Pressure = []string{"disk"} }), false},
		"agent gone":    {func(n *v1alpha1.StorageNode) { n.Status.Agent = nil }, false},
		"spec":          {func(n *v1alpha1.StorageNode) { n.Generation = 2 }, false},
		"deleted":       {func(n *v1alpha1.StorageNode) { now := metav1.Now(); n.DeletionTimestamp = &now }, false},
		"label":         {func(n *v1alpha1.StorageNode) { n.Labels = map[string]string{"a": "b"} }, false},
		"condition":     {func(n *v1alpha1.StorageNode) { n.Status.Conditions = []metav1.Condition{{Type: "Ready"}} }, false},
		"fencing":       {func(n *v1alpha1.StorageNode) { n.Status.Fencing = &v1alpha1.FencingStatus{} }, false},
	} {
		before := &v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: "n1", Generation: 1}, Status: v1alpha1.StorageNodeStatus{Summary: "1% of 1Ti",
			Agent: &v1alpha1.AgentStatus{Ready: true, SyncedVersion: 1, Copies: 5, MissingCopies: 2, Stores: []v1alpha1.StoreStatus{{ID: "1", State: v1alpha1.StoreServing,
				Capacity: resource.NewQuantity(100, resource.BinarySI), Used: resource.NewQuantity(1, resource.BinarySI)}}}}}
		after := before.DeepCopy()
		c.change(after)
		if got := FiguresOnly(before, after); got != c.figures {
			t.Errorf("%s: figures only is %v", name, got)
		}
	}
}
