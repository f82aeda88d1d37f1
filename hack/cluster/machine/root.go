package machine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// makeRoot builds the node's root file system and makes it the only one that the node sees.
func makeRoot(c Config) error {
	hs, err := readHierarchies()
	if err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	root := filepath.Join(c.Disk.Node(c.Name), "root")
	if err := disk(root, c.Name); err != nil {
		return err
	}
	if err := bind(root, root, false); err != nil {
		return err
	}
	if err := ownDisk(root, c); err != nil {
		return err
	}
	if err := programs(root); err != nil {
		return err
	}
	for from, to := range map[string]string{filepath.Dir(c.Disk.Bin("x")): "bin", c.Disk.Images(): "images", c.Settings: "etc"} {
		if err := bind(from, filepath.Join(root, cluster, to), true); err != nil {
			return err
		}
	}
	if err := kernel(root, hs); err != nil {
		return err
	}
	if err := pivot(root); err != nil {
		return err
	}
	if err := tunables(); err != nil {
		return err
	}
	// Mounts that pods make with Bidirectional propagation travel among pods through the root.
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

// disk makes the directories that a new disk lacks, and its own copy of /etc.
func disk(root, name string) error {
	for _, dir := range []string{"dev", "home", "mnt", "opt/cluster/bin", "opt/cluster/images", "opt/cluster/etc", "proc", "root", "run",
		"srv", "sys", "usr", "var/lib/kubelet", "var/lib/containerd", "var/log", "var/tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Symlink("/run", filepath.Join(root, "var/run")); err != nil && !os.IsExist(err) {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, "etc")); err != nil {
		// Whole or not at all, since a power-off may come at any time.
		if out, err := exec.Command("cp", "-a", "/etc", filepath.Join(root, "etc.new")).CombinedOutput(); err != nil {
			return fmt.Errorf("copy /etc: %w: %s", err, out)
		}
		if err := os.Rename(filepath.Join(root, "etc.new"), filepath.Join(root, "etc")); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc/hosts"), []byte("127.0.0.1 localhost "+name+"\n"), 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(root, "tmp")); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(root, "tmp"), 0o755); err != nil {
		return err
	}
	return os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky)
}

// DataDir is where a node's own disk is, if it has one.
const DataDir = "/var/lib/mynetwork"

// ownDisk mounts the node's disk, which it makes first if it is new. Its file takes the room on the machine's disk that is used in it.
func ownDisk(root string, c Config) error {
	if c.OwnDisk == 0 {
		return nil
	}
	image, dir := filepath.Join(c.Disk.Node(c.Name), "disk.ext4"), filepath.Join(root, DataDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	steps := [][]string{{"mount", "-o", "loop,discard,nosuid,nodev", image, dir}}
	if _, err := os.Stat(image); err != nil { // whole or not at all
		part := image + ".new"
		steps = append([][]string{{"truncate", "-s", fmt.Sprint(c.OwnDisk, "M"), part}, {"mkfs.ext4", "-q", "-F", "-m", "0", part}, {"mv", part, image}}, steps...)
	}
	for _, s := range steps {
		if out, err := exec.Command(s[0], s[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("the node's own disk: %s: %w: %s", s[0], err, out)
		}
	}
	return nil
}

// programs shows the real machine's programs: /usr, and what lies beside it or links into it.
func programs(root string) error {
	for _, name := range []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		from, to := "/"+name, filepath.Join(root, name)
		info, err := os.Lstat(from)
		if err != nil {
			continue
		}
		if info.IsDir() {
			if err := os.MkdirAll(to, 0o755); err != nil {
				return err
			}
			if err := bind(from, to, true); err != nil {
				return err
			}
			continue
		}
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		if err := os.Symlink(target, to); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return nil
}

// bind mounts a directory, without the mounts in it.
func bind(from, to string, readOnly bool) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", from, to, err)
	}
	if !readOnly {
		return nil
	}
	if err := unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", to, err)
	}
	return nil
}

// kernel mounts what the kernel shows of itself. Processes, network and cgroups are the node's own; devices are not.
func kernel(root string, hs []hierarchy) error {
	if err := bind("/dev", filepath.Join(root, "dev"), false); err != nil {
		return err
	}
	const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		point, fstype, options string
		flags                  uintptr
	}{
		{"dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5", unix.MS_NOSUID | unix.MS_NOEXEC},
		{"dev/shm", "tmpfs", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
		{"proc", "proc", "", quiet},
		{"sys", "sysfs", "", quiet},
		{"sys/fs/cgroup", "tmpfs", "mode=0755", quiet},
		{"sys/fs/fuse/connections", "fusectl", "", quiet},
		{"run", "tmpfs", "mode=0755", unix.MS_NOSUID | unix.MS_NODEV},
	} {
		if err := unix.Mount(m.fstype, filepath.Join(root, m.point), m.fstype, m.flags, m.options); err != nil {
			return fmt.Errorf("mount %s on /%s: %w", m.fstype, m.point, err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "run/lock"), 0o777|os.ModeSticky); err != nil {
		return err
	}
	for _, h := range hs {
		to := filepath.Join(root, "sys/fs/cgroup", h.name())
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(h.fstype, to, h.fstype, quiet, h.options); err != nil {
			return fmt.Errorf("mount cgroups %s: %w", h.name(), err)
		}
	}
	return nil
}

// pivot makes root the root of the mount namespace and lets go of everything else.
func pivot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil { // the old root comes to lie upon the new one
		return fmt.Errorf("pivot: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the real machine's mounts: %w", err)
	}
	return unix.Chdir("/")
}

// tunables keeps sysctls from being changed, since most are the real machine's: all but those of the network namespace are
// read-only, and those that the kubelet insists on show it what it wants to see.
func tunables() error {
	if err := bind("/proc/sys", "/proc/sys", false); err != nil {
		return err
	}
	if err := bind("/proc/sys/net", "/proc/sys/net", false); err != nil {
		return err
	}
	if err := unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make sysctls read-only: %w", err)
	}
	const dir = "/run/tunables"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	} {
		f := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(f, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := bind(f, "/proc/sys/"+name, false); err != nil {
			return err
		}
	}
	return nil
}
