package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The volumes of the story.
const (
	volume   = "data"
	copyName = "copy"
	snapshot = "before"
)

// play is the story, in order. It stops at the first step that does not hold.
func (d *demo) play() error {
	var device, clone, moved string
	for _, s := range []struct {
		name string
		f    func() (string, error)
	}{
		{"start three agents and holders", func() (string, error) { return "", second(d.my("dev", "up", "--nodes", "3", "--device", "fuse")) }},
		{"create a volume of 1 GiB, 3 replicas; attach it to n1", func() (s string, err error) { device, err = d.create(); return device, err }},
		{"make ext4 on it, mount it", func() (string, error) { return "", d.makeFS(device) }},
		{"copy the source tree; kill -9 n1 (serves), then n2 (replica)", d.copyUnderFire},
		{"unmount, mount, verify every file", func() (string, error) { return d.remount(device) }},
		{"snapshot it in use", func() (string, error) { return "", second(d.my("volume", "snapshot", volume, snapshot)) }},
		{"overwrite, truncate and delete files", d.damage},
		{"detach, roll back, attach, verify", func() (s string, err error) { device, s, err = d.rollback(device); return s, err }},
		{"clone the snapshot, attach it to n3, verify", func() (s string, err error) { clone, s, err = d.clone(); return s, err }},
		{"write to the clone; the volume does not change", func() (string, error) { return d.independent(device, clone) }},
		{"a second writer without --force is refused", d.second},
		{"take it to n2 by force while n1 is alive; verify there", func() (s string, err error) { moved, s, err = d.move(); return s, err }},
		{"the former writer's device answers EIO", func() (string, error) { return d.fenced(device) }},
		{"flip bits on n3's disk; fsck must see it", d.flip},
		{"scrub: detected and repaired from the other replicas", d.scrub},
		{"verify every file again", func() (string, error) { return d.verifyDevice(moved) }},
		{"fsck: every block, leaf, map node and reference", d.fsck},
		{"e2fsck", func() (string, error) { return d.e2fsck(moved) }},
		{"detach, end the network; fsck from the disks alone", d.offline},
	} {
		if err := d.do(s.name, s.f); err != nil {
			return err
		}
	}
	return nil
}

// second is the error of a command whose output does not matter.
func second(_ string, err error) error { return err }

func (d *demo) create() (string, error) {
	if _, err := d.my("volume", "create", volume, "--size", "1Gi"); err != nil {
		return "", err
	}
	return d.attach(volume, "n1")
}

// attach gives the path of the device.
func (d *demo) attach(name, node string, more ...string) (string, error) {
	out, err := d.my(append([]string{"volume", "attach", name, "--node", node, "-o", "json"}, more...)...)
	if err != nil {
		return "", err
	}
	var v struct {
		Device string `json:"device"`
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Device == "" {
		return "", fmt.Errorf("attach printed no device: %q", out)
	}
	return v.Device, nil
}

func (d *demo) makeFS(device string) error {
	if _, err := d.exec("mkfs.ext4", "-q", "-F", device); err != nil {
		return err
	}
	return d.mountFS(device)
}

func (d *demo) mountFS(device string, options ...string) error {
	_, err := d.exec("mount", append(append([]string{"-t", "ext4"}, options...), device, d.mount)...)
	return err
}

func (d *demo) umountFS() error { return second(d.exec("umount", d.mount)) }

func (d *demo) files() string { return filepath.Join(d.mount, "tree") }

// copyUnderFire copies the tree, and kills the serving agent at about a third and another one at about two thirds. The
// copy goes on meanwhile: it must see a pause, and no error.
func (d *demo) copyUnderFire() (string, error) {
	total, err := treeSize(d.source)
	if err != nil {
		return "", err
	}
	if total < 100e6 {
		return "", fmt.Errorf("%s has %d MB; name a tree of 100 MB or more with -source", d.source, total/1e6)
	}
	began := 0
	last := make(chan error, 1) // ends with the fault before, so that two never meet: one node of three may be away
	last <- nil
	kill := func(node string) {
		before, done := last, make(chan error, 1)
		last = done
		began++
		go func() { done <- errors.Join(<-before, d.killAndStart(node)) }()
	}
	var synced int64
	begin := time.Now()
	var n int64
	d.want, n, err = copyTree(d.source, d.files(), func(done int64) error {
		switch {
		case began == 0 && done > total/3:
			kill("n1")
		case began == 1 && done > 2*total/3:
			kill("n2")
		}
		if done-synced < syncEvery {
			return d.ctx.Err()
		}
		synced = done
		return syncFS(d.mount)
	})
	if err == nil {
		err = syncFS(d.mount)
	}
	took := time.Since(begin)
	err = errors.Join(err, <-last)
	if err == nil && began != 2 {
		err = fmt.Errorf("%d of 2 agents were killed", began)
	}
	return fmt.Sprintf("%d files, %d MB, %.0f MB/s over both kills and the sync", len(d.want), n/1e6, float64(n)/1e6/took.Seconds()), err
}

// syncEvery is how many bytes are written between two syncs of the file system.
const syncEvery = 8 << 20

// syncFS makes everything that was written to a file system durable. Without it the copy would end in the page cache,
// before anything was killed.
func syncFS(mount string) error {
	f, err := os.Open(mount)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", mount, err)
	}
	return nil
}

// killAndStart kills a node's agent, waits a second, and starts it again.
func (d *demo) killAndStart(node string) error {
	if _, err := d.my("node", "kill", node); err != nil {
		return err
	}
	time.Sleep(time.Second)
	_, err := d.my("node", "start", node)
	return err
}

// remount puts away what the file system has cached, so that what is verified comes from the volume.
func (d *demo) remount(device string) (string, error) {
	if err := d.umountFS(); err != nil {
		return "", err
	}
	if err := d.mountFS(device); err != nil {
		return "", err
	}
	return d.verify()
}

func (d *demo) verify() (string, error) {
	begin := time.Now()
	n, err := d.want.verify(d.files())
	return fmt.Sprintf("%d files, %d MB right, %.0f MB/s", len(d.want), n/1e6, float64(n)/1e6/time.Since(begin).Seconds()), err
}

// damage changes a third of the files, each in one of three ways.
func (d *demo) damage() (string, error) {
	names := make([]string, 0, len(d.want))
	for n := range d.want {
		names = append(names, n)
	}
	slices.Sort(names)
	count := 0
	for i := 0; i < len(names); i += 3 {
		name := filepath.Join(d.files(), names[i])
		var err error
		switch i / 3 % 3 {
		case 0:
			err = os.WriteFile(name, []byte(strings.Repeat("overwritten ", 1000)), 0o644)
		case 1:
			err = os.Truncate(name, 1)
		case 2:
			err = os.Remove(name)
		}
		if err != nil {
			return "", err
		}
		count++
	}
	if err := syncFS(d.mount); err != nil {
		return "", err
	}
	if _, err := d.want.verify(d.files()); err == nil {
		return "", errors.New("verify did not see the damage: it proves nothing")
	}
	return fmt.Sprintf("%d files damaged, and verify sees it", count), nil
}

func (d *demo) rollback(device string) (string, string, error) {
	if err := d.umountFS(); err != nil {
		return device, "", err
	}
	for _, c := range [][]string{{"volume", "detach", volume}, {"volume", "rollback", volume, snapshot, "--yes"}} {
		if _, err := d.my(c...); err != nil {
			return device, "", err
		}
	}
	device, err := d.attach(volume, "n1")
	if err != nil {
		return device, "", err
	}
	note, err := d.verifyDevice(device)
	return device, note, err
}

// verifyDevice mounts a device, verifies it, and unmounts it.
func (d *demo) verifyDevice(device string) (string, error) {
	if err := d.mountFS(device); err != nil {
		return "", err
	}
	note, err := d.verify()
	return note, errors.Join(err, d.umountFS())
}

func treeSize(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		st, err := e.Info()
		if err == nil {
			total += st.Size()
		}
		return err
	})
	return total, err
}
