package guard_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/guard"
)

func healthy(names ...string) (out []guard.Node) {
	for _, n := range names {
		out = append(out, guard.Node{Name: n, Ready: true, Synced: true, Guard: true})
	}
	return out
}

func TestBudget(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*guard.Node)
		reason string
	}{
		"all well":    {func(*guard.Node) {}, ""},
		"not ready":   {func(n *guard.Node) { n.Ready = false }, "b does not serve"},
		"evicted":     {func(n *guard.Node) { n.Guard = false }, "b was evicted"},
		"behind":      {func(n *guard.Node) { n.Synced = false }, "b does not hold all"},
		"a last copy": {func(n *guard.Node) { n.Last = true }, "b holds data"},
		"is empty":    {func(n *guard.Node) { *n = guard.Node{Name: "b", Empty: true} }, ""},
	} {
		nodes := healthy("a", "b", "c")
		c.change(&nodes[1])
		b := guard.Decide(nodes)
		if b.Open != (c.reason == "") || !strings.HasPrefix(b.Reason, c.reason) {
			t.Errorf("%s: %+v", name, b)
		}
	}
	if b := guard.Decide(healthy("a")); b.Open || b.MinAvailable != 1 {
		t.Errorf("the only node may go: %+v", b)
	}
	if b := guard.Decide(nil); b.Open || b.MinAvailable != 0 {
		t.Errorf("nothing is guarded: %+v", b)
	}
}

// A small cluster: an eviction passes if as many guards stay as the budget wants, as the API server decides it.
func TestTwoDrains(t *testing.T) {
	nodes := healthy("a", "b", "c")
	evict := func(i int) bool {
		b := guard.Decide(nodes)
		running := int32(0)
		for _, n := range nodes {
			if n.Guard {
				running++
			}
		}
		if !nodes[i].Guard || running-1 < b.MinAvailable {
			return false
		}
		nodes[i].Guard = false
		return true
	}
	if !evict(0) {
		t.Fatal("the first drain does not pass")
	}
	nodes[0].Ready, nodes[0].Synced = false, false
	steps := []func(){
		func() {},
		func() { nodes[0].Ready = true },
		func() { nodes[0].Guard = true },
	}
	for i, step := range steps {
		step()
		if evict(1) {
			t.Fatalf("the second drain passed after step %d, while the first node is not back and synced", i)
		}
	}
	nodes[0].Synced = true
	if !evict(1) {
		t.Error("the second drain does not pass by itself")
	}
}

func TestBudgetIsNeverWide(t *testing.T) {
	for mask := range 1 << 8 {
		var nodes []guard.Node
		for i := range 2 {
			m := mask >> (4 * i)
			nodes = append(nodes, guard.Node{Name: fmt.Sprint(i), Empty: m&1 > 0, Ready: m&2 > 0, Synced: m&4 > 0, Guard: m&8 > 0})
		}
		nodes = append(nodes, healthy("x", "y")...)
		b := guard.Decide(nodes)
		if int(b.MinAvailable) < len(b.Guarded)-1 || b.Open == (b.Reason != "") || b.Open != (int(b.MinAvailable) == len(b.Guarded)-1) {
			t.Errorf("%+v of %+v", b, nodes)
		}
	}
}

func TestGuards(t *testing.T) {
	agent := func(a v1alpha1.AgentStatus, s v1alpha1.Scheduling) guard.Node {
		n := &v1alpha1.StorageNode{Spec: v1alpha1.StorageNodeSpec{Scheduling: s}, Status: v1alpha1.StorageNodeStatus{Agent: &a}}
		n.Name = "n"
		return guard.Of(n, 5, true)
	}
	store := []v1alpha1.StoreStatus{{ID: "1"}}
	for name, c := range map[string]struct {
		n    guard.Node
		want guard.Node
	}{
		"serves":       {agent(v1alpha1.AgentStatus{Ready: true, SyncedVersion: 5, Copies: 3, Stores: store}, ""), guard.Node{Name: "n", Ready: true, Synced: true, Guard: true}},
		"behind":       {agent(v1alpha1.AgentStatus{Ready: true, SyncedVersion: 4, Copies: 3, Stores: store}, ""), guard.Node{Name: "n", Ready: true, Guard: true}},
		"misses":       {agent(v1alpha1.AgentStatus{Ready: true, SyncedVersion: 5, MissingCopies: 1, Stores: store}, ""), guard.Node{Name: "n", Ready: true, Guard: true}},
		"last":         {agent(v1alpha1.AgentStatus{Ready: true, SyncedVersion: 5, LastCopies: 1, Copies: 1, Stores: store}, ""), guard.Node{Name: "n", Ready: true, Synced: true, Last: true, Guard: true}},
		"compute only": {agent(v1alpha1.AgentStatus{Ready: true, SyncedVersion: 5}, ""), guard.Node{Name: "n", Empty: true, Ready: true, Synced: true, Guard: true}},
		"drained":      {agent(v1alpha1.AgentStatus{Ready: true, SyncedVersion: 5, Stores: store}, v1alpha1.SchedulingDrained), guard.Node{Name: "n", Empty: true, Ready: true, Synced: true, Guard: true}},
		"never heard":  {guard.Of(&v1alpha1.StorageNode{}, 5, false), guard.Node{Empty: true}},
		"silent":       {guard.Of(&v1alpha1.StorageNode{Status: v1alpha1.StorageNodeStatus{LayoutVersion: 1}}, 5, false), guard.Node{}},
	} {
		if c.n != c.want {
			t.Errorf("%s: %+v, want %+v", name, c.n, c.want)
		}
	}
	b := guard.Decide([]guard.Node{{Name: "e", Empty: true}, healthy("a")[0], healthy("b")[0]})
	if !slices.Equal(b.Guarded, []string{"a", "b"}) || !b.Open {
		t.Errorf("%+v", b)
	}
}
