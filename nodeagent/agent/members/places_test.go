package members

import (
	"slices"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// TestPlaces: new copies have no place on nodes that are drained, or not in the layout, and what is there is found still.
func TestPlaces(t *testing.T) {
	tab := New("a")
	var nodes []Node
	var in []placement.Node
	for i, name := range []string{"a", "b", "c", "d"} {
		nodes = append(nodes, Node{Name: name, Address: name + ":1"})
		in = append(in, placement.Node{ID: name, Weight: 1})
		if i == 3 {
			in[i].State = placement.Draining
		}
	}
	nodes = append(nodes, Node{Name: "e", Address: "e:1"}) // in no layout
	first, err := placement.Compute(in, placement.Params{Replicas: 3}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tab.Update(nodes, first)
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		tab.Heard(name, stores(byte(i+1)))
	}
	sorted := func(list []block.StoreID) []block.StoreID {
		slices.SortFunc(list, func(a, b block.StoreID) int { return slices.Compare(a[:], b[:]) })
		return list
	}
	ids := func(list ...byte) (out []block.StoreID) {
		for _, i := range list {
			out = append(out, block.StoreID{i})
		}
		return out
	}
	for i := range byte(50) {
		key := block.Sum([]byte{i})
		if got := sorted(tab.Places(key, 3)); !slices.Equal(got, ids(1, 2, 3)) {
			t.Fatalf("places %v", got)
		}
		all := tab.Candidates(key)
		if len(all) != 5 || !slices.Equal(sorted(slices.Clone(all[3:])), ids(4, 5)) {
			t.Fatalf("candidates %v", all)
		}
	}
	if d, a, none := tab.Site(block.StoreID{4}), tab.Site(block.StoreID{1}), tab.Site(block.StoreID{9}); d.Takes || d.Node != "d" || !a.Takes || none.Node != "" {
		t.Errorf("sites %+v %+v %+v", d, a, none)
	}
	if here, any := tab.Leaving(); here || !any {
		t.Errorf("leaving: here %v, any %v", here, any)
	}
	tab.Lost("e", nil) // who is in no layout and does not answer is not asked
	if all := tab.Candidates(block.Sum(nil)); len(all) != 4 {
		t.Errorf("candidates %v", all)
	}
	in[3].State = placement.Active // the control
	second, err := placement.Compute(in, placement.Params{Replicas: 3}, first)
	if err != nil {
		t.Fatal(err)
	}
	tab.Update(nodes, second)
	seen := false
	for i := range byte(50) {
		seen = seen || slices.Contains(tab.Places(block.Sum([]byte{i}), 3), block.StoreID{4})
	}
	if !seen {
		t.Error("an active node has no place")
	}
	tab.Heard("a", stores(1, 11)) // a node never heard of keeps its place: no other store stands in for it
	tab.Update(nodes[:4], nil)    // e is not known any more
	if here, any := tab.Leaving(); here || any {
		t.Errorf("all are active, and leaving: here %v, any %v", here, any)
	}
	drained := New("d")
	drained.Update(nodes, first)
	if here, any := drained.Leaving(); !here || !any {
		t.Errorf("d itself: leaving here %v, any %v", here, any)
	}
	fresh := New("a")
	fresh.Update(nodes, first)
	fresh.Heard("a", stores(1, 11))
	fresh.Heard("b", stores(2))
	if got := fresh.Places(block.Sum(nil), 3); len(got) != 2 {
		t.Errorf("places %v while c was never heard of", got)
	}
}
