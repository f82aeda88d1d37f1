package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names of "bench heal".
const (
	healData  = "data"  // the volume whose copies move
	healOther = "other" // the one that is written to meanwhile
	healGrace = 20 * time.Second
	healQuiet = 4 * time.Second // so long nothing more is copied, then it is over
	healLimit = 30 * time.Minute
)

// healing is a network of four nodes whose data is moved and made again.
type healing struct {
	*bencher
	agent  map[string]any // settings of agents
	before float64        // p99 of the other volume's writes while nothing is copied, µs
}

// healRow is one line of the report.
type healRow struct {
	what         string
	took         time.Duration
	copied, want int64
	p99          float64 // µs, the median of runs of the other volume's writes; 0: there was none
}

// healCommand measures how fast copies are moved when a node is added and drained, and made again when one is lost, and what a writer notices.
func healCommand(ctx context.Context, w io.Writer, args []string) (err error) {
	fs := flag.NewFlagSet("heal", flag.ContinueOnError)
	o := options{}
	where(fs, &o.program, &o.dir, "it takes three times the size, and half more")
	size := fs.String("size", "10Gi", "of the data, of which there are three copies")
	missed := fs.String("missed", "512Mi", "what a replica misses, of a volume of twice that")
	parts := fs.String("parts", "missed,moves", "missed: a node was away; moves: a node is added, drained, lost")
	steps := fs.String("rebuilds", strings.Join(missedSteps, ","), "those of the part missed, in this order")
	seconds := fs.String("seconds", "10", "how long synced writes are measured before a rebuild")
	rate := fs.String("copy-rate", "", "agent.copy-rate of the agents, as 64MiB; 0 is no limit, empty the default")
	if err := fs.Parse(args); err != nil {
		return err
	}
	for _, p := range words(*parts) {
		if p != partMissed && p != partMoves {
			return fmt.Errorf("part %q: there are %s and %s", p, partMissed, partMoves)
		}
	}
	for _, s := range words(*steps) {
		if !slices.Contains(missedSteps, s) {
			return fmt.Errorf("rebuild %q: there are %s", s, strings.Join(missedSteps, ", "))
		}
	}
	var lacks int64
	if lacks, err = parseSize(*missed); err != nil {
		return err
	}
	if err := o.load(*size, *seconds, ""); err != nil {
		return err
	}
	if err := preflight(o); err != nil {
		return err
	}
	agent := map[string]any{}
	if *rate != "" {
		agent["copy-rate"] = *rate
	}
	if slices.Contains(words(*parts), partMissed) {
		m := o
		m.size = 2 * lacks
		if err := missedPart(ctx, w, m, lacks, words(*steps), agent); err != nil {
			return err
		}
	}
	if slices.Contains(words(*parts), partMoves) {
		agent["grace"] = healGrace.String()
		return movesPart(ctx, w, o, agent)
	}
	return nil
}

// The parts.
const (
	partMissed = "missed"
	partMoves  = "moves"
)

// movesPart measures what is moved when a node is added, drained and lost.
func movesPart(ctx context.Context, w io.Writer, o options, agent map[string]any) (err error) {
	h := &healing{bencher: &bencher{ctx: ctx, o: o}, agent: agent}
	defer func() { err = errors.Join(err, h.cleanup()) }()
	rows, err := h.all()
	if len(rows) > 0 {
		h.print(w, rows)
	}
	return err
}

// all does what is measured, one after the other.
func (h *healing) all() (rows []healRow, err error) {
	if err := h.up(); err != nil {
		return nil, err
	}
	begin := time.Now()
	if _, err := h.fio(workload{name: "fill", write: true, args: []string{"--rw=write", "--bs=1m", "--iodepth=8", "--end_fsync=1"}}, fuse, h.paths[healData]); err != nil {
		return nil, err
	}
	rows = append(rows, healRow{what: "data written, three copies", took: time.Since(begin), copied: h.o.size, want: h.o.size})
	if h.before, err = h.foreground(); err != nil {
		return rows, err
	}
	const nodes, copies = 4, 3
	for _, step := range []struct {
		what string
		want int64 // bytes that have to move
		do   func() error
	}{
		{"a fifth node is added", h.o.size * copies / (nodes + 1), func() error { _, err := h.my("node", "add"); return err }},
		{"it is drained", h.o.size * copies / (nodes + 1), func() error { _, err := h.my("node", "drain", "n5"); return err }},
		{"a node and its disk are lost", h.o.size * copies / nodes, h.lose},
	} {
		row, err := h.measure(step.do)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", step.what, err)
		}
		row.what, row.want = step.what, step.want
		rows = append(rows, row)
		fmt.Fprintf(os.Stderr, "%s: %+v\n", step.what, row)
	}
	return rows, nil
}

// up makes the network and the two volumes.
func (h *healing) up() (err error) {
	if h.o.program, err = filepath.Abs(h.o.program); err != nil {
		return err
	}
	if h.dir, err = os.MkdirTemp(h.o.dir, "mynetwork-bench-"); err != nil {
		return err
	}
	h.paths = map[string]string{}
	port, err := freePorts(4)
	if err != nil {
		return err
	}
	if _, err := h.my("dev", "up", "--nodes", "4", "--device", "fuse", "--port", strconv.Itoa(port)); err != nil {
		return err
	}
	if _, err := h.my("dev", "down"); err != nil {
		return err
	}
	if err := h.configure(h.agent); err != nil {
		return err
	}
	if _, err := h.my("dev", "up"); err != nil {
		return err
	}
	for name, size := range map[string]int64{healData: h.o.size, healOther: 256 << 20} {
		if _, err := h.my("volume", "create", name, "--size", strconv.FormatInt(size, 10)); err != nil {
			return err
		}
		var v volume
		if err := h.myInto(&v, "volume", "attach", name, "--node", "n1"); err != nil {
			return err
		}
		h.paths[name] = v.Device
	}
	return nil
}

// configure gives the network's agents their settings.
func (b *bencher) configure(agent map[string]any) error {
	file := filepath.Join(b.net(), "network.json")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var n map[string]any
	if err := json.Unmarshal(text, &n); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	n["agent"] = agent
	if text, err = json.MarshalIndent(n, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

// foreground writes to the other volume for ten seconds, 200 times a second, each write synced, and gives the 99th percentile in µs.
func (h *healing) foreground() (float64, error) {
	b := *h.bencher
	b.o.size = 256 << 20
	r, err := b.fio(workload{name: "other", write: true, sync: true, args: []string{"--rw=randwrite", "--bs=4k", "--iodepth=1", fdatasync, "--rate_iops=200",
		"--time_based", "--runtime=10"}}, fuse, h.paths[healOther])
	return r.Latency[1], err
}

// lose ends a node and removes what its disk had.
func (h *healing) lose() error {
	if _, err := h.my("node", "kill", "n4", "--holder"); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(h.net(), "n4", "store"))
}

// measure does something, and waits until nothing more is copied because of it, with the other volume in use.
func (h *healing) measure(do func() error) (row healRow, err error) {
	first, _, err := h.state()
	if err != nil {
		return row, err
	}
	begin := time.Now()
	if err := do(); err != nil {
		return row, err
	}
	ctx, stop := context.WithCancel(h.ctx)
	defer stop()
	type seen struct {
		p99 []float64
		err error
	}
	done := make(chan seen, 1)
	go func() {
		var s seen
		for ctx.Err() == nil && s.err == nil {
			var p float64
			if p, s.err = h.foreground(); s.err == nil {
				s.p99 = append(s.p99, p)
			}
		}
		done <- s
	}()
	last, changed := first, time.Now()
	for {
		if err := h.sleep(time.Second); err != nil {
			return row, err
		}
		now, left, err := h.state()
		if err != nil {
			return row, err
		}
		if now != last || left > 0 {
			last, changed = now, time.Now()
		}
		row.copied, row.took = last-first, changed.Sub(begin)
		if time.Since(changed) > healQuiet && row.copied > 0 {
			break
		}
		if time.Since(begin) > healLimit {
			return row, fmt.Errorf("not over after %s: %d bytes are copied, %d are left", healLimit, row.copied, left)
		}
	}
	stop()
	s := <-done
	if slices.Sort(s.p99); len(s.p99) > 0 {
		row.p99 = s.p99[len(s.p99)/2]
	}
	return row, s.err
}

// state tells how many bytes were copied since the volume was opened, and how much is left to do, of whatever kind.
func (h *healing) state() (copied, left int64, err error) {
	var v struct {
		Open struct {
			Degraded int64            `json:"degraded"`
			Counters map[string]int64 `json:"counters"`
		} `json:"open"`
	}
	if err := h.myInto(&v, "volume", "inspect", healData); err != nil {
		return 0, 0, err
	}
	var nodes []struct {
		ToMove int64 `json:"toMove"`
	}
	if err := h.myInto(&nodes, "node", "list"); err != nil {
		return 0, 0, err
	}
	left = v.Open.Degraded
	for _, n := range nodes {
		left += n.ToMove
	}
	return v.Open.Counters["copiedBytes"], left, nil
}

func (h *healing) print(w io.Writer, rows []healRow) {
	fmt.Fprintf(w, "| %d MiB, three copies, four nodes | took | bytes copied | of what has to | MB/s | p99 of synced 4 KiB writes meanwhile |\n|---|---|---|---|---|---|\n", h.o.size>>20)
	for _, r := range rows {
		p99 := ""
		if r.p99 > 0 {
			p99 = fmt.Sprintf("%.1f ms, %.1f x", r.p99/1e3, r.p99/h.before)
		}
		fmt.Fprintf(w, "| %s | %.0f s | %d MiB | %.2f | %.0f | %s |\n", r.what, r.took.Seconds(), r.copied>>20, float64(r.copied)/float64(r.want),
			float64(r.copied)/1e6/r.took.Seconds(), p99)
	}
	fmt.Fprintf(w, "\nWhile nothing is copied that p99 is %.1f ms. A lost node is noticed at once and given up after %s, which is in its time.\n", h.before/1e3, healGrace)
}
