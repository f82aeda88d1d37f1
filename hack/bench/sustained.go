package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// long is what one workload did on one target for a long time.
type long struct {
	workload, target string
	result
	seconds []float64        // operations of each second
	rss     map[string]int64 // highest of each process
	held    []float64        // bytes that the stores hold, over those that three copies of the volume are, every few seconds
}

// heldEvery is how often the stores' files are added up.
const heldEvery = 5 * time.Second

// sustainedCommand writes to a volume and to a plain file for a long time, and tells how even that was.
func sustainedCommand(ctx context.Context, w io.Writer, args []string) (err error) {
	fs := flag.NewFlagSet("sustained", flag.ContinueOnError)
	o := options{targets: []string{raw, fuse}}
	where(fs, &o.program, &o.dir, "it takes up to seven times the size")
	size := fs.String("size", "2Gi", "of the volume and of the plain file")
	duration := fs.String("seconds", "60", "of each workload on each target")
	workloads := fs.String("workloads", "w4k_qd32,w4k_sync_qd1", "those to run")
	targets := fs.String("targets", strings.Join(o.targets, " "), "those to run on")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if o.targets, err = chooseTargets(*targets); err != nil {
		return err
	}
	if err := o.load(*size, *duration, *workloads); err != nil {
		return err
	}
	if err := preflight(o); err != nil {
		return err
	}
	b := &bencher{ctx: ctx, o: o}
	defer func() { err = errors.Join(err, b.cleanup()) }()
	if err := b.setup(); err != nil {
		return err
	}
	var rows []*long
	for _, work := range o.workloads {
		for _, target := range o.targets {
			if b.paths[target] == "" {
				return fmt.Errorf("%s can not be measured: %s", target, b.why[target])
			}
			row, err := b.sustain(work, target)
			if err != nil {
				return errors.Join(err, printLong(w, o, rows))
			}
			fmt.Fprintf(os.Stderr, "%-13s %-5s %s: %.0f IOPS, longest %.1f ms\n", row.workload, row.target, o.duration, row.IOPS, row.Max/1e3)
			rows = append(rows, row)
		}
	}
	return printLong(w, o, rows)
}

// sustain runs one workload on one target, with a log of each second.
func (b *bencher) sustain(w workload, target string) (*long, error) {
	log := filepath.Join(b.dir, "seconds")
	row := &long{workload: w.name, target: target, rss: map[string]int64{}}
	stop := b.watch(row, target)
	r, err := b.fio(w, target, b.paths[target], append(b.timed(), "--write_iops_log="+log, "--log_avg_msec=1000")...)
	if err = errors.Join(err, stop()); err != nil {
		return nil, err
	}
	row.result = r
	text, err := os.ReadFile(log + "_iops.1.log")
	if err != nil {
		return nil, err
	}
	if row.seconds, err = parseSeconds(text, b.o.duration); err != nil {
		return nil, fmt.Errorf("%s on %s: %w", w.name, target, err)
	}
	_, err = b.quiet()
	return row, err
}

// watch notes memory each second, and the space held now and then, until the returned function is called.
func (b *bencher) watch(row *long, target string) (stop func() error) {
	ctx, cancel := context.WithCancel(b.ctx)
	var done sync.WaitGroup
	var failed error
	done.Go(func() {
		every := time.NewTicker(time.Second)
		defer every.Stop()
		var last time.Time
		for failed == nil {
			select {
			case <-ctx.Done():
				return
			case <-every.C:
			}
			var s sample
			if s, failed = b.sample(); failed != nil {
				return
			}
			for name, u := range s.of {
				row.rss[name] = max(row.rss[name], u.rss)
			}
			if target != raw && time.Since(last) >= heldEvery {
				last = time.Now()
				var held int64
				held, failed = heldBelow(b.net())
				row.held = append(row.held, float64(held)/float64(3*b.o.size))
			}
		}
	})
	return func() error {
		cancel()
		done.Wait()
		return failed
	}
}

// heldBelow adds up the blocks of all extents of a network's stores. Files that go meanwhile do not count.
func heldBelow(net string) (sum int64, err error) {
	stores, err := filepath.Glob(filepath.Join(net, "*", "store", "ext"))
	if err != nil {
		return 0, err
	}
	for _, s := range stores {
		err = errors.Join(err, filepath.WalkDir(s, func(_ string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			sum += info.Sys().(*syscall.Stat_t).Blocks * 512
			return nil
		}))
	}
	return sum, err
}

// parseSeconds reads fio's log of operations a second: time in ms, value, direction (0 read, 1 write, 2 trim), and more. fio
// leaves a second out in which nothing ended: it is a 0 here, which is what such a log is for. Its seconds are a little longer than one, by a whole second
// in ten minutes, so that it is the time since the line before that tells whether one is missing.
func parseSeconds(text []byte, d time.Duration) (out []float64, err error) {
	last := 0.0
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), ",")
		if len(f) < 3 {
			return nil, fmt.Errorf("fio's log of seconds has the line %q", strings.TrimSpace(line))
		}
		at, err1 := strconv.ParseFloat(strings.TrimSpace(f[0]), 64)
		value, err2 := strconv.ParseFloat(strings.TrimSpace(f[1]), 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("fio's log of seconds: %w", err)
		}
		if strings.TrimSpace(f[2]) == "2" {
			continue
		}
		if n := len(out); n > 0 && at-last < 500 { // the other direction of the same second
			out[n-1] += value
			continue
		}
		for ; at-last >= 1500; last += 1000 {
			out = append(out, 0)
		}
		out, last = append(out, value), at
	}
	if len(out) == 0 {
		return nil, errors.New("fio's log of seconds is empty")
	}
	for ; float64(d.Milliseconds())-last >= 1500; last += 1000 {
		out = append(out, 0)
	}
	return out[:min(len(out), int(d/time.Second)-1)], nil // the last one is not whole, or missing
}

// quantile of a list; 0 of none.
func quantile(list []float64, q float64) float64 {
	if len(list) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(list))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

func printLong(w io.Writer, o options, rows []*long) error {
	fmt.Fprintf(w, "| %s, %d MiB | target | of raw | IOPS | p50 ms | p99 | p99.9 | longest | IOPS by second: least, 5 %%, median, most | highest RSS MiB: writer, others | held, of three copies: first, most, last |\n", o.duration, o.size>>20)
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|")
	plain := map[string]float64{}
	for _, r := range rows {
		ratio, memory, held := "", "", ""
		if r.target == raw {
			plain[r.workload] = r.IOPS
		} else {
			if plain[r.workload] > 0 {
				ratio = fmt.Sprintf("%.2f", r.IOPS/plain[r.workload])
			}
			memory = fmt.Sprintf("%d, %d", r.rss["n1 agent"]>>20, max(r.rss["n2 agent"], r.rss["n3 agent"])>>20)
			if len(r.held) > 0 {
				held = fmt.Sprintf("%.2f, %.2f, %.2f", r.held[0], slices.Max(r.held), r.held[len(r.held)-1])
			}
		}
		fmt.Fprintf(w, "| `%s` | %s | %s | %s | %.2f | %.2f | %.1f | %.0f | %s, %s, %s, %s | %s | %s |\n", r.workload, r.target, ratio, thousands(r.IOPS),
			r.Latency[0]/1e3, r.Latency[1]/1e3, r.Latency[2]/1e3, r.Max/1e3, thousands(quantile(r.seconds, 0)), thousands(quantile(r.seconds, .05)),
			thousands(quantile(r.seconds, .5)), thousands(quantile(r.seconds, 1)), memory, held)
	}
	for _, r := range rows {
		fmt.Fprintf(w, "\n%s on %s, operations of each second:", r.workload, r.target)
		for _, n := range r.seconds {
			fmt.Fprintf(w, " %.0f", n)
		}
	}
	fmt.Fprintln(w)
	return nil
}
