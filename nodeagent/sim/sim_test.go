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

// TestMatch: of several prefixes with the same content the longest is meant.
func TestMatch(t *testing.T) {
	log := []entry{{kind: entryContent, content: make([]uint64, 2)}, {kind: entryWrite, page: 0, n: 1, first: 7}, {kind: entryDiscard, page: 0, n: 2}, {kind: entryDiscard, page: 1, n: 1}}
	for _, c := range []struct {
		got []uint64
		k   int
		ok  bool
		hi  int
	}{{[]uint64{0, 0}, 4, true, 4}, {[]uint64{0, 0}, 1, true, 2}, {[]uint64{7, 0}, 2, true, 4}, {[]uint64{8, 0}, 0, false, 4}} {
		if k, ok := match(log, 1, c.hi, c.got); k != c.k || ok != c.ok {
			t.Errorf("%v up to %d: %d, %v", c.got, c.hi, k, ok)
		}
	}
}
