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

const loopMajor = 7

// loop is a loop device that has a file: the same number with another file is another loop.
type loop struct {
	number int
	device uint64 // of the file system that the file lies on
	inode  uint64
}

// devices are what the kernel keeps of a node beyond its processes.
type devices struct {
	loops []loop
	fuse  []int // numbers of FUSE connections
}

// devicesOf finds the node's devices. A FUSE connection is the node's if the node has it mounted and the real machine
// does not; a loop if the node has it mounted, as file system or as device node, or if its file lies on such a FUSE mount
// or in the node's directory.
func devicesOf(r *record.Record, node string, pid1 record.Process) (devices, error) {
	ours, err := mountsOf(pid1.PID)
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
		for _, c := range fuse {
			ofNode = ofNode || l.device == unix.Mkdev(0, uint32(c))
		}
		if !ofNode && l.device == disk.Dev {
			if files == nil {
				files = inodes(r.Dir().Node(node))
			}
			ofNode = files[l.inode]
		}
		if ofNode {
			d.loops = append(d.loops, l)
		}
	}
	return d, nil
}

// mountedDevices are the FUSE connections and loops that a node has mounted and the real machine has not.
func mountedDevices(node, host []mount) (fuse, loops []int) {
	isFUSE := func(m mount) bool {
		return m.major == 0 && (m.fstype == "fuse" || m.fstype == "fuseblk" || strings.HasPrefix(m.fstype, "fuse."))
	}
	for _, m := range node {
		if slices.ContainsFunc(host, func(h mount) bool {
			return h.major == m.major && h.minor == m.minor && (m.fstype != "devtmpfs" || m.root == h.root)
		}) {
			continue
		}
		switch {
		case isFUSE(m):
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
	return slices.Compact(fuse), loops
}

// loops lists the loop devices that have a file.
func loops() ([]loop, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var out []loop
	for _, f := range files {
		n, err := strconv.Atoi(strings.TrimPrefix(strings.Split(f, "/")[3], "loop"))
		if err != nil {
			continue
		}
		l, err := lookAt(n)
		if errors.Is(err, unix.ENXIO) || errors.Is(err, fs.ErrNotExist) { // detached meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

func openLoop(number int) (*os.File, error) {
	return os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDONLY, 0)
}

func lookAt(number int) (loop, error) {
	f, err := openLoop(number)
	if err != nil {
		return loop{}, err
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return loop{}, fmt.Errorf("status of /dev/loop%d: %w", number, err)
	}
	return loop{number, info.Device, info.Inode}, nil
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
		err := os.WriteFile(filepath.Join(dir, strconv.Itoa(c), "abort"), []byte("1"), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // its server's end has ended it
			errs = errors.Join(errs, fmt.Errorf("abort FUSE connection %d: %w", c, err))
		}
	}
	return errs
}

// detach frees the loops that still have the files they had, and waits until they are free.
func (d devices) detach() error {
	var errs error
	for _, l := range d.loops {
		if err := l.detach(5 * time.Second); err != nil {
			errs = errors.Join(errs, err)
		}
	}
	return errs
}

func (l loop) detach(most time.Duration) error {
	for end := time.Now().Add(most); ; time.Sleep(20 * time.Millisecond) {
		now, err := lookAt(l.number)
		if err != nil || now != l {
			return nil
		}
		f, err := openLoop(l.number)
		if err != nil {
			return err
		}
		err = unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.ENXIO) && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("detach /dev/loop%d: %w", l.number, err)
		}
		if time.Now().After(end) {
			return fmt.Errorf("/dev/loop%d is still in use after its node has ended: something outside of the node has it open or mounted (fuser -vm /dev/loop%[1]d)", l.number)
		}
	}
}
