package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// aims are what each workload is to reach on the FUSE device, as a part of the plain file's operations.
func aims() map[string]float64 {
	return map[string]float64{"w4k_sync_qd1": .35, "w4k_qd32": .25, "r4k_qd1": .6, "r4k_qd32": .5, "w1m_qd8": .25, "r1m_qd8": 1.2}
}

// markdownCommand prints a file of figures as tables for a document.
func markdownCommand(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: bench markdown FIGURES.json")
		return 2
	}
	figures, err := readFigures(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	markdown(os.Stdout, figures)
	return 0
}

func readFigures(name string) (figures []*figure, err error) {
	b, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(b, &figures)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return figures, nil
}

// markdown writes one table of what was measured, and one of where the CPU time went.
func markdown(w io.Writer, figures []*figure) {
	fmt.Fprintln(w, "| workload | target | of raw | to reach | IOPS | MB/s | p50 µs | p99 µs | p99.9 µs | longest ms | CPU µs/op | disk × |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, f := range figures {
		ratio, aim, disk := "", "", ""
		if f.Target != raw && f.Ratio > 0 {
			ratio = fmt.Sprintf("%.2f", f.Ratio)
		}
		if f.Target == fuse && aims()[f.Workload] > 0 {
			aim = fmt.Sprintf("%.2f", aims()[f.Workload])
		}
		if f.Disk > 0 {
			disk = fmt.Sprintf("%.2f", f.Disk)
		}
		fmt.Fprintf(w, "| `%s` | %s | %s | %s | %s | %.1f | %.0f | %.0f | %.0f | %.1f | %.1f | %s |\n",
			f.Workload, f.Target, ratio, aim, thousands(f.IOPS), f.MBps, f.P50, f.P99, f.P999, f.Longest/1000, f.CPU, disk)
	}
	fmt.Fprint(w, "\n| CPU µs/op by process | target | fio | first agent, which has the device | other agents, each | holders |\n|---|---|---|---|---|---|\n")
	for _, f := range figures {
		if f.Target == raw {
			continue
		}
		cpu := map[string]float64{}
		for _, c := range f.ByProcess {
			cpu[c.Process] = c.CPU
		}
		others := (cpu["n2 agent"] + cpu["n3 agent"]) / 2
		holders := cpu["n1 holder"] + cpu["n2 holder"] + cpu["n3 holder"]
		fmt.Fprintf(w, "| `%s` | %s | %.1f | %.1f | %.1f | %.1f |\n", f.Workload, f.Target, cpu["fio"], cpu["n1 agent"], others, holders)
	}
}

// thousands is a whole number with a comma before each three digits.
func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
