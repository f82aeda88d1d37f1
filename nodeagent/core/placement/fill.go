package placement

import "slices"

// fill puts a node into every empty place: the zone that lacks most of its share first, and in the zone a weighted
// draw without replacement, each node as often as it lacks copies. Drawing spreads the copysets: the partners of a
// node's shards are as many different nodes as the numbers allow.
func (s *solver) fill() {
	s.lacking()
	lack := newContest(len(s.tokens), &s.draw)
	if len(s.active) > flowNodes && len(s.tokens) <= flowNodes {
		lack.steps = 20 // zones of many nodes: the draw in the zone spreads enough, and an exact rhythm leaves few misfits
	}
	for z, t := range s.tokens {
		lack.whole[z] = len(t)
		lack.set(z, len(t))
	}
	for shard := range s.shards {
		row := s.row(shard)
		for at, u := range row {
			if u == none {
				row[at] = s.choose(row, lack)
				s.load[row[at]]++
			}
		}
	}
}

// lacking lists in tokens, by zone, each node once for each copy it lacks.
func (s *solver) lacking() {
	s.tokens = make([][]uint16, len(s.zones.nodes))
	for z, nodes := range s.zones.nodes {
		for _, u := range nodes {
			for range s.want[u] - s.load[u] {
				s.tokens[z] = append(s.tokens[z], uint16(u))
			}
		}
	}
}

// choose returns the node for an empty place of row.
func (s *solver) choose(row []uint16, lack *contest) uint16 {
	var tried [2 * MaxReplicas]int
	n, chosen := 0, uint16(none)
	for n < len(tried) && chosen == none {
		z := lack.top()
		if z < 0 {
			break
		}
		if s.open(row, uint16(z)) {
			chosen = s.take(row, z)
		}
		lack.put(z, 0)
		tried[n] = z
		n++
	}
	for _, z := range tried[:n] {
		lack.set(z, len(s.tokens[z]))
	}
	if chosen != none {
		return chosen
	}
	// No node that lacks copies fits. One that has enough always does, and balance corrects it.
	for u := s.draw.below(len(s.active)); ; u = (u + 1) % len(s.active) {
		if s.admits(row, uint16(u)) {
			return uint16(u)
		}
	}
}

// take draws a node of zone z that is not in the row, or none.
func (s *solver) take(row []uint16, z int) uint16 {
	for range 8 {
		t := s.tokens[z]
		i := s.draw.below(len(t))
		if u := t[i]; !slices.Contains(row, u) {
			t[i] = t[len(t)-1]
			s.tokens[z] = t[:len(t)-1]
			return u
		}
	}
	return none
}

// contest is a winner tree over the zones: the one that still lacks the largest part of what it lacked at first, in
// coarse steps, and among equals by a fresh draw, so that no combination of zones recurs more than chance has it.
type contest struct {
	size  int
	steps uint // log2 of the steps
	key   []uint64
	win   []int32
	whole []int
	draw  *stream
}

func newContest(n int, draw *stream) *contest {
	c := &contest{size: 1, steps: 8, draw: draw, whole: make([]int, n)}
	for c.size < n {
		c.size *= 2
	}
	c.key, c.win = make([]uint64, c.size), make([]int32, 2*c.size)
	for i := range c.size {
		c.win[c.size+i] = int32(i)
	}
	for i := c.size - 1; i > 0; i-- {
		c.win[i] = c.win[2*i]
	}
	return c
}

// top is the leading zone, or -1 when none lacks anything.
func (c *contest) top() int {
	z := c.win[1]
	if c.key[z] == 0 {
		return -1
	}
	return int(z)
}

// set enters zone z with what it lacks now.
func (c *contest) set(z, lack int) {
	if lack == 0 {
		c.put(z, 0)
		return
	}
	part := uint64(lack) << c.steps / uint64(c.whole[z])
	c.put(z, part<<32|c.draw.next()>>32|1)
}

func (c *contest) put(z int, key uint64) {
	c.key[z] = key
	for i := (c.size + z) / 2; i > 0; i /= 2 {
		a, b := c.win[2*i], c.win[2*i+1]
		if c.key[b] > c.key[a] {
			a = b
		}
		c.win[i] = a
	}
}
