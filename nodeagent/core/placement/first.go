package placement

import "slices"

// firsts settles which replica of each shard is preferred: the one that was, while each node is preferred for its
// part of the copies, want/width rounded. Only places within a shard change.
func (s *solver) firsts(previous *Layout) {
	lead := make([]int, len(s.active))
	isNew := make([]bool, s.shards)
	for shard := range s.shards {
		row := s.row(shard)
		if previous == nil || s.before(shard)[0] != row[0] {
			isNew[shard] = true
			continue
		}
		lead[row[0]]++
	}
	fixed, caps := make([]uint64, len(lead)), make([]int, len(lead))
	for u := range lead {
		fixed[u], caps[u] = uint64(s.load[u])<<shareBits/uint64(s.width), s.shards
	}
	due := apportion(s.shards, fixed, caps, lead, s.seeds)
	for shard, fresh := range isNew {
		if fresh {
			row := s.row(shard)
			best := 0
			for at, u := range row {
				if due[u]-lead[u] > due[row[best]]-lead[row[best]] {
					best = at
				}
			}
			row[0], row[best] = row[best], row[0]
			lead[row[0]]++
		}
	}
	p := preferring{solver: s, lead: lead, due: due, seen: make([]uint32, len(lead))}
	failed := 0
	for u := range lead {
		for lead[u] > due[u] && failed < maxStuck {
			if !p.pass(uint16(u)) {
				failed++
				break
			}
		}
	}
}

// maxStuck bounds the searches that end without an exchange: each can be a pass over the table.
const maxStuck = 64

// preferring passes first places along augmenting paths.
type preferring struct {
	*solver
	lead, due []int
	seen      []uint32
	round     uint32
	queue     []step
}

// pass takes one first place from u and, along the shortest path, gives one to a node that lacks it.
func (p *preferring) pass(u uint16) bool {
	p.round++
	p.seen[u] = p.round
	p.queue = append(p.queue[:0], step{node: u, from: -1})
	for at := 0; at < len(p.queue); at++ {
		x := p.queue[at].node
		for _, shard := range p.held[x] {
			row := p.row(int(shard))
			if row[0] != x {
				continue
			}
			for _, w := range row[1:] {
				if p.seen[w] == p.round {
					continue
				}
				p.seen[w] = p.round
				p.queue = append(p.queue, step{node: w, from: at, shard: shard})
				if p.lead[w] < p.due[w] {
					p.apply(len(p.queue) - 1)
					return true
				}
			}
		}
	}
	return false
}

func (p *preferring) apply(at int) {
	p.lead[p.queue[at].node]++
	p.lead[p.queue[0].node]--
	for ; p.queue[at].from >= 0; at = p.queue[at].from {
		row := p.row(int(p.queue[at].shard))
		i := slices.Index(row, p.queue[at].node)
		row[0], row[i] = row[i], row[0]
	}
}
