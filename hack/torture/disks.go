package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// fullDisks gives every node a small disk of its own, fills them, takes data away, and makes one read-only.
func (t *torture) fullDisks() error {
	if err := t.smallDisks(); err != nil {
		return err
	}
	for _, c := range []badCase{{"all disks are full", t.full}, {"n3's disk is read-only", t.readOnly}, {"n3's disk is filled by others", t.filled}} {
		if err := t.do(c.name, c.f); err != nil {
			return err
		}
	}
	return nil
}

const diskMiB = 600

// smallDisks makes the network anew on ext4 images.
func (t *torture) smallDisks() error {
	if err := errors.Join(t.my("dev", "down", "--wipe", "--yes").Err(), t.my("dev", "up", "--device", "fuse").Err(), t.my("dev", "down").Err()); err != nil {
		return err
	}
	for i := 1; i <= 3; i++ {
		image, dir := filepath.Join(t.dir, fmt.Sprint("disk", i)), t.file(fmt.Sprint("n", i), "store")
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		for _, c := range [][]string{{"truncate", "-s", fmt.Sprint(diskMiB, "M"), image}, {"mkfs.ext4", "-q", "-F", "-m", "0", image}, {"mount", "-o", "loop", image, dir}, {"rmdir", filepath.Join(dir, "lost+found")}} {
			if _, err := t.must(c[0], c[1:]...); err != nil {
				return err
			}
		}
	}
	return t.my("dev", "up").Err()
}

// unmountDisks takes the disks away that smallDisks made.
func (t *torture) unmountDisks() (err error) {
	for i := 1; i <= 3; i++ {
		if dir := t.file(fmt.Sprint("n", i), "store"); t.exec("mountpoint", "-q", dir).Code == 0 {
			err = errors.Join(err, t.exec("umount", dir).Err())
		}
	}
	return err
}

// full writes until there is no space, reads back what was flushed, deletes another volume, and writes again.
func (t *torture) full() (string, error) {
	if err := errors.Join(t.my("volume", "create", "other", "--size", "256Mi").Err(), t.my("volume", "create", "big", "--size", "1Gi").Err()); err != nil {
		return "", err
	}
	other, err := t.attach("other", "n1")
	if err != nil {
		return "", err
	}
	if _, err := t.must("dd", "if=/dev/urandom", "of="+other, "bs=1M", "count=100", "oflag=direct", "conv=fsync,notrunc"); err != nil {
		return "", err
	}
	device, err := t.attach("big", "n1")
	if err != nil {
		return "", err
	}
	n, werr := fillPages(device, 0, 900<<20)
	if !errors.Is(werr, syscall.ENOSPC) || n == 0 {
		return "", fmt.Errorf("after %d MiB: %v; must be ENOSPC", n>>20, werr)
	}
	if err := readPages(device, n); err != nil {
		return "", err
	}
	if err := t.my("dev", "status").Err(); err != nil {
		return "", fmt.Errorf("full, not broken: %w", err)
	}
	if err := errors.Join(t.my("volume", "detach", "other").Err(), t.my("volume", "delete", "other", "--yes").Err()); err != nil {
		return "", err
	}
	err = eventually(time.Minute, func() error { _, err := fillPages(device, n, 8<<20); return err })
	if err != nil {
		return "", fmt.Errorf("after a volume of 100 MiB was deleted: %w; %s", err, strings.Join(strings.Fields(t.exec("df", "-m", t.file("n1", "store")).Stdout), " "))
	}
	return fmt.Sprintf("ENOSPC after %d MiB, all of it reads back; space returned with a deleted volume", n>>20), readPages(device, n+8<<20)
}

// fillPages writes pages from off on, and syncs each MiB. It tells how much is synced.
func fillPages(device string, off, n int64) (int64, error) {
	f, err := os.OpenFile(device, os.O_RDWR|syscall.O_DIRECT, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b := aligned()
	for at := off; at < off+n; at += page {
		stamp(b, int(at/page), uint64(at/page)+1)
		if _, err := f.WriteAt(b, at); err != nil {
			return at &^ (1<<20 - 1), err
		}
		if (at+page)%(1<<20) == 0 {
			if err := f.Sync(); err != nil {
				return (at - 1) &^ (1<<20 - 1), err
			}
		}
	}
	return off + n, nil
}

func readPages(device string, n int64) error {
	f, err := os.OpenFile(device, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b, want := aligned(), make([]byte, page)
	for at := int64(0); at < n; at += page {
		stamp(want, int(at/page), uint64(at/page)+1)
		if _, err := f.ReadAt(b, at); err != nil || string(b) != string(want) {
			return fmt.Errorf("page %d of %d: right %v, %w", at/page, n/page, string(b) == string(want), err)
		}
	}
	return nil
}

// readOnly has n3's disk turn read-only while its agent is away.
func (t *torture) readOnly() (string, error) {
	dir := t.file("n3", "store")
	if err := t.my("node", "kill", "n3").Err(); err != nil {
		return "", err
	}
	if _, err := t.must("mount", "-o", "remount,ro", dir); err != nil {
		return "", err
	}
	s, err := says(t.my("node", "start", "n3"), 1, "read-only file system")
	if rerr := t.my("volume", "snapshot", "big", "two-are-enough").Err(); rerr != nil {
		err = errors.Join(err, fmt.Errorf("with the two others: %w", rerr))
	}
	_, merr := t.must("mount", "-o", "remount,rw", dir)
	return s, errors.Join(err, merr, t.my("node", "start", "n3").Err())
}

// filled has somebody else fill n3's disk.
func (t *torture) filled() (string, error) {
	junk := filepath.Join(t.file("n3", "store"), "junk")
	o := t.exec("dd", "if=/dev/zero", "of="+junk, "bs=64k")
	err := t.my("volume", "snapshot", "big", "still").Err()
	return fmt.Sprintf("dd ended with code %d; a snapshot was taken", o.Code), errors.Join(err, os.Remove(junk))
}
