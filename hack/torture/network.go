package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"mynetwork.io/mynetwork/hack/command"
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

// exec runs a command to its end, also when the run is interrupted.
func (t *torture) exec(name string, args ...string) command.Output {
	return command.Run(t.ctx, t.dir, 3*time.Minute, name, args...)
}

func (t *torture) must(name string, args ...string) (string, error) {
	o := t.exec(name, args...)
	return strings.TrimSpace(o.Stdout), o.Err()
}

// my runs mynetwork on the network.
func (t *torture) my(args ...string) command.Output {
	return t.exec(t.program, append(args, "--dir", t.net)...)
}

// up starts a network of three nodes, which cleanup ends.
func (t *torture) up(args ...string) error {
	t.defers(func() error {
		if _, err := os.Stat(filepath.Join(t.net, "network.json")); err != nil {
			return nil
		}
		if t.my("dev", "down").Code != 0 {
			if err := t.my("dev", "down", "--force").Err(); err != nil {
				return err
			}
		}
		return errors.Join(t.unmountDisks(), t.my("dev", "down", "--wipe", "--yes").Err())
	})
	return t.my(append([]string{"dev", "up", "--nodes", "3"}, args...)...).Err()
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
	if err := o.Err(); err != nil {
		return "", err
	}
	err = json.Unmarshal([]byte(o.Stdout), &v)
	return v.Device, err
}

// whole waits until every page of a volume has all its copies again.
func (t *torture) whole(name string, within time.Duration, socket ...string) error {
	for end := time.Now().Add(within); ; time.Sleep(200 * time.Millisecond) {
		o := t.my(append([]string{"volume", "inspect", name, "-o", "json"}, socket...)...)
		var v volume
		why := o.Err()
		if why == nil {
			why = json.Unmarshal([]byte(o.Stdout), &v)
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
