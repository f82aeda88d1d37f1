package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// bencher is one run of the program.
type bencher struct {
	ctx   context.Context
	o     options
	dir   string // all that is made lies below it
	room  int64  // bytes that each store may use; 0: the whole file system
	nodes []node
	paths map[string]string // of the targets
	why   map[string]string // of targets that can not be measured
	peak  map[string]int64  // highest RSS seen of each process
}

// node is what "dev status" says of a node.
type node struct {
	Name   string `json:"name"`
	Agent  int    `json:"agentPid"`
	Holder int    `json:"holderPid"`
}

// volume is what the volume commands say.
type volume struct {
	Device string `json:"device"`
	State  string `json:"state"`
	Open   *struct {
		Committed uint64           `json:"committed"`
		Degraded  int              `json:"degraded"`
		Counters  map[string]int64 `json:"counters"`
		Replicas  []struct {
			Node    string `json:"node"`
			Durable uint64 `json:"durable"`
			Failed  bool   `json:"failed"`
		} `json:"replicas"`
	} `json:"open"`
}

// healthy tells whether every replica has everything.
func (v *volume) healthy() bool {
	if v.Open == nil || v.Open.Degraded > 0 || len(v.Open.Replicas) < 3 {
		return false
	}
	for _, r := range v.Open.Replicas {
		if r.Failed || r.Durable < v.Open.Committed {
			return false
		}
	}
	return true
}

// preflight says what is missing.
func preflight(o options) error {
	if os.Geteuid() != 0 {
		return errors.New("FUSE and loop devices need root: run it with sudo")
	}
	if _, err := exec.LookPath("fio"); err != nil {
		return fmt.Errorf("%w; apt-get install fio", err)
	}
	if _, err := os.Stat(o.program); err != nil {
		return fmt.Errorf("%w; \"make build\" makes it", err)
	}
	return nil
}

// run runs a command to its end, also when bench is interrupted: half an attach is worse than a late end.
func (b *bencher) run(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is for bench, which cleans up with these
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

func (b *bencher) net() string { return filepath.Join(b.dir, "net") }

// my runs mynetwork on the network.
func (b *bencher) my(args ...string) (string, error) {
	return b.run(b.o.program, append(args, "--dir", b.net())...)
}

// myInto runs mynetwork and decodes what it prints.
func (b *bencher) myInto(v any, args ...string) error {
	out, err := b.my(append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		return fmt.Errorf("mynetwork %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// setup makes the network, the volumes and the plain file, and fills them.
func (b *bencher) setup() (err error) {
	if err := b.network(3); err != nil {
		return err
	}
	for _, t := range b.o.targets {
		fmt.Fprintf(os.Stderr, "making and filling %s\n", t)
		if err := b.prepare(t); err != nil {
			return err
		}
	}
	return nil
}

// network makes a network of so many nodes in a new directory.
func (b *bencher) network(nodes int) (err error) {
	if b.o.program, err = filepath.Abs(b.o.program); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(b.o.dir, "mynetwork-bench-"); err != nil {
		return err
	}
	b.paths, b.why, b.peak = map[string]string{}, map[string]string{}, map[string]int64{}
	port, err := freePorts(nodes)
	if err != nil {
		return err
	}
	args := []string{"dev", "up", "--nodes", strconv.Itoa(nodes), "--device", "none", "--port", strconv.Itoa(port)}
	if b.room > 0 {
		args = append(args, "--capacity", strconv.FormatInt(b.room, 10))
	}
	if _, err := b.my(args...); err != nil {
		return err
	}
	return b.findNodes()
}

// freePorts finds the first of n free ports in a row, below those that the kernel gives to clients: one of these could be taken
// by any connection while its node is away.
func freePorts(n int) (int, error) {
	for first := 21000; first+n <= 32000; first += max(10, n) {
		free := true
		for port := first; port < first+n && free; port++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if free = err == nil; free {
				_ = l.Close()
			}
		}
		if free {
			return first, nil
		}
	}
	return 0, fmt.Errorf("there are no %d free ports in a row between 21000 and 32000", n)
}

// findNodes learns the processes; after one was started again they are others.
func (b *bencher) findNodes() error {
	b.nodes = nil
	return b.myInto(&b.nodes, "dev", "status")
}

// prepare makes one target and fills it. A front end that this machine can not have is no error.
func (b *bencher) prepare(target string) error {
	if target == nbd {
		if b.why[nbd] = hasNBD(); b.why[nbd] != "" {
			return nil
		}
	}
	switch target {
	case raw:
		b.paths[raw] = filepath.Join(b.dir, "plain")
	default:
		if _, err := b.my("volume", "create", target, "--size", fmt.Sprint(b.o.size)); err != nil {
			return err
		}
		path, err := b.attach(target)
		if err != nil {
			b.why[target] = err.Error()
			return nil
		}
		b.paths[target] = path
	}
	if _, err := b.fill(target, b.paths[target]); err != nil {
		return err
	}
	_, err := b.quiet()
	return err
}

// attach gives the path of the device or socket of the volume that is named after its kind.
func (b *bencher) attach(kind string) (string, error) {
	var v volume
	if err := b.myInto(&v, "volume", "attach", kind, "--node", "n1", "--kind", kind); err != nil {
		return "", err
	}
	if v.Device == "" {
		return "", fmt.Errorf("attach of %s printed no device", kind)
	}
	return v.Device, nil
}

// cleanup removes everything that was made. It keeps the directory if processes may live in it.
func (b *bencher) cleanup() error {
	if b.dir == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(b.net(), "network.json")); err == nil {
		if _, err := b.my("dev", "down", "--wipe", "--yes"); err != nil {
			if _, err2 := b.my("dev", "down", "--wipe", "--yes", "--force"); err2 != nil {
				return fmt.Errorf("%s is left: %w", b.dir, errors.Join(err, err2))
			}
		}
	}
	return os.RemoveAll(b.dir)
}
