package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"text/tabwriter"
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
	single = "? (one run)"
)

// least is the change that is looked at: below it nothing is better or worse, however little the runs differ.
const least = 0.03

// judge compares two sets of runs by their medians. They differ if no run of one lies among the runs of the other.
func judge(old, new []float64, higherIsBetter bool) (change float64, verdict string) {
	a, b := median(old), median(new)
	if a == 0 || b == 0 {
		return 0, same
	}
	change = b/a - 1
	apart := slices.Min(new) > slices.Max(old) || slices.Max(new) < slices.Min(old)
	switch {
	case math.Abs(change) < least || !apart:
		return change, same
	case len(old) < 2 || len(new) < 2:
		return change, single
	case change > 0 == higherIsBetter:
		return change, better
	}
	return change, worse
}

// compare prints what became of each workload on each target: by the ratio to the plain file where both have one, because
// the disk of today is not that of yesterday, else by operations per second; and by CPU.
func compare(w io.Writer, old, new []*figure) {
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "WORKLOAD\tTARGET\tBY\tOLD\tNEW\tCHANGE\tVERDICT\t")
	for _, o := range old {
		i := slices.IndexFunc(new, func(n *figure) bool { return n.Workload == o.Workload && n.Target == o.Target })
		if i < 0 {
			fmt.Fprintf(t, "%s\t%s\t\t\t\t\tonly in old\t\n", o.Workload, o.Target)
			continue
		}
		n := new[i]
		row := func(by, format string, a, b []float64, higher bool) {
			change, verdict := judge(a, b, higher)
			fmt.Fprintf(t, "%s\t%s\t%s\t"+format+"\t"+format+"\t%+.1f %%\t%s\t\n", o.Workload, o.Target, by, median(a), median(b), 100*change, verdict)
		}
		if o.Target != raw && len(o.RatioRuns) > 0 && len(n.RatioRuns) > 0 {
			row("of raw", "%.3f", o.RatioRuns, n.RatioRuns, true)
		} else {
			row("IOPS", "%.0f", o.IOPSRuns, n.IOPSRuns, true)
		}
		row("CPU us/op", "%.1f", o.CPURuns, n.CPURuns, false)
	}
	for _, n := range new {
		if !slices.ContainsFunc(old, func(o *figure) bool { return n.Workload == o.Workload && n.Target == o.Target }) {
			fmt.Fprintf(t, "%s\t%s\t\t\t\t\tonly in new\t\n", n.Workload, n.Target)
		}
	}
	_ = t.Flush()
	fmt.Fprintf(w, "Better or worse: the medians differ by %.0f %% or more and no run of one file lies within the runs of the other.\n", 100*least)
}
