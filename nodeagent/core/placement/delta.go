package placement

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// AppendDelta appends what turns base into l. Any two layouts will do; between neighbours it is short.
func (l *Layout) AppendDelta(b []byte, base *Layout) []byte {
	b = l.appendHeader(b, kindDelta)
	b = append(append(b, base.hash[:]...), l.hash[:]...)
	var removed []int
	var upserted []Node
	for i, n := range base.members {
		if l.find(n.ID) < 0 {
			removed = append(removed, i)
		}
	}
	for _, n := range l.members {
		if i := base.find(n.ID); i < 0 || base.members[i] != n {
			upserted = append(upserted, n)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(removed)))
	next := 0
	for _, i := range removed {
		b = binary.AppendUvarint(b, uint64(i-next))
		next = i + 1
	}
	b = binary.AppendUvarint(b, uint64(len(upserted)))
	for _, n := range upserted {
		b = appendMember(b, n)
	}
	return l.appendRows(b, l.carried(base))
}

// appendRows appends the rows of l that differ from those in from.
func (l *Layout) appendRows(b []byte, from []uint16) []byte {
	var changed []int
	for shard := range l.Shards() {
		if !slices.Equal(l.row(uint32(shard)), from[shard*l.width:(shard+1)*l.width]) {
			changed = append(changed, shard)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(changed)))
	next := 0
	for _, shard := range changed {
		b = binary.AppendUvarint(b, uint64(shard-next))
		b = l.appendEntries(b, l.row(uint32(shard)))
		next = shard + 1
	}
	return b
}

// find returns the index of a member, or -1.
func (l *Layout) find(id string) int {
	i, ok := slices.BinarySearchFunc(l.members, id, func(n Node, id string) int { return strings.Compare(n.ID, id) })
	if !ok {
		return -1
	}
	return i
}

// carried is base's table in the numbers and the size of l, with none where base has nothing to say.
func (l *Layout) carried(base *Layout) []uint16 {
	to := make([]uint16, len(base.members))
	for i, n := range base.members {
		to[i] = none
		if j := l.find(n.ID); j >= 0 {
			to[i] = uint16(j)
		}
	}
	table := make([]uint16, l.Shards()*l.width)
	for i := range table {
		table[i] = none
	}
	for shard := 0; shard < l.Shards() && l.bits >= base.bits; shard++ {
		row := table[shard*l.width : (shard+1)*l.width]
		for at, m := range base.row(uint32(shard >> (l.bits - base.bits))) {
			if at < len(row) {
				row[at] = to[m]
			}
		}
	}
	return table
}

// ApplyDelta returns the layout that a delta of base describes. It returns ErrBase when base is not the layout the
// delta was made from, and ErrFormat for anything that does not yield exactly the promised result. It allocates at
// most a table of MaxShards·MaxReplicas entries, and members by the bytes in b.
func ApplyDelta(base *Layout, b []byte) (*Layout, error) {
	r := reader{b: b}
	l, count := r.header(kindDelta)
	from, result := r.hash(), r.hash()
	if r.err != nil {
		return nil, r.err
	}
	if from != base.hash {
		return nil, fmt.Errorf("delta of %s, have version %d %s: %w", from, base.version, base.hash, ErrBase)
	}
	l.members = r.members(base)
	if r.err == nil && len(l.members) != count {
		r.fail("%d members instead of %d", len(l.members), count)
	}
	if r.err != nil {
		return nil, r.err
	}
	if err := l.shape(); err != nil {
		return nil, err
	}
	if l.table = l.carried(base); !r.rows(l) {
		return nil, r.err
	}
	if err := l.checkTable(); err != nil {
		return nil, err
	}
	if l.finish(); l.hash != result {
		return nil, fmt.Errorf("result %s instead of %s: %w", l.hash, result, ErrFormat)
	}
	return l, nil
}

// members reads what was removed and upserted and returns the members that result, in order.
func (r *reader) members(base *Layout) []Node {
	gone := make([]bool, len(base.members))
	next := 0
	for range r.uvarint(len(base.members)) {
		next += r.uvarint(len(base.members))
		if r.err != nil || next >= len(gone) {
			r.fail("removes member %d of %d", next, len(gone))
			return nil
		}
		gone[next] = true
		next++
	}
	changed := make(map[string]Node)
	var fresh []Node
	for range r.uvarint(min(MaxMembers, len(r.b)/smallest)) {
		n := r.member()
		if r.err != nil {
			return nil
		}
		if i := base.find(n.ID); i >= 0 && !gone[i] {
			changed[n.ID] = n
		} else {
			fresh = append(fresh, n)
		}
	}
	merged := fresh
	for i, n := range base.members {
		if c, ok := changed[n.ID]; ok {
			n = c
		}
		if !gone[i] {
			merged = append(merged, n)
		}
	}
	slices.SortFunc(merged, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	return merged
}

// rows reads the changed rows into l's table and reports whether all of b was understood.
func (r *reader) rows(l *Layout) bool {
	next := 0
	for range r.uvarint(l.Shards()) {
		next += r.uvarint(l.Shards())
		if r.err != nil || next >= l.Shards() {
			r.fail("row for shard %d of %d", next, l.Shards())
			return false
		}
		r.entries(l, l.table[next*l.width:(next+1)*l.width])
		next++
	}
	if len(r.b) != 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	return r.err == nil
}
