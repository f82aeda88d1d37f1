package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
)

// packages of Debian, and a program of each that tells that it is there.
func packages() map[string]string {
	return map[string]string{
		"containerd": "/usr/bin/containerd", "runc": "/usr/sbin/runc", "containernetworking-plugins": "/usr/lib/cni/bridge",
		"nftables": "/usr/sbin/nft", "iptables": "/usr/sbin/iptables", "conntrack": "/usr/sbin/conntrack",
		"iproute2": "/usr/sbin/ip", "util-linux": "/usr/bin/nsenter", "mount": "/usr/bin/mount", "e2fsprogs": "/usr/sbin/mke2fs",
		"xfsprogs": "/usr/sbin/mkfs.xfs",
		// of the image with tools
		"fio": "/usr/bin/fio", "bindfs": "/usr/bin/bindfs", "socat": "/usr/bin/socat", "sqlite3": "/usr/bin/sqlite3", "postgresql-15": "/usr/lib/postgresql/15/bin/postgres", "procps": "/usr/bin/ps",
		"gawk": "/usr/bin/awk", "diffutils": "/usr/bin/diff", "hostname": "/usr/bin/hostname", "tzdata": "/usr/share/zoneinfo/UTC",
	}
}

// policy keeps packages from starting their services.
const policy = "/usr/sbin/policy-rc.d"

// Packages installs what the nodes run and is not there. Services that come with it are not started: containerd runs in
// the nodes alone.
func (b Builder) Packages(ctx context.Context) (err error) {
	var need []string
	for p, program := range packages() {
		if _, err := os.Stat(program); err != nil {
			need = append(need, p)
		}
	}
	if len(need) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("missing: %v; install them, with programs where Debian has them (there is no apt-get here)", need)
	}
	if _, err := os.Stat(policy); errors.Is(err, fs.ErrNotExist) {
		if err := os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.Remove(policy)) }()
	}
	fmt.Fprintf(b.Out, "installing %v\n", need)
	for _, args := range [][]string{{"update", "-q"}, append([]string{"install", "-q", "-y", "--no-install-recommends"}, need...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Stdout, cmd.Stderr = b.Out, b.Out
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w", args[0], err)
		}
	}
	return nil
}
