package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"text/tabwriter"

	"mynetwork.io/mynetwork/hack/bench/rank"
)

// compareCommand compares two files of figures.
func compareCommand(args []string) int {
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: bench compare OLD.json NEW.json")
		return 2
	}
	var lists [2][]*figure
	for i, name := range args {
		var err error
		if lists[i], err = readFigures(name); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 2
		}
	}
	compare(os.Stdout, lists[0], lists[1])
	return 0
}

// Verdicts.
const (
	better = "better"
	worse  = "worse"
	same   = "~"
	few    = "?" // behind better and worse: so few runs can be apart by chance
)

const (
	// least is the change that is looked at: below it nothing is better or worse, however little the runs differ.
	least = 0.03
	// chance is how often runs that do not differ may be called better or worse.
	chance = 0.05
)

// judge compares two sets of runs: how their medians differ, how likely it is that chance alone puts them as far apart, and what that says.
func judge(old, new []float64, higherIsBetter bool) (change, p float64, verdict string) {
	a, b := median(old), median(new)
	if a == 0 || b == 0 {
		return 0, 1, same
	}
	change, p = b/a-1, rank.P(old, new)
	verdict = worse
	if change > 0 == higherIsBetter {
		verdict = better
	}
	reach := rank.Least(len(old), len(new)) // no more can be said with so many runs
	switch {
	case math.Abs(change) < least || p > max(chance, reach):
		return change, p, same
	case reach > chance:
		return change, p, verdict + few
	}
	return change, p, verdict
}

// compare prints what became of each workload on each target: by the ratio to the plain file where both have one, because
// the disk of today is not that of yesterday, else by operations per second; by CPU, and by the 99th percentile of latency.
func compare(w io.Writer, old, new []*figure) {
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "WORKLOAD\tTARGET\tBY\tOLD\tNEW\tCHANGE\tP\tVERDICT\t")
	for _, o := range old {
		i := slices.IndexFunc(new, func(n *figure) bool { return n.Workload == o.Workload && n.Target == o.Target })
		if i < 0 {
			fmt.Fprintf(t, "%s\t%s\t\t\t\t\t\tonly in old\t\n", o.Workload, o.Target)
			continue
		}
		n := new[i]
		row := func(by, format string, a, b []float64, higher bool) {
			change, p, verdict := judge(a, b, higher)
			fmt.Fprintf(t, "%s\t%s\t%s\t"+format+"\t"+format+"\t%+.1f %%\t%.3f\t%s\t\n", o.Workload, o.Target, by, median(a), median(b), 100*change, p, verdict)
		}
		if o.Target != raw && len(o.RatioRuns) > 0 && len(n.RatioRuns) > 0 {
			row("of raw", "%.3f", o.RatioRuns, n.RatioRuns, true)
		} else {
			row("IOPS", "%.0f", o.IOPSRuns, n.IOPSRuns, true)
		}
		row("CPU us/op", "%.1f", o.CPURuns, n.CPURuns, false)
		row("p99 us", "%.0f", o.p99Runs(), n.p99Runs(), false)
	}
	for _, n := range new {
		if !slices.ContainsFunc(old, func(o *figure) bool { return n.Workload == o.Workload && n.Target == o.Target }) {
			fmt.Fprintf(t, "%s\t%s\t\t\t\t\t\tonly in new\t\n", n.Workload, n.Target)
		}
	}
	_ = t.Flush()
	fmt.Fprintf(w, "Better or worse: the medians differ by %.0f %% or more, and P, the chance that runs which do not differ are as far apart (rank-sum test), is at most %.2f.\n"+
		"With %q the runs are as far apart as they can be, but too few to tell that from chance: four of each can.\n", 100*least, chance, few)
}

// p99Runs are the runs' percentiles; in files that have no runs of them the median is one.
func (f *figure) p99Runs() []float64 {
	if len(f.P99Runs) == 0 && f.P99 > 0 {
		return []float64{f.P99}
	}
	return f.P99Runs
}
