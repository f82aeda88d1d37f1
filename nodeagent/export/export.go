package export

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
)

// BlockSize is the logical block size of every exported device, in bytes: the unit of offsets and lengths.
const BlockSize = 4096

// Errors of exports.
var (
	// ErrSize tells that a volume's size is not a positive multiple of BlockSize.
	ErrSize = errors.New("volume size is not a positive multiple of 4096")
	// ErrShrink tells that a device was asked to become smaller, which no front end supports.
	ErrShrink = errors.New("a device cannot shrink")
	// ErrBusy tells that a device is still mounted or held open by someone.
	ErrBusy = errors.New("device is in use")
	// ErrGone is why a device ended by itself: its connection to the kernel was cut.
	ErrGone = errors.New("device was ended by the kernel or the holder")
)

// RequestID identifies a front end's request, also across a restart of the server, so that a request which is sent
// again is recognised. It is unique for the life of a volume's ring:
//
//	0 connection 16 (random, made with the device) · 16 number u64 little endian (the front end's own)
type RequestID [24]byte

// NewRequestID joins a connection's identity and the front end's number of a request.
func NewRequestID(conn [16]byte, number uint64) RequestID {
	var id RequestID
	copy(id[:16], conn[:])
	binary.LittleEndian.PutUint64(id[16:], number)
	return id
}

// Turn is the right of a thread that serves a device to wait for a disk, because somebody looks after it. A nil Turn is that of who is not looked
// after, who never waits.
type Turn interface {
	// Take reports whether the caller may wait now; then it gives the turn back.
	Take() bool
	Give()
}

// Backend is the open volume that an export serves. Offsets and lengths are in bytes, multiples of BlockSize and
// inside the volume. Buffers belong to the caller and are not kept after the return. Errors are mapped by Errno.
// Safe for concurrent use.
type Backend interface {
	// Size is the volume's size in bytes. It may grow while the volume is exported; see Device.Resize.
	Size() int64

	// TryRead fills p if that needs no waiting. For a disk of this machine that is not known to hang it may wait, if it gets the turn. ok = false means that nothing
	// was decided: call Read where blocking does no harm.
	TryRead(p []byte, off int64, turn Turn) (ok bool, err error)
	// Read fills p and may block.
	Read(p []byte, off int64) error

	// TryWrite does what Write does if that needs no waiting. ok = false means that nothing was accepted: call Write
	// where blocking does no harm.
	TryWrite(id RequestID, p []byte, off int64) (ok bool, err error)
	// Write accepts p, which is durable only after a Flush. It blocks for back-pressure.
	Write(id RequestID, p []byte, off int64) error
	// Discard makes a range read as zeros and frees its space. May block.
	Discard(id RequestID, off, n int64) error
	// WriteZeroes makes a range read as zeros; it may keep its space. May block.
	WriteZeroes(id RequestID, off, n int64) error
	// Flush returns when everything that was accepted before the call is durable.
	Flush() error

	// Accepted reports whether the ring holds the whole of a request with this id. Front ends ask it, and before Resent,
	// for every Write, Discard and WriteZeroes that is sent again: what was accepted is answered, not applied again.
	// It must not block.
	Accepted(id RequestID) bool
	// Answered tells that the answer to a Write, Discard or WriteZeroes that returned nil has been handed to the
	// kernel: the request will not be sent again. It must not block.
	Answered(id RequestID)
	// Resent tells that Accepted was asked for all requests that a former server process left unanswered (or that there
	// were none): what else the ring holds without an answer was answered by the former process. It must not block.
	Resent()
}

// Mapper is a Backend that knows which ranges are holes. It is optional: without it everything counts as data.
type Mapper interface {
	// Map reports the runs of [off, off+n) in order, until yield returns false. A run with data = false reads as zeros.
	Map(off, n int64, yield func(n int64, data bool) bool) error
}

// ReadOnly is a Backend that may take no changes. It is optional. If ReadOnly says so, its Writes, Discards and WriteZeroes fail with
// EROFS, and its device is one that the kernel knows as read-only.
type ReadOnly interface {
	ReadOnly() bool
}

// Device is a block device, or an address at which one is served.
type Device interface {
	// Path is what a user opens: a block device node or the path of a unix socket.
	Path() string
	// Resize makes the device newSize bytes long, after the backend has grown. Errors: ErrSize, ErrShrink.
	Resize(ctx context.Context, newSize int64) error
	// Close ends the device in the order that leaves nothing behind. It fails with ErrBusy, and changes nothing, while
	// the device is mounted. It may be repeated.
	Close(ctx context.Context) error
	// Done is closed once the device serves no more requests, whoever ended it.
	Done() <-chan struct{}
	// Err is nil before Done and after Close; else why the device ended.
	Err() error
}

// Errno maps a backend's error to what the kernel is told: the syscall.Errno in its chain, or EIO.
func Errno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	var errno syscall.Errno
	if errors.As(err, &errno) && errno != 0 {
		return errno
	}
	return syscall.EIO
}

// CheckSize returns ErrSize unless n is a positive multiple of BlockSize.
func CheckSize(n int64) error {
	if n <= 0 || n%BlockSize != 0 {
		return fmt.Errorf("%w: %d", ErrSize, n)
	}
	return nil
}

// CheckRange returns EINVAL unless [off, off+n) is a non-empty run of whole blocks, and ENOSPC if it does not lie inside size.
func CheckRange(off, n, size int64) error {
	if off < 0 || n <= 0 || off%BlockSize != 0 || n%BlockSize != 0 {
		return syscall.EINVAL
	}
	if off > size-n {
		return syscall.ENOSPC
	}
	return nil
}
