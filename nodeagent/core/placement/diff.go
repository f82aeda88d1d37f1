package placement

import (
	"slices"
	"strings"
)

// Move is the change of one shard: the nodes that give it up and those that take it. When R grows From can be empty,
// when it shrinks To. A copy may be read from any node of the old layout that is not down.
type Move struct {
	Shard    uint32
	From, To []Node
}

// Diff lists the shards whose set of nodes changes, rising by shard. Nodes are matched by id and described as in the
// layout they are named by: From as in old, To as in new. A change of order alone is no move. When the layouts differ
// in size, Shard counts in the larger.
func Diff(old, new *Layout) []Move {
	var moves []Move
	eachMove(old, new, func(shard uint32, from, to []uint16) {
		m := Move{Shard: shard}
		for _, i := range from {
			m.From = append(m.From, old.members[i])
		}
		for _, i := range to {
			m.To = append(m.To, new.members[i])
		}
		moves = append(moves, m)
	})
	return moves
}

// eachMove calls f with the member indexes that leave (of old) and come (of new) for each shard that changes. f must
// not keep the slices.
func eachMove(old, new *Layout, f func(shard uint32, from, to []uint16)) {
	match := make([]uint16, len(old.members)) // old index → new index
	for i, n := range old.members {
		match[i] = none
		if j := new.find(n.ID); j >= 0 {
			match[i] = uint16(j)
		}
	}
	size := max(old.bits, new.bits)
	var from, to, kept []uint16
	for shard := range uint32(1) << size {
		from, to, kept = from[:0], to[:0], kept[:0]
		row := new.row(shard >> (size - new.bits))
		for _, i := range old.row(shard >> (size - old.bits)) {
			if j := match[i]; j != none && slices.Contains(row, j) {
				kept = append(kept, j)
			} else {
				from = append(from, i)
			}
		}
		for _, j := range row {
			if !slices.Contains(kept, j) {
				to = append(to, j)
			}
		}
		if len(from)+len(to) > 0 {
			f(shard, from, to)
		}
	}
}

// Traffic is what a plan means for one node, in copies of shards and in bytes.
type Traffic struct {
	Node              Node
	CopiesIn, In      uint64
	CopiesOut, Out    uint64
	Copies, Preferred int // in the new layout: replicas held, and shards it is first of
}

// Plan sums up the way from one layout to the next.
type Plan struct {
	Shards   int       // whose set of nodes changes
	Copies   int       // to be made
	Fraction float64   // of all copies of the new layout that have to be made, 0..1
	Bytes    uint64    // to be sent
	Nodes    []Traffic // every member of either layout, rising by id; described as in the new one if it is there
}

// Summarize computes the plan from old to new. size gives the bytes of one copy of a shard, counted as Diff counts.
func Summarize(old, new *Layout, size func(shard uint32) uint64) Plan {
	p := Plan{}
	nodes := new.Members()
	for _, n := range old.members {
		if new.find(n.ID) < 0 {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	at := make(map[string]int, len(nodes))
	for i, n := range nodes {
		at[n.ID] = i
		p.Nodes = append(p.Nodes, Traffic{Node: n})
	}
	eachMove(old, new, func(shard uint32, from, to []uint16) {
		bytes := size(shard)
		p.Shards++
		p.Copies += len(to)
		p.Bytes += bytes * uint64(len(to))
		for _, i := range from {
			t := &p.Nodes[at[old.members[i].ID]]
			t.CopiesOut++
			t.Out += bytes
		}
		for _, j := range to {
			t := &p.Nodes[at[new.members[j].ID]]
			t.CopiesIn++
			t.In += bytes
		}
	})
	for i, m := range new.table {
		t := &p.Nodes[at[new.members[m].ID]]
		t.Copies++
		if i%new.width == 0 {
			t.Preferred++
		}
	}
	total := new.width << max(old.bits, new.bits)
	p.Fraction = float64(p.Copies) / float64(total)
	return p
}
