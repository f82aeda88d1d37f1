package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// median of a list; 0 of none.
func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(list))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// fact is a measurement that is not of a workload.
type fact struct{ name, value, note string }

func printFigures(w io.Writer, figures []*figure, why map[string]string) {
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "WORKLOAD\tTARGET\tOF RAW\tIOPS\tMB/s\tP50 us\tP99 us\tP99.9 us\tCPU us/op\tALL CPU us/op\tDISK x\tALL DISK x\t")
	for _, f := range figures {
		ratio, disk, all := "-", "-", "-"
		if f.Ratio > 0 {
			ratio = fmt.Sprintf("%.2f", f.Ratio)
		}
		if f.Disk > 0 {
			disk, all = fmt.Sprintf("%.2f", f.Disk), fmt.Sprintf("%.2f", f.AllDisk)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.0f\t%.1f\t%.0f\t%.0f\t%.0f\t%.1f\t%.1f\t%s\t%s\t\n",
			f.Workload, f.Target, ratio, f.IOPS, f.MBps, f.P50, f.P99, f.P999, f.CPU, f.AllCPU, disk, all)
	}
	_ = t.Flush()
	for _, target := range sortedKeys(why) {
		if why[target] != "" {
			fmt.Fprintf(w, "%s was not run: %s\n", target, why[target])
		}
	}
	fmt.Fprint(w, "\nCPU us/op by process:\n")
	for _, f := range figures {
		var list []string
		for _, c := range f.ByProcess {
			if c.CPU >= 0.05 {
				list = append(list, fmt.Sprintf("%s %.1f", c.Process, c.CPU))
			}
		}
		fmt.Fprintf(w, "  %-13s %-5s %s\n", f.Workload, f.Target, strings.Join(list, ", "))
	}
}

func printFacts(w io.Writer, facts []fact) {
	if len(facts) == 0 {
		return
	}
	fmt.Fprintln(w)
	for _, f := range facts {
		fmt.Fprintf(w, "%-46s %12s  %s\n", f.name, f.value, f.note)
	}
}
