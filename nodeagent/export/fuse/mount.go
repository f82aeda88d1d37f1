package fuse

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Errors of mounting.
var (
	// ErrNoDevice tells that the machine offers no /dev/fuse.
	ErrNoDevice = errors.New("/dev/fuse is missing: load the fuse module, or give the container the device")
	// ErrNotMounted tells that a directory is not a mount of ours.
	ErrNotMounted = errors.New("not a volume's mount")
)

// fsType is how our mounts show in mountinfo; it tells them from everyone else's.
const fsType = "fuse.mynetwork"

// Mount opens /dev/fuse and mounts it on dir, which must be an empty directory. The mount answers once a Server runs on
// the descriptor, which the caller owns.
func Mount(dir string) (fd int, err error) {
	fd, err = openDevice("/dev/fuse")
	if err != nil {
		return -1, err
	}
	opts := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d,max_read=%d", fd, os.Geteuid(), os.Getegid(), MaxIO)
	if err := unix.Mount("mynetwork", dir, fsType, unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, opts); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("mount FUSE on %s: %w", dir, err)
	}
	return fd, nil
}

func openDevice(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return -1, fmt.Errorf("%w (%w)", ErrNoDevice, err)
	}
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, nil
}

// Unmount unmounts dir. lazy takes it out of sight at once, also while it is in use. A dir that is not mounted is fine.
func Unmount(dir string, lazy bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	err := unix.Unmount(dir, flags)
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("unmount %s: %w", dir, err)
}

// Mounted is one mount of ours.
type Mounted struct {
	Dir  string
	Conn uint32 // the connection's number below /sys/fs/fuse/connections
}

// Mounts lists the mounts of ours below dir, from mountinfo: no file system is touched, so a hung one does no harm.
func Mounts(dir string) ([]Mounted, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer f.Close()
	return parseMounts(f, filepath.Clean(dir))
}

// ConnOf returns the connection number of the volume's mount on dir, or ErrNotMounted.
func ConnOf(dir string) (uint32, error) {
	ms, err := Mounts(filepath.Dir(dir))
	if err != nil {
		return 0, err
	}
	for _, m := range ms {
		if m.Dir == filepath.Clean(dir) {
			return m.Conn, nil
		}
	}
	return 0, fmt.Errorf("%w: %s", ErrNotMounted, dir)
}

// parseMounts reads mountinfo (proc_pid_mountinfo(5)): id parent major:minor root mountpoint options … - type source …
func parseMounts(r io.Reader, dir string) ([]Mounted, error) {
	var out []Mounted
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if !bytes.Contains(sc.Bytes(), []byte(" - "+fsType+" ")) { // a machine has many mounts, and few of ours
			continue
		}
		left, right, ok := strings.Cut(sc.Text(), " - ")
		l, rt := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(rt) < 1 || rt[0] != fsType {
			continue
		}
		at := unescape(l[4])
		if !strings.HasPrefix(at, dir+"/") {
			continue
		}
		_, minor, _ := strings.Cut(l[2], ":")
		n, err := strconv.ParseUint(minor, 10, 32)
		if err != nil {
			continue
		}
		out = append(out, Mounted{Dir: at, Conn: uint32(n)})
	}
	return out, sc.Err()
}

// unescape undoes mountinfo's octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
