package placement

import (
	"fmt"
	"math"
	"slices"
)

// table is what the checker looks at: any placement, ours or a faulty double.
type table struct {
	members []Node
	rows    [][]int // member indexes, the preferred first
}

func tableOf(l *Layout) table {
	t := table{members: l.Members(), rows: make([][]int, l.Shards())}
	for s := range t.rows {
		t.rows[s] = l.Holders(uint32(s), nil)
	}
	return t
}

// rules is the naive twin of the zone rule and of the fair shares: floating point, and one fixed point after another.
type rules struct {
	width  int
	lo, hi map[string]int
	share  []float64 // of each member, 0 when not active
}

func zoneName(n Node, p ZonePolicy) string {
	if p == ZonesIgnore {
		return ""
	}
	return n.Zone
}

func newRules(members []Node, p Params, shards int) rules {
	count, active := map[string]int{}, 0
	for _, n := range members {
		if n.State == Active {
			count[zoneName(n, p.Zones)]++
			active++
		}
	}
	r := rules{width: min(p.Replicas, active), lo: map[string]int{}, hi: map[string]int{}}
	// Deal one replica at a time to the zone that has fewest and has a node left.
	dealt := map[string]int{}
	for range r.width {
		low := math.MaxInt
		for z, n := range count {
			if dealt[z] < n {
				low = min(low, dealt[z])
			}
		}
		for z, n := range count {
			if dealt[z] < n && dealt[z] == low {
				dealt[z]++
				break
			}
		}
	}
	level := 0
	for {
		sum := 0
		for _, n := range count {
			sum += min(n, level+1)
		}
		if sum > r.width || level == r.width {
			break
		}
		level++
	}
	for z, n := range count {
		r.lo[z], r.hi[z] = min(n, level), min(n, level+1)
		if dealt[z] < r.lo[z] || dealt[z] > r.hi[z] {
			panic("the zone levels do not agree with dealing")
		}
	}
	r.share = r.shares(members, p.Zones, float64(shards))
	return r
}

// level finds x with sum(x) = want for a rising sum, by bisection.
func level(want float64, sum func(x float64) float64) float64 {
	low, high := 0.0, 1.0
	for sum(high) < want*(1-1e-12) && high < 1e18 {
		high *= 2
	}
	for range 100 {
		if mid := (low + high) / 2; sum(mid) < want {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

func (r rules) shares(members []Node, policy ZonePolicy, shards float64) []float64 {
	weights := map[string][]float64{}
	for _, n := range members {
		if n.State == Active {
			weights[zoneName(n, policy)] = append(weights[zoneName(n, policy)], float64(n.Weight))
		}
	}
	inside := func(zone string, x float64) (sum float64) {
		for _, w := range weights[zone] {
			sum += min(shards, x*w)
		}
		return sum
	}
	clamped := func(zone string, x float64) float64 {
		return min(max(inside(zone, x), float64(r.lo[zone])*shards), float64(r.hi[zone])*shards)
	}
	x := level(float64(r.width)*shards, func(x float64) (sum float64) {
		for z := range r.lo {
			sum += clamped(z, x)
		}
		return sum
	})
	out := make([]float64, len(members))
	for z := range r.lo {
		mu := level(clamped(z, x), func(y float64) float64 { return inside(z, y) })
		for i, n := range members {
			if n.State == Active && zoneName(n, policy) == z {
				out[i] = min(shards, mu*float64(n.Weight))
			}
		}
	}
	return out
}

// findings is what the checker measures.
type findings struct {
	rows      error   // a shard without exactly min(R, active) distinct active nodes
	zones     error   // a shard that breaks the zone rule
	imbalance float64 // the largest relative distance of a node's copies from its share, less rounding of two copies: of the zone and of the node
	firsts    float64 // the same for first places, against copies/width, less rounding of two
	raw       float64 // imbalance with rounding, of nodes whose share is at least 40 copies
}

func examine(t table, p Params) findings {
	r := newRules(t.members, p, len(t.rows))
	var f findings
	load, first := make([]int, len(t.members)), make([]int, len(t.members))
	for s, row := range t.rows {
		in := map[string]int{}
		for at, m := range row {
			if t.members[m].State != Active || slices.Contains(row[:at], m) {
				f.rows = fmt.Errorf("shard %d: %v", s, row)
			}
			in[zoneName(t.members[m], p.Zones)]++
			load[m]++
		}
		if len(row) != r.width {
			f.rows = fmt.Errorf("shard %d: %v instead of %d nodes", s, row, r.width)
		}
		for z := range r.hi {
			if in[z] < r.lo[z] || in[z] > r.hi[z] {
				f.zones = fmt.Errorf("shard %d: %d copies in zone %q, not %d to %d", s, in[z], z, r.lo[z], r.hi[z])
			}
		}
		first[row[0]]++
	}
	for i, share := range r.share {
		if share == 0 {
			continue
		}
		off := math.Abs(float64(load[i]) - share)
		f.imbalance = max(f.imbalance, (off-2)/share)
		if share >= 40 {
			f.raw = max(f.raw, off/share)
		}
		due := float64(load[i]) / float64(r.width)
		f.firsts = max(f.firsts, (math.Abs(float64(first[i])-due)-2)/max(due, 1))
	}
	return f
}

// movement counts the copies that next makes and the fewest that any table within rounding of the shares must make.
func movement(prev, next table, p Params) (made, bound int) {
	r := newRules(next.members, p, len(next.rows))
	was := make([]string, len(prev.members))
	for i, n := range prev.members {
		was[i] = n.ID
	}
	index := map[string]int{}
	for i, n := range next.members {
		index[n.ID] = i
	}
	split := len(next.rows) / len(prev.rows)
	kept := make([]int, len(next.members))
	forced := 0
	for s, row := range next.rows {
		in := map[string]int{}
		old := make([]int, 0, len(row))
		for _, m := range prev.rows[s/split] {
			if i, ok := index[was[m]]; ok && next.members[i].State == Active {
				old = append(old, i)
				kept[i]++
				in[zoneName(next.members[i], p.Zones)]++
			}
		}
		for _, m := range row {
			if !slices.Contains(old, m) {
				made++
			}
		}
		room := 0
		for z, n := range in {
			room += min(n, r.hi[z])
		}
		forced += max(0, r.width-room)
	}
	low, stay := 0, 0
	for i, share := range r.share {
		low += max(0, int(share+1e-6)-kept[i])
		stay += min(kept[i], int(math.Ceil(share-1e-6)))
	}
	return made, max(forced, low, r.width*len(next.rows)-stay)
}
