package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"mynetwork.io/mynetwork/hack/image/rootfs"
)

// recipe says what an image holds and how it is called.
type recipe struct {
	refs  []string // names that it is known by; the first is its own
	entry []string // what a container runs
	env   []string
	fill  func(*rootfs.Tree) error
}

// postgres is where Debian 12 has PostgreSQL's programs; its psql in /usr/bin is a script that needs perl.
const postgres = "/usr/lib/postgresql/15"

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// sources are where recipes find built programs.
type sources struct {
	mynetwork string // the program
	bin       string // directory of the sidecars, pause and agnhost
}

// recipes are all images, by name. The names of Kubernetes' test images are those of test/utils/image/manifest.go of 1.36.3.
func recipes(s sources) map[string]recipe {
	all := map[string]recipe{
		"mynetwork": {refs: []string{"registry.local/mynetwork:dev"}, entry: []string{"/mynetwork"}, env: []string{searchPath}, fill: s.product},
		"pause": {refs: []string{"registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10.2"}, entry: []string{"/pause"}, fill: func(t *rootfs.Tree) error {
			return t.File("/pause", filepath.Join(s.bin, "pause"))
		}},
		"tools": {refs: []string{"registry.local/tools:dev", "registry.k8s.io/e2e-test-images/busybox:1.37.0-1",
			"registry.k8s.io/e2e-test-images/nginx:1.15-4", "registry.k8s.io/e2e-test-images/nginx:1.27-0",
			"registry.k8s.io/e2e-test-images/glibc-dns-testing:2.0.0"},
			env: []string{searchPath + ":" + postgres + "/bin"}, fill: s.tools},
		"agnhost": {refs: []string{"registry.k8s.io/e2e-test-images/agnhost:2.63.0"}, entry: []string{"/agnhost"}, env: []string{searchPath},
			fill: func(t *rootfs.Tree) error {
				return errors.Join(programs(t, shell()...), users(t), t.File("/agnhost", filepath.Join(s.bin, "agnhost")))
			}},
	}
	for name, version := range map[string]string{"csi-provisioner": "v6.3.0", "csi-resizer": "v2.3.0", "csi-snapshotter": "v8.7.0",
		"snapshot-controller": "v8.7.0", "csi-snapshot-metadata": "v1.0.0"} {
		all[name] = recipe{refs: []string{"registry.k8s.io/sig-storage/" + name + ":" + version}, entry: []string{"/" + name},
			fill: func(t *rootfs.Tree) error { return t.File("/"+name, filepath.Join(s.bin, name)) }}
	}
	return all
}

// product is MyNetwork with the programs that make, check, grow and mount file systems.
func (s sources) product(t *rootfs.Tree) error {
	if err := t.File("/mynetwork", s.mynetwork); err != nil {
		return fmt.Errorf("%w: make build", err)
	}
	err := programs(t, "mke2fs", "mkfs.ext4", "e2fsck", "fsck.ext4", "resize2fs", "tune2fs", "dumpe2fs",
		"mkfs.xfs", "xfs_repair", "xfs_growfs", "xfs_db", "blkid", "blockdev", "losetup", "mount", "umount", "fsfreeze")
	return errors.Join(err, t.File("/etc/mke2fs.conf", "/etc/mke2fs.conf"), users(t))
}

// shell is what tests run in the test server's image, also in namespaces of the node.
func shell() []string {
	return []string{"bash", "sh", "cat", "ls", "mkdir", "rm", "sleep", "echo", "grep", "sed", "dd", "sha256sum", "stat", "true", "false", "date", "env",
		"mount", "umount", "nsenter", "losetup", "truncate", "chmod", "touch", "sync"}
}

// tools is for tests: what shell scripts use, what makes and measures I/O, two databases, and a backup program's question.
func (s sources) tools(t *rootfs.Tree) error {
	if err := t.Package("coreutils"); err != nil {
		return err
	}
	if err := t.File("/usr/bin/snapshot-metadata-lister", filepath.Join(s.bin, "snapshot-metadata-lister")); err != nil {
		return err
	}
	err := programs(t, "bash", "grep", "egrep", "sed", "awk", "tar", "find", "xargs", "ps", "mount", "umount", "findmnt", "lsblk", "losetup",
		"blkid", "blockdev", "fallocate", "fsfreeze", "flock", "nsenter", "setpriv", "mke2fs", "mkfs.ext4", "e2fsck", "resize2fs", "tune2fs", "dumpe2fs",
		"mkfs.xfs", "xfs_growfs", "xfs_repair", "xfs_io", "fio", "sqlite3", "ip", "bindfs", "socat", "hostname", "getent", "which", "diff", "cmp")
	if err != nil {
		return err
	}
	// The tests of Kubernetes need a shell that knows let and [[.
	t.Link("/usr/bin/sh", "bash")
	if err := t.File("/etc/mke2fs.conf", "/etc/mke2fs.conf"); err != nil {
		return err
	}
	for _, p := range []string{"postgresql-15", "postgresql-client-15", "tzdata"} {
		// The compiler of queries weighs more than all the rest.
		if err := t.Package(p, postgres+"/lib/llvmjit", postgres+"/lib/bitcode", "/usr/share/postgresql/15/man"); err != nil {
			return err
		}
	}
	t.Dir("/var/lib/postgresql", 0o777)
	t.Dir("/run/postgresql", 0o777)
	return users(t)
}

func programs(t *rootfs.Tree, names ...string) error {
	var errs error
	for _, name := range names {
		errs = errors.Join(errs, t.Program(name))
	}
	return errs
}

// users are those that the images' programs go by.
func users(t *rootfs.Tree) error {
	var passwd, group strings.Builder
	for _, u := range []struct {
		name string
		id   int
		home string
	}{{"root", 0, "/root"}, {"postgres", 70, "/var/lib/postgresql"}, {"nonroot", 65532, "/"}, {"nobody", 65534, "/"}} {
		fmt.Fprintf(&passwd, "%s:x:%d:%[2]d::%s:/bin/sh\n", u.name, u.id, u.home)
		fmt.Fprintf(&group, "%s:x:%d:\n", u.name, u.id)
	}
	t.Text("/etc/passwd", passwd.String(), 0o644)
	t.Text("/etc/group", group.String(), 0o644)
	t.Text("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n", 0o644)
	return nil
}

// names lists the recipes, sorted.
func names(all map[string]recipe) []string {
	out := make([]string, 0, len(all))
	for name := range all {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
