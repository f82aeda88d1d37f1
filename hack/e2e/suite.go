package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// suite is one run on one cluster.
type suite struct {
	o     options
	ctx   context.Context // of the case that runs
	all   context.Context // of the run
	c     client.Client
	kube  kubernetes.Interface
	ns    string // holds what the cases make
	start time.Time
	lines []line
	undo  []func() // of the case that runs, in reverse order
}

// line is one line of the report.
type line struct {
	name, result string
	took         time.Duration
	state        string
}

// States of a line.
const (
	held   = "yes"
	broken = "NO"
	notRun = "not run"
)

// errNotRun tells that a case can not be run here.
var errNotRun = errors.New("not run")

func newSuite(ctx context.Context, o options) (*suite, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("no cluster: set KUBECONFIG, or make one with make cluster-up: %w", err)
	}
	cfg.QPS, cfg.Burst = 100, 200
	return connect(ctx, o, cfg)
}

func connect(ctx context.Context, o options, cfg *rest.Config) (*suite, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	log.SetLogger(logr.Discard())
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &suite{o: o, ctx: ctx, all: ctx, c: c, kube: kube, ns: fmt.Sprintf("mynetwork-e2e-%x", now.Unix()), start: now}, nil
}

// defaultLimit is how long a case may take that names no limit: a guard against waiting for ever, no measure.
const defaultLimit = 5 * time.Minute

// do runs one case and notes it.
func (s *suite) do(c testCase) bool {
	limit := c.limit
	if limit == 0 {
		limit = defaultLimit
	}
	ctx, cancel := context.WithTimeout(s.all, limit)
	defer cancel()
	s.ctx = ctx
	start := time.Now()
	var result string
	var err error
	if c.cluster && s.o.cluster == "" {
		err = fmt.Errorf("%w: it needs -cluster", errNotRun)
	} else {
		result, err = c.f(s)
	}
	l := line{name: c.name, result: result, took: time.Since(start), state: held}
	switch {
	case errors.Is(err, errNotRun) && !s.o.strict:
		l.state, l.result = notRun, err.Error()
	case err != nil:
		l.state, l.result = broken, err.Error()
		fmt.Printf("%6.1f  %s: FAILED: %v\n%s", time.Since(s.start).Seconds(), c.name, err, s.picture())
	}
	if l.state != broken {
		fmt.Printf("%6.1f  %s: %s\n", time.Since(s.start).Seconds(), c.name, l.result)
	}
	s.lines = append(s.lines, l)
	s.ctx = s.all
	if l.state != broken || !s.o.keep {
		s.cleanup()
	}
	return l.state != broken
}

// leave deletes the namespace of the cases, without waiting.
func (s *suite) leave() {
	if err := s.kube.CoreV1().Namespaces().Delete(s.all, s.ns, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		fmt.Fprintf(os.Stderr, "namespace %s stays: %v\n", s.ns, err)
	}
}

// later has something done when the case has ended.
func (s *suite) later(f func()) { s.undo = append(s.undo, f) }

// cleanupWithin bounds what a case undoes, waits included.
const cleanupWithin = 6 * time.Minute

func (s *suite) cleanup() {
	ctx, cancel := context.WithTimeout(s.all, cleanupWithin)
	defer func() { cancel(); s.ctx = s.all }()
	s.ctx = ctx
	for i := len(s.undo) - 1; i >= 0; i-- {
		s.undo[i]()
	}
	s.undo = nil
}

// say prints a line of the story.
func (s *suite) say(format string, args ...any) {
	fmt.Printf("%6.1f    %s\n", time.Since(s.start).Seconds(), fmt.Sprintf(format, args...))
}

// print prints the report and tells how many cases failed. Their whole errors are its last lines: the end of a log is what is kept of it.
func (s *suite) print(out io.Writer) (failed int) {
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	skipped := 0
	var why strings.Builder
	fmt.Fprintln(w, "CASE\tSECONDS\tHOLDS\tRESULT")
	for _, l := range s.lines {
		switch l.state {
		case broken:
			failed++
			fmt.Fprintf(&why, "\nFAILED: %s: %s\n", l.name, l.result)
		case notRun:
			skipped++
		}
		first, _, _ := strings.Cut(l.result, "\n")
		fmt.Fprintf(w, "%s\t%.1f\t%s\t%s\n", l.name, l.took.Seconds(), l.state, first)
	}
	fmt.Fprintf(w, "%d cases\t%.1f\t%d failed\t%d not run\n", len(s.lines), time.Since(s.start).Seconds(), failed, skipped)
	w.Flush()
	fmt.Fprint(out, why.String())
	return failed
}

// command runs a program of this machine and gives what it printed. The last line of that is in the first line of an error, which is all
// that a table shows: programs say there why they gave up.
func (s *suite) command(name string, args ...string) (string, error) {
	b, err := exec.CommandContext(s.ctx, name, args...).CombinedOutput()
	out := strings.TrimSpace(string(b))
	if err == nil {
		return out, nil
	}
	before, last := "", out
	if i := strings.LastIndexByte(out, '\n'); i >= 0 {
		before, last = "\nafter\n"+out[:i], out[i+1:]
	}
	if last == "" {
		last = "it said nothing"
	}
	return out, fmt.Errorf("%s %s: %w: %s%s", name, strings.Join(args, " "), err, last, before)
}

// machine asks the cluster's program for a fault.
func (s *suite) machine(args ...string) error {
	_, err := s.command(s.o.cluster, args...)
	return err
}

// until repeats f until it gives nil, or the case's time is over; what it waited for is in the error.
func (s *suite) until(what string, f func() error) error {
	var last error
	for {
		if last = f(); last == nil {
			return nil
		}
		select {
		case <-s.ctx.Done():
			return fmt.Errorf("waited in vain until %s: %w", what, last)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
