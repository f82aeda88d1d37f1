package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/hack/cluster/record"
)

// devices are what the kernel keeps of a node beyond its processes.
type devices struct {
	loops []loop
	fuse  []int // numbers of FUSE connections
}

// devicesOf finds the node's devices. A FUSE connection is the node's if a process of the node has it mounted and the real
// machine does not; a loop if a process of the node has it mounted, as file system or as device node, or if its file lies
// on such a FUSE mount or in the node's directory.
func devicesOf(r *record.Record, node string) (devices, error) {
	ours, err := nodeMounts(r, node)
	if err != nil {
		return devices{}, err
	}
	host, err := mountsOf(os.Getpid())
	if err != nil {
		return devices{}, err
	}
	fuse, mounted := mountedDevices(ours, host)
	d := devices{fuse: fuse}
	all, err := loops()
	if err != nil {
		return d, err
	}
	var disk unix.Stat_t
	if err := unix.Stat(r.Dir().Node(node), &disk); err != nil {
		return d, err
	}
	var files map[uint64]bool
	for _, l := range all {
		ofNode := slices.Contains(mounted, l.number)
		if !ofNode {
			device, inode, known := l.backing(time.Second)
			switch {
			case !known: // the FUSE server of its file is dead or hangs: the path is all there is
				ofNode = onFUSE(l.path, ours, fuse)
			case device == disk.Dev:
				if files == nil {
					files = inodes(r.Dir().Node(node))
				}
				ofNode = files[inode]
			default:
				ofNode = slices.ContainsFunc(fuse, func(c int) bool { return device == unix.Mkdev(0, uint32(c)) })
			}
		}
		if ofNode {
			d.loops = append(d.loops, l)
		}
	}
	return d, nil
}

// nodeMounts are the mounts that any process of the node sees; containers see others than pid 1.
func nodeMounts(r *record.Record, node string) ([]mount, error) {
	var out []mount
	seen := map[string]bool{}
	for _, dir := range r.Cgroups {
		if filepath.Base(dir) != r.Name(node) {
			continue
		}
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return nil // a cgroup may go while it is looked at
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return nil
			}
			for _, pid := range strings.Fields(string(text)) {
				ns, err := os.Readlink("/proc/" + pid + "/ns/mnt")
				if err != nil || seen[ns] {
					continue
				}
				seen[ns] = true
				n, err := strconv.Atoi(pid)
				if err != nil {
					return err
				}
				mounts, err := mountsOf(n)
				if err == nil {
					out = append(out, mounts...)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no process of it is found in its cgroups")
	}
	return out, nil
}

// isFUSE tells whether a mount is of a FUSE server; the minor number of its device is that of the connection.
func (m mount) isFUSE() bool {
	return m.major == 0 && (m.fstype == "fuse" || m.fstype == "fuseblk" || strings.HasPrefix(m.fstype, "fuse."))
}

// mountedDevices are the FUSE connections and loops that a node has mounted and the real machine has not.
func mountedDevices(node, host []mount) (fuse, loops []int) {
	for _, m := range node {
		if slices.ContainsFunc(host, func(h mount) bool {
			return h.major == m.major && h.minor == m.minor && (m.fstype != "devtmpfs" || m.root == h.root)
		}) {
			continue
		}
		switch {
		case m.isFUSE():
			fuse = append(fuse, m.minor)
		case m.major == loopMajor:
			loops = append(loops, m.minor)
		case m.fstype == "devtmpfs": // a raw block volume is a bind mount of its device node
			if n, err := strconv.Atoi(strings.TrimPrefix(m.root, "/loop")); err == nil {
				loops = append(loops, n)
			}
		}
	}
	slices.Sort(fuse)
	slices.Sort(loops)
	return slices.Compact(fuse), slices.Compact(loops)
}

// onFUSE tells whether a path lies on a mount of one of the connections.
func onFUSE(path string, mounts []mount, connections []int) bool {
	return slices.ContainsFunc(mounts, func(m mount) bool {
		return m.isFUSE() && slices.Contains(connections, m.minor) && strings.HasPrefix(path, m.point+"/")
	})
}

// inodes are the numbers of all regular files below dir, on its own file system. Images of containers are left out:
// they are many, and no loop lies on them.
func inodes(dir string) map[uint64]bool {
	out := map[uint64]bool{}
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { //nolint:errcheck // what has gone has no loop
		switch {
		case err != nil:
			return nil
		case d.IsDir() && strings.HasSuffix(path, "/var/lib/containerd"):
			return fs.SkipDir
		case d.Type().IsRegular():
			var s unix.Stat_t
			if unix.Lstat(path, &s) == nil {
				out[s.Ino] = true
			}
		}
		return nil
	})
	return out
}

// abort ends the FUSE connections: whoever waits for their servers gets an error. It mounts the kernel's control file
// system where nobody else sees it.
func (d devices) abort() error {
	if len(d.fuse) == 0 {
		return nil
	}
	result := make(chan error)
	go func() { result <- abortAlone(d.fuse) }()
	return <-result
}

// abortAlone leaves its thread in a mount namespace of its own; the thread ends with the goroutine, since it stays locked.
func abortAlone(connections []int) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("own mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	const dir = "/sys/fs/fuse/connections"
	if err := unix.Mount("fusectl", dir, "fusectl", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount fusectl: %w", err)
	}
	var errs error
	for _, c := range connections {
		if err := poke(filepath.Join(dir, strconv.Itoa(c), "abort")); err != nil && !leaving(err) { // its last mount's end has ended it
			errs = errors.Join(errs, fmt.Errorf("abort FUSE connection %d: %w", c, err))
		}
	}
	return errs
}

// poke writes into a file of the kernel's. It makes none: where one has just gone, that would be refused, as if it were forbidden.
func poke(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("1")
	return errors.Join(err, f.Close())
}

// detach frees the loops that still have the files they had, and waits until they are free.
func (d devices) detach() error {
	var errs error
	for _, l := range d.loops {
		errs = errors.Join(errs, l.detach(5*time.Second))
	}
	return errs
}
