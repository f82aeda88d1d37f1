package disk

import (
	"errors"
	"io"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrWouldWait is why a read that must not wait was not made: the disk would have to be asked.
var ErrWouldWait = errors.New("the disk would have to be waited for")

// Prompt is a File that reads without waiting what is in memory.
type Prompt interface {
	// ReadNow is ReadAt if all of p can be had without a wait for the disk. Otherwise the error is ErrWouldWait, and p may have been
	// written to. It does not allocate.
	ReadNow(p []byte, off int64) (int, error)
}

var _ Prompt = (*osFile)(nil)

// ReadNow reads without waiting for the disk if f is Prompt, else as ReadAt does.
func ReadNow(f File, p []byte, off int64) (int, error) {
	if q, ok := f.(Prompt); ok {
		return q.ReadNow(p, off)
	}
	return f.ReadAt(p, off)
}

// nowRead is a preadv2 under way. The kernel's view of it is kept with it, so that a read allocates nothing.
type nowRead struct {
	iov unix.Iovec
	off int64
	n   int
	err syscall.Errno
	do  func(fd uintptr)
}

func newNowRead() *nowRead {
	r := &nowRead{}
	r.do = r.call
	return r
}

// call makes the system call. Go's scheduler is told of it: a file system may wait in spite of the flag, if only for its locks.
func (r *nowRead) call(fd uintptr) {
	for {
		n, _, errno := syscall.Syscall6(unix.SYS_PREADV2, fd, uintptr(unsafe.Pointer(&r.iov)), 1, uintptr(r.off), 0, unix.RWF_NOWAIT)
		if errno != unix.EINTR {
			r.n, r.err = int(n), errno
			return
		}
	}
}

// ReadNow implements Prompt with preadv2(2). Where the file system knows no reads that do not wait, it waits.
func (f *osFile) ReadNow(p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r := f.now.Get().(*nowRead)
	r.iov.Base, r.off = unsafe.SliceData(p), off
	r.iov.SetLen(len(p))
	err := f.raw.Control(r.do)
	n, errno := r.n, r.err
	r.iov.Base = nil
	f.now.Put(r)
	switch {
	case err != nil || errno == unix.EOPNOTSUPP:
		return f.ReadAt(p, off) // which says what is wrong
	case errno == unix.EAGAIN:
		return 0, ErrWouldWait
	case errno != 0:
		return 0, pathErr("read", f.Name(), errno)
	case n == len(p):
		return n, nil
	case n == 0:
		return 0, io.EOF
	}
	return n, ErrWouldWait // up to where memory has it, or to the file's end: whoever waits finds out
}
