package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"
	"syscall"
)

// Modes of fallocate(2), from linux/falloc.h.
const (
	fallocKeepSize  = 0x1
	fallocPunchHole = 0x2
)

// OS is a directory of the operating system. Names can not leave it, neither by ".." nor through a symbolic link.
type OS struct {
	dir  string
	root *os.Root
	now  sync.Pool // of *nowRead
}

var (
	_ FS   = (*OS)(nil)
	_ File = (*osFile)(nil)
)

// OpenOS opens an existing directory. The caller closes it after its last use.
func OpenOS(dir string) (*OS, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open disk: %w", err)
	}
	return &OS{dir: dir, root: root, now: sync.Pool{New: func() any { return newNowRead() }}}, nil
}

// Close releases the directory. Files that are open stay usable.
func (o *OS) Close() error { return o.root.Close() }

// checkName refuses what is not a relative, slash-separated, cleaned name, with fs.ErrInvalid.
func checkName(op, name string) error {
	if !fs.ValidPath(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return nil
}

func (o *OS) open(op, name string, flags int) (File, error) {
	if err := checkName(op, name); err != nil {
		return nil, err
	}
	f, err := o.root.OpenFile(name, os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &osFile{File: f, raw: raw, now: &o.now}, nil
}

// Create implements FS.
func (o *OS) Create(name string) (File, error) {
	return o.open("create", name, os.O_CREATE|os.O_EXCL)
}

// Open implements FS.
func (o *OS) Open(name string) (File, error) { return o.open("open", name, 0) }

// Remove implements FS.
func (o *OS) Remove(name string) error {
	if err := checkName("remove", name); err != nil {
		return err
	}
	return o.root.Remove(name)
}

// Rename implements FS.
func (o *OS) Rename(oldName, newName string) error {
	if err := checkName("rename", oldName); err != nil {
		return err
	}
	if err := checkName("rename", newName); err != nil {
		return err
	}
	return o.root.Rename(oldName, newName)
}

// MkdirAll implements FS.
func (o *OS) MkdirAll(name string) error {
	if err := checkName("mkdir", name); err != nil {
		return err
	}
	return o.root.MkdirAll(name, 0o700)
}

// List implements FS.
func (o *OS) List(dir string) ([]string, error) {
	if err := checkName("list", dir); err != nil {
		return nil, err
	}
	d, err := o.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// SyncDir implements FS.
func (o *OS) SyncDir(dir string) error {
	if err := checkName("syncdir", dir); err != nil {
		return err
	}
	d, err := o.root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Usage implements FS, as df counts: the reserve of the super-user is neither used nor there.
func (o *OS) Usage() (total, used int64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(o.dir, &st); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: o.dir, Err: err}
	}
	used = int64(st.Blocks-st.Bfree) * st.Bsize
	return used + int64(st.Bavail)*st.Bsize, used, nil
}

// Path is where a name lies for the operating system.
func (o *OS) Path(name string) string { return path.Join(o.dir, name) }

type osFile struct {
	*os.File
	raw syscall.RawConn
	now *sync.Pool
}

// Sync implements File with fdatasync(2), which also makes the size durable.
func (f *osFile) Sync() error { return f.call("fdatasync", syscall.Fdatasync) }

// Allocate implements File with fallocate(2).
func (f *osFile) Allocate(size int64) error {
	if size <= 0 {
		return nil
	}
	return f.call("fallocate", func(fd int) error { return syscall.Fallocate(fd, 0, 0, size) })
}

// PunchHole implements File with fallocate(2).
func (f *osFile) PunchHole(off, n int64) error {
	if n == 0 {
		return nil
	}
	return f.call("punch hole", func(fd int) error {
		return syscall.Fallocate(fd, fallocPunchHole|fallocKeepSize, off, n)
	})
}

// Size implements File.
func (f *osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// call runs a system call on the descriptor while it is guarded against Close, again when a signal interrupts it.
func (f *osFile) call(op string, fn func(fd int) error) error {
	var callErr error
	if err := f.raw.Control(func(fd uintptr) {
		for callErr = syscall.EINTR; callErr == syscall.EINTR; {
			callErr = fn(int(fd))
		}
	}); err != nil {
		return &fs.PathError{Op: op, Path: f.Name(), Err: fs.ErrClosed} // the only reason that Control has
	}
	if callErr != nil {
		return &fs.PathError{Op: op, Path: f.Name(), Err: callErr}
	}
	return nil
}
