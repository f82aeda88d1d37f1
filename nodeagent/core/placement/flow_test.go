package placement

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// arcs is a textbook network for the twin of flow: arcs in pairs, forward and backward.
type arcs struct {
	to, room, cost []int
	from           [][]int
}

func (a *arcs) add(u, v, room, cost int) {
	for len(a.from) <= max(u, v) {
		a.from = append(a.from, nil)
	}
	a.from[u] = append(a.from[u], len(a.to))
	a.from[v] = append(a.from[v], len(a.to)+1)
	a.to, a.room, a.cost = append(a.to, v, u), append(a.room, room, 0), append(a.cost, cost, -cost)
}

// cheapest sends units from s to t one by one along cheapest paths and returns what was sent and its cost.
func (a *arcs) cheapest(s, t int) (sent, cost int) {
	for {
		dist, via := make([]int, len(a.from)), make([]int, len(a.from))
		for i := range dist {
			dist[i] = far
		}
		dist[s] = 0
		queue := []int{s}
		for len(queue) > 0 {
			u := queue[0]
			queue = queue[1:]
			for _, e := range a.from[u] {
				if v := a.to[e]; a.room[e] > 0 && dist[u]+a.cost[e] < dist[v] {
					dist[v], via[v] = dist[u]+a.cost[e], e
					queue = append(queue, v)
				}
			}
		}
		if dist[t] == far {
			return sent, cost
		}
		for v := t; v != s; v = a.to[via[v]^1] {
			a.room[via[v]]--
			a.room[via[v]^1]++
		}
		sent++
		cost += dist[t]
	}
}

// fewest is the least number of copies to make for the solver's targets: a minimum-cost flow over source → shard →
// (shard, zone) → node → sink. The lower bounds of zones are a bonus so large that no saving outweighs it.
func fewest(s *solver) (copies int, ok bool) {
	const bonus = 1 << 14
	zones, n := len(s.zones.nodes), len(s.active)
	node := func(u int) int { return 2 + s.shards*(1+zones) + u }
	var a arcs
	lows := 0
	for shard := range s.shards {
		a.add(0, 2+shard, s.width, 0)
		for z, nodes := range s.zones.nodes {
			at := 2 + s.shards + shard*zones + z
			a.add(2+shard, at, s.zones.lo[z], -bonus)
			a.add(2+shard, at, s.zones.hi[z]-s.zones.lo[z], 0)
			lows += s.zones.lo[z]
			for _, u := range nodes {
				cost := 1
				if slices.Contains(s.before(shard), uint16(u)) {
					cost = 0
				}
				a.add(at, node(u), 1, cost)
			}
		}
	}
	for u := range n {
		a.add(node(u), 1, s.want[u], 0)
	}
	sent, cost := a.cheapest(0, 1)
	copies = cost + bonus*lows
	return copies, sent == s.shards*s.width && copies >= 0 && copies < bonus
}

// made is the number of copies that the solver's rows have and the prior ones had not.
func made(s *solver) int {
	n := 0
	for shard := range s.shards {
		for _, u := range s.row(shard) {
			if !slices.Contains(s.before(shard), u) {
				n++
			}
		}
	}
	return n
}

// TestFlowIsExact compares the balancer of small networks with a textbook minimum-cost flow, through all kinds of
// events, zone changes and changes of R included. The negative control is fill without balance: it must be found out.
func TestFlowIsExact(t *testing.T) {
	short := 0
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 6).Draw(t, "nodes")
		members := make([]Node, n)
		for i := range members {
			members[i] = node(t, "first", i, 4, 4)
		}
		members = unique(members)
		p := Params{Replicas: rapid.IntRange(1, 4).Draw(t, "replicas"), Shards: 1}
		l := must(t, members, p, nil)
		if l.Shards() > 256 {
			t.Skip("too large for the twin")
		}
		next := unique(change(t, members, 3, 6))
		p.Replicas = rapid.SampledFrom([]int{p.Replicas, p.Replicas, 3}).Draw(t, "replicas after")
		sorted, err := sortMembers(next)
		if err != nil {
			t.Fatal(err)
		}
		s := newSolver(&Layout{version: 2, replicas: p.Replicas, members: sorted}, 1, l)
		if s.shards > 256 {
			t.Skip("too large for the twin")
		}
		s.keep(l)
		best, ok := fewest(s)
		if !ok {
			t.Fatalf("targets %v cannot be met", s.want)
		}
		s.fill()
		if !slices.Equal(s.load, s.want) {
			short++
		}
		s.balance(flowNodes)
		if !slices.Equal(s.load, s.want) || made(s) != best {
			t.Fatalf("%d copies made, %d needed; loads %v, targets %v", made(s), best, s.load, s.want)
		}
	})
	if short == 0 {
		t.Fatal("the cases never needed balance: the test shows nothing")
	}
}
