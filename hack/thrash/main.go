package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// exitSkipped tells that this machine can not run it.
const exitSkipped = 3

// options are what a run is to be.
type options struct {
	program string
	old     string
	minutes float64
	seconds float64
	seed    uint64
	nodes   int
	volumes int
	lie     string
	only    string
	keep    bool
}

func main() {
	var o options
	flag.StringVar(&o.program, "program", "bin/mynetwork", "the built mynetwork")
	flag.StringVar(&o.old, "old", "", "mixed: another mynetwork, built from an older version")
	flag.Float64Var(&o.minutes, "minutes", 20, "how long faults are made")
	flag.Float64Var(&o.seconds, "seconds", 0, "how long, in seconds, instead of minutes")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of what is chosen by chance")
	flag.IntVar(&o.nodes, "nodes", 5, "nodes at the beginning, at least 4")
	flag.IntVar(&o.volumes, "volumes", 3, "volumes with a writer")
	flag.StringVar(&o.lie, "lie", "", "disk: two disks forget what they had synced; copies: a page is spoiled on all of them. It must be found")
	flag.StringVar(&o.only, "only", "", "faults, by name, separated by commas; empty: all")
	flag.BoolVar(&o.keep, "keep", false, "keep the directory with logs also when all holds")
	flag.Parse()
	if o.seconds == 0 {
		o.seconds = 60 * o.minutes
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if flag.Arg(0) == "mixed" { // flags may follow
		_ = flag.CommandLine.Parse(flag.Args()[1:])
		os.Exit(run(ctx, o, (*thrash).mixed))
	}
	if flag.NArg() > 0 || o.nodes < 4 || o.lie != "" && o.lie != "disk" && o.lie != "copies" {
		flag.Usage()
		os.Exit(2)
	}
	os.Exit(run(ctx, o, (*thrash).faults))
}

// run does one of the tests and cleans up after it.
func run(ctx context.Context, o options, test func(*thrash) error) int {
	if err := able(); err != nil {
		fmt.Fprintf(os.Stderr, "thrash is NOT RUN: %v\n", err)
		return exitSkipped
	}
	t, err := newThrash(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "thrash:", err)
		return 2
	}
	fmt.Printf("seed %d, in %s\n", o.seed, t.dir)
	err = test(t)
	t.summary(err)
	if cerr := t.cleanup(err != nil || o.keep); cerr != nil {
		fmt.Fprintln(os.Stderr, "cleaning up:", cerr)
		return 1
	}
	switch {
	case o.lie != "" && err == nil:
		fmt.Fprintln(os.Stderr, "FAILED: the lie was not found out")
		return 1
	case o.lie != "" && errors.Is(err, errPromise):
		fmt.Printf("the lie was found out: %v\n", err)
		return 0
	case err != nil:
		fmt.Fprintf(os.Stderr, "FAILED, seed %d: %v\n", o.seed, err)
		return 1
	}
	return 0
}
