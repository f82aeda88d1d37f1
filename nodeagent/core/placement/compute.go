package placement

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// Compute derives a layout from the members in any order, the parameters and the previous layout, nil for the first.
// When nothing would change it returns previous itself. It refuses with the sentinel errors of this package.
func Compute(members []Node, params Params, previous *Layout) (*Layout, error) {
	return compute(members, params, previous, flowNodes)
}

// compute balances networks of up to exact active nodes exactly.
func compute(members []Node, params Params, previous *Layout, exact int) (*Layout, error) {
	if err := params.check(); err != nil {
		return nil, err
	}
	sorted, err := sortMembers(members)
	if err != nil {
		return nil, err
	}
	l := &Layout{version: 1, replicas: params.Replicas, zones: params.Zones, members: sorted}
	if previous != nil {
		if previous.version == math.MaxUint64 {
			return nil, fmt.Errorf("version %d: %w", previous.version, ErrVersion)
		}
		l.version = previous.version + 1
	}
	s := newSolver(l, params.Shards, previous)
	l.width, l.bits = s.width, bits.Len(uint(s.shards))-1
	if params.Zones == ZonesStrict && len(s.zones.nodes) < params.Replicas {
		return nil, fmt.Errorf("%d zones for %d replicas: %w", len(s.zones.nodes), params.Replicas, ErrZones)
	}
	s.keep(previous)
	s.fill()
	s.balance(exact)
	s.firsts(previous)
	l.table = s.finished()
	if previous.same(l) {
		return previous, nil
	}
	return l.finish(), nil
}

// same reports whether two layouts differ in nothing but version.
func (l *Layout) same(o *Layout) bool {
	return l != nil && l.Params() == o.Params() && slices.Equal(l.members, o.members) && slices.Equal(l.table, o.table)
}

// solver holds one computation. Nodes are numbered among the active members only.
type solver struct {
	active        []Node
	index         []uint16 // member index of each active node
	seeds         []uint64
	zones         zoning
	shards, width int
	prior         []uint16 // what each shard held before, priorWidth entries, none where that node is not active now
	priorWidth    int
	rows          []uint16 // the table being built, none where empty
	load, want    []int
	held          [][]uint32 // shards of each node, from balance on
	tokens        [][]uint16 // by zone, each node once for each copy it lacks
	draw          stream
	checks        int // of augment, against maxChecks
}

// newSolver numbers the active nodes and settles the sizes. Shards only ever split: keys keep their leading bits, so a
// split moves nothing.
func newSolver(l *Layout, shards int, previous *Layout) *solver {
	s := &solver{draw: stream(l.version), shards: max(shards, 1)}
	if shards == 0 {
		s.shards = DefaultShards
	}
	seeds := seedsOf(l.members)
	for i, n := range l.members {
		if n.State == Active {
			s.active = append(s.active, n)
			s.index = append(s.index, uint16(i))
			s.seeds = append(s.seeds, seeds[i])
			s.draw += stream(seeds[i])
		}
	}
	n := len(s.active)
	s.width = min(l.replicas, n)
	s.zones = newZoning(s.active, s.width, l.zones)
	if previous != nil {
		s.shards = max(s.shards, previous.Shards())
	}
	for s.shards < MaxShards && s.shards*s.width < MinCopies*n {
		s.shards *= 2
	}
	return s
}

// finished translates the rows to member indexes.
func (s *solver) finished() []uint16 {
	for i, u := range s.rows {
		s.rows[i] = s.index[u]
	}
	return s.rows
}

func (s *solver) row(shard int) []uint16 {
	return s.rows[shard*s.width : (shard+1)*s.width]
}

func (s *solver) before(shard int) []uint16 {
	return s.prior[shard*s.priorWidth : (shard+1)*s.priorWidth]
}

// keep starts from the previous table: its copies on nodes that are still active, less those that the zone rule or a
// smaller R forbids. Copies stay at their places, so that the order of a shard is stable.
func (s *solver) keep(previous *Layout) {
	s.load = make([]int, len(s.active))
	s.rows = make([]uint16, s.shards*s.width)
	for i := range s.rows {
		s.rows[i] = none
	}
	if previous != nil {
		s.carry(previous)
	}
	s.want = targets(s.active, &s.zones, s.shards, s.width, s.load, s.seeds)
	for shard := 0; previous != nil && shard < s.shards; shard++ {
		s.settle(shard)
	}
}

func (s *solver) carry(previous *Layout) {
	now := make(map[string]uint16, len(s.active))
	for u, n := range s.active {
		now[n.ID] = uint16(u)
	}
	to := make([]uint16, len(previous.members))
	for i, n := range previous.members {
		to[i] = none
		if u, ok := now[n.ID]; ok {
			to[i] = u
		}
	}
	s.priorWidth = previous.width
	s.prior = make([]uint16, 0, s.shards*s.priorWidth)
	for shard := range s.shards {
		for _, m := range previous.row(uint32(shard / (s.shards / previous.Shards()))) {
			u := to[m]
			s.prior = append(s.prior, u)
			if u != none {
				s.load[u]++
			}
		}
	}
}

// settle takes over what one shard held before, as far as the rules of the new layout allow.
func (s *solver) settle(shard int) {
	var buf [MaxReplicas]uint16
	old := buf[:copy(buf[:], s.before(shard))]
	for at := s.victim(old); at >= 0; at = s.victim(old) {
		s.load[old[at]]--
		old[at] = none
	}
	row := s.row(shard)
	if len(old) <= len(row) {
		copy(row, old)
		return
	}
	at := 0
	for _, u := range old {
		if u != none {
			row[at] = u
			at++
		}
	}
}

// victim picks the place whose copy has to go, or -1: out of a zone that has too many, else to come down to the
// width, else to make room for a zone that has too few. Among those the node with the largest surplus gives way.
func (s *solver) victim(row []uint16) int {
	count, over := 0, false
	for _, u := range row {
		if u != none {
			count++
			over = over || s.inZone(row, s.zones.of[u]) > s.zones.hi[s.zones.of[u]]
		}
	}
	if !over && count <= s.width && s.missing(row) <= s.width-count {
		return -1
	}
	best := -1
	for at, u := range row {
		if u == none {
			continue
		}
		z := s.zones.of[u]
		in := s.inZone(row, z)
		if over && in <= s.zones.hi[z] || !over && in <= s.zones.lo[z] {
			continue
		}
		if best < 0 || s.load[u]-s.want[u] > s.load[row[best]]-s.want[row[best]] {
			best = at
		}
	}
	return best
}

// inZone counts a row's copies in zone z.
func (s *solver) inZone(row []uint16, z uint16) int {
	n := 0
	for _, u := range row {
		if u != none && s.zones.of[u] == z {
			n++
		}
	}
	return n
}

// missing is the number of copies a row lacks to give every zone its lower count.
func (s *solver) missing(row []uint16) int {
	sum := 0
	for _, z := range s.zones.firm {
		sum += max(0, s.zones.lo[z]-s.inZone(row, uint16(z)))
	}
	return sum
}

// admits reports whether node u may take an empty place of the row.
func (s *solver) admits(row []uint16, u uint16) bool {
	return !slices.Contains(row, u) && s.open(row, s.zones.of[u])
}

// open reports whether an empty place of the row may go to zone z: the zone is not full, and either it is short or
// another place is left for each copy that the short zones lack.
func (s *solver) open(row []uint16, z uint16) bool {
	in := s.inZone(row, z)
	if in >= s.zones.hi[z] {
		return false
	}
	return in < s.zones.lo[z] || s.missing(row) < s.holes(row)
}

func (s *solver) holes(row []uint16) int {
	n := 0
	for _, u := range row {
		if u == none {
			n++
		}
	}
	return n
}

// swappable reports whether u, who holds the shard, may hand it to w.
func (s *solver) swappable(row []uint16, u, w uint16) bool {
	zu, zw := s.zones.of[u], s.zones.of[w]
	in, to := 0, 0
	for _, x := range row {
		if x == w {
			return false
		}
		switch s.zones.of[x] {
		case zu:
			in++
		case zw:
			to++
		}
	}
	return zu == zw || in > s.zones.lo[zu] && to < s.zones.hi[zw]
}
