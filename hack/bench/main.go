package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// options are what is measured, and how.
type options struct {
	program   string
	dir       string
	out       string
	duration  time.Duration
	runs      int
	size      int64 // bytes of the volumes and of the plain file
	workloads []workload
	targets   []string
	times     bool
	markdown  bool // print tables for a document
}

// command is a subcommand: it prints its figures to w.
type command func(ctx context.Context, w io.Writer, args []string) error

// commands are the subcommands that measure; compare and markdown read what was measured.
func commands() map[string]command {
	return map[string]command{"heal": healCommand, "profile": profileCommand, "stages": stagesCommand, "space": spaceCommand, "sustained": sustainedCommand,
		"db": databaseCommand, "scale": scaleCommand, "hang": hangCommand}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "compare":
			os.Exit(compareCommand(os.Args[2:]))
		case "markdown":
			os.Exit(markdownCommand(os.Args[2:]))
		}
		if measure := commands()[os.Args[1]]; measure != nil {
			if err := measure(ctx, os.Stdout, os.Args[2:]); err != nil && !errors.Is(err, flag.ErrHelp) {
				fmt.Fprintln(os.Stderr, "bench:", err)
				os.Exit(1)
			}
			return
		}
	}
	o, err := parse(flag.CommandLine, os.Args[1:], os.Getenv)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = preflight(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if err := bench(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// parse reads flags; env gives what is not among them.
func parse(fs *flag.FlagSet, args []string, env func(string) string) (o options, err error) {
	or := func(name, fallback string) string {
		if v := env(name); v != "" {
			return v
		}
		return fallback
	}
	where(fs, &o.program, &o.dir, "a new one is made in it, and removed")
	fs.StringVar(&o.out, "out", env("OUT"), "file to write the figures to, as JSON")
	duration := fs.String("duration", or("DURATION", "10"), "of each fio, in seconds or as 1m30s")
	runs := fs.String("runs", or("RUNS", "3"), "how often each workload runs on each target")
	size := fs.String("size", or("SIZE", "2Gi"), "of each volume and of the plain file")
	workloads := fs.String("workloads", or("WORKLOADS", ""), "those to run (default: all): "+strings.Join(workloadNames(), " "))
	targets := fs.String("targets", or("TARGETS", ""), "those to run on (default: all): "+strings.Join(allTargets, " "))
	fs.BoolVar(&o.times, "times", or("TIMES", "1") != "0", "also measure attach, snapshot, clone and rebuild")
	fs.BoolVar(&o.markdown, "markdown", env("MARKDOWN") == "1", "print the figures once more, as tables in Markdown")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q; there are: compare OLD NEW, markdown FIGURES, %s", fs.Arg(0), strings.Join(sortedKeys(commands()), ", "))
	}
	if err := o.load(*size, *duration, *workloads); err != nil {
		return o, err
	}
	if _, err := fmt.Sscanf(*runs, "%d", &o.runs); err != nil || o.runs < 1 {
		return o, fmt.Errorf("runs: %q is not a number from 1", *runs)
	}
	o.targets, err = chooseTargets(*targets)
	return o, err
}

// where has the flags of each command that makes a network: of what program, and where; takes says what that directory needs.
func where(fs *flag.FlagSet, program, dir *string, takes string) {
	fs.StringVar(program, "program", "bin/mynetwork", "the built mynetwork")
	fs.StringVar(dir, "dir", "/var/tmp", "directory on the disk to measure; "+takes)
}

// load reads what a command is told of what to run: the size of a volume, how long each workload runs, and which.
func (o *options) load(size, duration, workloads string) (err error) {
	if o.size, err = parseSize(size); err != nil {
		return err
	}
	if o.duration, err = parseDuration(duration); err != nil {
		return err
	}
	o.workloads, err = chooseWorkloads(workloads)
	return err
}
