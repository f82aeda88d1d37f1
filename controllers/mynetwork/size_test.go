package mynetwork_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/controllers/status"
	"mynetwork.io/mynetwork/controllers/storagenode"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// many is how many nodes a network may have.
const many = 16000

// crowd is the state of a network of n nodes that serve, some of which can not reach others.
func crowd(t *testing.T, n int) *mynetwork.State {
	t.Helper()
	s := &mynetwork.State{Options: mynetwork.Options{Namespace: namespace, Image: "i"}, Now: start, Network: net("main")}
	var members []placement.Node
	for i := range n {
		name := fmt.Sprintf("node-%05d.example.org", i)
		zone := fmt.Sprintf("z%d", i%3)
		s.Nodes = append(s.Nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone}}})
		sn := v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: "main." + name, Generation: 1, Finalizers: []string{v1alpha1.Finalizer}}, Spec: v1alpha1.StorageNodeSpec{Network: "main", NodeName: name}}
		sn.Status = v1alpha1.StorageNodeStatus{Zone: zone, LayoutVersion: 1, Storage: true, Weight: 100, Agent: &v1alpha1.AgentStatus{Ready: true, SyncedVersion: 1, Stores: []v1alpha1.StoreStatus{{
			ID: fmt.Sprintf("%032x", i+1), Path: "/var/lib/mynetwork/store", State: v1alpha1.StoreServing, Capacity: new(resource.MustParse("100Gi")), Used: new(resource.MustParse("10Gi"))}}}}
		s.StorageNodes = append(s.StorageNodes, sn)
		members = append(members, placement.Node{ID: name, Zone: zone, Weight: 100})
	}
	l, err := placement.Compute(members, placement.Params{Replicas: 3}, nil)
	if err != nil {
		t.Fatal(err)
	}
	hash := l.Hash()
	s.Layout, s.Network.Status.Layout = l, &v1alpha1.LayoutStatus{Version: 1, Hash: hex.EncodeToString(hash[:]), MembersDigest: "of others"}
	s.Agents = &appsv1.DaemonSet{Status: appsv1.DaemonSetStatus{NumberReady: int32(n)}}
	return s
}

func size(t *testing.T, o any) int {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return len(b)
}

// What the API carries of a layout does not grow with the nodes, although each of them hears of every layout: 16,000 nodes watch the
// network's object, and each its own StorageNode. The budget of one layout is 8 KiB for each node that hears of it.
func TestSizesAtManyNodes(t *testing.T) {
	const budget = 8 << 10
	sizes := map[int]int{}
	for _, n := range []int{100, many} {
		s := crowd(t, n)
		for i := range s.StorageNodes { // as bad as it gets: nobody can reach anybody
			for k := 1; k <= 64; k++ {
				s.StorageNodes[i].Status.Agent.Unreachable = append(s.StorageNodes[i].Status.Agent.Unreachable, s.StorageNodes[(i+k)%n].Spec.NodeName)
			}
		}
		p, err := mynetwork.Compute(s)
		if err != nil {
			t.Fatal(err)
		}
		whole := s.Network.DeepCopy()
		whole.Status = p.Status
		sizes[n] = size(t, whole)
		if v := status.Violations(whole.Status.Conditions, whole.Generation, whole.Status.ObservedGeneration); v != nil {
			t.Error(v)
		}
		if sizes[n] > budget {
			t.Errorf("the object of a network of %d nodes has %d bytes, at most %d", n, sizes[n], budget)
		}
		if one := size(t, s.StorageNodes[0]); one > budget {
			t.Errorf("a StorageNode has %d bytes, at most %d", one, budget)
		}
		body, err := s.Layout.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d nodes: MyNetwork %d bytes, StorageNode %d bytes, %d MB to all watchers for a layout, whose body of %d KB goes from agent to agent", n, sizes[n], size(t, s.StorageNodes[0]),
			n*sizes[n]/1e6, len(body)>>10)
	}
	if grown := sizes[many] - sizes[100]; grown > 512 {
		t.Errorf("from 100 to %d nodes the object grew by %d bytes", many, grown)
	}
}

// A round costs what the nodes are, and not their square: memory taken is the measure, as time is the machine's.
func TestRoundsAreLinear(t *testing.T) {
	const few = 1000
	cost := func(round func(s *mynetwork.State)) (ratio float64) {
		a, b := crowd(t, few), crowd(t, many)
		return testing.AllocsPerRun(1, func() { round(b) }) / testing.AllocsPerRun(1, func() { round(a) })
	}
	for name, round := range map[string]func(*mynetwork.State){
		"network": func(s *mynetwork.State) {
			s.Network.Status.Layout.Published = metav1.NewTime(s.Now) // the layout itself is placement's
			if _, err := mynetwork.Compute(s); err != nil {
				t.Error(err)
			}
		},
		"nodes": func(s *mynetwork.State) {
			all := &storagenode.State{Options: storagenode.Options{Namespace: namespace}, Now: s.Now, Network: s.Network, Name: "main", StorageNodes: s.StorageNodes, Nodes: map[string]*corev1.Node{}}
			for i := range s.Nodes {
				all.Nodes[s.Nodes[i].Name] = &s.Nodes[i]
			}
			if p := storagenode.Compute(all); len(p.Statuses) != len(s.Nodes) {
				t.Errorf("%d statuses", len(p.Statuses))
			}
		},
	} {
		if ratio := cost(round); ratio > 1.3*many/few {
			t.Errorf("%s: %d nodes cost %.1f times what %d cost", name, many, ratio, few)
		} else {
			t.Logf("%s: %.1f times", name, ratio)
		}
	}
}
