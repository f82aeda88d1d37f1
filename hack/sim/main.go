// Command sim runs seeds of simulated clusters, in parallel over the cores:
//
//	go run ./hack/sim -seeds 2000 -first 1
//
// It stops at the first seed that breaks a promise, and prints the promise, the tail of the trace and the command that
// runs it again.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"mynetwork.io/mynetwork/nodeagent/sim"
)

type options struct {
	seeds, first uint64
	trace, jobs  int
	all          bool
	left         int64
	without      string
}

// shape is the configuration of a seed.
func (o *options) shape(seed uint64) sim.Config {
	cfg := sim.Shape(seed)
	if o.left != 0 {
		cfg.Left = o.left << 20
	}
	if o.without != "" {
		cfg.Without = make(map[string]bool)
		for _, name := range strings.Split(o.without, ",") {
			cfg.Without[name] = true
		}
	}
	return cfg
}

func main() {
	var o options
	flag.Uint64Var(&o.seeds, "seeds", 200, "how many seeds to run")
	flag.Uint64Var(&o.first, "first", 1, "the first seed")
	flag.IntVar(&o.trace, "trace", 80, "lines of trace to print for a seed that fails")
	flag.IntVar(&o.jobs, "jobs", runtime.GOMAXPROCS(0), "seeds to run at the same time")
	flag.StringVar(&o.without, "without", "", "faults to leave out, separated by commas")
	flag.Int64Var(&o.left, "left", 0, "MiB that others leave users of each store's disk; 0: as the seed has it")
	flag.BoolVar(&o.all, "all", false, "go on after a failure; print one line for each")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ok := run(ctx, o)
	stop()
	if !ok {
		os.Exit(1)
	}
}

// state is what the workers share.
type state struct {
	mu       sync.Mutex
	next     uint64
	done     uint64
	failed   []sim.Result
	coverage map[[2]string]int
	formats  sim.Formats
}

// run runs seeds until all are done, one has failed, or ctx ends; then what was found so far is told as well.
func run(ctx context.Context, o options) bool {
	s := &state{next: o.first, coverage: make(map[[2]string]int)}
	start := time.Now()
	var wg sync.WaitGroup
	for range o.jobs {
		wg.Go(func() { s.work(ctx, o, start) })
	}
	wg.Wait()
	fmt.Printf("\n%d seeds in %v, %d failed\n\n%s", s.done, time.Since(start).Round(time.Millisecond), len(s.failed), sim.Table(s.coverage))
	for _, r := range s.failed {
		if o.all {
			fmt.Printf("seed %d: %.300s\n", r.Seed, r.Failure.Error())
			continue
		}
		cfg := o.shape(r.Seed)
		cfg.Trace = o.trace
		again := sim.Run(r.Seed, cfg)
		for _, line := range again.Trace {
			fmt.Println(line)
		}
		fmt.Printf("\nseed %d: %v\nreplay: go run ./hack/sim -seeds 1 -first %d -trace 100000\n", r.Seed, r.Failure, r.Seed)
	}
	if s.done < o.seeds && len(s.failed) == 0 {
		fmt.Printf("ended before seed %d\n", s.next)
		return false
	}
	return len(s.failed) == 0
}

// work takes seeds until there are none left, one has failed, or ctx ends.
func (s *state) work(ctx context.Context, o options, start time.Time) {
	for ctx.Err() == nil {
		s.mu.Lock()
		seed := s.next
		if seed >= o.first+o.seeds || (len(s.failed) > 0 && !o.all) {
			s.mu.Unlock()
			return
		}
		s.next++
		s.mu.Unlock()
		cfg := o.shape(seed)
		cfg.Formats = &s.formats
		r := sim.Run(seed, cfg)
		s.mu.Lock()
		s.done++
		for k, n := range r.Coverage {
			s.coverage[k] += n
		}
		if r.Failure != nil {
			s.failed = append(s.failed, r)
			fmt.Printf("seed %d failed\n", seed)
		}
		if s.done%100 == 0 {
			fmt.Printf("%d seeds, %.1f a second\n", s.done, float64(s.done)/time.Since(start).Seconds())
		}
		s.mu.Unlock()
	}
}
