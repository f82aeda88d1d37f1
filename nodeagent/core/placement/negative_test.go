package placement

import (
	"fmt"
	"testing"
)

func fleet(n, zones int) []Node {
	out := make([]Node, n)
	for i := range out {
		out[i] = Node{ID: fmt.Sprintf("node-%05d", i), Zone: fmt.Sprintf("zone-%d", i%zones), Weight: 100}
	}
	return out
}

// modulo is the faulty double: replica k of shard s is member (s+k) mod n, whatever its weight, zone or history.
func modulo(members []Node, p Params, shards int) table {
	t := table{members: members, rows: make([][]int, shards)}
	for s := range t.rows {
		for k := range p.Replicas {
			t.rows[s] = append(t.rows[s], (s+k)%len(members))
		}
	}
	return t
}

// TestCheckerFindsFaults is the negative control of all checks here: each fault planted in a sound table is reported,
// and a placement by modulo fails on movement, imbalance and zones.
func TestCheckerFindsFaults(t *testing.T) {
	p := Params{Replicas: 3}
	ten, eleven := fleet(10, 5), fleet(11, 5)
	ten[3].Weight, eleven[3].Weight = 300, 300

	f := examine(modulo(ten, p, 4096), p)
	if f.imbalance < 0.05 || f.raw < 0.05 {
		t.Errorf("modulo passes as balanced: %+v", f)
	}
	madeBy, bound := movement(modulo(ten, p, 4096), modulo(eleven, p, 4096), p)
	if float64(madeBy) < 2*float64(bound) {
		t.Errorf("modulo passes as moving little: %d of %d", madeBy, bound)
	}
	if f := examine(modulo(fleet(12, 2), Params{Replicas: 4}, 4096), Params{Replicas: 4}); f.zones != nil {
		t.Errorf("a sound choice of zones is reported: %v", f.zones)
	}
	blocks := fleet(12, 4)
	for i := range blocks {
		blocks[i].Zone = fmt.Sprint(i / 3)
	}
	if f := examine(modulo(blocks, p, 4096), p); f.zones == nil {
		t.Error("three replicas in one zone pass")
	}

	for name, fault := range map[string]func(*table){
		"missing":  func(x *table) { x.rows[7] = x.rows[7][:2] },
		"twice":    func(x *table) { x.rows[7][1] = x.rows[7][0] },
		"inactive": func(x *table) { x.members[x.rows[7][1]].State = Draining },
	} {
		x := tableOf(must(t, ten, p, nil))
		if fault(&x); examine(x, p).rows == nil {
			t.Errorf("%s: not reported", name)
		}
	}
	x := tableOf(must(t, ten, p, nil))
	for s := range x.rows[:2048] {
		for at, m := range x.rows[s] {
			if m == 0 {
				x.rows[s][0], x.rows[s][at] = x.rows[s][at], x.rows[s][0]
			}
		}
	}
	if f := examine(x, p); f.firsts < 0.05 {
		t.Errorf("unbalanced first places pass: %+v", f)
	}
}
