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
	path, err := os.ReadFile(dir + "loop/backing_file")
	if err != nil {
		return loop{}, err
	}
	seq, err := os.ReadFile(dir + "diskseq")
	if err != nil {
		return loop{}, err
	}
	return loop{number, strings.TrimSpace(string(seq)), strings.TrimSuffix(strings.TrimSuffix(string(path), "\n"), " (deleted)")}, nil
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

// detach frees the loop if it still has the file that it had, and waits until it is free.
func (l loop) detach(most time.Duration) error {
	for end := time.Now().Add(most); ; time.Sleep(20 * time.Millisecond) {
		now, err := lookAt(l.number)
		if errors.Is(err, fs.ErrNotExist) || (err == nil && now.seq != l.seq) {
			return nil
		}
		if err != nil {
			return err
		}
		f, err := l.open()
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
