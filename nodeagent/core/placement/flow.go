package placement

import "slices"

// flow balances small networks at the least possible change.
//
// The network is shard → (shard, zone) with bounds lo and hi → node → target; a copy costs 1 where the shard had none
// before. The start is an assignment of least cost whatever the loads; each step sends one unit from a node above its
// target to the nearest below it along a cheapest path, which keeps the cost least for the loads reached
// (successive shortest paths; Ahuja, Magnanti and Orlin, Network Flows, 9.7). A path is seen as nodes only: an edge
// u→w is any shard that u can hand to w. Of equally cheap paths the shortest is taken; it uses no shard twice.
type flow struct {
	*solver
	n     int
	count [3][]int32 // shards that u can hand to w at cost -1, 0, 1, at u*n+w
	cost  []int32    // the cheapest edge u→w, or far
	dist  []int32
	via   []int
}

const (
	far  = 1 << 30
	unit = 1 << 10 // of cost; an edge adds 1, so that of equally cheap paths the shortest wins
)

func newFlow(s *solver) *flow {
	n := len(s.active)
	f := &flow{solver: s, n: n, cost: make([]int32, n*n), dist: make([]int32, n), via: make([]int, n)}
	for c := range f.count {
		f.count[c] = make([]int32, n*n)
	}
	return f
}

func (f *flow) run() {
	if f.worst() < 0 {
		return
	}
	for shard := range f.shards {
		f.tally(shard, 1)
	}
	// Each step lowers the surplus by one; the bound only guards against an error here.
	for range len(f.rows) {
		source := f.worst()
		if source < 0 {
			return
		}
		sink := f.search(source)
		if sink < 0 {
			return
		}
		f.push(source, sink)
	}
}

// worst is the node with the largest surplus, or -1.
func (f *flow) worst() int {
	best := -1
	for u := range f.n {
		if over := f.load[u] - f.want[u]; over > 0 && (best < 0 || over > f.load[best]-f.want[best]) {
			best = u
		}
	}
	return best
}

// price is what handing a shard from u to w adds to the cost: -1, 0 or 1.
func (f *flow) price(shard int, u, w uint16) int {
	c := 0
	if before := f.before(shard); len(before) > 0 {
		if !slices.Contains(before, w) {
			c++
		}
		if !slices.Contains(before, u) {
			c--
		}
	}
	return c
}

// tally adds the edges of a shard to the counts, or takes them out with by = -1.
func (f *flow) tally(shard int, by int32) {
	row := f.row(shard)
	for w := range f.n {
		for _, u := range row {
			if f.swappable(row, u, uint16(w)) {
				at := int(u)*f.n + w
				c := f.price(shard, u, uint16(w)) + 1
				f.count[c][at] += by
				f.cost[at] = far
				for k := range f.count {
					if f.count[k][at] > 0 {
						f.cost[at] = int32(k-1)*unit + 1
						break
					}
				}
			}
		}
	}
}

// search finds the cheapest paths from source (Bellman and Ford; edges can cost less than nothing, cycles cannot) and
// returns the nearest node below its target, of equals the one that lacks most, or -1.
func (f *flow) search(source int) int {
	for u := range f.dist {
		f.dist[u] = far
	}
	f.dist[source] = 0
	for range f.n {
		changed := false
		for u := range f.n {
			if f.dist[u] == far {
				continue
			}
			for w, c := range f.cost[u*f.n : (u+1)*f.n] {
				if c != 0 && c != far && f.dist[u]+c < f.dist[w] {
					f.dist[w], f.via[w] = f.dist[u]+c, u
					changed = true
				}
			}
		}
		if !changed {
			break
		}
	}
	sink := -1
	for w := range f.n {
		lack := f.want[w] - f.load[w]
		if lack <= 0 || f.dist[w] == far {
			continue
		}
		if sink < 0 || f.dist[w] < f.dist[sink] || f.dist[w] == f.dist[sink] && lack > f.want[sink]-f.load[sink] {
			sink = w
		}
	}
	return sink
}

// push applies the path from its end, so that every intermediate state obeys the rules.
func (f *flow) push(source, sink int) {
	for w := sink; w != source; w = f.via[w] {
		u := f.via[w]
		price := int(f.cost[u*f.n+w]-1) / unit
		h := f.held[u]
		start := f.draw.below(len(h))
		for k := range h {
			i := (start + k) % len(h)
			shard := int(h[i])
			if f.swappable(f.row(shard), uint16(u), uint16(w)) && f.price(shard, uint16(u), uint16(w)) <= price {
				f.tally(shard, -1)
				f.hand(uint16(u), i, uint16(w))
				f.tally(shard, 1)
				break
			}
		}
	}
}
