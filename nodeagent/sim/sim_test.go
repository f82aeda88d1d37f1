package sim

import (
	"flag"
	"strings"
	"testing"
)

var (
	flagSeeds = flag.Int("seeds", 40, "how many seeds TestSeeds runs")
	flagFirst = flag.Uint64("first", 1, "the first of them")
	flagTrace = flag.Int("trace", 60, "lines of trace that a failure prints")
)

// report fails a test with what is needed to find the reason of a failed run.
func report(t *testing.T, seed uint64, cfg Config, r Result) {
	t.Helper()
	cfg.Trace = *flagTrace
	again := Run(seed, cfg)
	t.Fatalf("seed %d: %v\nagain: %v\n%s\nreplay: go test ./nodeagent/sim -run TestSeeds -first %d -seeds 1 -trace 100000", seed, r.Failure, again.Failure,
		strings.Join(again.Trace, "\n"), seed)
}

func TestSeeds(t *testing.T) {
	formats := &Formats{}
	coverage := make(map[[2]string]int)
	for seed := *flagFirst; seed < *flagFirst+uint64(*flagSeeds); seed++ {
		cfg := Shape(seed)
		cfg.Formats = formats
		r := Run(seed, cfg)
		if r.Failure != nil {
			report(t, seed, cfg, r)
		}
		for k, n := range r.Coverage {
			coverage[k] += n
		}
		if testing.Verbose() {
			t.Logf("seed %d: %+v", seed, r.Counts)
		}
	}
	if testing.Verbose() {
		t.Logf("\n%s", Table(coverage))
	}
}
