package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const volumeName = "v"

// kill kills agents, the serving one among them, one and several at a time: three parts of four while fio writes and
// verifies, the others while file systems do.
func (t *torture) kill(n int) error {
	if err := t.up("--device", "fuse"); err != nil {
		return err
	}
	if err := t.my("volume", "create", volumeName, "--size", "512Mi").Err(); err != nil {
		return err
	}
	device, err := t.attach(volumeName, "n1")
	if err != nil {
		return err
	}
	killed, round, seed := 0, 0, uint32(0)
	for killed < n-n/4 && err == nil {
		round++
		err = t.do(fmt.Sprintf("fio round %d", round), func() (string, error) {
			seed = t.r.Uint32()
			k, err := t.fio(device, seed, n-n/4-killed)
			killed += k
			return fmt.Sprintf("%d kills, %d in all; 100 MiB read back with crc32c", k, killed), err
		})
		if t.failed() {
			return nil
		}
	}
	if err := t.do("the last round once more, on another node", func() (s string, err error) { return t.again(&device, seed) }); err != nil {
		return err
	}
	for i, fs := range []string{"ext4", "xfs"} {
		most := (n - killed) / (2 - i)
		err := t.do(fs, func() (s string, err error) {
			s, err = t.fileSystem(fs, &device, most)
			killed += most
			return s, err
		})
		if err != nil {
			return err
		}
	}
	return t.do("fsck of everything", func() (string, error) { return fmt.Sprintf("%d kills", killed), t.my("fsck").Err() })
}

func (t *torture) failed() bool { return len(t.lines) > 0 && t.lines[len(t.lines)-1].err != nil }

// killOne kills the agents of one node, or of two or all three, and starts them again.
func (t *torture) killOne(most int) (killed int, err error) {
	nodes := t.r.Perm(3)[:min(most, []int{1, 1, 1, 1, 1, 1, 2, 3}[t.r.IntN(8)])]
	for _, i := range nodes {
		if err := t.my("node", "kill", fmt.Sprint("n", i+1)).Err(); err != nil {
			return killed, err
		}
		killed++
	}
	for _, i := range nodes {
		if err := t.my("node", "start", fmt.Sprint("n", i+1)).Err(); err != nil {
			return killed, err
		}
	}
	return killed, nil
}

// killing kills up to most agents at random times until stop is closed.
func (t *torture) killing(most int, stop <-chan struct{}) (killed int, err error) {
	for killed < most && err == nil {
		select {
		case <-stop:
			return killed, nil
		case <-time.After(time.Duration(50+t.r.IntN(1200)) * time.Millisecond):
		}
		var n int
		n, err = t.killOne(most - killed)
		killed += n
	}
	<-stop
	return killed, err
}

func fioArgs(device string, seed uint32) []string {
	return []string{"--name=w", "--filename=" + device, "--rw=randwrite", "--bs=4k", "--ioengine=libaio", "--iodepth=16", "--direct=1", "--size=100M",
		"--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--verify_state_save=0", "--rate_iops=1500", "--fdatasync=32", fmt.Sprint("--randseed=", seed)}
}

// move detaches the volume and attaches it to a node.
func (t *torture) move(node string) (device string, err error) {
	if err := t.my("volume", "detach", volumeName).Err(); err != nil {
		return "", err
	}
	return t.attach(volumeName, node)
}

// again verifies what the last round wrote on a node that has nothing of it in memory. Then it spoils one page: the same
// verification must see that.
func (t *torture) again(device *string, seed uint32) (string, error) {
	var err error
	if *device, err = t.move("n2"); err != nil {
		return "", err
	}
	args := append(fioArgs(*device, seed), "--verify_only=1", "--fdatasync=0")
	if err := t.exec("fio", args...).Err(); err != nil {
		return "", err
	}
	if _, err := t.must("dd", "if=/dev/urandom", "of="+*device, "bs=4096", "seek=77", "count=1", "oflag=direct", "conv=notrunc"); err != nil {
		return "", err
	}
	if t.exec("fio", args...).Code == 0 {
		return "", errors.New("a spoiled page passed the verification, which is worth nothing")
	}
	return "every page read back on n2; a page spoiled on purpose is seen", nil
}

// fio writes, syncs and reads back with checksums while agents are killed.
func (t *torture) fio(device string, seed uint32, most int) (killed int, err error) {
	const limit = 10 * time.Minute // of what takes a quarter of one on an idle machine
	ctx, cancel := context.WithTimeout(t.ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "fio", fioArgs(device, seed)...)
	cmd.Dir = t.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	var fioErr error
	go func() {
		fioErr = cmd.Wait()
		close(ended)
	}()
	killed, err = t.killing(most, ended)
	if fioErr != nil && ctx.Err() != nil && t.ctx.Err() == nil {
		return killed, fmt.Errorf("fio had not ended after %v: %s", limit, out.String())
	}
	if fioErr != nil {
		return killed, fmt.Errorf("fio: %w: %s", fioErr, out.String())
	}
	return killed, err
}

// fileSystem makes a file system, fills it with files while agents are killed, checks it, moves the volume to another
// node, and checks again there.
func (t *torture) fileSystem(kind string, device *string, most int) (string, error) {
	mount := filepath.Join(t.dir, "mnt")
	mkfs, check := []string{"mkfs.ext4", "-q", "-F"}, []string{"e2fsck", "-f", "-n"}
	if kind == "xfs" {
		mkfs, check = []string{"mkfs.xfs", "-q", "-f"}, []string{"xfs_repair", "-n"}
	}
	if err := os.MkdirAll(mount, 0o700); err != nil {
		return "", err
	}
	if _, err := t.must(mkfs[0], append(mkfs[1:], *device)...); err != nil {
		return "", err
	}
	if _, err := t.must("mount", *device, mount); err != nil {
		return "", err
	}
	mounted := true
	unmount := func() error {
		if !mounted {
			return nil
		}
		_, err := t.must("umount", mount)
		mounted = err != nil
		return err
	}
	t.defers(unmount)
	f := newFiles(filepath.Join(mount, "tree"), t.r.Uint64())
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- f.churn(stop) }()
	done := make(chan struct{})
	time.AfterFunc(time.Duration(2+2*most)*time.Second, func() { close(done) })
	killed, err := t.killing(most, done)
	close(stop)
	if ferr := <-ended; ferr != nil {
		return "", fmt.Errorf("after %d kills: %w", killed, ferr)
	}
	if err != nil {
		return "", err
	}
	for _, node := range []string{"", "n2", "n1"} { // as it is; then on nodes that have nothing of it in memory
		if node != "" {
			if *device, err = t.move(node); err != nil {
				return "", err
			}
			if _, err := t.must("mount", *device, mount); err != nil {
				return "", err
			}
			mounted = true
		}
		if err := f.verify(); err != nil {
			return "", fmt.Errorf("on node %q: %w", node, err)
		}
		if err := unmount(); err != nil {
			return "", err
		}
		if _, err := t.must(check[0], append(check[1:], *device)...); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d kills; %d files of %d MB verified, %d changes, %s clean", killed, len(f.want), f.bytes()/1e6, f.changes, check[0]), nil
}
