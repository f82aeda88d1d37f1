package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

// ail is what is wrong with the first agent's disk while one fio runs.
type ail struct {
	name string
	long time.Duration // that fio runs beside what is asked for
	plan func(now func() time.Duration) disk.Plan
}

const (
	shortHang = 50 * time.Millisecond
	hangShare = 0.01
	longHang  = 5 * time.Second
	longAfter = time.Second // of the start of the plan
)

func ails() []ail {
	return []ail{
		{"none", 0, func(func() time.Duration) disk.Plan { return nil }},
		{"50 ms in 1 % of reads", 0, func(func() time.Duration) disk.Plan { return oftenPlan(rand.Float64, time.Sleep) }},
		{"nothing for 5 s, once", longHang, func(now func() time.Duration) disk.Plan { return oncePlan(now, time.Sleep) }},
	}
}

// oftenPlan hangs in a share of the reads of pages that reach the disk.
func oftenPlan(draw func() float64, sleep func(time.Duration)) disk.Plan {
	return func(op disk.Op) disk.Fault {
		if op.Kind == disk.OpRead && !op.Now && strings.HasSuffix(op.Name, ".dat") && draw() < hangShare {
			return disk.Fault{Wait: func() { sleep(shortHang) }}
		}
		return disk.Fault{}
	}
}

// oncePlan ends no read, write or sync for a while, and does not say how much room there is, but for reads of what is in memory, as the names and sizes of files are.
func oncePlan(now func() time.Duration, sleep func(time.Duration)) disk.Plan {
	from := now() + longAfter
	return func(op disk.Op) disk.Fault {
		if at := now(); moves(op) && at >= from && at < from+longHang {
			return disk.Fault{Wait: func() { sleep(from + longHang - now()) }}
		}
		return disk.Fault{}
	}
}

// moves tells whether an operation needs the disk itself.
func moves(op disk.Op) bool {
	switch op.Kind {
	case disk.OpRead, disk.OpWrite, disk.OpSync, disk.OpSyncDir, disk.OpUsage:
		return !op.Now
	}
	return false
}

// forget has the kernel drop what it has read, again and again until the returned function is called, so that reads reach the disk.
func forget() (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(100 * time.Millisecond)
		defer t.Stop()
		for {
			_ = os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0)
			select {
			case <-t.C:
			case <-end:
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}

// hangCommand reads from a volume what is not in the kernel's memory, while the first agent's disk hangs now and then. All agents run in this process, so that the faults can be put between
// the first one and its disk.
func hangCommand(ctx context.Context, w io.Writer, args []string) (err error) {
	if err := agent.CoarseTimers(); err != nil {
		return err
	}
	fs := flag.NewFlagSet("hang", flag.ContinueOnError)
	o := options{program: "/proc/self/exe"}
	fs.StringVar(&o.dir, "dir", "/var/tmp", "directory on the disk to measure; it takes four times the size")
	size := fs.String("size", "256Mi", "of the volume")
	duration := fs.String("duration", "3", "of each fio, in seconds; five more where the disk hangs so long")
	workloads := fs.String("workloads", "r4k_qd1,r4k_qd32", "those to run")
	runs := fs.Int("runs", 1, "how often, one after the other")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := o.load(*size, *duration, *workloads); err != nil {
		return err
	}
	if err := preflight(o); err != nil {
		return err
	}
	b := &bencher{ctx: ctx, o: o}
	if b.dir, err = os.MkdirTemp(o.dir, "hang"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	var faults *disk.Faults
	n := &inside{dir: filepath.Join(b.dir, "net"), wrap: map[int]func(disk.FS) disk.FS{0: func(d disk.FS) disk.FS {
		faults = disk.NewFaults(d, nil)
		return faults
	}}}
	defer func() { err = errors.Join(err, n.stop()) }()
	if err := n.start(ctx, 3); err != nil {
		return err
	}
	device, err := n.device(ctx, o.size)
	if err != nil {
		return err
	}
	if _, err := b.fill(fuse, device); err != nil {
		return err
	}
	if err := b.sleep(2 * time.Second); err != nil { // marks and the checkpoint
		return err
	}
	fmt.Fprintln(w, "| 4 KiB reads | the first agent's disk answers late | IOPS | p50 µs | p99 | p99.9 | longest ms | sent to a second replica |\n|---|---|---|---|---|---|---|---|")
	return b.ailing(w, n, faults, device, *runs)
}

// ailing runs each workload with each fault.
func (b *bencher) ailing(w io.Writer, n *inside, faults *disk.Faults, device string, runs int) error {
	began := time.Now()
	asked := b.o.duration
	for range runs {
		for _, work := range b.o.workloads {
			for _, a := range ails() {
				before := n.hedged()
				b.o.duration = asked + a.long
				faults.SetPlan(a.plan(func() time.Duration { return time.Since(began) }))
				stop := forget()
				r, err := b.fio(work, fuse, device, b.timed()...)
				stop()
				faults.SetPlan(nil)
				if err != nil {
					return err
				}
				fmt.Fprintf(w, "| `%s` | %s | %s | %.0f | %.0f | %.0f | %.1f | %d |\n", work.name, a.name, thousands(r.IOPS), r.Latency[0], r.Latency[1], r.Latency[2], r.Max/1e3, n.hedged()-before)
				if err := b.sleep(12 * time.Second); err != nil { // until the hang is forgotten: volume/hedged.go
					return err
				}
			}
		}
	}
	return nil
}
