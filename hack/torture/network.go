package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// torture is one run.
type torture struct {
	ctx     context.Context
	program string
	dir     string // all that is made lies below it
	net     string // the network
	r       *rand.Rand
	start   time.Time
	lines   []line
	undo    []func() error // what is to be taken back at the end, last first
}

func newTorture(ctx context.Context, program string) (*torture, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("devices, mounts and namespaces are root's: run it with sudo")
	}
	for _, tool := range []string{"fio", "mkfs.ext4", "e2fsck", "mkfs.xfs", "xfs_repair", "mount", "ip", "nsenter", "unshare"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%w; apt-get install fio e2fsprogs xfsprogs mount iproute2 util-linux", err)
		}
	}
	program, err := filepath.Abs(program)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("%w; \"make build\" makes it", err)
	}
	t := &torture{ctx: ctx, program: program, start: time.Now()}
	if t.dir, err = os.MkdirTemp("/var/tmp", "torture-"); err != nil {
		return nil, err
	}
	t.net = filepath.Join(t.dir, "net")
	t.defers(func() error { return os.RemoveAll(t.dir) })
	return t, nil
}

// defers has something taken back at the end.
func (t *torture) defers(f func() error) { t.undo = append(t.undo, f) }

func (t *torture) cleanup() (err error) {
	for i := len(t.undo) - 1; i >= 0 && err == nil; i-- { // not further: what is left lies in what would be removed
		err = t.undo[i]()
	}
	return err
}

// output is how a command ended.
type output struct {
	args   []string
	stdout string
	stderr string
	code   int
}

// err is nil for code 0.
func (o output) err() error {
	if o.code == 0 {
		return nil
	}
	return fmt.Errorf("%s: code %d: %s", strings.Join(o.args, " "), o.code, strings.TrimSpace(o.stderr+o.stdout))
}

// exec runs a command to its end, also when the run is interrupted.
func (t *torture) exec(name string, args ...string) output {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = t.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "MYNETWORK_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "MYNETWORK_CONFIG="+os.DevNull)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	o := output{append([]string{filepath.Base(name)}, args...), out.String(), errOut.String(), 0}
	if err != nil {
		o.code = cmd.ProcessState.ExitCode()
		if o.code <= 0 {
			o.code, o.stderr = -1, o.stderr+err.Error()
		}
	}
	return o
}

func (t *torture) must(name string, args ...string) (string, error) {
	o := t.exec(name, args...)
	return strings.TrimSpace(o.stdout), o.err()
}

// my runs mynetwork on the network.
func (t *torture) my(args ...string) output {
	return t.exec(t.program, append(args, "--dir", t.net)...)
}

// up starts a network of three nodes, which cleanup ends.
func (t *torture) up(args ...string) error {
	t.defers(func() error {
		if _, err := os.Stat(filepath.Join(t.net, "network.json")); err != nil {
			return nil
		}
		if t.my("dev", "down").code != 0 {
			if err := t.my("dev", "down", "--force").err(); err != nil {
				return err
			}
		}
		return errors.Join(t.unmountDisks(), t.my("dev", "down", "--wipe", "--yes").err())
	})
	return t.my(append([]string{"dev", "up", "--nodes", "3"}, args...)...).err()
}

// volume is what the client says of a volume.
type volume struct {
	State, Node, Device string
	Open                *struct {
		Degraded int
		Replicas []struct {
			Node   string
			Failed bool
		}
	}
}

func (t *torture) attach(name, node string, more ...string) (device string, err error) {
	var v volume
	o := t.my(append([]string{"volume", "attach", name, "--node", node, "-o", "json"}, more...)...)
	if err := o.err(); err != nil {
		return "", err
	}
	err = json.Unmarshal([]byte(o.stdout), &v)
	return v.Device, err
}

// whole waits until every page of a volume has all its copies again.
func (t *torture) whole(name string, within time.Duration, socket ...string) error {
	for end := time.Now().Add(within); ; time.Sleep(200 * time.Millisecond) {
		o := t.my(append([]string{"volume", "inspect", name, "-o", "json"}, socket...)...)
		var v volume
		why := o.err()
		if why == nil {
			why = json.Unmarshal([]byte(o.stdout), &v)
		}
		switch {
		case why != nil:
		case v.Open == nil:
			why = fmt.Errorf("volume %s is %s", name, v.State)
		default:
			bad := v.Open.Degraded
			for _, r := range v.Open.Replicas {
				if r.Failed {
					bad++
				}
			}
			if bad == 0 && len(v.Open.Replicas) == 3 {
				return nil
			}
			why = fmt.Errorf("%d extents are degraded, replicas %v", v.Open.Degraded, v.Open.Replicas)
		}
		if time.Now().After(end) {
			return fmt.Errorf("not caught up within %s: %w", within, why)
		}
	}
}
