package upkeep

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

func store(n int) block.StoreID { return block.StoreID{byte(n + 1)} }

func extent(n int) block.ExtentID {
	return block.ExtentID{Volume: block.VolumeID{1}, Epoch: 1, N: uint32(n)}
}

// machine is a store of the model, one of each node.
type machine struct {
	zone   string
	takes  bool
	up     bool
	gone   bool // for longer than the grace time
	listed bool // the network knows it still
	full   bool
}

// model is a network, and what is true of the copies in it.
type model struct {
	r       *rand.Rand
	nodes   []machine
	extents []truth
	moved   int64 // bytes
	want    int
	spoil   func(x *Extent)
	flat    bool // control: the planner sees no zones
}

// truth is one extent as it is.
type truth struct {
	id      block.ExtentID
	holds   map[int]bool // node → has a whole copy
	part    map[int]bool // node → has a part
	members []int
	durable []int // as the last durable checkpoint names them
	settled bool
	doubt   map[int]bool
	late    map[int]bool // an order to free is under way there
}

func (m *model) score(x block.ExtentID, n int) uint64 {
	h := uint64(x.N)*0x9e3779b97f4a7c15 ^ uint64(n+1)*0xbf58476d1ce4e5b9
	h ^= h >> 31
	h *= 0x94d049bb133111eb
	return h ^ h>>29
}

func (m *model) order(x block.ExtentID, takes bool) (out []int) {
	for n := range m.nodes {
		if m.nodes[n].listed && m.nodes[n].takes == takes {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b int) int { return cmp.Compare(m.score(x, b), m.score(x, a)) })
	return out
}

// Places implements Network: zones first.
func (m *model) Places(x block.ExtentID, n int) (out []block.StoreID) {
	var zones []string
	order := m.order(x, true)
	for _, fresh := range []bool{true, false} {
		for _, k := range order {
			if len(out) < n && !slices.Contains(out, store(k)) && (!fresh || !slices.Contains(zones, m.nodes[k].zone)) {
				out, zones = append(out, store(k)), append(zones, m.nodes[k].zone)
			}
		}
	}
	return out
}

// Candidates implements Network.
func (m *model) Candidates(x block.ExtentID) (out []block.StoreID) {
	for _, k := range append(m.order(x, true), m.order(x, false)...) {
		out = append(out, store(k))
	}
	return out
}

// Site implements Network.
func (m *model) Site(s block.StoreID) Site {
	n := m.nodes[s[0]-1]
	site := Site{Node: fmt.Sprint(s[0]), Zone: n.zone, Takes: n.takes && n.listed}
	if m.flat {
		site.Zone = site.Node
	}
	return site
}

// Ready implements Network.
func (m *model) Ready(s block.StoreID) bool {
	n := &m.nodes[s[0]-1]
	return n.up && n.listed && !n.full
}

// Gone implements Network.
func (m *model) Gone(s block.StoreID) bool { return m.nodes[s[0]-1].gone || !m.nodes[s[0]-1].listed }

// seen is what a planner is told of an extent.
func (m *model) seen(t *truth) Extent {
	x := Extent{ID: t.id, Bytes: 10, Want: m.want, Min: m.want/2 + 1, Max: m.want, Settled: t.settled, Durable: slices.Equal(t.members, t.durable)}
	state := func(n int) State {
		switch k := &m.nodes[n]; {
		case k.gone || !k.listed:
			return Gone
		case !k.up:
			return Away
		case t.holds[n]:
			return Whole
		}
		return Lacking
	}
	for _, n := range t.members {
		x.Copies = append(x.Copies, Copy{store(n), state(n), true, t.doubt[n]})
	}
	for n := range m.nodes {
		if !slices.Contains(t.members, n) && m.nodes[n].up && (t.holds[n] || t.part[n] || t.doubt[n]) {
			x.Copies = append(x.Copies, Copy{store(n), state(n), false, t.doubt[n]})
		}
	}
	if m.spoil != nil {
		m.spoil(&x)
	}
	return x
}

func newModel(seed uint64) *model {
	m := &model{r: rand.New(rand.NewPCG(seed, 7)), want: 1 + int(seed%3)}
	if seed%5 == 0 {
		m.want = 5
	}
	zones := 1 + int(seed/3%4)
	for n := range m.want + 1 + int(seed%4) {
		m.nodes = append(m.nodes, machine{zone: fmt.Sprint("z", n%zones), takes: true, up: true, listed: true})
	}
	for i := range 12 {
		t := truth{id: extent(i), holds: map[int]bool{}, part: map[int]bool{}, doubt: map[int]bool{}, late: map[int]bool{}, settled: m.r.IntN(4) > 0}
		for _, s := range m.Places(t.id, m.want) {
			t.members = append(t.members, int(s[0]-1))
			t.holds[int(s[0]-1)] = true
		}
		t.durable = slices.Clone(t.members)
		m.extents = append(m.extents, t)
	}
	return m
}

// disturb changes the network by chance.
func (m *model) disturb() {
	n := m.r.IntN(len(m.nodes))
	k := &m.nodes[n]
	active := 0
	for i := range m.nodes {
		if m.nodes[i].takes && m.nodes[i].listed {
			active++
		}
	}
	switch m.r.IntN(9) {
	case 0:
		k.up = false
	case 1:
		k.up, k.gone = k.listed, false
	case 2:
		k.gone = !k.up
	case 3:
		if active > m.want {
			k.takes = false
		}
	case 4:
		k.takes = true
	case 5:
		if len(m.nodes) > 9 {
			return
		}
		m.nodes = append(m.nodes, machine{zone: fmt.Sprint("z", m.r.IntN(4)), takes: true, up: true, listed: true})
	case 6: // a copy loses its end
		t := &m.extents[m.r.IntN(len(m.extents))]
		if t.holds[n] && slices.ContainsFunc(m.wholes(t), func(k int) bool { return k != n && !t.late[k] }) {
			delete(t.holds, n)
			t.part[n] = true
		}
	case 7:
		k.full = !k.full
	case 8:
		m.extents[m.r.IntN(len(m.extents))].settled = true
	}
}

func (m *model) wholes(t *truth) (out []int) {
	for n := range m.nodes {
		if t.holds[n] {
			out = append(out, n)
		}
	}
	return out
}

func nodesOf(list []block.StoreID) (out []int) {
	for _, s := range list {
		out = append(out, int(s[0]-1))
	}
	return out
}

// apply carries an action out, or fails by chance, and judges it.
func (m *model) apply(a *Action, sure bool) error {
	t := &m.extents[a.Extent.N]
	n := -1
	if !a.Store.IsZero() {
		n = int(a.Store[0] - 1)
	}
	switch a.Kind {
	case Fetch:
		if len(a.Sources) == 0 || !m.nodes[n].up {
			return fmt.Errorf("extent %d: node %d fetches from %v", a.Extent.N, n, a.Sources)
		}
		if src := int(a.Sources[0][0] - 1); !m.nodes[src].up || !t.holds[src] {
			return nil // what was seen was a lie, or is old
		}
		if !sure && m.r.IntN(4) == 0 {
			t.part[n] = true
			return nil
		}
		if !t.part[n] {
			m.moved += 10
		}
		t.holds[n] = true
		delete(t.part, n)
		t.members = nodesOf(a.Members)
	case Name:
		t.members = nodesOf(a.Members)
	case Drop:
		if err := m.judge(t, n); err != nil {
			return err
		}
		if !sure && m.r.IntN(4) == 0 { // it may come later
			t.doubt[n], t.late[n] = true, true
			return nil
		}
		delete(t.holds, n)
		delete(t.part, n)
	}
	return m.sound(t)
}

// judge says what is wrong with freeing the copy on node n.
func (m *model) judge(t *truth, n int) error {
	switch {
	case !slices.Equal(t.members, t.durable):
		return fmt.Errorf("extent %d: node %d is freed before its directory entry is durable", t.id.N, n)
	case slices.Contains(t.durable, n):
		return fmt.Errorf("extent %d: node %d is freed, and is a member", t.id.N, n)
	case !t.settled:
		return fmt.Errorf("extent %d: node %d is freed although recovery may need the extent", t.id.N, n)
	}
	rest, zones, all := 0, map[string]bool{}, map[string]bool{}
	if m.nodes[n].takes {
		all[m.nodes[n].zone] = true
	}
	for _, k := range t.durable {
		if t.holds[k] && !t.late[k] && m.nodes[k].up {
			rest++
		}
		if m.nodes[k].takes {
			zones[m.nodes[k].zone], all[m.nodes[k].zone] = true, true
		}
	}
	if rest < m.want {
		return fmt.Errorf("extent %d: node %d is freed, %d sure copies are left of %d", t.id.N, n, rest, m.want)
	}
	if t.holds[n] && len(zones) < min(m.want, len(all)) {
		return fmt.Errorf("extent %d: node %d is freed, which has the only copy of its zone", t.id.N, n)
	}
	return nil
}

// sound says what is wrong with the member list of an extent.
func (m *model) sound(t *truth) error {
	seen := map[int]bool{}
	for _, n := range t.members {
		if seen[n] {
			return fmt.Errorf("extent %d: node %d is named twice: %v", t.id.N, n, t.members)
		}
		seen[n] = true
	}
	if len(m.wholes(t)) == 0 {
		return fmt.Errorf("extent %d: no whole copy is left", t.id.N)
	}
	return nil
}

// round is one plan, and what comes of it.
func (m *model) round(sure bool) (Summary, []Action, error) {
	var xs []Extent
	for i := range m.extents {
		xs = append(xs, m.seen(&m.extents[i]))
	}
	plan, sum := Plan(m, xs, Limits{Bytes: 40, Other: 100})
	for i := range plan {
		if i > 0 && plan[i].Class < plan[i-1].Class {
			return sum, plan, fmt.Errorf("%v after %v", plan[i].Class, plan[i-1].Class)
		}
		if err := m.apply(&plan[i], sure); err != nil {
			return sum, plan, err
		}
	}
	if sure || m.r.IntN(2) == 0 {
		for i := range m.extents {
			t := &m.extents[i]
			t.durable = slices.Clone(t.members)
		}
	}
	return sum, plan, nil
}

// arrive lets late orders come.
func (m *model) arrive() error {
	for i := range m.extents {
		t := &m.extents[i]
		for n := range t.late {
			if m.r.IntN(3) == 0 {
				delete(t.late, n)
				delete(t.holds, n)
			}
		}
		if err := m.sound(t); err != nil {
			return fmt.Errorf("a late order: %w", err)
		}
	}
	return nil
}

// run disturbs, plans and applies, then heals and requires that everything comes to its place.
func (m *model) run() error {
	for range 60 {
		for range m.r.IntN(3) {
			m.disturb()
		}
		if _, _, err := m.round(false); err != nil {
			return err
		}
		if err := m.arrive(); err != nil {
			return err
		}
	}
	return m.converge()
}

func (m *model) converge() error {
	for n := range m.nodes {
		m.nodes[n].up, m.nodes[n].gone, m.nodes[n].full = true, false, false
	}
	for i := range m.extents {
		m.extents[i].settled = true
		clear(m.extents[i].doubt) // a new session
		clear(m.extents[i].late)
	}
	var sum Summary
	var plan []Action
	for range 200 {
		var err error
		if sum, plan, err = m.round(true); err != nil {
			return err
		}
		if len(plan) == 0 && sum.Settled() {
			break
		}
	}
	if !sum.Settled() {
		return fmt.Errorf("not settled: %+v, plan %v", sum, plan)
	}
	for i := range m.extents {
		t := &m.extents[i]
		want := nodesOf(m.Places(t.id, m.want))
		have := m.wholes(t)
		slices.Sort(want)
		if !slices.Equal(want, have) {
			return fmt.Errorf("extent %d: copies on %v, places are %v", t.id.N, have, want)
		}
	}
	return nil
}
