package placement

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// What DESIGN.md says of repair and durability is computed here.

// assumptions are what the layout does not say.
type assumptions struct {
	stored   float64 // bytes on an average node
	rate     float64 // bytes a second that a node reads or writes for repair
	grace    float64 // seconds until a lost node is given up
	failures float64 // of a node with all its data, a year
}

// usual: 4 TB of data a node; 51 MB/s as measured by hack/bench ("rebuild", 2 cores, three nodes), below the limit of 64 MiB/s that agents
// have by default; ten minutes of grace by default; 4 nodes of 100 a year lose their disks for good.
var usual = assumptions{stored: 4e12, rate: 51e6, grace: 600, failures: 0.04}

const year = 365.25 * 24 * 3600

// repair is what the loss of one node costs.
type repair struct {
	copies  int // that have to be made
	busiest int // of them, those that the busiest node reads or writes
}

// repairOf counts the copies that next needs because a node of old is gone: each is written by who is new in its row, and read from who of
// the rest of the row has least to do.
func repairOf(old, next *Layout, lost string) (r repair) {
	busy := map[string]int{}
	gone := uint16(slices.IndexFunc(old.members, func(n Node) bool { return n.ID == lost }))
	for shard := range uint32(next.Shards()) {
		before := old.row(uint32(uint64(shard) << old.bits >> next.bits))
		if !slices.Contains(before, gone) {
			continue
		}
		var from []string
		for _, m := range before {
			if m != gone {
				from = append(from, old.members[m].ID)
			}
		}
		for _, m := range next.row(shard) {
			to := next.members[m].ID
			if slices.Contains(from, to) {
				continue
			}
			source := slices.MinFunc(from, func(a, b string) int { return busy[a] - busy[b] })
			busy[source]++
			busy[to]++
			r.copies++
		}
	}
	for _, n := range busy {
		r.busiest = max(r.busiest, n)
	}
	return r
}

// window is for how long after a loss a copy is missing, in seconds, at most.
func (a assumptions) window(r repair, copiesOfNode float64) float64 {
	return a.grace + float64(r.busiest)/copiesOfNode*a.stored/a.rate
}

// lossRate is how often a year one of the sets loses all of its three nodes: 6 f^3 W^2 for each. One of three fails (3 f), one of the other
// two within the time W until the copy is there again (2 f W), and the last within the same time again (f W). It is an upper bound: half of
// that is seen when all windows are W (TestFormula), as the first copy is back in the middle of the second window; and most are shorter.
func (a assumptions) lossRate(sets int, window float64) float64 {
	w := window / year
	return float64(sets) * 6 * math.Pow(a.failures, 3) * w * w
}

// TestFormula holds the formula against a simulation in which losses are frequent: fewer must be seen than it says, and not fewer than a
// third of that.
func TestFormula(t *testing.T) {
	const nodes, events = 60, 400000
	l := must(t, fleet(nodes, 5), Params{Replicas: 3}, nil)
	sets := map[[3]uint16]bool{}
	of := make([][][3]uint16, nodes)
	for shard := range uint32(l.Shards()) {
		row := slices.Clone(l.row(shard))
		slices.Sort(row)
		s := [3]uint16(row)
		if !sets[s] {
			sets[s] = true
			for _, m := range s {
				of[m] = append(of[m], s)
			}
		}
	}
	a := assumptions{failures: 4}
	window := year / 400
	r := rand.New(rand.NewPCG(7, 7))
	back, now, lost := make([]float64, nodes), 0.0, 0
	for range events {
		now += r.ExpFloat64() / (a.failures * nodes) * year
		n := r.IntN(nodes)
		back[n] = now + window
		for _, s := range of[n] {
			down := 0
			for _, m := range s {
				if back[m] > now {
					down++
				}
			}
			if down == 3 {
				lost++
			}
		}
	}
	seen, bound := float64(lost)/(now/year), a.lossRate(len(sets), window)
	t.Logf("%d sets, %.1f years: %d losses, %.3f a year; the formula says %.3f", len(sets), now/year, lost, seen, bound)
	if lost < 200 || seen > bound || seen < bound/3 {
		t.Errorf("%.3f losses a year, %.3f by the formula", seen, bound)
	}
}

// TestGrowth is a history of failures and growth: members fail at random and are replaced by new ones a while later, and the network grows by a
// tenth. It prints the rows of DESIGN.md; PLACEMENT_SIM=full adds large networks. Times are printed, never judged.
func TestGrowth(t *testing.T) {
	sizes := [][3]int{{30, 3, 40}, {300, 5, 100}}
	if os.Getenv("PLACEMENT_SIM") == "full" {
		sizes = append(sizes, [3]int{2000, 10, 35}, [3]int{16000, 20, 14})
	}
	out := ""
	for _, s := range sizes {
		out += historyOf(t, s[0], s[1], s[2])
	}
	t.Logf("\n| nodes at the end | layouts | ms each, most | imbalance | moved / ideal | copysets | copies of a lost node | on the busiest | repaired after | losses a year | a given shard |\n"+
		"|---|---|---|---|---|---|---|---|---|---|---|\n%s", out)
}

// historyOf lets a network of nodes live through events: of seven, two are failures, two replacements, and three additions.
func historyOf(t *testing.T, nodes, zones, events int) string {
	t.Helper()
	p, r := Params{Replicas: 3}, rand.New(rand.NewPCG(uint64(nodes), 1))
	members := city(nodes, zones)
	l := must(t, members, p, nil)
	var total, most time.Duration
	var worst repair
	moved, ideal, imbalance, missing, window := 0, 0, 0.0, 0, 0.0
	for i := range events {
		lost := ""
		next := slices.Clone(l.Members())
		switch k := i % 7; {
		case k == 0 || k == 3:
			at := r.IntN(len(next))
			lost = next[at].ID
			next = slices.Delete(next, at, at+1)
			missing++
		case (k == 1 || k == 4) && missing > 0 || len(next) < nodes+nodes/10:
			missing = max(missing-1, 0)
			next = append(next, Node{ID: fmt.Sprintf("later-%05d", i), Zone: fmt.Sprint("zone-", r.IntN(zones)), Weight: 100})
		}
		start := time.Now()
		after := must(t, next, p, l)
		took := time.Since(start)
		total, most = total+took, max(most, took)
		if lost != "" {
			c := repairOf(l, after, lost)
			if w := usual.window(c, float64(3*after.Shards())/float64(after.Len())); w > window {
				worst, window = c, w
			}
		}
		if i%max(events/5, 6) == 0 || i == events-1 {
			f := examine(tableOf(after), p)
			m, d := movement(tableOf(l), tableOf(after), p)
			moved, ideal, imbalance = moved+m, ideal+d, max(imbalance, f.raw)
			if f.rows != nil || f.zones != nil || f.imbalance > 0 || f.raw > 0.05 || float64(m) > 1.1*float64(d)+2 {
				t.Errorf("%d nodes, event %d: %+v, %d copies moved, ideal %d", nodes, i, f, m, d)
			}
		}
		l = after
	}
	w := spreadOf(l)
	losses := usual.lossRate(w.sets, window)
	return fmt.Sprintf("| %d | %d | %.1f, %.1f | %.2f %% | %.3f | %d | %d | %d | %.0f min | %.1e | %.1e |\n", l.Len(), events,
		float64(total.Microseconds())/1000/float64(events), float64(most.Microseconds())/1000, 100*imbalance, float64(moved)/float64(max(ideal, 1)),
		w.sets, worst.copies, worst.busiest, window/60, losses, losses/float64(w.sets))
}
