package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"mynetwork.io/mynetwork/hack/bench/postgres"
)

// databases is a network with a volume, and two file systems: one on the volume, one on a plain file.
type databases struct {
	*bencher
	sites   []*site
	servers map[string]*postgres.Server // by target
}

// load is something that databases do.
type load struct {
	name string
	unit string
	run  func(d *databases, s *site) (outcome, error)
}

// outcome is what a load did once on one file system.
type outcome struct {
	rate float64 // operations a second
	p99  float64 // ms; 0: not known
	ops  float64
}

// dbRow has the runs of one load.
type dbRow struct {
	load  *load
	rate  map[string][]float64 // by target
	p99   map[string][]float64
	ratio []float64 // volume by plain file, within a run
	cpu   []float64 // µs of the agents per operation
}

// databaseCommand measures databases on a volume, beside the same on a plain file.
func databaseCommand(ctx context.Context, w io.Writer, args []string) (err error) {
	fs := flag.NewFlagSet("db", flag.ContinueOnError)
	o := options{targets: []string{raw, fuse}}
	where(fs, &o.program, &o.dir, "it takes up to seven times the size")
	size := fs.String("size", "2Gi", "of the volume and of the plain file")
	duration := fs.String("seconds", "12", "of each run of pgbench's tpcb-like; others take half of it")
	fs.IntVar(&o.runs, "runs", 3, "how often each load runs on each file system")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := o.load(*size, *duration, ""); err != nil {
		return err
	}
	if o.size < 1<<30 || o.runs < 1 || o.duration < 2*time.Second {
		return errors.New("the size is at least 1Gi, runs at least 1, seconds at least 2")
	}
	if err := errors.Join(preflight(o), hasDatabases()); err != nil {
		return err
	}
	d := &databases{bencher: &bencher{ctx: ctx, o: o}, servers: map[string]*postgres.Server{}}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.make(); err != nil {
		return err
	}
	rows, err := d.all()
	printDatabases(w, o, rows)
	return err
}

// hasDatabases says which packages are missing.
func hasDatabases() error {
	_, err := postgres.Programs()
	if _, err2 := exec.LookPath("sqlite3"); err2 != nil {
		err = errors.Join(err, fmt.Errorf("%w: apt-get install sqlite3", err2))
	}
	for _, name := range []string{"losetup", "mkfs.ext4", "mount"} {
		if _, err2 := exec.LookPath(name); err2 != nil {
			err = errors.Join(err, fmt.Errorf("%w: apt-get install util-linux mount e2fsprogs", err2))
		}
	}
	return err
}

// scale of pgbench: 150 MB of tables.
const scale = 10

// make makes the network, the file systems, and what the loads find there.
func (d *databases) make() error {
	targets := d.o.targets
	d.o.targets = nil // setup makes no bare devices
	err := d.setup()
	d.o.targets = targets
	if err != nil {
		return err
	}
	if err := os.Chmod(d.dir, 0o711); err != nil { // the server's user has to pass
		return err
	}
	for _, target := range targets {
		fmt.Fprintf(os.Stderr, "making a file system on %s, and a database on it\n", target)
		s, err := d.site(target)
		d.sites = append(d.sites, s)
		if err != nil {
			return err
		}
		if err := d.lay(s); err != nil {
			return err
		}
		server, err := postgres.Make(d.ctx, filepath.Join(s.mount, "pg"))
		d.servers[target] = server
		if err != nil {
			return err
		}
		err = server.Start(d.ctx)
		if err == nil {
			err = server.Fill(d.ctx, scale)
		}
		if err = errors.Join(err, server.Stop()); err != nil {
			return err
		}
	}
	return nil
}

// all runs each load on each file system, in an order that changes from run to run.
func (d *databases) all() (rows []*dbRow, err error) {
	for _, l := range loads() {
		rows = append(rows, &dbRow{load: &l, rate: map[string][]float64{}, p99: map[string][]float64{}})
	}
	for run := range d.o.runs {
		for _, row := range rows {
			byTarget := map[string]float64{}
			for i := range d.sites {
				s := d.sites[(i+run)%len(d.sites)]
				out, cpu, err := d.one(row.load, s)
				if err != nil {
					return rows, fmt.Errorf("%s on %s: %w", row.load.name, s.target, err)
				}
				fmt.Fprintf(os.Stderr, "run %d  %-40s %-5s %9.1f %s a second\n", run+1, row.load.name, s.target, out.rate, row.load.unit)
				byTarget[s.target] = out.rate
				row.rate[s.target] = append(row.rate[s.target], out.rate)
				if out.p99 > 0 {
					row.p99[s.target] = append(row.p99[s.target], out.p99)
				}
				if s.target != raw {
					row.cpu = append(row.cpu, float64(cpu)/float64(time.Microsecond)/out.ops)
				}
			}
			row.ratio = append(row.ratio, byTarget[fuse]/byTarget[raw])
		}
	}
	return rows, nil
}

// one runs a load on a file system, and tells what the agents used for it.
func (d *databases) one(l *load, s *site) (out outcome, cpu time.Duration, err error) {
	if _, err := d.quiet(); err != nil {
		return out, 0, err
	}
	before, err := d.sample()
	if err != nil {
		return out, 0, err
	}
	if out, err = l.run(d, s); err != nil {
		return out, 0, err
	}
	after, err := d.sample()
	return out, after.cpu(before), err
}

// close ends servers, then file systems, then the network.
func (d *databases) close() (err error) {
	for _, s := range d.servers {
		err = errors.Join(err, s.Stop())
	}
	for _, s := range d.sites {
		err = errors.Join(err, s.close(d.bencher))
	}
	if err != nil {
		return fmt.Errorf("%s is left: %w", d.dir, err)
	}
	return d.cleanup()
}

func printDatabases(w io.Writer, o options, rows []*dbRow) {
	fmt.Fprintf(w, "| ext4, %d MiB, medians of %d | plain file | volume | of raw | p99 ms: plain file | volume | agents' CPU µs per operation |\n|---|---|---|---|---|---|---|\n", o.size>>20, o.runs)
	for _, r := range rows {
		if len(r.ratio) == 0 {
			continue
		}
		p99 := [2]string{}
		for i, t := range []string{raw, fuse} {
			if len(r.p99[t]) > 0 {
				p99[i] = fmt.Sprintf("%.1f", median(r.p99[t]))
			}
		}
		fmt.Fprintf(w, "| %s, %s a second | %s | %s | %.2f | %s | %s | %.0f |\n", r.load.name, r.load.unit, thousands(median(r.rate[raw])),
			thousands(median(r.rate[fuse])), median(r.ratio), p99[0], p99[1], median(r.cpu))
	}
}
