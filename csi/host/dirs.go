package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Errors of directories.
var (
	// ErrPath tells that a path cannot be used as it is.
	ErrPath = errors.New("path cannot be used")
	// ErrSpace tells that a disk has too little space.
	ErrSpace = errors.New("too little space")
)

// dir is a directory that is to be there.
type dir struct {
	path  string // below the one before it
	owner int    // user and group
	group int
	mode  uint32
}

// open opens an absolute path below root, without a symbolic link anywhere, and makes what is missing of it, as root's.
func open(root, path string) (int, error) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", root, err)
	}
	at := root
	for step := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if step == "" {
			continue
		}
		at = filepath.Join(at, step)
		next, err := enter(fd, step, at, dir{mode: 0o755}, false)
		_ = unix.Close(fd)
		if err != nil {
			return -1, err
		}
		fd = next
	}
	return fd, nil
}

// enter opens a directory of one name, and makes it if it is missing. own sets owner and mode also if it is there.
func enter(fd int, name, at string, d dir, own bool) (int, error) {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return -1, fmt.Errorf("%w: %s: %q", ErrPath, at, name)
	}
	made := unix.Mkdirat(fd, name, 0o700)
	if made != nil && !errors.Is(made, unix.EEXIST) {
		return -1, fmt.Errorf("%w: make %s: %w", ErrPath, at, made)
	}
	next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return -1, fmt.Errorf("%w: %s is a symbolic link or no directory; name the real directory", ErrPath, at)
	}
	if err != nil {
		return -1, fmt.Errorf("%w: open %s: %w", ErrPath, at, err)
	}
	if made == nil || own {
		if err := give(next, d); err != nil {
			_ = unix.Close(next)
			return -1, fmt.Errorf("%w: %s: %w", ErrPath, at, err)
		}
	}
	return next, nil
}

// give sets owner and mode where they differ: a file system that is mounted read-only and right as it is stays usable.
func give(fd int, d dir) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if int(st.Uid) != d.owner || int(st.Gid) != d.group {
		if err := unix.Fchown(fd, d.owner, d.group); err != nil {
			return fmt.Errorf("owner: %w", err)
		}
	}
	if st.Mode&0o7777 != d.mode {
		if err := unix.Fchmod(fd, d.mode); err != nil {
			return fmt.Errorf("mode: %w", err)
		}
	}
	return nil
}

// label is what containers may use on hosts with SELinux.
const label = "system_u:object_r:container_file_t:s0"

// tree makes directories below an open one, and labels them where the host has SELinux.
func tree(fd int, at string, selinux bool, dirs ...dir) error {
	for _, d := range dirs {
		next, err := enter(fd, d.path, filepath.Join(at, d.path), d, true)
		if err != nil {
			return err
		}
		if selinux {
			err = unix.Fsetxattr(next, "security.selinux", append([]byte(label), 0), 0)
		}
		_ = unix.Close(next)
		if err != nil {
			return fmt.Errorf("SELinux label of %s: %w", filepath.Join(at, d.path), err)
		}
	}
	return nil
}

// note writes a small file of root's into an open directory.
func note(fd int, name, content string) error {
	fresh := "." + name
	_ = unix.Unlinkat(fd, fresh, 0)
	f, err := unix.Openat(fd, fresh, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	file := os.NewFile(uintptr(f), fresh)
	_, err = file.WriteString(content)
	err = errors.Join(err, file.Chmod(0o644), file.Close())
	if err == nil {
		err = unix.Renameat(fd, fresh, fd, name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
