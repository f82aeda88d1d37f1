package placement

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"pgregory.net/rapid"
)

func TestRefusals(t *testing.T) {
	ok := Params{Replicas: 3}
	long := strings.Repeat("x", MaxName+1)
	for name, c := range map[string]struct {
		members  []Node
		params   Params
		previous *Layout
		want     error
	}{
		"no members":        {nil, ok, nil, ErrNoNodes},
		"none active":       {[]Node{{ID: "a", Weight: 1, State: Down}, {ID: "b", Weight: 1, State: Draining}}, ok, nil, ErrNoNodes},
		"duplicate id":      {[]Node{{ID: "a", Weight: 1}, {ID: "b", Weight: 1}, {ID: "a", Weight: 2}}, ok, nil, ErrDuplicate},
		"zero weight":       {[]Node{{ID: "a"}}, ok, nil, ErrWeight},
		"zero weight, down": {[]Node{{ID: "a", Weight: 1}, {ID: "b", State: Down}}, ok, nil, ErrWeight},
		"weight too large":  {[]Node{{ID: "a", Weight: MaxWeight + 1}}, ok, nil, ErrWeight},
		"empty id":          {[]Node{{Weight: 1}}, ok, nil, ErrName},
		"long id":           {[]Node{{ID: long, Weight: 1}}, ok, nil, ErrName},
		"long zone":         {[]Node{{ID: "a", Zone: long, Weight: 1}}, ok, nil, ErrName},
		"unknown state":     {[]Node{{ID: "a", Weight: 1, State: 3}}, ok, nil, ErrState},
		"too many members":  {make([]Node, MaxMembers+1), ok, nil, ErrMembers},
		"no replicas":       {fleet(3, 3), Params{}, nil, ErrReplicas},
		"negative replicas": {fleet(3, 3), Params{Replicas: -1}, nil, ErrReplicas},
		"too many replicas": {fleet(3, 3), Params{Replicas: MaxReplicas + 1}, nil, ErrReplicas},
		"odd shards":        {fleet(3, 3), Params{Replicas: 3, Shards: 4095}, nil, ErrShards},
		"negative shards":   {fleet(3, 3), Params{Replicas: 3, Shards: -4096}, nil, ErrShards},
		"too many shards":   {fleet(3, 3), Params{Replicas: 3, Shards: 2 * MaxShards}, nil, ErrShards},
		"unknown policy":    {fleet(3, 3), Params{Replicas: 3, Zones: 9}, nil, ErrPolicy},
		"strict zones":      {fleet(6, 2), Params{Replicas: 3, Zones: ZonesStrict}, nil, ErrZones},
		"last version":      {fleet(3, 3), ok, &Layout{version: math.MaxUint64}, ErrVersion},
	} {
		if l, err := Compute(c.members, c.params, c.previous); !errors.Is(err, c.want) || l != nil {
			t.Errorf("%s: %v, %v", name, l, err)
		}
	}
}

func TestShardsOnlySplit(t *testing.T) {
	l := must(t, fleet(3, 3), Params{Replicas: 3, Shards: 64}, nil)
	if l.Shards() != 128 {
		t.Errorf("%d shards for 3 nodes, want the 128 that give each 100 copies", l.Shards())
	}
	more := must(t, fleet(3, 3), Params{Replicas: 3, Shards: 1024}, l)
	if moves := Diff(l, more); more.Shards() != 1024 || len(moves) != 0 {
		t.Errorf("%d shards, %d moves by a split alone", more.Shards(), len(moves))
	}
	if less := must(t, fleet(3, 3), Params{Replicas: 3, Shards: 64}, more); less != more {
		t.Errorf("shards were merged: %d", less.Shards())
	}
	if n := must(t, fleet(300, 3), Params{Replicas: 3}, nil).Shards(); n != 16384 {
		t.Errorf("%d shards for 300 nodes", n)
	}
}

// TestDeterminism: the order of the input and what was computed before do not matter; the bytes are pinned.
func TestDeterminism(t *testing.T) {
	p := Params{Replicas: 3}
	rapid.Check(t, func(t *rapid.T) {
		members := world(t, "first")
		l := must(t, members, p, nil)
		next := change(t, members, 3, 6)
		next = unique(next)
		want := must(t, next, p, l).Hash()
		again := must(t, rapid.Permutation(members).Draw(t, "order"), p, nil)
		if got := must(t, rapid.Permutation(next).Draw(t, "next order"), p, again).Hash(); got != want {
			t.Fatalf("%s, then %s", want, got)
		}
	})
}

func TestLookup(t *testing.T) {
	l := must(t, fleet(30, 5), Params{Replicas: 3}, nil)
	for name, c := range map[string]struct {
		lead uint32
		want uint32
	}{
		"first": {0, 0}, "second": {1 << 20, 1}, "low bits do not count": {1<<20 | 0xFFFFF, 1}, "last": {math.MaxUint32, 4095},
	} {
		var key block.Hash
		binary.BigEndian.PutUint32(key[:], c.lead)
		if got := l.ShardOf(key); got != c.want {
			t.Errorf("%s: shard %d, want %d", name, got, c.want)
		}
	}
	key := block.Sum([]byte("key"))
	nodes := l.Lookup(key, nil)
	for at, n := range nodes {
		if l.Member(l.Replica(l.ShardOf(key), at)) != n {
			t.Errorf("place %d: %v", at, n)
		}
	}
	if len(nodes) != l.Width() || l.Width() != 3 {
		t.Errorf("%d nodes, width %d", len(nodes), l.Width())
	}
	var buf [MaxReplicas]Node
	if n := testing.AllocsPerRun(100, func() { l.Lookup(key, buf[:0]) }); n != 0 {
		t.Errorf("Lookup allocates %v times", n)
	}
	one := must(t, fleet(128, 1), Params{Replicas: 1, Shards: 1}, nil)
	if one.Shards() != 16384 || one.Width() != 1 {
		t.Errorf("%d shards of %d", one.Shards(), one.Width())
	}
}

func TestExtend(t *testing.T) {
	members := fleet(40, 4)
	members[5].State, members[6].State = Draining, Down
	members[7].Weight = 400
	l := must(t, members, Params{Replicas: 3}, nil)
	less := must(t, members[1:], Params{Replicas: 3}, nil)
	heavy, light := 0, 0
	for shard := range uint32(l.Shards()) {
		order := l.Extend(shard, nil)
		all := append(l.Holders(shard, nil), order...)
		seen := map[int]bool{}
		for _, m := range all {
			if l.Member(m).State != Active || seen[m] {
				t.Fatalf("shard %d: %v", shard, all)
			}
			seen[m] = true
		}
		if len(all) != 38 {
			t.Fatalf("shard %d: %d nodes in all", shard, len(all))
		}
		switch order[0] {
		case 7:
			heavy++
		case 8:
			light++
		}
		if shard%64 == 0 {
			requireSameOrder(t, names(l, order), names(less, less.Extend(shard, nil)))
		}
	}
	// Member 7 is among the replicas of more shards, so it is left to extend fewer: 4/41 against 1/41 of the rest.
	if heavy < 2*light {
		t.Errorf("first in the extension: weight 400 in %d shards, weight 100 in %d", heavy, light)
	}
}

func names(l *Layout, order []int) (out []string) {
	for _, m := range order {
		out = append(out, l.Member(m).ID)
	}
	return out
}

// requireSameOrder: what both orders contain comes in the same order.
func requireSameOrder(t *testing.T, a, b []string) {
	t.Helper()
	at := -1
	for _, id := range a {
		if i := slices.Index(b, id); i >= 0 {
			if i < at {
				t.Fatalf("%v and %v disagree about %s", a, b, id)
			}
			at = i
		}
	}
}

func TestNegLog2(t *testing.T) {
	for _, h := range []uint64{0, 1, 2, 3, 1 << 20, 1<<40 - 1, 1 << 63, 0xDEADBEEFCAFEF00D, math.MaxUint64 - 4096} {
		want := 64 - math.Log2(float64(h|1))
		if bits.LeadingZeros64(^h) > 50 {
			continue // float64 has no digits left there
		}
		if got := float64(negLog2(h)) / (1 << logBits); math.Abs(got-want) > 1e-9*max(1, want) {
			t.Errorf("%x: %v, want %v", h, got, want)
		}
	}
}

// TestOrderIsStable: a shard whose nodes stay keeps its order but for the exchange of its first place, and first
// places change for no more shards than the balance of a new member needs.
func TestOrderIsStable(t *testing.T) {
	p := Params{Replicas: 3}
	l := must(t, fleet(30, 5), p, nil)
	next := must(t, fleet(31, 5), p, l)
	changed := 0
	for shard := range uint32(l.Shards()) {
		a, b := names(l, l.Holders(shard, nil)), names(next, next.Holders(shard, nil))
		differ := 0
		for at := range a {
			if a[at] != b[at] {
				differ++
			}
		}
		if a[0] != b[0] {
			changed++
		}
		if differ > 2 && slices.Contains(b, a[0]) && slices.Contains(b, a[1]) {
			t.Errorf("shard %d: %v became %v", shard, a, b)
		}
	}
	// The new member is due 4096/31 = 132 first places; passing them on along paths of two costs at most as many again.
	if changed > 2*132 {
		t.Errorf("the first place of %d shards changed", changed)
	}
}

func TestDiff(t *testing.T) {
	p := Params{Replicas: 3}
	old := must(t, fleet(9, 3), p, nil)
	members := fleet(10, 3)
	members[4].State = Draining
	next := must(t, members, p, old)
	in, out := map[string]uint64{}, map[string]uint64{}
	moves := Diff(old, next)
	copies := 0
	for _, m := range moves {
		a, b := names(old, old.Holders(m.Shard, nil)), names(next, next.Holders(m.Shard, nil))
		for _, n := range m.From {
			if !slices.Contains(a, n.ID) || slices.Contains(b, n.ID) {
				t.Fatalf("shard %d: %v leaves %v for %v", m.Shard, n, a, b)
			}
			out[n.ID] += uint64(m.Shard)
		}
		for _, n := range m.To {
			if slices.Contains(a, n.ID) || !slices.Contains(b, n.ID) || n.State != Active {
				t.Fatalf("shard %d: %v comes to %v from %v", m.Shard, n, b, a)
			}
			in[n.ID] += uint64(m.Shard)
			copies++
		}
	}
	plan := Summarize(old, next, func(shard uint32) uint64 { return uint64(shard) })
	made, _ := movement(tableOf(old), tableOf(next), p)
	if plan.Shards != len(moves) || plan.Copies != copies || copies != made || len(plan.Nodes) != 10 {
		t.Errorf("%d shards and %d copies of %d moves and %d", plan.Shards, plan.Copies, len(moves), copies)
	}
	if want := float64(copies) / (3 * 4096); plan.Fraction != want {
		t.Errorf("fraction %v, want %v", plan.Fraction, want)
	}
	var sum uint64
	for _, x := range plan.Nodes {
		if x.In != in[x.Node.ID] || x.Out != out[x.Node.ID] {
			t.Errorf("%s: in %d out %d, want %d and %d", x.Node.ID, x.In, x.Out, in[x.Node.ID], out[x.Node.ID])
		}
		sum += x.In
	}
	if sum != plan.Bytes || plan.Nodes[4].Copies != 0 || plan.Nodes[4].Out == 0 || plan.Nodes[9].Preferred == 0 {
		t.Errorf("bytes %d of %d; %+v", plan.Bytes, sum, plan.Nodes)
	}
	if len(Diff(next, next)) != 0 {
		t.Error("a layout differs from itself")
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{6, 300, 16000} {
		l, err := Compute(fleet(n, 5), Params{Replicas: 3}, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fleet(n, 5)[n-1].ID, func(b *testing.B) {
			var buf [MaxReplicas]Node
			key := block.Sum([]byte("key"))
			b.ReportAllocs()
			for b.Loop() {
				l.Lookup(key, buf[:0])
				key[0], key[1], key[2] = key[0]+1, key[1]+3, key[2]+5
			}
		})
	}
}

func BenchmarkExtend(b *testing.B) {
	l, err := Compute(fleet(16000, 5), Params{Replicas: 3}, nil)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]int, 0, 16000)
	for b.Loop() {
		l.Extend(77, buf[:0])
	}
}
