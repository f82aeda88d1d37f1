package device

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
)

// completed is the number of reads and writes that the block device has finished (Documentation/block/stat.rst).
func completed(tb testing.TB, path string) int {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("/sys/class/block", filepath.Base(path), "stat"))
	if err != nil {
		tb.Fatal(err)
	}
	f := strings.Fields(string(b))
	reads, _ := strconv.Atoi(f[0])
	writes, _ := strconv.Atoi(f[4])
	return reads + writes
}

// every runs f each time that the device has done some more I/O, until done.
func (r *rig) every(s *server, step int, done <-chan error, tb testing.TB, f func()) {
	tb.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	next := completed(r.tb, s.path) + step
	for {
		select {
		case err := <-done:
			if err != nil {
				tb.Fatal(err)
			}
			return
		case <-tick.C:
		}
		if completed(r.tb, s.path) >= next {
			f()
			next = completed(r.tb, s.path) + step
		}
	}
}

// killOften kills the server each time that the device has done some more I/O, until done. It returns the last server.
func (r *rig) killOften(s *server, step int, done <-chan error) (*server, int) {
	r.tb.Helper()
	kills := 0
	r.every(s, step, done, r.tb, func() {
		s.kill()
		s = r.start("serve")
		kills++
	})
	return s, kills
}

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func later(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// The server is killed again and again under fio, which sees no error and reads what it wrote.
func TestKillUnderFio(t *testing.T) {
	for _, c := range []struct {
		name, blocks, size string
		step               int // requests between kills
	}{
		{"4k", "--bs=4k", "--size=32m", 1500},
		{"large", "--bsrange=4k-1m", "--size=60m", 150},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			s := r.start("serve")
			done := later(func() error {
				return run("fio", "--name=kill", "--filename="+s.path, "--ioengine=libaio", "--direct=1", "--rw=randwrite",
					c.blocks, c.size, "--iodepth=16", "--fsync=64", "--loops=2", "--verify=crc32c", "--verify_backlog=512", "--verify_fatal=1")
			})
			s, kills := r.killOften(s, c.step, done)
			if kills < 3 {
				t.Errorf("the server was killed only %d times", kills)
			}
			t.Logf("%d kills", kills)
			s.end(t)
		})
	}
}

// A file system lives through kills and holds what was written to it.
func TestKillUnderExt4(t *testing.T) {
	r := newRig(t)
	s := r.start("serve")
	if err := run("mkfs.ext4", "-q", "-b", "4096", s.path); err != nil {
		t.Fatal(err)
	}
	mnt := t.TempDir()
	if err := unix.Mount(s.path, mnt, "ext4", 0, "discard"); err != nil {
		t.Fatal(err)
	}
	mounted := true
	defer func() {
		if mounted {
			_ = unix.Unmount(mnt, unix.MNT_DETACH)
		}
	}()
	sums := map[string][32]byte{}
	done := later(func() error { return fill(mnt, sums) })
	s, kills := r.killOften(s, 40, done)
	if kills < 3 {
		t.Errorf("the server was killed only %d times", kills)
	}
	t.Logf("%d kills", kills)
	if err := unix.Unmount(mnt, 0); err != nil {
		t.Fatal(err)
	}
	mounted = false
	if err := run("e2fsck", "-f", "-n", s.path); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(s.path, mnt, "ext4", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	mounted = true
	for name, sum := range sums {
		b, err := os.ReadFile(filepath.Join(mnt, name))
		if err != nil || sha256.Sum256(b) != sum {
			t.Errorf("%s: wrong bytes (%v)", name, err)
		}
	}
	if err := unix.Unmount(mnt, 0); err != nil {
		t.Fatal(err)
	}
	mounted = false
	s.end(t)
}

// fill writes files, each synced, and deletes some.
func fill(dir string, sums map[string][32]byte) error {
	for i := range 150 {
		name := fmt.Sprintf("f%03d", i)
		b := bytes.Repeat([]byte(name), 2000*(1+i%20))
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if _, err := f.Write(b); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		sums[name] = sha256.Sum256(b)
		if i%3 == 2 {
			gone := fmt.Sprintf("f%03d", i-1)
			if err := os.Remove(filepath.Join(dir, gone)); err != nil {
				return err
			}
			delete(sums, gone)
		}
	}
	return filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error { return err })
}

// A mounted file system grows with its volume. (XFS: to grow a mounted ext4 takes CAP_SYS_RESOURCE.)
func TestResizeMounted(t *testing.T) {
	const size, bigger = 320 * mib, 400 * mib
	m := exporttest.Volume(t, size)
	d, disk := open(t, m, Options{})
	_ = disk.Close()
	if err := run("mkfs.xfs", "-q", d.Path()); err != nil {
		t.Fatal(err)
	}
	mnt := t.TempDir()
	if err := unix.Mount(d.Path(), mnt, "xfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(mnt, 0); err != nil {
			t.Error(err)
		}
	}()
	m.Grow(bigger)
	if err := d.Resize(t.Context(), bigger); err != nil {
		t.Fatal(err)
	}
	if err := run("xfs_growfs", mnt); err != nil {
		t.Fatal(err)
	}
	b, err := exec.Command("xfs_info", mnt).CombinedOutput()
	if want := fmt.Sprintf("blocks=%d,", bigger/4096); err != nil || !strings.Contains(string(b), want) {
		t.Errorf("the file system does not have %s: %v\n%s", want, err, b)
	}
}
