package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"mynetwork.io/mynetwork/cmd/internal/cli"
)

// kills is how many agents are killed under load: 3, or what MYNETWORK_TEST_KILLS says (200 takes about 10 minutes).
func kills(t *testing.T) int {
	text, ok := os.LookupEnv("MYNETWORK_TEST_KILLS")
	if !ok {
		return 3
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("MYNETWORK_TEST_KILLS=%q is no number above 0", text)
	}
	return n
}

// TestKillsUnderLoad kills agents at random times, the serving one among them, while fio writes to the block device,
// syncs, and reads back with checksums. It must see pauses and no error. Each round formats, fills and checks anew.
func TestKillsUnderLoad(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("devices need root: not tested here; .ci/run runs as root")
	}
	if _, err := exec.LookPath("fio"); err != nil {
		t.Fatalf("%v: apt-get install fio", err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	p := build(t)
	p.must(cli.ExitOK, "dev", "up", "--device", "fuse")
	p.must(cli.ExitOK, "volume", "create", "v", "--size", "128Mi")
	var v volume
	p.get(&v, "volume", "attach", "v", "--node", "n1")
	for left := kills(t); left > 0; {
		left -= p.load(v.Device, r, left)
	}
	p.must(cli.ExitOK, "volume", "detach", "v")
	p.must(cli.ExitOK, "volume", "delete", "v", "--yes")
}

// load runs fio once and kills up to most agents meanwhile, one after the other; it tells how many.
func (p *program) load(device string, r *rand.Rand, most int) (killed int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "fio", "--name=w", "--filename="+device, "--rw=randwrite", "--bs=4k", "--ioengine=libaio", "--iodepth=16", "--direct=1",
		"--size=100M", "--rate_iops=1500", "--fdatasync=32", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--randseed="+fmt.Sprint(r.Uint32()))
	cmd.Dir = p.t.TempDir() // fio leaves its state there
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		var pause <-chan time.Time // nil: enough were killed
		if killed < most {
			pause = time.After(time.Duration(200+r.IntN(2500)) * time.Millisecond)
		}
		select {
		case err := <-ended:
			if err != nil {
				p.t.Fatalf("fio after %d kills: %v\n%s", killed, err, out.String())
			}
			return killed
		case <-pause:
			node := fmt.Sprintf("n%d", 1+r.IntN(3))
			p.must(cli.ExitOK, "node", "kill", node)
			p.must(cli.ExitOK, "node", "start", node)
			killed++
		}
	}
}
