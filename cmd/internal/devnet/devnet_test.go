package devnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func options() UpOptions {
	return UpOptions{Nodes: 3, Device: "none", Patience: time.Minute, Program: "/bin/false", Say: func(string, ...any) {}}
}

func TestForeignDirectoriesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), dir, options()); !errors.Is(err, ErrForeign) {
		t.Errorf("up: %v", err)
	}
	if err := Down(t.Context(), dir, DownOptions{Wipe: true, Say: t.Logf}); !errors.Is(err, ErrForeign) {
		t.Errorf("down: %v", err)
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 {
		t.Errorf("the directory was changed: %v %v", list, err)
	}
}

func TestCorruptNetworksAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":     "{",
		"new version": `{"version":99,"nodes":[{"name":"n1","address":"a"}]}`,
		"no nodes":    `{"version":1}`,
		"path":        `{"version":1,"nodes":[{"name":"../../etc","address":"a"}]}`,
		"two of one":  `{"version":1,"nodes":[{"name":"n1","address":"a"},{"name":"n1","address":"b"}]}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "network.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if err := Down(t.Context(), dir, DownOptions{Wipe: true, Say: t.Logf}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: down: %v", name, err)
		}
	}
}

// TestOnlyRecordedProcessesAreEnded: a pid whose start time differs belongs to somebody else.
func TestOnlyRecordedProcessesAreEnded(t *testing.T) {
	other := exec.Command("/bin/sleep", "1000")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	start, _, err := stat(other.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	write := func(p process) string {
		file := filepath.Join(t.TempDir(), "agent.pid")
		text := `{"pid":` + strconv.Itoa(p.PID) + `,"start":` + strconv.FormatUint(p.Start, 10) + `,"boot":"` + p.Boot + `"}`
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	real := process{PID: other.Process.Pid, Start: start, Boot: bootID()}
	for name, p := range map[string]process{
		"started later": {real.PID, real.Start + 1, real.Boot},
		"another boot":  {real.PID, real.Start, "00000000-0000-0000-0000-000000000000"},
		"init":          {1, real.Start, real.Boot},
		"a group":       {-real.PID, real.Start, real.Boot},
	} {
		if _, err := stop(write(p), time.Second); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !real.alive() {
			t.Fatalf("%s: a process that was not recorded was ended", name)
		}
	}
	done := make(chan error, 1)
	go func() { done <- other.Wait() }()
	if _, err := stop(write(real), 10*time.Second); err != nil { // the control: the recorded one is ended
		t.Error(err)
	}
	<-done
	if real.alive() {
		t.Error("the recorded process was not ended")
	}
}

func TestPreflightSaysWhatIsMissing(t *testing.T) {
	there := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	free := func(string) error { return nil }
	for name, c := range map[string]struct {
		m    machine
		kind string
		want error
	}{
		"all there": {machine{0, there, there, free}, "fuse", nil},
		"not root":  {machine{1000, there, there, free}, "fuse", ErrRoot},
		"no fuse":   {machine{0, there + "not", there, free}, "fuse", ErrFuse},
		"no loop":   {machine{0, there, there, func(string) error { return os.ErrNotExist }}, "fuse", ErrLoop},
		"no need":   {machine{1000, there + "not", there, nil}, "nbd", nil},
		"none":      {machine{1000, there + "not", there, nil}, "none", nil},
	} {
		err := c.m.preflight(c.kind)
		if !errors.Is(err, c.want) || c.want != nil && !strings.Contains(err.Error(), "--device nbd") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPortsInUse(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := portFree(l.Addr().String()); !errors.Is(err, ErrPort) {
		t.Errorf("a port in use: %v", err)
	}
	if _, err := addresses(1, l.Addr().(*net.TCPAddr).Port); !errors.Is(err, ErrPort) {
		t.Errorf("a first port in use: %v", err)
	}
	if _, err := addresses(3, 65534); err == nil {
		t.Error("port 65536 was planned")
	}
	list, err := addresses(8, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, a := range list {
		if seen[a] {
			t.Errorf("%s twice", a)
		}
		seen[a] = true
	}
}

// TestProgramThatEnds: a process that does not come up is told with the end of its log, and down removes all of it.
func TestProgramThatEnds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net")
	_, err := Up(t.Context(), dir, options())
	if !errors.Is(err, ErrStart) || !strings.Contains(err.Error(), "holder.log") {
		t.Fatalf("up with a program that fails: %v", err)
	}
	n, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := n.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir, 0); !errors.Is(err, ErrLocked) {
		t.Errorf("a locked network was locked: %v", err)
	}
	unlock()
	for _, wipe := range []bool{false, true, true} {
		if err := Down(context.Background(), dir, DownOptions{Wipe: wipe, Say: t.Logf}); err != nil {
			t.Errorf("down: %v", err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
}

func TestLongPathsAreRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if _, err := Up(t.Context(), dir, options()); err == nil || !strings.Contains(err.Error(), "--dir") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
}

// TestPortsAreKept: a port that was chosen is none that the kernel gives to connections, which would take it from an
// agent that is dead for a moment.
func TestPortsAreKept(t *testing.T) {
	list, err := addresses(MaxNodes, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, a := range list {
		_, port, err := net.SplitHostPort(a)
		n, nerr := strconv.Atoi(port)
		if err != nil || nerr != nil || n >= ephemeral() || seen[a] {
			t.Errorf("%s: %v %v, ephemeral ports begin at %d, seen %v", a, err, nerr, ephemeral(), seen[a])
		}
		seen[a] = true
	}
}

// TestEnded: a killed process has ended when its last thread has, not when its first one is a zombie.
func TestEnded(t *testing.T) {
	line := func(state, threads string) []byte {
		return []byte("71 (my) network) " + state + " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 " + threads + " 0 4711 22 23")
	}
	for _, c := range []struct {
		state, threads string
		ended          bool
	}{{"S", "9", false}, {"Z", "3", false}, {"Z", "1", true}, {"Z", "0", true}, {"X", "1", true}} {
		start, ended, err := parseStat(line(c.state, c.threads))
		if err != nil || start != 4711 || ended != c.ended {
			t.Errorf("%v: start %d, ended %v, %v", c, start, ended, err)
		}
	}
}

// TestDiscard: a node whose directory can not be removed has left, and its user is told what stays.
func TestDiscard(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "n5")
	if err := os.MkdirAll(filepath.Join(dir, "store"), 0o755); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{dir: "its directory is removed", "not\x00possible": "can be removed by hand: "} {
		var said string
		discard(dir, "n5", func(format string, args ...any) { said = fmt.Sprintf(format, args...) })
		if !strings.HasPrefix(said, "n5: left the network") || !strings.Contains(said, want) {
			t.Errorf("%q: %s", dir, said)
		}
		if _, err := os.Lstat(dir); err == nil {
			t.Errorf("%q is still there", dir)
		}
	}
}
