package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"
)

// missedPoll is how often a rebuild is looked at: a look is a command, which takes some of the processor time that is measured.
const missedPoll = 250 * time.Millisecond

// missedRow is one rebuild of a replica that was away.
type missedRow struct {
	what           string
	missed, copied int64         // bytes of the journal, payloads included; bytes that the node wrote for them, its own log included
	start, took    time.Duration // of its node's process; from then until all replicas have everything
	before, during [2]float64    // p50 and p99 of the volume's synced 4 KiB writes, µs; during is 0 if there were none
}

// missing is a network of three nodes, one of which is away while its volume is written to.
type missing struct {
	*bencher
	missed int64
	steps  []string
	alone  result // 1 MiB writes with all nodes there
}

// missedSteps are the rebuilds.
var missedSteps = []string{"large", "small", "beside"}

// missedPart measures rebuilds of a replica that has missed so many bytes of 1 MiB writes, and a quarter of that of small ones.
func missedPart(ctx context.Context, w io.Writer, o options, missed int64, steps []string, agent map[string]any) (err error) {
	m := &missing{bencher: &bencher{ctx: ctx, o: o}, missed: missed, steps: steps}
	defer func() { err = errors.Join(err, m.cleanup()) }()
	if err := m.network(3); err != nil {
		return err
	}
	if len(agent) > 0 {
		if _, err := m.my("dev", "down"); err != nil {
			return err
		}
		if err := m.configure(agent); err != nil {
			return err
		}
		if _, err := m.my("dev", "up"); err != nil {
			return err
		}
	}
	if err := m.prepare(fuse); err != nil {
		return err
	}
	if m.paths[fuse] == "" {
		return fmt.Errorf("the volume can not be used: %s", m.why[fuse])
	}
	rows, err := m.all()
	if len(rows) > 0 {
		m.print(w, rows)
	}
	return err
}

func (m *missing) large() workload {
	return workload{name: "missed", write: true, args: []string{"--rw=write", "--bs=1m", "--iodepth=8", "--end_fsync=1", fmt.Sprintf("--io_size=%d", m.missed)}}
}

// all measures writes of 1 MiB, and then rebuilds: alone, of small writes, and beside synced writes.
func (m *missing) all() (rows []missedRow, err error) {
	if _, err := m.waitHealthy(); err != nil {
		return nil, err
	}
	if m.alone, err = m.fio(m.large(), fuse, m.paths[fuse]); err != nil {
		return nil, err
	}
	small := workload{name: "missed4k", write: true, args: []string{"--rw=randwrite", "--bs=4k", "--iodepth=32", "--end_fsync=1", fmt.Sprintf("--io_size=%d", m.missed/4)}}
	of := map[string]struct {
		what   string
		write  workload
		beside bool
	}{"large": {"1 MiB writes", m.large(), false}, "small": {"4 KiB writes at random", small, false}, "beside": {"1 MiB writes, beside synced ones", m.large(), true}}
	for _, name := range m.steps {
		step := of[name]
		fmt.Fprintln(os.Stderr, "rebuild of", step.what)
		row, err := m.rebuild(step.write, step.beside)
		if err != nil {
			return rows, fmt.Errorf("rebuild of %s: %w", step.what, err)
		}
		row.what = step.what
		rows = append(rows, row)
	}
	return rows, nil
}

// synced writes 4 KiB at a time, each followed by a flush, for so long: p50 and p99, µs.
func (m *missing) synced(d time.Duration) (out [2]float64, err error) {
	r, err := m.fio(workload{name: "synced", write: true, sync: true, args: []string{"--rw=randwrite", "--bs=4k", "--iodepth=1", fdatasync,
		"--time_based", "--runtime=" + strconv.Itoa(int(d.Seconds()))}}, fuse, m.paths[fuse])
	return [2]float64{r.Latency[0], r.Latency[1]}, err
}

// rebuild takes a node away, writes, and brings it back.
func (m *missing) rebuild(write workload, beside bool) (row missedRow, err error) {
	if _, err := m.waitHealthy(); err != nil {
		return row, err
	}
	if beside { // with as much garbage to be cleaned as there is afterwards
		if _, err := m.fio(write, fuse, m.paths[fuse]); err != nil {
			return row, err
		}
		if row.before, err = m.synced(m.o.duration); err != nil {
			return row, err
		}
		if _, err := m.waitHealthy(); err != nil {
			return row, err
		}
	}
	first, err := m.counters()
	if err != nil {
		return row, err
	}
	if _, err := m.my("node", "kill", "n3"); err != nil {
		return row, err
	}
	if _, err := m.fio(write, fuse, m.paths[fuse]); err != nil {
		return row, err
	}
	ctx, stop := context.WithCancel(m.ctx)
	defer stop()
	type seen struct {
		of  [][2]float64
		err error
	}
	done := make(chan seen, 1)
	if beside {
		go func() {
			var s seen
			for ctx.Err() == nil && s.err == nil {
				var one [2]float64
				if one, s.err = m.synced(3 * time.Second); s.err == nil {
					s.of = append(s.of, one)
				}
			}
			done <- s
		}()
	}
	err = m.back(&row, first)
	stop()
	if beside {
		s := <-done
		if len(s.of) > 1 {
			s.of = s.of[:len(s.of)-1] // the last one goes on when the rebuild is over
		}
		row.during = medians(s.of)
		err = errors.Join(err, s.err)
	}
	return row, err
}

// back starts the node and waits until all replicas have everything.
func (m *missing) back(row *missedRow, first counters) error {
	begin := time.Now()
	if err := m.startNode("n3"); err != nil {
		return err
	}
	row.start = time.Since(begin)
	if err := m.findNodes(); err != nil {
		return err
	}
	for {
		now, err := m.counters()
		if err != nil {
			return err
		}
		if now.back && row.missed == 0 { // what is written from now on it does not miss
			row.missed = now.journal - first.journal
		}
		row.took = time.Since(begin) - row.start
		if now.healthy && now.copied > first.copied {
			s, err := m.sample()
			row.copied = s.of["n3 agent"].written - (now.journal - first.journal - row.missed)
			return err
		}
		if row.took > healLimit {
			return fmt.Errorf("not over after %s", healLimit)
		}
		if err := m.sleep(missedPoll); err != nil {
			return err
		}
	}
}

// counters are those of the volume's engine.
type counters struct {
	journal, copied int64
	back            bool // the node that was away is a member of the open extent
	healthy         bool
}

func (m *missing) counters() (c counters, err error) {
	var v volume
	if err := m.myInto(&v, "volume", "inspect", fuse); err != nil {
		return c, err
	}
	if v.Open == nil {
		return c, errors.New("the volume is not open")
	}
	c = counters{journal: v.Open.Counters["journalBytes"], copied: v.Open.Counters["copiedBytes"], healthy: v.healthy()}
	for _, r := range v.Open.Replicas {
		c.back = c.back || r.Node == "n3" && !r.Failed
	}
	return c, nil
}

// medians of pairs, each by itself.
func medians(list [][2]float64) (out [2]float64) {
	for i := range out {
		var one []float64
		for _, l := range list {
			one = append(one, l[i])
		}
		out[i] = quantile(slices.Clone(one), .5)
	}
	return out
}

func (m *missing) print(w io.Writer, rows []missedRow) {
	fmt.Fprintf(w, "| a replica missed, of %d MiB | bytes missed | bytes that its node wrote | start of the node | then took | MB/s | of 1 MiB writes (%.0f MB/s) | synced 4 KiB writes before, p50, p99 | during |\n|---|---|---|---|---|---|---|---|---|\n",
		m.o.size>>20, m.alone.MBps)
	for _, r := range rows {
		speed := float64(r.missed) / 1e6 / r.took.Seconds()
		before, during := "", ""
		if r.before[1] > 0 {
			before = fmt.Sprintf("%.2f, %.2f ms", r.before[0]/1e3, r.before[1]/1e3)
			during = fmt.Sprintf("%.2f, %.2f ms; %.1f x, %.1f x", r.during[0]/1e3, r.during[1]/1e3, r.during[0]/r.before[0], r.during[1]/r.before[1])
		}
		fmt.Fprintf(w, "| %s | %d MiB | %.2f x | %.1f s | %.1f s | %.0f | %.2f | %s | %s |\n", r.what, r.missed>>20, float64(r.copied)/float64(max(r.missed, 1)), r.start.Seconds(), r.took.Seconds(),
			speed, speed/m.alone.MBps, before, during)
	}
	fmt.Fprintln(w, "\nThe time is from when the node's process serves until all replicas have everything. What its node wrote has its log in it, and cleaning of the volume meanwhile.")
}
