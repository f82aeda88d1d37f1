package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// stage is one step of an I/O, as a Go benchmark.
type stage struct {
	name  string
	where string // package, below nodeagent
	bench string
	n     int     // operations of the shorter of two runs
	per   float64 // operations of the benchmark in one operation of the stage
	deep  float64 // how often it is in a replicated write at depth 32; 0: it is part of another stage, or of no write
	alone float64 // and in a write and its flush at depth 1
	note  string
}

// stages are in the order of a write's life, then a read's.
func stages() []stage {
	return []stage{
		{"ring append", "volume/ring", "BenchmarkReserveCommitFree", 200000, 1, 1, 0, "take a slot, fill it with a page, commit, free"},
		{"leaf hash, alone", "core/block/leaf", "BenchmarkSum", 100000, 1, 3, 0, "one page: every write of 4 KiB, at the writer and at each replica elsewhere"},
		{"leaf hash, of a pair", "core/block/leaf", "BenchmarkSum2", 100000, .5, 0, 0, "a page of larger requests"},
		{"record encode", "core/journal", "BenchmarkAppend", 100000, 1, 1, 0, "header, rows and chain hash; at a replica the chain hash comes again"},
		{"record decode", "core/journal", "BenchmarkParse", 200000, 1, 3, 0, "header and rows"},
		{"map update", "core/blockmap", "BenchmarkOverlayPut", 500000, 1, 1, 0, "a page in the overlay"},
		{"seal, a 240th", "core/block", "BenchmarkID", 2000, 1. / 240, 4, 0, "the id of a block of 240 pages"},
		{"frame encode and decode", "peer", "BenchmarkHeader", 2000000, 1, 0, 0, "the header, both ends"},
		{"TLS's cipher", "peer", "BenchmarkBareAEAD4K", 50000, 1, 0, 0, "4 KiB sealed and opened, without sockets and copies; part of the next two"},
		{"frame and TLS, depth 1", "peer", "BenchmarkWrite4KDepth1", 5000, 1, 0, 0, "4 KiB there and an answer back; both ends and the kernel"},
		{"frame and TLS, depth 32", "peer", "BenchmarkWrite4KDepth32", 20000, 1, 2, 0, "the same, gathered"},
		{"store append and commit, each alone", "store", "BenchmarkSmallDepth1", 1500, 1, 0, 0, "log and data file, one log write and sync each"},
		{"store append, a commit for 32", "store", "BenchmarkSmallDepth32", 400, 1. / 32, 3, 0, "the same, gathered"},
		{"FUSE and loop: a write", "export/device", "BenchmarkWrite4K", 5000, 1, 0, 0, "there and back, one after the other, a volume in memory; both ends and the kernel"},
		{"FUSE and loop: a write and a flush", "export/device", "BenchmarkFlush", 3000, 1, 0, 1, "the same"},
		{"engine and three replicas, no network, memory disks", "volume", "BenchmarkWrite4K", 20000, 1, 0, 0, "all of the above but TLS and disks, with locks and tasks"},
		{"three agents: write and flush", "agent", "BenchmarkWriteFlush", 300, 1, 0, 1, "all but the front end: TLS, real disks, depth 1"},
		{"map look-up", "core/blockmap", "BenchmarkLookup", 200000, 1, 0, 0, "a page in a map of 1 TiB"},
		{"cache hit", "cache", "BenchmarkGet", 500000, 1, 0, 0, ""},
		{"FUSE and loop: a read", "export/device", "BenchmarkRead4K", 5000, 1, 0, 0, "there and back, one after the other"},
		{"read of 4 KiB", "volume", "BenchmarkRead4K", 50000, 1, 0, 0, "map, table, store on a memory disk, leaf hash"},
	}
}

// stagesCommand measures each stage's CPU time and prints a table. A stage is run twice, once three times as long: the difference
// is what its operations cost, without what it takes to prepare them, and however busy the machine is with others.
func stagesCommand(ctx context.Context, w io.Writer, _ []string) error {
	dir, err := os.MkdirTemp("", "stages")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	fmt.Fprintln(w, "| stage | CPU µs | times in a write at depth 32 | together | times in a write and flush at depth 1 | together | what it is |\n|---|---|---|---|---|---|---|")
	var deep, alone float64
	built := map[string]string{}
	var failed error
	for _, s := range stages() {
		if built[s.where] == "" {
			built[s.where] = filepath.Join(dir, strconv.Itoa(len(built)))
			if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", built[s.where], "./nodeagent/"+s.where).CombinedOutput(); err != nil {
				return fmt.Errorf("build the benchmarks of %s: %w: %s", s.where, err, out)
			}
		}
		cost, err := s.measure(ctx, built[s.where])
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		fmt.Fprintf(w, "| %s | %.2f | %s | %s | %s |\n", s.name, cost, times(s.deep, cost), times(s.alone, cost), s.note)
		deep += s.deep * cost
		alone += s.alone * cost
	}
	fmt.Fprintf(w, "| sum | | | %.1f | | %.1f | without the load generator, and at depth 32 without FUSE and loop |\n", deep, alone)
	return failed
}

// times are two cells: how often, and what that comes to.
func times(n, cost float64) string {
	if n == 0 {
		return " | "
	}
	return fmt.Sprintf("%.0f | %.1f", n, n*cost)
}

// stageTurns is how often each length is run; the least counts, since what others do can only add.
const stageTurns = 3

// measure gives the CPU time of one operation, in µs.
func (s *stage) measure(ctx context.Context, program string) (float64, error) {
	var least [2]time.Duration
	for range stageTurns {
		for i, n := range []int{s.n, 3 * s.n} {
			cmd := exec.CommandContext(ctx, program, "-test.run=^$", "-test.bench=^"+s.bench+"$", "-test.benchtime="+strconv.Itoa(n)+"x")
			cmd.Dir = filepath.Join("nodeagent", s.where)
			if out, err := cmd.CombinedOutput(); err != nil {
				return 0, fmt.Errorf("%s of %s: %w: %s", s.bench, s.where, err, out)
			}
			if took := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(); least[i] == 0 || took < least[i] {
				least[i] = took
			}
		}
	}
	return float64(least[1]-least[0]) / float64(2*s.n) / float64(time.Microsecond) * s.per, nil
}
