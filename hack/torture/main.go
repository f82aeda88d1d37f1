package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	program := flag.String("program", "bin/mynetwork", "the built mynetwork")
	kills := flag.Int("kills", 200, "kill: how many agents are killed")
	hold := flag.Duration("hold", 8*time.Second, "net: how long a partition is watched")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of what is chosen by chance")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: torture [flags] kill|net|bad")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	tests := map[string]func(*torture) error{
		"kill": func(t *torture) error { return t.kill(*kills) },
		"net":  func(t *torture) error { return t.partitions(*hold) },
		"bad":  (*torture).bad,
	}
	test, ok := tests[flag.Arg(0)]
	if !ok || flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	os.Exit(run(ctx, test, *program, *seed))
}

func run(ctx context.Context, test func(*torture) error, program string, seed uint64) int {
	t, err := newTorture(ctx, program)
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		return 2
	}
	fmt.Printf("seed %d, in %s\n", seed, t.dir)
	t.r = rand.New(rand.NewPCG(seed, 0))
	err = test(t)
	failed := t.print()
	if cerr := t.cleanup(); cerr != nil {
		fmt.Fprintln(os.Stderr, "cleaning up:", cerr)
		failed++
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAILED:", err)
	}
	if err != nil || failed > 0 {
		return 1
	}
	return 0
}

// line is one line of the report.
type line struct {
	name, result string
	took         time.Duration
	err          error
}

// do runs one case and notes it. A case that fails does not end the run.
func (t *torture) do(name string, f func() (string, error)) error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	start := time.Now()
	result, err := f()
	l := line{name, result, time.Since(start), err}
	if err != nil {
		l.result = "FAILED: " + err.Error()
	}
	t.lines = append(t.lines, l)
	fmt.Printf("%6.1f  %s: %s\n", time.Since(t.start).Seconds(), name, l.result)
	return nil
}

// print prints the report and tells how many cases failed.
func (t *torture) print() (failed int) {
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintln(w, "CASE\tSECONDS\tHOLDS\tRESULT")
	for _, l := range t.lines {
		holds := "yes"
		if l.err != nil {
			holds = "NO"
			failed++
		}
		fmt.Fprintf(w, "%s\t%.1f\t%s\t%s\n", l.name, l.took.Seconds(), holds, l.result)
	}
	fmt.Fprintf(w, "%d cases\t%.1f\t%d failed\t\n", len(t.lines), time.Since(t.start).Seconds(), failed)
	return failed
}
