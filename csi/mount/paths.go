package mount

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Errors of this package.
var (
	ErrPath    = errors.New("path is not allowed")
	ErrOption  = errors.New("mount option is not allowed")
	ErrForeign = errors.New("device holds something else")
	ErrDamaged = errors.New("file system is damaged")
	ErrBusy    = errors.New("still in use")
	ErrDevice  = errors.New("not a usable block device")
	ErrDenied  = errors.New("the kernel does not let this process grow a mounted ext4 (it needs CAP_SYS_RESOURCE)")
)

// Mounter mounts below a root. Make one with New.
type Mounter struct {
	root string // as the kubelet names it
	real string // without symbolic links, as the kernel's table of mounts names it
	run  Runner
}

// New makes a Mounter for paths below root, which must be there: the kubelet's directory. A nil Runner runs programs.
func New(root string, run Runner) (*Mounter, error) {
	if !filepath.IsAbs(root) || filepath.Clean(root) == "/" {
		return nil, fmt.Errorf("root %q: want an absolute path below /: %w", root, ErrPath)
	}
	real, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil, fmt.Errorf("root of mounts: %w", err)
	}
	if run == nil {
		run = Exec{}
	}
	return &Mounter{root: filepath.Clean(root), real: real, run: run}, nil
}

// CheckPath reports ErrPath unless path is absolute, without "." and "..", and below the root.
func (m *Mounter) CheckPath(path string) error {
	_, err := m.relative(path)
	return err
}

func (m *Mounter) relative(path string) (string, error) {
	return Relative(m.root, path)
}

// Relative gives path relative to root, or ErrPath unless it is a plain path below it.
func Relative(root, path string) (string, error) {
	rel, below := strings.CutPrefix(path, root+"/")
	if !below || len(path) >= unix.PathMax || strings.ContainsRune(path, 0) {
		return "", fmt.Errorf("%q: want a path below %s: %w", path, root, ErrPath)
	}
	for _, e := range strings.Split(rel, "/") {
		if e == "" || e == "." || e == ".." {
			return "", fmt.Errorf("%q: want a path without %q: %w", path, e, ErrPath)
		}
	}
	return rel, nil
}

// place is a path whose directories are resolved.
type place struct {
	dir  int    // descriptor of the directory
	base string // last element
}

func (p place) close() { _ = unix.Close(p.dir) }

// name is a path of it that follows no symbolic link but for this process's own descriptor.
func (p place) name() string { return "/proc/self/fd/" + strconv.Itoa(p.dir) + "/" + p.base }

// resolve opens the directory of path, following no symbolic link below the root.
func (m *Mounter) resolve(path string) (place, error) {
	rel, err := m.relative(path)
	if err != nil {
		return place{}, err
	}
	root, err := unix.Open(m.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return place{}, fmt.Errorf("open %s: %w", m.root, err)
	}
	defer unix.Close(root)
	dir, err := openBeneath(root, filepath.Dir(rel), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return place{}, fmt.Errorf("open the directory of %s: %w", path, err)
	}
	return place{dir, filepath.Base(rel)}, nil
}

func openBeneath(dir int, rel string, flags uint64) (int, error) {
	fd, err := unix.Openat2(dir, rel, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV) {
		err = fmt.Errorf("a symbolic link is in the way: %w", ErrPath)
	}
	return fd, err
}

// ensure makes an empty directory or file at p unless it is there.
func (p place) ensure(dir bool) error {
	var err error
	if dir {
		err = unix.Mkdirat(p.dir, p.base, 0o750)
	} else {
		var fd int
		if fd, err = unix.Openat(p.dir, p.base, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o640); err == nil {
			_ = unix.Close(fd)
		}
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make %s: %w", p.base, err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(p.dir, p.base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("look at %s: %w", p.base, err)
	}
	kind := st.Mode & unix.S_IFMT
	if dir && kind != unix.S_IFDIR || !dir && (kind != unix.S_IFREG || st.Size != 0) {
		return fmt.Errorf("%s is there already and is no empty place to mount on: %w", p.base, ErrPath)
	}
	return nil
}

// remove removes an empty directory or file. It is no error if it is gone.
func (p place) remove() error {
	var st unix.Stat_t
	err := unix.Fstatat(p.dir, p.base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", p.base, err)
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFDIR:
		err = unix.Unlinkat(p.dir, p.base, unix.AT_REMOVEDIR)
	case kind == unix.S_IFREG && st.Size == 0:
		err = unix.Unlinkat(p.dir, p.base, 0)
	default:
		return fmt.Errorf("%s is no empty directory or file, it is left alone: %w", p.base, ErrPath)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s: %w", p.base, err)
	}
	return nil
}
