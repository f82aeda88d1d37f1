package loop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// Errors of loop devices.
var (
	// ErrNoDevice tells that the machine gives no free loop device.
	ErrNoDevice = errors.New("no free loop device: load the loop module, or give the container /dev/loop-control and more devices")
	// ErrBuffered tells that a device would keep the file's pages in the page cache.
	ErrBuffered = errors.New("the kernel refuses direct I/O on the file")
)

const (
	control  = "/dev/loop-control"
	sysBlock = "/sys/block"
	loopMaj  = 7

	// A free device may be taken by someone else between the question and the binding.
	attempts = 64
	// How often a state is looked at again that has no notification.
	pollEvery = 5 * time.Millisecond
)

// Attach binds a free loop device to the file name, which is open as file for reading and writing with O_DIRECT; the
// descriptor is not needed afterwards. It returns the device's path.
func Attach(file int, name string) (path string, err error) {
	return attach(control, file, name)
}

func attach(control string, file int, name string) (path string, err error) {
	ctl, err := unix.Open(control, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("%w: open %s: %w", ErrNoDevice, control, err)
	}
	defer unix.Close(ctl)
	for range attempts {
		n, err := unix.IoctlRetInt(ctl, unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrNoDevice, err)
		}
		path, err = bind(n, file, name)
		if errors.Is(err, unix.EBUSY) {
			continue
		}
		return path, err
	}
	return "", fmt.Errorf("%w: each was taken by someone else, %d times", ErrNoDevice, attempts)
}

func bind(n, file int, name string) (string, error) {
	path := fmt.Sprintf("/dev/loop%d", n)
	fd, err := openNode(path, n)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	cfg := unix.LoopConfig{Fd: uint32(file), Size: export.BlockSize}
	cfg.Info.Flags = unix.LO_FLAGS_DIRECT_IO
	copy(cfg.Info.File_name[:len(cfg.Info.File_name)-1], name)
	if err := unix.IoctlLoopConfigure(fd, &cfg); err != nil {
		return "", fmt.Errorf("bind %s to %s: %w", path, name, err)
	}
	dio, err := os.ReadFile(filepath.Join(sysBlock, filepath.Base(path), "loop/dio"))
	if err == nil && strings.TrimSpace(string(dio)) != "1" {
		err = ErrBuffered
	}
	if err != nil {
		_ = unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0)
		return "", fmt.Errorf("%s on %s: %w", path, name, err)
	}
	return path, nil
}

// openNode opens a loop device, making its node where nothing else makes it (a container's own /dev).
func openNode(path string, n int) (int, error) {
	for made := false; ; made = true {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err == nil {
			return fd, nil
		}
		if made || !errors.Is(err, unix.ENOENT) {
			return -1, fmt.Errorf("%w: open %s: %w", ErrNoDevice, path, err)
		}
		if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(loopMaj, uint32(n)))); err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, fmt.Errorf("%w: make %s: %w", ErrNoDevice, path, err)
		}
	}
}

// Bound is a loop device and its file.
type Bound struct {
	Path string // of the device
	File string // absolute path as the kernel sees it
}

// List returns the loop devices whose files lie below dir.
func List(dir string) ([]Bound, error) {
	dir = filepath.Clean(dir) + "/"
	names, err := filepath.Glob(filepath.Join(sysBlock, "loop*"))
	if err != nil {
		return nil, fmt.Errorf("list loop devices: %w", err)
	}
	var out []Bound
	for _, name := range names {
		path := filepath.Join("/dev", filepath.Base(name))
		file, err := File(path)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(file, dir) {
			out = append(out, Bound{Path: path, File: file})
		}
	}
	return out, nil
}

// File returns the file that a device is bound to, or "" for a free device.
func File(path string) (string, error) {
	b, err := os.ReadFile(filepath.Join(sysBlock, filepath.Base(path), "loop/backing_file"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("file of %s: %w", path, err)
	}
	return strings.TrimSuffix(string(b), "\n"), nil
}

// SetCapacity makes the device take its file's size, which must be visible by now.
func SetCapacity(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.IoctlSetInt(fd, unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("take the file's size on %s: %w", path, err)
	}
	return nil
}

// Detach ends a device that is bound to file and waits until the kernel has let go of the file. It fails with
// export.ErrBusy while the device is mounted or claimed, and waits for those who merely have it open until ctx ends. A device
// that is free or bound to another file counts as detached.
func Detach(ctx context.Context, path, file string) error {
	bound, err := File(path)
	if err != nil || bound != file {
		return err
	}
	if err := clear(path, unix.O_EXCL); err != nil {
		return err
	}
	return waitFree(ctx, path, file)
}

// Abandon has the kernel end a device as soon as its last user lets go of it, and does not wait. It is for devices whose
// file fails already. Like Detach it leaves a device of another file alone.
func Abandon(path, file string) error {
	bound, err := File(path)
	if err != nil || bound != file {
		return err
	}
	return clear(path, 0)
}

func clear(path string, flags int) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: %s", export.ErrBusy, path)
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detach %s: %w", path, err)
	}
	return nil
}

func waitFree(ctx context.Context, path, file string) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		bound, err := File(path)
		if err != nil || bound != file {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s is held open: %w", export.ErrBusy, path, ctx.Err())
		case <-tick.C:
		}
	}
}
