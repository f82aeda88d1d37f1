package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	kubeconfig, cluster, helm, chart string
	image, image2, tools             string
	namespace, network               string
	set                              []string
	run                              *regexp.Regexp
	strict, keep                     bool
	minutes                          int    // of the suite thrash
	seed                             uint64 // of the suite thrash
	lie                              string // of the suite thrash
	only                             *regexp.Regexp
}

func flags(o *options) {
	flag.StringVar(&o.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "of the cluster")
	flag.StringVar(&o.cluster, "cluster", "", "program that cuts power and partitions nodes, as hack/cluster makes it; empty: such cases are not run")
	flag.StringVar(&o.helm, "helm", "helm", "the helm program")
	flag.StringVar(&o.chart, "chart", "charts/mynetwork", "the chart; empty: MyNetwork is installed already")
	flag.StringVar(&o.image, "image", "registry.local/mynetwork:dev", "image to install")
	flag.StringVar(&o.image2, "image2", "", "image to upgrade to; empty: the same, and everything is restarted")
	flag.StringVar(&o.tools, "tools", "registry.local/tools:dev", "image with bash, coreutils, fio and PostgreSQL")
	flag.StringVar(&o.namespace, "namespace", "mynetwork-system", "where MyNetwork runs")
	flag.StringVar(&o.network, "network", "main", "name of the MyNetwork to make")
	flag.BoolVar(&o.strict, "strict", false, "a case that can not be run has failed")
	flag.BoolVar(&o.keep, "keep", false, "leave what a failed case made, to look at it")
	flag.Func("set", "value for the chart, as key=value; may be repeated", func(s string) error { o.set = append(o.set, s); return nil })
	flag.Func("run", "only cases whose names match this regular expression", func(s string) (err error) { o.run, err = regexp.Compile(s); return err })
	flag.Func("only", "of what thrash does to a cluster, only what matches this regular expression", func(s string) (err error) { o.only, err = regexp.Compile(s); return err })
	flag.IntVar(&o.minutes, "minutes", 20, "how long thrash hurts the cluster")
	flag.Uint64Var(&o.seed, "seed", 1, "what thrash does, and when")
	flag.StringVar(&o.lie, "lie", "", "lost: a write that never was is taken for acknowledged; copies: all copies of closed extents are spoiled. thrash must find it out")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: e2e [flags] demo|e2e|thrash")
		flag.PrintDefaults()
	}
}

func main() {
	var o options
	flags(&o)
	flag.Parse()
	cases, ok := map[string][]testCase{"demo": story(), "e2e": everything(), "thrash": thrashing(o)}[flag.Arg(0)]
	if !ok || flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, o, cases))
}

// run runs the cases in order; the exit code is 0 only if all that ran held.
func run(ctx context.Context, o options, cases []testCase) int {
	s, err := newSuite(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 2
	}
	for _, c := range cases {
		if o.run != nil && !c.always && !o.run.MatchString(c.name) {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		if held := s.do(c); !held && (c.always || o.keep) {
			break // nothing after it can hold, or is to disturb it
		}
	}
	failed := s.print(os.Stdout)
	if failed == 0 || !o.keep {
		s.leave()
	}
	if ctx.Err() != nil || failed > 0 {
		return 1
	}
	return 0
}

// testCase is one promise.
type testCase struct {
	name    string
	always  bool // also without a match of -run: the others stand on it
	cluster bool // needs -cluster
	limit   time.Duration
	f       func(s *suite) (string, error)
}
