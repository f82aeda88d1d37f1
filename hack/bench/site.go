package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// site is an ext4 file system on one of the targets: on the volume's device, or on a loop device of a plain file.
type site struct {
	target string
	loop   string // of the plain file
	mount  string // where it is mounted
}

// site makes a file system on a target and mounts it. The plain file's blocks are there before, as on a disk of its own, so no discard takes
// them away again.
func (b *bencher) site(target string) (s *site, err error) {
	s = &site{target: target}
	device := ""
	switch target {
	case raw:
		plain := filepath.Join(b.dir, "plain")
		if _, err := b.fill(raw, plain); err != nil {
			return nil, err
		}
		out, err := b.run("losetup", "--find", "--show", "--direct-io=on", "--sector-size", "4096", plain)
		if err != nil {
			return nil, err
		}
		s.loop = strings.TrimSpace(out)
		device = s.loop
	default:
		if _, err := b.my("volume", "create", target, "--size", fmt.Sprint(b.o.size)); err != nil {
			return nil, err
		}
		if device, err = b.attach(target); err != nil {
			return nil, err
		}
	}
	if _, err := b.run("mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", device); err != nil {
		return s, err
	}
	dir := filepath.Join(b.dir, "on-"+target)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return s, err
	}
	if _, err := b.run("mount", "-t", "ext4", device, dir); err != nil {
		return s, err
	}
	s.mount = dir
	return s, nil
}

// close unmounts the file system and ends its loop device. It tries for a while: what was ended may not be gone yet.
func (s *site) close(b *bencher) (err error) {
	if s == nil {
		return nil
	}
	if s.mount != "" {
		for begin := time.Now(); ; time.Sleep(200 * time.Millisecond) {
			if _, err = b.run("umount", s.mount); err == nil || time.Since(begin) > 20*time.Second {
				break
			}
		}
		if err != nil {
			_, err2 := b.run("umount", "--lazy", s.mount)
			err = errors.Join(err, err2)
		}
	}
	if s.loop != "" {
		_, err2 := b.run("losetup", "--detach", s.loop)
		err = errors.Join(err, err2)
	}
	return err
}
