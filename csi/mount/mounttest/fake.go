// Package mounttest holds a double of csi/mount: directories are made for real, mounts and file systems are remembered.
//
// It refuses what the kernel would refuse, and counts what nobody may do: a second mount on a path, a second format of a
// device, a mount of a device without a file system. Safe for concurrent use.
package mounttest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"mynetwork.io/mynetwork/csi/mount"
)

// Fake is the double. Make one with New.
type Fake struct {
	root string
	size func(device string) (int64, bool)

	// Fault may fail a step ("mount", "bind", "unmount", "prepare", "grow"), before it is done or after. nil: none.
	Fault func(step, path string, after bool) error

	mu         sync.Mutex
	devices    map[string]*device
	systems    map[string]string // kind of file system by content
	mounts     []mount.Mounted
	violations []string
}

type device struct {
	number  uint64
	grownTo int64
}

// content is what a device shows: one whose name has a "-" in it shows what the device named so up to there does, as a reader's does.
func content(path string) string {
	at := strings.LastIndexByte(path, '/') + 1
	before, _, _ := strings.Cut(path[at:], "-")
	return path[:at] + before
}

// New makes a double for paths below root. size tells the size of a device, and whether there is one.
func New(root string, size func(device string) (int64, bool)) *Fake {
	return &Fake{root: root, size: size, devices: map[string]*device{}, systems: map[string]string{}}
}

// Violations lists what was done that nobody may do.
func (f *Fake) Violations() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.violations)
}

// FS tells the kind of file system that a device got, and the size that it was grown to.
func (f *Fake) FS(path string) (kind string, size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := f.devices[path]; d != nil {
		return f.systems[content(path)], d.grownTo
	}
	return "", 0
}

func (f *Fake) fault(step, path string, after bool) error {
	if f.Fault == nil {
		return nil
	}
	return f.Fault(step, path, after)
}

// do runs a step between its two chances to fail.
func (f *Fake) do(step, path string, act func() error) error {
	if err := f.fault(step, path, false); err != nil {
		return err
	}
	f.mu.Lock()
	err := act()
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.fault(step, path, true)
}

// CheckPath is as of mount.Mounter.
func (f *Fake) CheckPath(path string) error {
	_, err := mount.Relative(f.root, path)
	return err
}

// Device is as of mount.Mounter.
func (f *Fake) Device(path string) (mount.Device, error) {
	size, ok := f.size(path)
	if !ok {
		return mount.Device{}, fmt.Errorf("device %q: %w", path, mount.ErrDevice)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return mount.Device{Number: f.device(path).number, Size: size}, nil
}

func (f *Fake) device(path string) *device {
	d := f.devices[path]
	if d == nil {
		d = &device{number: uint64(len(f.devices)) + 1}
		f.devices[path] = d
	}
	return d
}

// Prepare is as of mount.Mounter.
func (f *Fake) Prepare(ctx context.Context, path, kind string, readOnly bool) error {
	if _, err := f.Device(path); err != nil {
		return err
	}
	return f.do("prepare", path, func() error {
		has := f.systems[content(path)]
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case has == kind:
			return nil
		case has != "" || readOnly:
			return fmt.Errorf("%s holds %q: %w", path, has, mount.ErrForeign)
		}
		f.systems[content(path)] = kind
		return nil
	})
}

// Mount is as of mount.Mounter.
func (f *Fake) Mount(path, dir, kind string, options []string) error {
	if err := f.CheckPath(dir); err != nil {
		return err
	}
	if st, err := os.Lstat(dir); err != nil || !st.IsDir() {
		return fmt.Errorf("mount on %s: no directory: %w", dir, mount.ErrPath)
	}
	return f.do("mount", dir, func() error {
		d := f.device(path)
		if has := f.systems[content(path)]; has != kind {
			f.violations = append(f.violations, fmt.Sprintf("mount of %s, which has %q, as %q", path, has, kind))
		}
		f.add(mount.Mounted{Path: dir, Device: d.number, FS: kind, ReadOnly: slices.Contains(options, "ro")})
		return nil
	})
}

func (f *Fake) add(m mount.Mounted) {
	if slices.ContainsFunc(f.mounts, func(o mount.Mounted) bool { return o.Path == m.Path }) {
		f.violations = append(f.violations, "second mount on "+m.Path)
	}
	f.mounts = append(f.mounts, m)
}

// Bind is as of mount.Mounter.
func (f *Fake) Bind(source, target string, readOnly bool) error {
	if err := f.CheckPath(target); err != nil {
		return err
	}
	return f.do("bind", target, func() error {
		m := mount.Mounted{Path: target, ReadOnly: readOnly}
		if f.CheckPath(source) == nil {
			i := slices.IndexFunc(f.mounts, func(o mount.Mounted) bool { return o.Path == source })
			if i < 0 {
				return fmt.Errorf("nothing is mounted on %s: %w", source, mount.ErrPath)
			}
			m.Device, m.FS, m.ReadOnly = f.mounts[i].Device, f.mounts[i].FS, readOnly || f.mounts[i].ReadOnly
			if err := os.Mkdir(target, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		} else {
			m.Device = f.device(source).number
			file, err := os.OpenFile(target, os.O_CREATE, 0o640)
			if err != nil {
				return err
			}
			_ = file.Close()
		}
		f.add(m)
		return nil
	})
}

// Unmount is as of mount.Mounter.
func (f *Fake) Unmount(path string, remove bool) error {
	if err := f.CheckPath(path); err != nil {
		return err
	}
	return f.do("unmount", path, func() error {
		f.mounts = slices.DeleteFunc(f.mounts, func(m mount.Mounted) bool { return m.Path == path })
		if !remove {
			return nil
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// List is as of mount.Mounter.
func (f *Fake) List() ([]mount.Mounted, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.mounts), nil
}

// Grow is as of mount.Mounter.
func (f *Fake) Grow(_ context.Context, path, dir, kind string) error {
	size, ok := f.size(path)
	if !ok {
		return fmt.Errorf("device %q: %w", path, mount.ErrDevice)
	}
	return f.do("grow", dir, func() error {
		f.device(path).grownTo = size
		return nil
	})
}

// Usage is as of mount.Mounter.
func (f *Fake) Usage(path string) (mount.Usage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.mounts {
		if m.Path == path {
			return mount.Usage{Bytes: 1 << 30, BytesFree: 1 << 29, BytesAvailable: 1 << 29, Inodes: 1 << 16, InodesFree: 1 << 15, ReadOnly: m.ReadOnly}, nil
		}
	}
	return mount.Usage{}, fmt.Errorf("%s: %w", path, mount.ErrPath)
}
