package uring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrUnavailable tells that the machine gives this process no io_uring: an old kernel, a sysctl, a seccomp profile, or a limit.
var ErrUnavailable = errors.New("the kernel gives no io_uring with what is needed")

// Sizes of the wire, in bytes.
const (
	sqeSize    = 128
	cqeSize    = 16
	paramsSize = 120

	cmdAt   = 48 // where a command's own bytes are in a submission
	CmdSize = sqeSize - cmdAt
)

// Operations.
const (
	opRead = 22
	opCmd  = 46
)

// Flags of io_uring_setup.
const (
	setupCQSize       = 1 << 3
	setupClamp        = 1 << 4
	setupSubmitAll    = 1 << 7
	setupSQE128       = 1 << 10
	setupSingleIssuer = 1 << 12
	setupDeferTaskrun = 1 << 13
)

const (
	featSingleMmap = 1 << 0
	featNoDrop     = 1 << 1
	featExtArg     = 1 << 8
	required       = featSingleMmap | featNoDrop | featExtArg

	enterGetEvents = 1 << 0
	enterExtArg    = 1 << 3

	offSQRing = 0
	offSQEs   = 0x10000000
)

// params is struct io_uring_params.
type params struct {
	sqEntries, cqEntries, flags, sqCPU, sqIdle, features, wqFD uint32
	_                                                          [3]uint32
	sq                                                         sqOffsets
	cq                                                         cqOffsets
}

type sqOffsets struct {
	head, tail, mask, entries, flags, dropped, array, _ uint32
	_                                                   uint64
}

type cqOffsets struct {
	head, tail, mask, entries, overflow, cqes, flags, _ uint32
	_                                                   uint64
}

// getEventsArg is struct io_uring_getevents_arg.
type getEventsArg struct {
	sigmask   uint64
	sigmaskSz uint32
	_         uint32
	ts        uint64
}

var (
	_ [paramsSize]byte = [unsafe.Sizeof(params{})]byte{}
	_ [40]byte         = [unsafe.Sizeof(sqOffsets{})]byte{}
	_ [40]byte         = [unsafe.Sizeof(cqOffsets{})]byte{}
	_ [24]byte         = [unsafe.Sizeof(getEventsArg{})]byte{}
)

// Completion is the result of one submission.
type Completion struct {
	Data  uint64 // the submission's own
	Res   int32  // of the operation, or a negative errno
	Flags uint32
}

// Ring is one ring. See the package's comment for who may call what.
type Ring struct {
	fd    int
	rings []byte // both queues' heads, tails and the completions
	sqes  []byte

	sqHead, sqTail, cqHead, cqTail *uint32
	sqMask, cqMask                 uint32
	cqes                           []byte

	tail uint32 // of submissions that were filled

	arg  getEventsArg // for a waiting Enter; here, so that it does not move
	wait unix.Timespec
}

// New makes a ring with room for at least n submissions under way; it belongs to the calling thread.
func New(n int) (*Ring, error) {
	p := params{
		flags: setupCQSize | setupClamp | setupSubmitAll | setupSQE128 | setupSingleIssuer | setupDeferTaskrun, cqEntries: 2 * uint32(n),
	}
	fd, _, errno := syscall.Syscall(unix.SYS_IO_URING_SETUP, uintptr(n), uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("%w: io_uring_setup: %w", ErrUnavailable, errno)
	}
	r := &Ring{fd: int(fd)}
	unix.CloseOnExec(r.fd)
	if p.features&required != required {
		_ = r.Close()
		return nil, fmt.Errorf("%w: features %#x", ErrUnavailable, p.features)
	}
	if err := r.mmap(&p); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Ring) mmap(p *params) (err error) {
	size := max(int(p.sq.array+4*p.sqEntries), int(p.cq.cqes+cqeSize*p.cqEntries))
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_POPULATE
	if r.rings, err = unix.Mmap(r.fd, offSQRing, size, prot, flags); err != nil {
		return fmt.Errorf("%w: map its queues: %w", ErrUnavailable, err)
	}
	if r.sqes, err = unix.Mmap(r.fd, offSQEs, int(sqeSize*p.sqEntries), prot, flags); err != nil {
		return fmt.Errorf("%w: map its queues: %w", ErrUnavailable, err)
	}
	at := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.rings[off])) }
	r.sqHead, r.sqTail, r.cqHead, r.cqTail = at(p.sq.head), at(p.sq.tail), at(p.cq.head), at(p.cq.tail)
	r.sqMask, r.cqMask = *at(p.sq.mask), *at(p.cq.mask)
	r.cqes = r.rings[p.cq.cqes:][:cqeSize*p.cqEntries]
	for i := range p.sqEntries { // the kernel looks submissions up in an array: each at its own place
		*at(p.sq.array + 4*i) = i
	}
	return nil
}

// Close ends the ring and all that is under way on it.
func (r *Ring) Close() error {
	if r.sqes != nil {
		_ = unix.Munmap(r.sqes)
	}
	if r.rings != nil {
		_ = unix.Munmap(r.rings)
	}
	return unix.Close(r.fd)
}

// next is the place of the next submission, cleared; nil if the queue is full: Enter empties it.
func (r *Ring) next() []byte {
	if r.tail-atomic.LoadUint32(r.sqHead) > r.sqMask {
		return nil
	}
	e := r.sqes[(r.tail&r.sqMask)*sqeSize:][:sqeSize]
	clear(e)
	r.tail++
	return e
}

// Read submits a read of p from fd at the file's position. p is off the Go heap and stays until the completion. It reports
// false if the queue is full.
func (r *Ring) Read(fd int, p []byte, data uint64) bool {
	e := r.next()
	if e == nil {
		return false
	}
	e[0] = opRead
	binary.LittleEndian.PutUint32(e[4:], uint32(fd))
	binary.LittleEndian.PutUint64(e[8:], ^uint64(0))
	binary.LittleEndian.PutUint64(e[16:], uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p)))))
	binary.LittleEndian.PutUint32(e[24:], uint32(len(p)))
	binary.LittleEndian.PutUint64(e[32:], data)
	return true
}

// Command submits command code to fd's driver. addr and n are what the driver takes them for; it returns the command's own
// bytes for the caller to fill before the next Enter, or nil if the queue is full.
func (r *Ring) Command(fd int, code uint32, addr uintptr, n uint32, data uint64) []byte {
	e := r.next()
	if e == nil {
		return nil
	}
	e[0] = opCmd
	binary.LittleEndian.PutUint32(e[4:], uint32(fd))
	binary.LittleEndian.PutUint32(e[8:], code)
	binary.LittleEndian.PutUint64(e[16:], uint64(addr))
	binary.LittleEndian.PutUint32(e[24:], n)
	binary.LittleEndian.PutUint64(e[32:], data)
	return e[cmdAt:]
}

// Pending is the number of submissions that the kernel has not been told of.
func (r *Ring) Pending() int { return int(r.tail - atomic.LoadUint32(r.sqHead)) }

// Enter hands the submissions to the kernel. With wait it then waits for a completion: for ever if limit is 0 or less, else
// for limit nanoseconds, after which it returns ETIME. A signal ends the wait with nil. Without wait, Pending may be left.
func (r *Ring) Enter(wait bool, limit int64) error {
	atomic.StoreUint32(r.sqTail, r.tail)
	var flags, least, arg, size uintptr
	if wait {
		flags, least = enterGetEvents, 1
		if limit > 0 {
			r.wait = unix.NsecToTimespec(limit)
			r.arg.ts = uint64(uintptr(unsafe.Pointer(&r.wait)))
			flags |= enterExtArg
			arg, size = uintptr(unsafe.Pointer(&r.arg)), unsafe.Sizeof(r.arg)
		}
	}
	call := syscall.RawSyscall6 // what does not wait does not trouble Go's scheduler
	if wait {
		call = syscall.Syscall6
	}
	_, _, errno := call(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(r.Pending()), least, flags, arg, size)
	switch errno {
	case 0, unix.EINTR, unix.EAGAIN, unix.EBUSY: // the last two: short of memory; what was not taken is pending still
		return nil
	case unix.ETIME:
		return errno
	default:
		return fmt.Errorf("io_uring_enter: %w", errno)
	}
}

// Next takes the next completion, if there is one.
func (r *Ring) Next() (c Completion, ok bool) {
	head := *r.cqHead // ours alone
	if head == atomic.LoadUint32(r.cqTail) {
		return c, false
	}
	e := r.cqes[(head&r.cqMask)*cqeSize:][:cqeSize]
	c = Completion{
		Data: binary.LittleEndian.Uint64(e), Res: int32(binary.LittleEndian.Uint32(e[8:])), Flags: binary.LittleEndian.Uint32(e[12:]),
	}
	atomic.StoreUint32(r.cqHead, head+1)
	return c, true
}
