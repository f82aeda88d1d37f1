package placement

import "slices"

// flowNodes is the largest network that Compute balances exactly.
const flowNodes = 64

// balance hands copies from nodes above their target to nodes below it, within the zone rule; at the least possible
// change in networks of up to exact active nodes.
func (s *solver) balance(exact int) {
	s.held = make([][]uint32, len(s.active))
	all := make([]uint32, len(s.rows))
	at := 0
	for u, n := range s.load {
		s.held[u] = all[at : at : at+n]
		at += n
	}
	for shard := range s.shards {
		for _, u := range s.row(shard) {
			s.held[u] = append(s.held[u], uint32(shard))
		}
	}
	if len(s.active) <= exact {
		newFlow(s).run()
		return
	}
	s.lacking()
	for u, z := range s.zones.of {
		s.tokens[z] = s.direct(uint16(u), s.tokens[z])
	}
	var under []uint16
	for _, t := range s.tokens {
		under = append(under, t...)
	}
	s.even(under)
}

// hand moves the i-th shard of u to w, at the same place in the shard's order.
func (s *solver) hand(u uint16, i int, w uint16) {
	h := s.held[u]
	shard := h[i]
	h[i] = h[len(h)-1]
	s.held[u] = h[:len(h)-1]
	row := s.row(int(shard))
	for at, x := range row {
		if x == u {
			row[at] = w
		}
	}
	s.held[w] = append(s.held[w], shard)
	s.load[u]--
	s.load[w]++
}

// passes finds, from a drawn start, a shard of u that w may take, as its place in held[u], or -1.
func (s *solver) passes(u, w uint16) int {
	h := s.held[u]
	if len(h) == 0 {
		return -1
	}
	start := s.draw.below(len(h))
	for k := range h {
		i := (start + k) % len(h)
		if s.swappable(s.row(int(h[i])), u, w) {
			return i
		}
	}
	return -1
}

// even balances large networks after what zones can do within: a drawn node that lacks copies takes one directly, or,
// when the zone rule allows no direct move, along a shortest augmenting path. under names each node once for each copy it lacks.
func (s *solver) even(under []uint16) {
	for o := range s.active {
		u := uint16(o)
		for s.load[u] > s.want[u] {
			if under = s.direct(u, under); s.load[u] > s.want[u] && !s.augment(u) {
				return // no node that lacks copies can be reached, or the budget is spent: every row is sound
			}
		}
	}
}

// direct hands surplus copies of u to drawn nodes until one cannot be placed in a few draws, and returns who still
// lacks copies.
func (s *solver) direct(u uint16, under []uint16) []uint16 {
	for tries := 8; tries > 0 && s.load[u] > s.want[u] && len(under) > 0; tries-- {
		pick := s.draw.below(len(under))
		w := under[pick]
		if s.load[w] < s.want[w] {
			i := s.passes(u, w)
			if i < 0 {
				continue
			}
			s.hand(u, i, w)
		}
		under[pick] = under[len(under)-1]
		under = under[:len(under)-1]
		tries = 9
	}
	return under
}

// step is one node on the way of a breadth-first search, and the shard by which it was reached.
type step struct {
	node  uint16
	from  int // place in the queue, -1 at the start
	shard uint32
}

// maxChecks bounds the steps of all augmenting searches of one computation, to about a second. Only networks far off
// the zone rule's reach come near it; what it leaves uneven the next computation goes on with.
const maxChecks = 1 << 26

// augment takes one copy from u and, along the shortest path of nodes each handing a shard to the next, gives one to
// a node that lacks it. A shortest path uses no shard twice, so all its moves fit together. Each node is reached
// once: the cost is at most a pass over the table for each zone that has nodes left.
func (s *solver) augment(u uint16) bool {
	if s.checks > maxChecks {
		return false
	}
	left := make([][]int, len(s.zones.nodes)) // not yet reached
	var zones []int                           // with nodes left
	for z, nodes := range s.zones.nodes {
		left[z] = slices.DeleteFunc(slices.Clone(nodes), func(w int) bool { return w == int(u) })
		zones = append(zones, z)
	}
	queue := []step{{node: u, from: -1}}
	for at := 0; at < len(queue); at++ {
		x := queue[at].node
		for _, shard := range s.held[x] {
			row := s.row(int(shard))
			s.checks += len(zones)
			for _, z := range zones {
				if !s.crosses(row, s.zones.of[x], uint16(z)) {
					continue
				}
				inRow := left[z][:0]
				for _, w := range left[z] {
					if slices.Contains(row, uint16(w)) {
						inRow = append(inRow, w)
						continue
					}
					queue = append(queue, step{node: uint16(w), from: at, shard: shard})
					if s.load[w] < s.want[w] {
						s.follow(queue)
						return true
					}
				}
				left[z] = inRow
			}
			zones = slices.DeleteFunc(zones, func(z int) bool { return len(left[z]) == 0 })
		}
	}
	return false
}

// crosses reports whether the zone rule lets a copy of the row pass from zone from to zone to.
func (s *solver) crosses(row []uint16, from, to uint16) bool {
	return from == to || s.inZone(row, from) > s.zones.lo[from] && s.inZone(row, to) < s.zones.hi[to]
}

// follow applies the path that ends in the last step of the queue, from its end.
func (s *solver) follow(queue []step) {
	for e := queue[len(queue)-1]; e.from >= 0; e = queue[e.from] {
		x := queue[e.from].node
		s.hand(x, slices.Index(s.held[x], e.shard), e.node)
	}
}
