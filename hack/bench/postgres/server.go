// Package postgres runs one PostgreSQL server of Debian's packages in a directory, as a child of this process and no service of the
// system, and pgbench against it. All settings are PostgreSQL's own defaults: each commit waits for its log to be durable.
//
// A Server is for one goroutine. Whoever starts one stops it: it does not end with this process.
package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Packages are what has to be installed.
const Packages = "postgresql postgresql-contrib"

// role is the database's owner; connections over the server's own socket are trusted.
const role = "bench"

// Server is a server whose data lies in a directory.
type Server struct {
	bin  string // PostgreSQL's programs
	dir  string // has data and socket
	cred *syscall.Credential
	cmd  *exec.Cmd
	done chan error
}

// Programs finds PostgreSQL's newest programs; Debian does not put them into PATH.
func Programs() (string, error) {
	list, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	slices.SortFunc(list, func(a, b string) int { return major(a) - major(b) })
	for _, name := range slices.Backward(list) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(name), "pgbench")); err == nil {
			return filepath.Dir(name), nil
		}
	}
	return "", errors.New("PostgreSQL with pgbench is not installed: apt-get install " + Packages)
}

func major(name string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(name))))
	return n
}

// Make makes a cluster of databases in dir, which must not be there, and below which everybody may pass. The server refuses to run
// as root, so it belongs to postgres, or nobody.
func Make(ctx context.Context, dir string) (*Server, error) {
	bin, err := Programs()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
			gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
			if err := errors.Join(err1, err2); err != nil {
				return nil, err
			}
			s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
			break
		}
	}
	if s.cred == nil {
		return nil, errors.New("there is no user postgres nor nobody to run the server as")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chown(dir, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
		return nil, err
	}
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", s.data(), "-U", role, "-A", "trust", "-E", "UTF8", "--locale=C")
	initdb.Dir, initdb.SysProcAttr = dir, &syscall.SysProcAttr{Credential: s.cred, Setpgid: true}
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb in %s: %w: %.600s", dir, err, out)
	}
	return s, nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// readyWithin bounds how long a start may take.
const readyWithin = time.Minute

// Start runs the server and waits until it answers.
func (s *Server) Start(ctx context.Context) error {
	var said bytes.Buffer
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.data(), "-c", "listen_addresses=", "-c", "unix_socket_directories="+s.dir)
	cmd.Dir, cmd.SysProcAttr = s.dir, &syscall.SysProcAttr{Credential: s.cred, Setpgid: true}
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	s.cmd, s.done = cmd, done
	limit := time.NewTimer(readyWithin)
	defer limit.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case err := <-done:
			s.cmd = nil
			return fmt.Errorf("postgres in %s ended: %w: %.600s", s.dir, err, said.String())
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			return fmt.Errorf("postgres in %s does not answer after %s", s.dir, readyWithin)
		case <-again.C:
		}
		if exec.CommandContext(ctx, filepath.Join(s.bin, "pg_isready"), "-q", "-h", s.dir, "-U", role, "-d", "postgres").Run() == nil {
			return nil
		}
	}
}

// Patience of Stop with each way of asking.
const patience = 30 * time.Second

// Stop ends the server, if it runs: with a checkpoint, and without one if that takes too long.
func (s *Server) Stop() error {
	if s == nil || s.cmd == nil {
		return nil
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		_ = s.cmd.Process.Signal(sig)
		limit := time.NewTimer(patience)
		select {
		case err := <-s.done:
			limit.Stop()
			s.cmd = nil
			if sig == syscall.SIGINT {
				return err
			}
			return nil
		case <-limit.C:
		}
	}
	return fmt.Errorf("postgres in %s (pid %d) does not end", s.dir, s.cmd.Process.Pid)
}

// Fill makes pgbench's tables: 100,000 rows, 15 MB, for each unit of scale.
func (s *Server) Fill(ctx context.Context, scale int) error {
	_, err := s.pgbench(ctx, "", "-i", "-q", "-s", strconv.Itoa(scale))
	return err
}

// Result is what pgbench measured.
type Result struct {
	TPS float64
	P99 float64 // ms; 0 if no transaction was logged
}

// Run runs pgbench's own script of that name (tpcb-like, select-only) with so many clients for so long. It notes each transaction in
// files in dir if that is not empty.
func (s *Server) Run(ctx context.Context, script string, clients int, d time.Duration, dir string) (r Result, err error) {
	args := []string{"-n", "-b", script, "-c", strconv.Itoa(clients), "-j", "2", "-T", strconv.Itoa(int(d / time.Second))}
	if dir != "" {
		args = append(args, "-l", "--log-prefix=pgbench")
	}
	out, err := s.pgbench(ctx, dir, args...)
	if err != nil {
		return r, err
	}
	if r.TPS, err = parseTPS(out); err != nil || dir == "" {
		return r, err
	}
	logs, err := filepath.Glob(filepath.Join(dir, "pgbench.*"))
	if err != nil {
		return r, err
	}
	var took []float64
	for _, name := range logs {
		text, err := os.ReadFile(name)
		if err != nil {
			return r, err
		}
		if took, err = parseLog(took, text); err != nil {
			return r, fmt.Errorf("%s: %w", name, err)
		}
		if err := os.Remove(name); err != nil {
			return r, err
		}
	}
	if slices.Sort(took); len(took) > 0 {
		r.P99 = took[len(took)*99/100] / 1e3
	}
	return r, nil
}

func (s *Server) pgbench(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "pgbench"), append(args, "-h", s.dir, "-U", role, "postgres")...)
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Setpgid: true}
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("pgbench %s: %w: %.600s", strings.Join(args, " "), err, errOut.String())
	}
	return string(out), nil
}

// parseTPS reads what pgbench prints at its end. A transaction that failed makes the figure one of something else.
func parseTPS(text string) (tps float64, err error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "number of failed transactions: "); ok && !strings.HasPrefix(rest, "0 ") {
			return 0, fmt.Errorf("pgbench: %s", strings.TrimSpace(line))
		}
		if rest, ok := strings.CutPrefix(line, "tps = "); ok {
			if tps, err = strconv.ParseFloat(strings.Fields(rest + " ?")[0], 64); err != nil {
				return 0, fmt.Errorf("pgbench: %q: %w", strings.TrimSpace(line), err)
			}
		}
	}
	if tps == 0 {
		return 0, fmt.Errorf("pgbench tells no transactions a second: %.300s", text)
	}
	return tps, nil
}

// parseLog adds the µs that each transaction took: the third word of its line.
func parseLog(took []float64, text []byte) ([]float64, error) {
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 3 {
			return took, fmt.Errorf("a transaction's line is %q", strings.TrimSpace(line))
		}
		n, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			return took, fmt.Errorf("a transaction's line is %q: %w", strings.TrimSpace(line), err)
		}
		took = append(took, n)
	}
	return took, nil
}
