package upkeep

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

func TestModel(t *testing.T) {
	for seed := uint64(1); seed <= 250; seed++ {
		if err := newModel(seed).run(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestModelNotices tells the planner lies: the judge must see what comes of each.
func TestModelNotices(t *testing.T) {
	for name, spoil := range map[string]func(m *model){
		"every entry seems durable": func(m *model) { m.spoil = func(x *Extent) { x.Durable = true } },
		"every extent seems old":    func(m *model) { m.spoil = func(x *Extent) { x.Settled = true } },
		"members seem whole": func(m *model) {
			m.spoil = func(x *Extent) {
				for i := range x.Copies {
					if x.Copies[i].Member {
						x.Copies[i].State = Whole
					}
				}
			}
		},
		"late orders are forgotten": func(m *model) {
			m.spoil = func(x *Extent) {
				for i := range x.Copies {
					x.Copies[i].Doubtful = false
				}
			}
		},
		"fewer copies seem enough": func(m *model) { m.spoil = func(x *Extent) { x.Want, x.Min, x.Max = 1, 1, 1 } },
		"zones are not seen":       func(m *model) { m.flat = true },
		"members are forgotten": func(m *model) {
			m.spoil = func(x *Extent) {
				for i := range x.Copies {
					x.Copies[i].Member = x.Copies[i].Member && i > 0
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 500; seed++ {
				m := newModel(seed)
				spoil(m)
				if err := m.run(); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("nothing was noticed")
		})
	}
}

// TestMovesTheLeast: what a drained node held is fetched once, and what a new node is to hold too, and nothing else.
func TestMovesTheLeast(t *testing.T) {
	for seed := uint64(1); seed <= 200; seed++ {
		m := newModel(seed)
		for i := range m.nodes {
			m.nodes[i].zone = fmt.Sprint(i)
		}
		if err := m.converge(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, change := range []func(){
			func() { m.nodes[m.r.IntN(len(m.nodes))].takes = false },
			func() { m.nodes = append(m.nodes, machine{zone: "new", takes: true, up: true, listed: true}) },
		} {
			m.moved = 0
			change()
			ideal := int64(0)
			for i := range m.extents {
				for _, s := range m.Places(m.extents[i].id, m.want) {
					if !slices.Contains(m.extents[i].members, int(s[0]-1)) {
						ideal += 10
					}
				}
			}
			if err := m.converge(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if m.moved != ideal {
				t.Fatalf("seed %d: %d bytes moved, %d are needed", seed, m.moved, ideal)
			}
		}
	}
}

// TestBriefAbsence: a store that is away for less than the grace time causes nothing, and one that is back with less than it should
// have pulls that.
func TestBriefAbsence(t *testing.T) {
	m := newModel(2)
	if err := m.converge(); err != nil {
		t.Fatal(err)
	}
	x := m.extents[0]
	away := x.members[0]
	m.nodes[away].up = false
	if _, plan, err := m.round(true); err != nil || len(plan) != 0 {
		t.Fatalf("a store is away: %v %v", plan, err)
	}
	m.nodes[away].up = true
	delete(x.holds, away)
	x.part[away] = true
	_, plan, err := m.round(true)
	if err != nil || len(plan) != 1 || plan[0].Kind != Fetch || plan[0].Store != store(away) || plan[0].Class != Below {
		t.Fatalf("it is back: %+v %v", plan, err)
	}
	m.nodes[away].up, m.nodes[away].gone = false, true // the control: beyond the grace time its copies are made elsewhere
	if _, plan, err := m.round(true); err != nil || len(plan) == 0 {
		t.Fatalf("it is gone: %v %v", plan, err)
	}
}

// TestOrder: last copies come first, then what is below, then what leaves, then moves, within the limit.
func TestOrder(t *testing.T) {
	m := &model{r: rand.New(rand.NewPCG(1, 1)), want: 3}
	for n := range 6 {
		m.nodes = append(m.nodes, machine{zone: fmt.Sprint(n), takes: n != 4, up: true, listed: true})
	}
	add := func(change func(tr *truth, places []int)) {
		tr := truth{id: extent(len(m.extents)), holds: map[int]bool{}, part: map[int]bool{}, settled: true}
		places := nodesOf(m.Places(tr.id, 3))
		tr.members = slices.Clone(places)
		change(&tr, places)
		tr.durable = slices.Clone(tr.members)
		m.extents = append(m.extents, tr)
	}
	other := func(places []int) int {
		for n := range 6 {
			if n != 4 && !slices.Contains(places, n) {
				return n
			}
		}
		panic("none")
	}
	hold := func(tr *truth, nodes ...int) {
		for _, n := range nodes {
			tr.holds[n] = true
		}
	}
	add(func(tr *truth, p []int) { tr.members[0] = other(p); hold(tr, tr.members...) })
	add(func(tr *truth, p []int) { tr.members[0] = 4; hold(tr, tr.members...) })
	add(func(tr *truth, p []int) { hold(tr, p[0], p[1]) })
	add(func(tr *truth, p []int) { hold(tr, p[2]) })
	var xs []Extent
	for i := range m.extents {
		xs = append(xs, m.seen(&m.extents[i]))
	}
	plan, sum := Plan(m, xs, Limits{Bytes: 1000, Other: 100})
	var got []Class
	for _, a := range plan {
		got = append(got, a.Class)
	}
	if !slices.Equal(got, []Class{Last, Below, Leave, Move}) {
		t.Errorf("order %v", got)
	}
	if sum.Below != 2 || sum.Misplace != 2 || sum.Moving != 20 || sum.Only[store(m.extents[3].members[2])] != 1 {
		t.Errorf("summary %+v", sum)
	}
	for limit, n := range map[int64]int{1: 1, 10: 1, 25: 2} {
		if plan, _ := Plan(m, xs, Limits{Bytes: limit}); len(plan) != n || plan[0].Class != Last {
			t.Errorf("%d bytes: %v", limit, plan)
		}
	}
}

// fixed is a network whose places cost nothing.
type fixed struct {
	*model
	places map[uint32][]block.StoreID
}

func (f fixed) Places(x block.ExtentID, _ int) []block.StoreID { return f.places[x.N] }

func BenchmarkPlan(b *testing.B) {
	m := newModel(2)
	f := fixed{m, map[uint32][]block.StoreID{}}
	var xs []Extent
	for i := range 16384 { // 1 TiB
		t := truth{id: extent(i), holds: map[int]bool{}, settled: true}
		f.places[t.id.N] = m.Places(t.id, m.want)
		for _, s := range m.Places(t.id, m.want) {
			t.members = append(t.members, int(s[0]-1))
			t.holds[int(s[0]-1)] = true
		}
		t.durable = t.members
		xs = append(xs, m.seen(&t))
	}
	for b.Loop() {
		Plan(f, xs, Limits{Bytes: 1 << 30, Other: 100})
	}
}
