package placement

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// none marks an empty place in a table under construction. A finished table has none.
const none = 0xFFFF

// Layout is a versioned table shard → ordered replicas. It is immutable.
type Layout struct {
	version  uint64
	replicas int
	width    int // replicas a shard really has: min(replicas, active members)
	bits     int
	zones    ZonePolicy
	members  []Node   // rising by id
	seeds    []uint64 // of each member, from its id
	table    []uint16 // width member indexes a shard
	hash     block.Hash
}

// finish derives what follows from members and table.
func (l *Layout) finish() *Layout {
	l.seeds = seedsOf(l.members)
	l.hash = block.Sum(l.encode(nil))
	return l
}

// Version rises by one with each change.
func (l *Layout) Version() uint64 { return l.version }

// Shards is P, a power of two.
func (l *Layout) Shards() int { return 1 << l.bits }

// Replicas is R as asked for.
func (l *Layout) Replicas() int { return l.replicas }

// Width is the number of replicas of each shard: min(Replicas, active members).
func (l *Layout) Width() int { return l.width }

// Params returns what the layout was computed with; Shards is the number in use.
func (l *Layout) Params() Params {
	return Params{Replicas: l.replicas, Shards: l.Shards(), Zones: l.zones}
}

// Len is the number of members, active or not.
func (l *Layout) Len() int { return len(l.members) }

// Member returns member i, 0 ≤ i < Len, in order of id.
func (l *Layout) Member(i int) Node { return l.members[i] }

// Members returns a copy of all members in order of id.
func (l *Layout) Members() []Node { return slices.Clone(l.members) }

// Hash is BLAKE3-256 of the full encoding. It identifies the layout, version included.
func (l *Layout) Hash() block.Hash { return l.hash }

// ShardOf names the shard of a key: its leading log2 P bits.
func (l *Layout) ShardOf(key block.Hash) uint32 {
	return binary.BigEndian.Uint32(key[:4]) >> (32 - l.bits)
}

// Lookup appends the replicas of the key's shard to buf, the preferred one first. It allocates nothing when buf has
// room for Width nodes.
func (l *Layout) Lookup(key block.Hash, buf []Node) []Node {
	for _, m := range l.row(l.ShardOf(key)) {
		buf = append(buf, l.members[m])
	}
	return buf
}

// Replica returns the member index of the replica at place 0 ≤ place < Width of a shard, 0 ≤ shard < Shards.
func (l *Layout) Replica(shard uint32, place int) int {
	return int(l.row(shard)[place])
}

// Holders appends the member indexes of a shard's replicas to buf, the preferred one first.
func (l *Layout) Holders(shard uint32, buf []int) []int {
	for _, m := range l.row(shard) {
		buf = append(buf, int(m))
	}
	return buf
}

func (l *Layout) row(shard uint32) []uint16 {
	at := int(shard) * l.width
	return l.table[at : at+l.width : at+l.width]
}

// Extend appends the member indexes of all active nodes that are not replicas of the shard, in order of weighted
// rendezvous for this shard: where to look, or to place, when some of the replicas are dead. The order of any two
// nodes depends on these two alone. It costs a pass over all members and one allocation.
func (l *Layout) Extend(shard uint32, buf []int) []int {
	row := l.row(shard)
	ranks := make([]rank, 0, len(l.members))
	for i, n := range l.members {
		if n.State == Active && !slices.Contains(row, uint16(i)) {
			ranks = append(ranks, rank{cost: negLog2(mix(l.seeds[i] ^ mix(uint64(shard)+1))), weight: n.Weight, member: i})
		}
	}
	slices.SortFunc(ranks, rank.compare)
	for _, r := range ranks {
		buf = append(buf, r.member)
	}
	return buf
}

// rank orders nodes by weighted rendezvous: ascending -log2(h)/weight, h uniform in (0, 1) from node and shard
// (the logarithmic method of Schindelhauer and Schomaker, 2005).
type rank struct {
	cost   uint64
	weight uint64
	member int
}

func (a rank) compare(b rank) int {
	ah, al := bits.Mul64(a.cost, b.weight)
	bh, bl := bits.Mul64(b.cost, a.weight)
	switch {
	case ah != bh:
		return sign(ah < bh)
	case al != bl:
		return sign(al < bl)
	}
	return a.member - b.member
}

func sign(less bool) int {
	if less {
		return -1
	}
	return 1
}

const logBits = 40

// negLog2 is -log2((h|1) / 2^64) with logBits fractional bits, by repeated squaring. Integers keep it the same on
// every architecture.
func negLog2(h uint64) uint64 {
	h |= 1
	zeros := bits.LeadingZeros64(h)
	m := h << zeros // m / 2^63 in [1, 2)
	var frac uint64
	for range logBits {
		m, _ = bits.Mul64(m, m)
		frac <<= 1
		if m >= 1<<63 {
			frac |= 1
		} else {
			m <<= 1
		}
	}
	return uint64(zeros+1)<<logBits - frac
}

// mix is the finalizer of splitmix64 (Steele, Lea and Flood, 2014): a bijection that spreads every input bit.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// stream is the splitmix64 sequence: repeatable choices from a seed, not randomness.
type stream uint64

func (s *stream) next() uint64 {
	*s += 0x9e3779b97f4a7c15
	return mix(uint64(*s))
}

// below returns a number in [0, n), 0 < n < 2^32.
func (s *stream) below(n int) int {
	return int((s.next() >> 32) * uint64(n) >> 32)
}

func seedsOf(members []Node) []uint64 {
	seeds := make([]uint64, len(members))
	for i, n := range members {
		h := block.Sum([]byte(n.ID))
		seeds[i] = binary.LittleEndian.Uint64(h[:])
	}
	return seeds
}
