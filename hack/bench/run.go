package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// figure is what one workload did on one target: medians over the runs. It is an element of the JSON.
type figure struct {
	Workload   string    `json:"workload"`
	Target     string    `json:"target"`
	IOPS       float64   `json:"iops"`
	MBps       float64   `json:"mbps"` // 1e6 bytes a second
	P50        float64   `json:"p50_us"`
	P99        float64   `json:"p99_us"`
	P999       float64   `json:"p999_us"`
	Longest    float64   `json:"max_us"`
	Ratio      float64   `json:"ratio_to_raw"`      // 0 without the plain file in the run
	CPU        float64   `json:"cpu_us_per_op"`     // fio, agents, holders
	AllCPU     float64   `json:"all_cpu_us_per_op"` // the whole machine
	Disk       float64   `json:"write_amplification"`
	AllDisk    float64   `json:"all_write_amplification"`
	IOPSRuns   []float64 `json:"iops_runs"`
	RatioRuns  []float64 `json:"ratio_runs"`
	CPURuns    []float64 `json:"cpu_runs"`
	P99Runs    []float64 `json:"p99_us_runs,omitempty"`
	ByProcess  []costs   `json:"cpu_us_per_op_by_process"`
	latencies  [4][]float64
	all, disks [3][]float64 // all CPU, disk, all disk
}

// costs is what one process used for an operation.
type costs struct {
	Process string  `json:"process"`
	CPU     float64 `json:"cpu_us_per_op"`
	runs    []float64
}

func bench(ctx context.Context, o options) (err error) {
	b := &bencher{ctx: ctx, o: o}
	defer func() { err = errors.Join(err, b.cleanup()) }()
	begin := time.Now()
	if err := b.setup(); err != nil {
		return err
	}
	figures, err := b.measure()
	if err != nil {
		return err
	}
	finish(figures)
	printFigures(os.Stdout, figures, b.why)
	if o.markdown {
		fmt.Println()
		markdown(os.Stdout, figures)
	}
	var facts []fact
	if o.times && b.paths[fuse] != "" {
		if facts, err = b.times(); err != nil {
			printFacts(os.Stdout, facts)
			return err
		}
	}
	facts = append(facts, b.memory()...)
	printFacts(os.Stdout, facts)
	fmt.Printf("\n%d runs of %s each, %d MiB volumes, %s in all\n", o.runs, o.duration, o.size>>20, time.Since(begin).Round(time.Second))
	if o.out == "" {
		return nil
	}
	j, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.out, append(j, '\n'), 0o644)
}

// measure runs all workloads on all targets, in an order that changes from run to run.
func (b *bencher) measure() (figures []*figure, err error) {
	find := map[string]*figure{}
	for _, w := range b.o.workloads {
		for _, t := range b.o.targets {
			if b.paths[t] != "" {
				f := &figure{Workload: w.name, Target: t}
				find[w.name+t] = f
				figures = append(figures, f)
			}
		}
	}
	for run := range b.o.runs {
		for _, w := range b.o.workloads {
			byTarget := map[string]float64{}
			for i := range b.o.targets {
				t := b.o.targets[(i+run)%len(b.o.targets)]
				if b.paths[t] == "" {
					continue
				}
				r, err := b.one(w, t, find[w.name+t])
				if err != nil {
					return figures, err
				}
				byTarget[t] = r.IOPS
				fmt.Fprintf(os.Stderr, "run %d  %-13s %-5s %9.0f IOPS %8.1f MB/s\n", run+1, w.name, t, r.IOPS, r.MBps)
			}
			for t, iops := range byTarget {
				if plain := byTarget[raw]; plain > 0 {
					f := find[w.name+t]
					f.RatioRuns = append(f.RatioRuns, iops/plain)
				}
			}
		}
	}
	return figures, nil
}

// one runs a workload on a target once and adds what it cost.
func (b *bencher) one(w workload, target string, f *figure) (r result, err error) {
	before, err := b.sample()
	if err != nil {
		return r, err
	}
	if r, err = b.fio(w, target, b.paths[target], b.timed()...); err != nil {
		return r, err
	}
	after, err := b.sample()
	if err != nil {
		return r, err
	}
	calm, err := b.quiet()
	if err != nil {
		return r, err
	}
	f.add(w, r, before, after, calm)
	for _, s := range []sample{before, after, calm} {
		for name, u := range s.of {
			b.peak[name] = max(b.peak[name], u.rss)
		}
	}
	return r, nil
}

func (f *figure) add(w workload, r result, before, after, calm sample) {
	perOp := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / r.Ops }
	f.IOPSRuns = append(f.IOPSRuns, r.IOPS)
	for i, v := range []float64{r.Latency[0], r.Latency[1], r.Latency[2], r.Max} {
		f.latencies[i] = append(f.latencies[i], v)
	}
	copies := 3.0
	processes := map[string]float64{"fio": perOp(r.CPU)}
	if f.Target == raw {
		copies = 1
		f.CPURuns = append(f.CPURuns, perOp(r.CPU))
	} else {
		f.CPURuns = append(f.CPURuns, perOp(r.CPU+after.cpu(before)))
		for name, u := range after.of {
			processes[name] = perOp(u.cpu - before.of[name].cpu)
		}
	}
	f.byProcess(processes)
	f.all[0] = append(f.all[0], perOp(after.busy-before.busy))
	f.all[1] = append(f.all[1], r.MBps)
	if w.write {
		written := float64(calm.written(before))
		if f.Target == raw {
			written = r.Bytes
		}
		f.disks[0] = append(f.disks[0], written/(copies*r.Bytes))
		f.disks[1] = append(f.disks[1], float64(calm.disk-before.disk)/(copies*r.Bytes))
	}
}

func (f *figure) byProcess(cpu map[string]float64) {
	for _, name := range sortedKeys(cpu) {
		i := 0
		for i < len(f.ByProcess) && f.ByProcess[i].Process != name {
			i++
		}
		if i == len(f.ByProcess) {
			f.ByProcess = append(f.ByProcess, costs{Process: name})
		}
		f.ByProcess[i].runs = append(f.ByProcess[i].runs, cpu[name])
	}
}

// finish makes medians of the runs.
func finish(figures []*figure) {
	for _, f := range figures {
		f.IOPS, f.Ratio, f.CPU = median(f.IOPSRuns), median(f.RatioRuns), median(f.CPURuns)
		f.P50, f.P99, f.P999, f.Longest = median(f.latencies[0]), median(f.latencies[1]), median(f.latencies[2]), median(f.latencies[3])
		f.P99Runs = f.latencies[1]
		f.AllCPU, f.MBps = median(f.all[0]), median(f.all[1])
		f.Disk, f.AllDisk = median(f.disks[0]), median(f.disks[1])
		for i := range f.ByProcess {
			f.ByProcess[i].CPU = median(f.ByProcess[i].runs)
		}
	}
}
