package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Files of a site that loads write to.
const (
	pagesFile = "pages" // a database's pages
	walFile   = "wal"   // a log whose file is used again, as PostgreSQL's are
	pagesSize = 512 << 20
	walSize   = 64 << 20
)

// loads are in the order in which they run.
func loads() []load {
	return []load{
		{"pgbench tpcb-like, 4 clients", "transactions", func(d *databases, s *site) (outcome, error) { return d.pgbench(s, "tpcb-like", d.o.duration) }},
		{"pgbench select-only, 4 clients", "transactions", func(d *databases, s *site) (outcome, error) { return d.pgbench(s, "select-only", d.o.duration/2) }},
		{"SQLite, WAL, synchronous=FULL", "commits", func(d *databases, s *site) (outcome, error) { return d.sqlite(s, "WAL", 3000) }},
		{"SQLite, rollback journal", "commits", func(d *databases, s *site) (outcome, error) { return d.sqlite(s, "DELETE", 600) }},
		{"fio 8 KiB random, 70 % reads, depth 16, fsync every 16 writes", "operations", func(d *databases, s *site) (outcome, error) {
			return d.mix(s, pagesFile, pagesSize, "--rw=randrw", "--rwmixread=70", "--ioengine=libaio", "--direct=1", "--iodepth=16", "--fsync=16")
		}},
		{"fio 8 KiB log: append, fdatasync", "operations", func(d *databases, s *site) (outcome, error) {
			return d.mix(s, walFile, walSize, "--rw=write", "--ioengine=psync", fdatasync)
		}},
	}
}

// lay writes the files that loads overwrite.
func (d *databases) lay(s *site) error {
	for name, size := range map[string]int64{pagesFile: pagesSize, walFile: walSize} {
		args := []string{"--name=lay", "--rw=write", "--bs=1m", "--ioengine=libaio", "--direct=1", "--iodepth=4", "--end_fsync=1",
			"--filename=" + filepath.Join(s.mount, name), "--size=" + strconv.FormatInt(size, 10)}
		if out, err := d.cancelled("fio", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("fio %s: %w: %.400s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// cancelled is a command that ends when bench is interrupted.
func (d *databases) cancelled(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(d.ctx, name, args...)
	cmd.Dir = d.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// pgbench runs against the server of a site, which runs for that alone.
func (d *databases) pgbench(s *site, script string, took time.Duration) (out outcome, err error) {
	server := d.servers[s.target]
	if err := server.Start(d.ctx); err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	logs := "" // a line for each of select-only's transactions would be most of its work
	if script == "tpcb-like" {
		logs = d.dir
	}
	r, err := server.Run(d.ctx, script, 4, took, logs)
	return outcome{rate: r.TPS, p99: r.P99, ops: r.TPS * took.Seconds()}, err
}

// sqlite makes a database and commits so many small transactions to it.
func (d *databases) sqlite(s *site, journal string, commits int) (out outcome, err error) {
	file := filepath.Join(s.mount, "sqlite-"+journal)
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(file + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return out, err
		}
	}
	cmd := d.cancelled("sqlite3", "-bail", file)
	cmd.Stdin = strings.NewReader(transactions(journal, commits))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		return out, fmt.Errorf("sqlite3: %w: %.400s", err, said.String())
	}
	took := time.Since(begin)
	if got := strings.Fields(said.String()); len(got) != 2 || !strings.EqualFold(got[0], journal) || got[1] != strconv.Itoa(commits) {
		return out, fmt.Errorf("sqlite3 says %q, not its journal %s and %d rows", said.String(), journal, commits)
	}
	return outcome{rate: float64(commits) / took.Seconds(), ops: float64(commits)}, nil
}

// transactions is a script for sqlite3: each transaction adds a row of 200 bytes and changes another one.
func transactions(journal string, commits int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "PRAGMA journal_mode=%s;\nPRAGMA synchronous=FULL;\nCREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB);\n", journal)
	for range commits {
		b.WriteString("BEGIN; INSERT INTO t(v) VALUES(randomblob(200)); UPDATE t SET v=randomblob(200) WHERE k=1+abs(random())%(SELECT max(k) FROM t); COMMIT;\n")
	}
	b.WriteString("SELECT count(*) FROM t;\n")
	return b.String()
}

// mix runs fio on a file of a site, in blocks of 8 KiB.
func (d *databases) mix(s *site, file string, size int64, args ...string) (out outcome, err error) {
	result := filepath.Join(d.dir, "mix.json")
	all := append([]string{"--name=mix", "--bs=8k", "--output-format=json", "--output=" + result, "--percentile_list=50:99:99.9", "--norandommap", "--randrepeat=0",
		"--filename=" + filepath.Join(s.mount, file), "--size=" + strconv.FormatInt(size, 10),
		"--time_based", "--runtime=" + strconv.Itoa(int(d.o.duration/2/time.Second))}, args...)
	if text, err := d.cancelled("fio", all...).CombinedOutput(); err != nil {
		return out, fmt.Errorf("fio: %w: %.400s", err, text)
	}
	text, err := os.ReadFile(result)
	if err != nil {
		return out, err
	}
	return parseMix(text)
}

// parseMix adds what fio did in both directions; the percentile is that of syncs, which is what a commit waits for.
func parseMix(text []byte) (out outcome, err error) {
	j, err := parseJob(text)
	if err != nil {
		return out, err
	}
	out = outcome{rate: j.Read.IOPS + j.Write.IOPS, ops: j.Read.Ops + j.Write.Ops, p99: j.Sync.Lat.Percentile[percentiles[1]] / 1e6}
	if j.Error != 0 || out.ops == 0 {
		return out, fmt.Errorf("fio: error %d, %.0f operations", j.Error, out.ops)
	}
	return out, nil
}
