package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mynetwork.io/mynetwork/cmd/internal/cli"
)

// program is the built mynetwork and the network that it works on.
type program struct {
	t    *testing.T
	path string
	dir  string
}

func build(t *testing.T) *program {
	t.Helper()
	// Not t.TempDir: its path can be too long for a unix socket.
	dir, err := os.MkdirTemp("", "mynet-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &program{t: t, path: filepath.Join(dir, "mynetwork"), dir: filepath.Join(dir, "net")}
	out, err := exec.Command("go", "build", "-o", p.path, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(p.path, "dev", "down", "--wipe", "--force", "--yes", "--dir", p.dir).CombinedOutput(); err != nil {
			t.Errorf("dev down: %v\n%s", err, out)
		}
	})
	return p
}

// run runs a command on the network and gives its output and exit code.
func (p *program) run(args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.path, append(args, "--dir", p.dir)...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "MYNETWORK_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "MYNETWORK_CONFIG="+os.DevNull)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatalf("%v: %v", args, err)
	}
	if ctx.Err() != nil {
		p.t.Fatalf("%v did not end: %s", args, errOut.String())
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// must runs a command that has to end with a code.
func (p *program) must(code int, args ...string) string {
	p.t.Helper()
	out, errOut, got := p.run(args...)
	if got != code {
		p.t.Fatalf("%v: code %d, want %d\n%s%s", args, got, code, out, errOut)
	}
	return out
}

// get runs a command that prints JSON.
func (p *program) get(v any, args ...string) {
	p.t.Helper()
	out := p.must(cli.ExitOK, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		p.t.Fatalf("%v printed %q: %v", args, out, err)
	}
}

type volume struct {
	Name, State, Node, Device string
	Size                      int64
	Snapshots                 []struct{ Name string }
}

// fill writes to an NBD device, and holds reads it back. Both need nbdcopy of libnbd.
func fill(t *testing.T, socket string, content []byte) {
	t.Helper()
	nbdcopy(t, bytes.NewReader(content), nil, "-", "nbd+unix:///?socket="+socket)
}

func holds(t *testing.T, socket string, content []byte) {
	t.Helper()
	var got bytes.Buffer
	nbdcopy(t, nil, &got, "nbd+unix:///?socket="+socket, "-")
	if got.Len() < len(content) || !bytes.Equal(got.Bytes()[:len(content)], content) {
		t.Fatalf("the device holds %d bytes, and not what was written", got.Len())
	}
}

func nbdcopy(t *testing.T, in *bytes.Reader, out *bytes.Buffer, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "nbdcopy", append([]string{"--flush", "--"}, args...)...)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	if in != nil {
		cmd.Stdin = in
	}
	if out != nil {
		cmd.Stdout = out
	}
	if err := cmd.Run(); err != nil {
		t.Fatalf("nbdcopy %v: %v: %s", args, err, errOut.String())
	}
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	c := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = c.Read(b)
	return b
}

// TestLifeOfAVolume takes a volume through its life on three real agents.
func TestLifeOfAVolume(t *testing.T) {
	if _, err := exec.LookPath("nbdcopy"); err != nil {
		t.Fatalf("%v: apt-get install libnbd-bin", err)
	}
	p := build(t)
	p.must(cli.ExitNotFound, "volume", "list")
	p.must(cli.ExitOK, "dev", "up", "--nodes", "3", "--device", "nbd")
	p.must(cli.ExitOK, "dev", "up") // again: nothing to do
	p.must(cli.ExitOK, "dev", "status")

	p.must(cli.ExitOK, "volume", "create", "v", "--size", "64Mi")
	p.must(cli.ExitOK, "volume", "create", "v", "--size", "64Mi") // again: it is there
	p.must(cli.ExitRefused, "volume", "create", "v", "--size", "32Mi")
	p.must(cli.ExitNotFound, "volume", "inspect", "w")

	first, second := noise(1, 8<<20), noise(2, 8<<20)
	var v volume
	p.get(&v, "volume", "attach", "v", "--node", "n1")
	fill(t, v.Device, first)
	p.must(cli.ExitRefused, "volume", "attach", "v", "--node", "n2")
	p.must(cli.ExitOK, "volume", "snapshot", "v", "s")
	fill(t, v.Device, second)
	holds(t, v.Device, second)
	p.must(cli.ExitOK, "volume", "resize", "v", "128Mi")
	p.get(&v, "volume", "inspect", "v")
	if v.Size != 128<<20 || v.State != "attached" || len(v.Snapshots) != 1 || v.Snapshots[0].Name != "s" {
		t.Errorf("%+v", v)
	}
	p.must(cli.ExitOK, "volume", "scrub", "v")

	p.must(cli.ExitOK, "volume", "detach", "v")
	p.must(cli.ExitOK, "volume", "detach", "v") // again: it is detached
	p.must(cli.ExitOK, "volume", "clone", "v", "s", "c")
	p.get(&v, "volume", "attach", "c", "--node", "n2")
	holds(t, v.Device, first)
	p.must(cli.ExitOK, "volume", "detach", "c")
	p.get(&v, "volume", "attach", "v", "--node", "n3")
	holds(t, v.Device, second)
	p.must(cli.ExitOK, "volume", "detach", "v")
	p.must(cli.ExitOK, "volume", "rollback", "v", "s", "--yes")
	p.get(&v, "volume", "attach", "v", "--node", "n1")
	holds(t, v.Device, first)
	p.must(cli.ExitOK, "volume", "detach", "v")
	p.must(cli.ExitOK, "fsck")

	p.must(cli.ExitOK, "volume", "delete", "c", "--yes")
	p.must(cli.ExitOK, "volume", "delete", "v", "--yes")
	var list []volume
	p.get(&list, "volume", "list")
	if len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
	p.must(cli.ExitOK, "dev", "down")
	p.must(cli.ExitOK, "dev", "down", "--wipe", "--yes")
	if _, err := os.Stat(p.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
}

// TestNodesComeAndGo kills agents and takes a volume away from a dead one.
func TestNodesComeAndGo(t *testing.T) {
	p := build(t)
	p.must(cli.ExitOK, "dev", "up", "--device", "none")
	p.must(cli.ExitOK, "volume", "create", "v", "--size", "64Mi")
	p.must(cli.ExitOK, "volume", "attach", "v", "--node", "n1")
	p.must(cli.ExitOK, "node", "kill", "n2")
	p.must(cli.ExitUnhealthy, "dev", "status")
	p.must(cli.ExitOK, "volume", "snapshot", "v", "with-two") // two of three are a quorum
	p.must(cli.ExitOK, "node", "start", "n2")
	p.must(cli.ExitOK, "dev", "status")
	p.must(cli.ExitOK, "node", "kill", "n1", "--holder")
	p.must(cli.ExitOK, "volume", "attach", "v", "--node", "n3", "--force")
	p.must(cli.ExitOK, "node", "start", "n1")
	p.must(cli.ExitOK, "volume", "detach", "v")
	p.must(cli.ExitNotFound, "node", "kill", "n9")
	p.must(cli.ExitOK, "node", "kill", "n3", "--term")
	p.must(cli.ExitOK, "dev", "up")
	p.must(cli.ExitOK, "dev", "down")
}

// TestMistakesAreSaid: each mistake ends with its code and says what to do, and nothing was made.
func TestMistakesAreSaid(t *testing.T) {
	p := build(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("dir: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	readable := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(readable, []byte(strings.Repeat("0", 64)), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{cli.ExitUsage, "4096", []string{"volume", "create", "v", "--size", "5000"}},
		{cli.ExitUsage, "--size", []string{"volume", "create", "v"}},
		{cli.ExitUsage, "10Gi", []string{"volume", "create", "v", "--size", "ten"}},
		{cli.ExitUsage, "usage:", []string{"volume", "attach"}},
		{cli.ExitUsage, "unknown flag", []string{"volume", "list", "--sise"}},
		{cli.ExitUsage, "table, json and yaml", []string{"volume", "list", "-o", "xml"}},
		{cli.ExitUsage, "no YAML of settings", []string{"version", "--config", readable}},
		{cli.ExitUsage, file, []string{"dev", "up", "--config", file}},
		{cli.ExitUsage, "chmod 600", []string{"volume", "create", "v", "--size", "4Ki", "--key-file", readable}},
		{cli.ExitUsage, "--yes", []string{"volume", "delete", "v"}},
		{cli.ExitUsage, "fuse, nbd and none", []string{"dev", "up", "--device", "iscsi"}},
		{cli.ExitUsage, "agent.tls", []string{"agent", "--node", "x"}},
		{cli.ExitNotFound, "dev up", []string{"volume", "list"}},
		{cli.ExitNotFound, "dev up", []string{"node", "kill", "n1"}},
		{cli.ExitUnavailable, "no socket", []string{"volume", "list", "--socket", "/nonexistent"}},
	} {
		out, errOut, code := p.run(c.args...)
		if code != c.code || !strings.Contains(errOut, c.says) {
			t.Errorf("%v: code %d, want %d with %q\n%s%s", c.args, code, c.code, c.says, out, errOut)
		}
	}
	if _, err := os.Stat(p.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a mistake made %s: %v", p.dir, err)
	}
}
