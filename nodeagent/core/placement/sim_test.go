package placement

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// city is a network of uneven weights in evenly many zones.
func city(n, zones int) []Node {
	members := fleet(n, zones)
	for i := range members {
		if i/zones%4 == 3 {
			members[i].Weight = 200
		}
	}
	return members
}

// lopsided is a city in which half of the zones are one: it exceeds one replica a shard, and is held to that.
func lopsided(n, zones int) []Node {
	members := city(n, zones)
	for i := range members {
		if i%zones >= (zones+1)/2 {
			members[i].Zone = "zone-1"
		}
	}
	return members
}

// spread describes the copysets of a layout.
type spread struct {
	sets     int     // different sets of nodes that hold a shard
	partners int     // the fewest nodes with which a node shares shards: sources of its rebuild
	possible int     // the most that its copies and the zone rule allow, for that node
	sameZone bool    // a shard may have two nodes of one zone
	heaviest float64 // the largest part of a node's partner copies that are on one partner
}

func spreadOf(l *Layout) spread {
	sets := map[[4]uint16]bool{}
	with := make([]map[uint16]int, l.Len())
	load := make([]int, l.Len())
	for shard := range uint32(l.Shards()) {
		row := slices.Clone(l.row(shard))
		slices.Sort(row)
		var set [4]uint16
		copy(set[:], row)
		sets[set] = true
		for _, a := range row {
			load[a]++
			for _, b := range row {
				if a != b {
					if with[a] == nil {
						with[a] = map[uint16]int{}
					}
					with[a][b]++
				}
			}
		}
	}
	zones := map[string]bool{}
	for _, n := range l.members {
		if n.State == Active {
			zones[n.Zone] = true
		}
	}
	s := spread{sets: len(sets), partners: 1 << 30, sameZone: len(zones) < l.width}
	for a, partners := range with {
		if len(partners) == 0 || load[a] < 40 {
			continue
		}
		if len(partners) < s.partners {
			s.partners = len(partners)
			others := 0
			for i, n := range l.members {
				if n.State == Active && i != a && (n.Zone != l.members[a].Zone || s.sameZone) {
					others++
				}
			}
			s.possible = min(others, load[a]*(l.width-1))
		}
		for _, n := range partners {
			s.heaviest = max(s.heaviest, float64(n)/float64(load[a]*(l.width-1)))
		}
	}
	return s
}

// simulation is one size of network and the table rows it produced.
type simulation struct {
	t     *testing.T
	nodes int
	zones string
	base  []Node
	out   *strings.Builder
}

// step computes and checks one layout, and prints its row.
func (s simulation) step(event string, members []Node, previous *Layout) *Layout {
	p := Params{Replicas: 3}
	start := time.Now()
	l := must(s.t, members, p, previous)
	took := time.Since(start)
	f := examine(tableOf(l), p)
	if f.rows != nil || f.zones != nil || f.imbalance > 0 || f.raw > 0.05 || f.firsts > 0.05 {
		s.t.Errorf("%d nodes, %s: %+v", s.nodes, event, f)
	}
	moved, ideal, ratio := 0, 0, "-"
	if previous != nil {
		moved, ideal = movement(tableOf(previous), tableOf(l), p)
		if ratio = "1.000"; ideal > 0 {
			ratio = fmt.Sprintf("%.3f", float64(moved)/float64(ideal))
		}
		if float64(moved) > 1.1*float64(ideal) {
			s.t.Errorf("%d nodes, %s: %d copies moved, ideal %d", s.nodes, event, moved, ideal)
		}
	}
	w := spreadOf(l)
	if 2*w.partners < w.possible {
		s.t.Errorf("%d nodes, %s: a node shares shards with %d others of %d", s.nodes, event, w.partners, w.possible)
	}
	fmt.Fprintf(s.out, "| %d | %s | %d | %s | %.2f %% | %.2f %% | %d | %d | %s | %d | %d of %d | %.2f %% | %.1f |\n",
		s.nodes, s.zones, l.Shards(), event, 100*f.raw, 100*max(0, f.firsts), moved, ideal, ratio,
		w.sets, w.partners, w.possible, 100*w.heaviest, float64(took.Microseconds())/1000)
	return l
}

func (s simulation) run() {
	base := s.base
	l := s.step("first", base, nil)
	s.step("add one", append(slices.Clone(base), Node{ID: "new", Zone: "zone-1", Weight: 100}), l)
	if s.nodes > 3 {
		s.step("remove one", base[1:], l)
	}
	heavier := slices.Clone(base)
	heavier[0].Weight = heavier[0].Weight * 3 / 2
	s.step("re-weight one", heavier, l)
	drained := slices.Clone(base)
	for i := range drained {
		if drained[i].Zone == "zone-0" {
			drained[i].State = Draining
		}
	}
	s.step("drain a zone", drained, l)
	// Replace nodes one after the other, to see whether spread and balance survive a history.
	churned, last := slices.Clone(base), l
	replaced := min(s.nodes/2, 20)
	for i := range replaced {
		churned[i*2].ID = fmt.Sprintf("other-%05d", i)
		if i < replaced-1 {
			last = must(s.t, churned, Params{Replicas: 3}, last)
		}
	}
	s.step(fmt.Sprintf("replace one, round %d", replaced), churned, last)
}

// TestSimulation checks and prints the table of DESIGN.md for small networks; with PLACEMENT_SIM=full for all. Times
// are printed, never judged.
func TestSimulation(t *testing.T) {
	var out strings.Builder
	sizes := [][2]int{{3, 3}, {6, 3}, {30, 3}, {300, 5}}
	if os.Getenv("PLACEMENT_SIM") == "full" {
		sizes = append(sizes, [2]int{2000, 10}, [2]int{16000, 20})
	}
	for _, size := range sizes {
		n, zones := size[0], size[1]
		simulation{t: t, nodes: n, zones: fmt.Sprint(zones), base: city(n, zones), out: &out}.run()
	}
	for _, size := range sizes[3:] {
		simulation{t: t, nodes: size[0], zones: "lopsided", base: lopsided(size[0], 8), out: &out}.run()
	}
	t.Logf("\n| nodes | zones | shards | event | imbalance | firsts | moved | ideal | ratio | copysets | partners | heaviest | ms |\n"+
		"|---|---|---|---|---|---|---|---|---|---|---|---|---|\n%s", out.String())
}
