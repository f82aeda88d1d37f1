package placement

import (
	"math/bits"
	"slices"
)

// Shares are fixed point with shareBits fractional bits: MaxShards copies still fit λ·w in the arithmetic below.
const shareBits = 10

// zoning is the zone rule for a set of active nodes.
type zoning struct {
	of     []uint16 // zone of each active node
	nodes  [][]int  // active nodes of each zone
	lo, hi []int    // replicas that one shard may hold in each zone
	firm   []int    // zones with lo > 0: not more than a shard has replicas
}

// newZoning numbers the zones in the order of first appearance and finds the level L of the package comment.
func newZoning(active []Node, width int, policy ZonePolicy) zoning {
	z := zoning{of: make([]uint16, len(active))}
	number := make(map[string]uint16)
	for i, n := range active {
		name := n.Zone
		if policy == ZonesIgnore {
			name = ""
		}
		k, ok := number[name]
		if !ok {
			k = uint16(len(z.nodes))
			number[name] = k
			z.nodes = append(z.nodes, nil)
		}
		z.of[i] = k
		z.nodes[k] = append(z.nodes[k], i)
	}
	level := 0
	for z.fits(level+1, width) {
		level++
	}
	z.lo, z.hi = make([]int, len(z.nodes)), make([]int, len(z.nodes))
	for k, nodes := range z.nodes {
		z.lo[k], z.hi[k] = min(len(nodes), level), min(len(nodes), level+1)
	}
	return z
}

// tighten raises lo or lowers hi where the copies that a zone shall hold in all leave a shard no choice.
func (z *zoning) tighten(totals []int, shards int) {
	for k, total := range totals {
		switch total {
		case z.hi[k] * shards:
			z.lo[k] = z.hi[k]
		case z.lo[k] * shards:
			z.hi[k] = z.lo[k]
		}
		if z.lo[k] > 0 {
			z.firm = append(z.firm, k)
		}
	}
}

// fits reports whether every zone can give level replicas, or all its nodes, without exceeding width. Above width
// nothing is gained, and a network without spare nodes would never stop.
func (z *zoning) fits(level, width int) bool {
	sum := 0
	for _, nodes := range z.nodes {
		sum += min(len(nodes), level)
	}
	return level <= width && sum <= width
}

// share is min(limit, λ·w) in fixed point; λ carries 32 more fractional bits.
func share(lambda, weight, limit uint64) uint64 {
	hi, lo := bits.Mul64(lambda, weight)
	if hi >= 1<<32 {
		return limit
	}
	return min(limit, hi<<32|lo>>32)
}

// fill returns the largest λ with total(λ) ≤ want; total rises with λ.
func fill(want uint64, total func(lambda uint64) uint64) uint64 {
	var lambda uint64
	for bit := uint64(1) << 63; bit > 0; bit >>= 1 {
		if total(lambda|bit) <= want {
			lambda |= bit
		}
	}
	return lambda
}

// zoneShares is F_z of the package comment in fixed point.
func zoneShares(active []Node, z zoning, shards, width int) []uint64 {
	limit := uint64(shards) << shareBits
	at := func(lambda uint64, zone int) uint64 {
		var sum uint64
		for _, i := range z.nodes[zone] {
			sum += share(lambda, active[i].Weight, limit)
		}
		return min(max(sum, uint64(z.lo[zone])*limit), uint64(z.hi[zone])*limit)
	}
	lambda := fill(uint64(width)*limit, func(lambda uint64) (sum uint64) {
		for k := range z.nodes {
			sum += at(lambda, k)
		}
		return sum
	})
	shares := make([]uint64, len(z.nodes))
	for k := range shares {
		shares[k] = at(lambda, k)
	}
	return shares
}

// targets is the number of copies each active node shall hold: f_i of the package comment, rounded so that the sum is
// exact and nodes above the lower value keep what they have. It tightens the bounds of z to what the zones' totals imply.
func targets(active []Node, z *zoning, shards, width int, have []int, seeds []uint64) []int {
	limit := uint64(shards) << shareBits
	held, ties := make([]int, len(z.nodes)), make([]uint64, len(z.nodes))
	for i, k := range z.of {
		held[k] += have[i]
		ties[k] ^= mix(seeds[i])
	}
	caps := make([]int, len(z.nodes))
	for k := range caps {
		caps[k] = z.hi[k] * shards
	}
	totals := apportion(shards*width, zoneShares(active, *z, shards, width), caps, held, ties)
	z.tighten(totals, shards)
	want := make([]int, len(active))
	for k, nodes := range z.nodes {
		n := len(nodes)
		fixed, own, full, tie := make([]uint64, n), make([]int, n), make([]int, n), make([]uint64, n)
		mu := fill(uint64(totals[k])<<shareBits, func(mu uint64) (sum uint64) {
			for _, i := range nodes {
				sum += share(mu, active[i].Weight, limit)
			}
			return sum
		})
		for j, i := range nodes {
			fixed[j], own[j], full[j], tie[j] = share(mu, active[i].Weight, limit), have[i], shards, seeds[i]
		}
		for j, t := range apportion(totals[k], fixed, full, own, tie) {
			want[nodes[j]] = t
		}
	}
	return want
}

// apportion rounds fixed-point shares to integers that sum to total, none above its cap. What rounding down leaves
// goes first to those that hold more already, then to the larger fractions, then by tie.
func apportion(total int, fixed []uint64, caps, have []int, tie []uint64) []int {
	out, order := make([]int, len(fixed)), make([]int, 0, len(fixed))
	for i, f := range fixed {
		out[i] = int(f >> shareBits)
		total -= out[i]
		order = append(order, i)
	}
	const fraction = 1<<shareBits - 1
	slices.SortFunc(order, func(a, b int) int {
		ah, bh := have[a] > out[a], have[b] > out[b]
		switch {
		case ah != bh:
			return sign(ah)
		case fixed[a]&fraction != fixed[b]&fraction:
			return sign(fixed[a]&fraction > fixed[b]&fraction)
		case tie[a] != tie[b]:
			return sign(tie[a] < tie[b])
		}
		return a - b
	})
	for given := true; total > 0 && given; {
		given = false
		for _, i := range order {
			if total > 0 && out[i] < caps[i] {
				out[i]++
				total--
				given = true
			}
		}
	}
	return out
}
