package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const loopMajor = 7

// loop is a loop device with the file that it was given.
type loop struct {
	number int
	seq    string // the kernel's number of this use of the device; no other use ever has it
	path   string // of the file, as whoever attached it saw it
}

// loops lists the loop devices that have a file. It asks the kernel only for what it knows by itself: no server of a file
// is waited for.
func loops() ([]loop, error) {
	dirs, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return nil, err
	}
	var out []loop
	for _, dir := range dirs {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(dir)), "loop"))
		if err != nil {
			continue
		}
		l, err := lookAt(n)
		if errors.Is(err, fs.ErrNotExist) { // detached meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// lookAt reads what a loop is; fs.ErrNotExist says that it has no file.
func lookAt(number int) (loop, error) {
	dir := fmt.Sprintf("/sys/block/loop%d/", number)
	path, err := attribute(dir + "loop/backing_file")
	if err != nil {
		return loop{}, err
	}
	if path == "" { // the file has been taken off already, the attribute not yet
		return loop{}, fs.ErrNotExist
	}
	seq, err := attribute(dir + "diskseq")
	if err != nil {
		return loop{}, err
	}
	return loop{number, seq, strings.TrimSuffix(path, " (deleted)")}, nil
}

// attribute reads a file of sysfs. One that is removed between its opening and the reading gives ENODEV or ENXIO, which are
// fs.ErrNotExist here.
func attribute(name string) (string, error) {
	b, err := os.ReadFile(name)
	if leaving(err) {
		return "", fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return strings.TrimSuffix(string(b), "\n"), err
}

// leaving tells whether the kernel says so of a device or attribute that it is just taking away. A loop can not be opened
// (ENXIO) from its last user's end until its file is closed.
func leaving(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO)
}

func (l loop) open() (*os.File, error) {
	return os.OpenFile(fmt.Sprintf("/dev/loop%d", l.number), os.O_RDONLY, 0)
}

// backing asks which file the loop has. The kernel asks the file's file system, which may be a FUSE server that is dead or
// hangs: known is false if there is no answer in time.
func (l loop) backing(most time.Duration) (device, inode uint64, known bool) {
	answer := make(chan *unix.LoopInfo64, 1)
	go func() {
		defer close(answer)
		f, err := l.open()
		if err != nil {
			return
		}
		defer f.Close()
		if info, err := unix.IoctlLoopGetStatus64(int(f.Fd())); err == nil {
			answer <- info
		}
	}()
	select {
	case info := <-answer:
		if info != nil {
			return info.Device, info.Inode, true
		}
	case <-time.After(most):
	}
	return 0, 0, false
}

// detach frees the loop if it still has the file that it had, and waits until it is free. Others may be detaching it too: the
// end of a node's last mount does.
func (l loop) detach(most time.Duration) error {
	for end := time.Now().Add(most); ; time.Sleep(20 * time.Millisecond) {
		now, err := lookAt(l.number)
		if errors.Is(err, fs.ErrNotExist) || (err == nil && now.seq != l.seq) {
			return nil
		}
		if err == nil {
			err = l.clear()
		}
		if time.Now().Before(end) {
			continue
		}
		if err != nil {
			return fmt.Errorf("detach /dev/loop%d: %w", l.number, err)
		}
		return fmt.Errorf("/dev/loop%d is still in use after its node has ended: something outside of the node has it open or mounted (fuser -vm /dev/loop%[1]d)", l.number)
	}
}

// clear asks the kernel to free the loop as soon as nobody uses it any more. One that is about to be freed is no error.
func (l loop) clear() error {
	f, err := l.open()
	if err == nil {
		err = errors.Join(unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0), f.Close())
	}
	if leaving(err) || errors.Is(err, unix.EBUSY) {
		return nil
	}
	return err
}
