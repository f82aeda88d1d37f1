package loop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
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

// Attach binds a free loop device to the file name, which is open as file with O_DIRECT, for reading and writing or, if the device is to be
// read-only, for reading alone; the descriptor is not needed afterwards. It returns the device's path.
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
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENXIO) { // ENXIO: and is just being given back
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

// Bound is a loop device and its file. Two that are equal are the same binding, also if a device was bound anew in between.
type Bound struct {
	Path string // of the device
	// File is the file's absolute path as the kernel shows it here: that within its mount, if the mount is in no namespace any
	// more. Empty: the device is free.
	File string
	Seq  uint64 // rises with each binding (diskseq, Linux 5.15); 0: the kernel does not tell
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
		if !strings.HasPrefix(file, dir) { // most of them: free, or of others
			continue
		}
		b, err := Look(path)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(b.File, dir) {
			out = append(out, b)
		}
	}
	return out, nil
}

// Look tells what a device is bound to.
func Look(path string) (Bound, error) {
	out := Bound{Path: path}
	b, err := os.ReadFile(filepath.Join(sysBlock, filepath.Base(path), "diskseq"))
	if err == nil {
		out.Seq, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
		return out, fmt.Errorf("sequence of %s: %w", path, err)
	}
	out.File, err = File(path) // after the sequence: if it was bound anew in between, it is not the one of the sequence
	return out, err
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

// Detach ends a device and waits until the kernel has let go of its file. It fails with export.ErrBusy while the device is
// mounted or claimed, and waits for those who merely have it open until ctx ends. A device that is free or bound otherwise
// counts as detached.
func Detach(ctx context.Context, b Bound) error {
	if same, err := b.still(); err != nil || !same {
		return err
	}
	if err := b.clear(unix.O_EXCL); err != nil {
		return err
	}
	return waitFree(ctx, b)
}

// Abandon has the kernel end a device as soon as its last user lets go of it, and does not wait. It is for devices whose
// file fails already. Like Detach it leaves a device that is bound otherwise alone.
func Abandon(b Bound) error {
	if same, err := b.still(); err != nil || !same {
		return err
	}
	return b.clear(0)
}

// still tells whether the device is bound as it was.
func (b *Bound) still() (bool, error) {
	now, err := Look(b.Path)
	return b.File != "" && now == *b, err
}

func (b *Bound) clear(flags int) error {
	fd, err := unix.Open(b.Path, unix.O_RDWR|unix.O_CLOEXEC|flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: %s", export.ErrBusy, b.Path)
	}
	if errors.Is(err, unix.ENXIO) { // it is being ended: its last user has gone, and its file is not closed yet
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", b.Path, err)
	}
	defer unix.Close(fd)
	if same, err := b.still(); err != nil || !same { // as long as it is open here it is not bound anew
		return err
	}
	if err := unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detach %s: %w", b.Path, err)
	}
	return nil
}

func waitFree(ctx context.Context, b Bound) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if same, err := b.still(); err != nil || !same {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s is held open: %w", export.ErrBusy, b.Path, ctx.Err())
		case <-tick.C:
		}
	}
}

// Size is a device's size in bytes.
func Size(path string) (int64, error) {
	b, err := os.ReadFile(filepath.Join(sysBlock, filepath.Base(path), "size"))
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", path, err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", path, err)
	}
	return n * 512, nil
}

// FileSystem is the device number of the file system that has the device's file. Who serves that may be asked, and not answer.
func FileSystem(path string) (uint64, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	info, err := unix.IoctlLoopGetStatus64(fd)
	if err != nil {
		return 0, fmt.Errorf("file of %s: %w", path, err)
	}
	return info.Device, nil
}
