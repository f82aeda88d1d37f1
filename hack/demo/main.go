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

func main() {
	program := flag.String("program", "bin/mynetwork", "the built mynetwork")
	source := flag.String("source", "", "tree to copy, of 100 MB or more (default: the source of the Go toolchain)")
	dir := flag.String("dir", "", "directory to work in (default: a new one in /var/tmp); it must be empty")
	keep := flag.Bool("keep", false, "leave the network running when a step fails, to look at it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(run(ctx, *program, *source, *dir, *keep))
}

// run plays the story and cleans up, whatever happened.
func run(ctx context.Context, program, source, dir string, keep bool) int {
	d, err := newDemo(ctx, program, source, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 2
	}
	err = d.play()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\nFAILED: %v\n", err)
	}
	if err != nil && keep && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "left running; end it with: umount %s; %s dev down --wipe --force --yes --dir %s\n", d.mount, d.program, d.net)
		return 1
	}
	if cerr := d.cleanup(); cerr != nil {
		fmt.Fprintf(os.Stderr, "\ncleaning up: %v\n", cerr)
		err = errors.Join(err, cerr)
	}
	d.report(err)
	if err != nil {
		return 1
	}
	return 0
}

// step is one line of the report.
type step struct {
	name string
	took time.Duration
	note string
	err  error
}

// report prints what happened and how long it took.
func (d *demo) report(err error) {
	fmt.Printf("\n%-61s %8s  %s\n", "STEP", "SECONDS", "RESULT")
	for _, s := range d.steps {
		result := s.note
		if s.err != nil {
			result = "FAILED"
		}
		fmt.Printf("%-61s %8.2f  %s\n", s.name, s.took.Seconds(), result)
	}
	verdict := "every byte was right after every fault"
	if err != nil {
		verdict = "FAILED"
	}
	fmt.Printf("%-61s %8.2f  %s\n", "in all", time.Since(d.start).Seconds(), verdict)
}
