package mount

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxStacked bounds how many mounts on one path Unmount takes away.
const maxStacked = 32

// Mount mounts the file system of a device on a directory. Options are those of mount(8); quotes keep commas.
func (m *Mounter) Mount(device, dir, fs string, list []string) error {
	o, err := parseOptions(list)
	if err != nil {
		return err
	}
	p, err := m.resolve(dir)
	if err != nil {
		return err
	}
	defer p.close()
	ctx, err := unix.Fsopen(fs, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("the kernel has no %s: %w", fs, err)
	}
	defer unix.Close(ctx)
	if err := configure(ctx, device, &o); err != nil {
		return fmt.Errorf("mount %s of %s: %w%s", fs, device, err, complaints(ctx))
	}
	mnt, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, o.attributes)
	if err != nil {
		return fmt.Errorf("mount %s of %s: %w%s", fs, device, err, complaints(ctx))
	}
	defer unix.Close(mnt)
	return p.attach(mnt)
}

func configure(ctx int, device string, o *options) error {
	if err := unix.FsconfigSetString(ctx, "source", device); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	for _, f := range o.flags {
		if err := unix.FsconfigSetFlag(ctx, f); err != nil {
			return fmt.Errorf("option %s: %w: %w", f, err, ErrOption)
		}
	}
	for _, v := range o.values {
		if err := unix.FsconfigSetString(ctx, v[0], v[1]); err != nil {
			return fmt.Errorf("option %s: %w: %w", v[0], err, ErrOption)
		}
	}
	return unix.FsconfigCreate(ctx)
}

// complaints are what the kernel says about a file system's configuration, which it tells on the descriptor.
func complaints(ctx int) string {
	var out strings.Builder
	buf := make([]byte, 1024)
	for range 16 {
		n, err := unix.Read(ctx, buf)
		if err != nil || n <= 0 {
			break
		}
		fmt.Fprintf(&out, "; %s", strings.TrimSpace(string(buf[:n])))
	}
	return out.String()
}

// attach makes a mount that is nowhere appear at p.
func (p place) attach(mnt int) error {
	if err := unix.MoveMount(mnt, "", p.dir, p.base, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount on %s: %w", p.base, err)
	}
	return nil
}

// Bind makes source appear at target, which it makes: a directory below the root, with what is mounted on it, or a block
// device. Read-only from its first moment if wanted.
func (m *Mounter) Bind(source, target string, readOnly bool) error {
	tree, dir, err := m.clone(source)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	p, err := m.resolve(target)
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.ensure(dir); err != nil {
		return err
	}
	if readOnly {
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, attr); err != nil {
			return fmt.Errorf("make %s read-only: %w", target, err)
		}
	}
	return p.attach(tree)
}

// clone copies the mount of source, and tells whether it is a directory.
func (m *Mounter) clone(source string) (tree int, dir bool, err error) {
	const how = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_SYMLINK_NOFOLLOW
	if m.CheckPath(source) == nil {
		p, err := m.resolve(source)
		if err != nil {
			return -1, false, err
		}
		defer p.close()
		if tree, err = unix.OpenTree(p.dir, p.base, how); err != nil {
			return -1, false, fmt.Errorf("open %s: %w", source, err)
		}
		return tree, true, nil
	}
	if _, err := m.Device(source); err != nil {
		return -1, false, err
	}
	if tree, err = unix.OpenTree(unix.AT_FDCWD, source, how); err != nil {
		return -1, false, fmt.Errorf("open %s: %w", source, err)
	}
	return tree, false, nil
}

// Unmount takes away all that is mounted on path, and with remove the empty directory or file there. Nothing mounted, or
// nothing there, is no error; ErrBusy if it is in use.
func (m *Mounter) Unmount(path string, remove bool) error {
	p, err := m.resolve(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.close()
	for range maxStacked {
		err = unix.Unmount(p.name(), unix.UMOUNT_NOFOLLOW)
		if err != nil {
			break
		}
	}
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("unmount %s: %w", path, ErrBusy)
	case err == nil:
		return fmt.Errorf("unmount %s: more than %d mounts: %w", path, maxStacked, ErrBusy)
	case !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT):
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if remove {
		if err := p.remove(); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// Usage is how full a file system is.
type Usage struct {
	Bytes, BytesFree, BytesAvailable int64 // available to others than root
	Inodes, InodesFree               int64
	ReadOnly                         bool
}

// Usage tells how full the file system at path is.
func (m *Mounter) Usage(path string) (Usage, error) {
	p, err := m.resolve(path)
	if err != nil {
		return Usage{}, err
	}
	defer p.close()
	fd, err := openBeneath(p.dir, p.base, unix.O_PATH)
	if err != nil {
		return Usage{}, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return Usage{}, fmt.Errorf("ask the file system of %s: %w", path, err)
	}
	b := int64(st.Frsize)
	return Usage{Bytes: int64(st.Blocks) * b, BytesFree: int64(st.Bfree) * b, BytesAvailable: int64(st.Bavail) * b,
		Inodes: int64(st.Files), InodesFree: int64(st.Ffree), ReadOnly: st.Flags&unix.ST_RDONLY != 0}, nil
}
