package placement

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// world draws a network. Sizes beyond flowNodes use the other balancer.
func world(t *rapid.T, label string) []Node {
	n := rapid.OneOf(rapid.IntRange(1, 12), rapid.IntRange(13, 40), rapid.IntRange(flowNodes+1, 120)).Draw(t, label+" nodes")
	zones := rapid.IntRange(1, 9).Draw(t, label+" zones")
	skew := rapid.SampledFrom([]int{1, 2, 10}).Draw(t, label+" skew")
	out := make([]Node, n)
	for i := range out {
		out[i] = node(t, label, i, zones, skew)
	}
	out[0].State = Active
	return out
}

func node(t *rapid.T, label string, i, zones, skew int) Node {
	return Node{
		ID:     fmt.Sprintf("n%d", i),
		Zone:   fmt.Sprintf("z%d", rapid.IntRange(0, zones-1).Draw(t, label+" zone")),
		Weight: uint64(100 * rapid.IntRange(1, skew).Draw(t, label+" weight")),
		State:  rapid.SampledFrom([]State{Active, Active, Active, Active, Active, Active, Draining, Down}).Draw(t, label+" state"),
	}
}

func drawParams(t *rapid.T) Params {
	return Params{
		Replicas: rapid.IntRange(1, 5).Draw(t, "replicas"),
		Shards:   rapid.SampledFrom([]int{1, 64, 1024}).Draw(t, "shards"),
		Zones:    rapid.SampledFrom([]ZonePolicy{ZonesSpread, ZonesSpread, ZonesIgnore}).Draw(t, "policy"),
	}
}

// change applies up to events events of the first kinds kinds to a network.
func change(t *rapid.T, members []Node, events, kinds int) []Node {
	out := append([]Node(nil), members...)
	for range rapid.IntRange(1, events).Draw(t, "events") {
		i := rapid.IntRange(0, len(out)-1).Draw(t, "at")
		switch rapid.IntRange(0, kinds-1).Draw(t, "event") {
		case 0:
			out = append(out, node(t, "new", 1000+len(out), 9, 10))
		case 1:
			if len(out) > 1 {
				out = append(out[:i], out[i+1:]...)
			}
		case 2:
			out[i].Weight = uint64(100 * rapid.IntRange(1, 10).Draw(t, "weight"))
		case 3:
			out[i].State = rapid.SampledFrom([]State{Active, Draining, Down}).Draw(t, "state")
		case 4:
			for j, zone := 0, out[i].Zone; j < len(out); j++ {
				if out[j].Zone == zone {
					out[j].State = Draining
				}
			}
		case 5:
			out[i].Zone = fmt.Sprintf("z%d", rapid.IntRange(0, 9).Draw(t, "zone"))
		}
	}
	return out
}

func unique(members []Node) []Node {
	seen := map[string]bool{}
	out := members[:0]
	active := false
	for _, n := range members {
		if !seen[n.ID] {
			out = append(out, n)
			active = active || n.State == Active
		}
		seen[n.ID] = true
	}
	if !active {
		out[0].State = Active
	}
	return out
}

func must(t rapid.TB, members []Node, p Params, previous *Layout) *Layout {
	t.Helper()
	l, err := Compute(members, p, previous)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func requireSound(t rapid.TB, l *Layout, p Params) {
	t.Helper()
	f := examine(tableOf(l), p)
	if f.rows != nil || f.zones != nil || f.imbalance > 0 || f.raw > 0.05 || f.firsts > 0.05 {
		t.Fatalf("%d members, %+v: %+v", l.Len(), p, f)
	}
}

// TestRules walks random networks through random events, several at a time: every layout obeys every rule, and computing
// again without a change returns the same layout.
func TestRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members, p := world(t, "first"), drawParams(t)
		l := must(t, members, p, nil)
		requireSound(t, l, p)
		for range rapid.IntRange(1, 3).Draw(t, "steps") {
			members = unique(change(t, members, 3, 6))
			p.Replicas = rapid.SampledFrom([]int{p.Replicas, p.Replicas, 1, 2, 5}).Draw(t, "replicas")
			next := must(t, members, p, l)
			requireSound(t, next, p)
			if again := must(t, members, p, next); again != next {
				t.Fatal("computing again without a change changed the layout")
			}
			l = next
		}
	})
}

// TestMovement walks random networks through one event at a time: nodes come, go, drain, die, change weight, zones
// drain. Each step makes at most a quarter more copies than the exact balancer, which TestFlowIsExact holds to the optimum,
// and all together at most a hundredth more.
func TestMovement(t *testing.T) {
	var all, needed int
	rapid.Check(t, func(t *rapid.T) {
		members, p := world(t, "first"), drawParams(t)
		l := must(t, members, p, nil)
		for range rapid.IntRange(1, 3).Draw(t, "steps") {
			members = unique(change(t, members, 1, 5))
			next := must(t, members, p, l)
			best, err := compute(members, p, l, MaxMembers)
			if err != nil {
				t.Fatal(err)
			}
			made, _ := movement(tableOf(l), tableOf(next), p)
			exact, _ := movement(tableOf(l), tableOf(best), p)
			if float64(made) > 1.25*float64(exact)+2 {
				t.Fatalf("%d copies made, %d needed: %+v\nfrom %v\nto %v", made, exact, p, l.Members(), members)
			}
			all, needed = all+made, needed+exact
			l = next
		}
	})
	t.Logf("%d copies made, %d needed", all, needed)
	if float64(all) > 1.01*float64(needed) {
		t.Errorf("%d copies made in all, %d needed", all, needed)
	}
}
