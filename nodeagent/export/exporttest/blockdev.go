package exporttest

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// Aligned makes a buffer of n bytes that direct I/O takes.
func Aligned(n int) []byte {
	b := make([]byte, n+export.BlockSize)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (export.BlockSize - 1)
	return b[skip : skip+n : skip+n]
}

// BlockDevice is a block device node as a Disk, with direct I/O.
type BlockDevice struct{ f *os.File }

var _ Disk = (*BlockDevice)(nil)

// OpenBlockDevice opens the node at path.
func OpenBlockDevice(path string) (*BlockDevice, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return nil, fmt.Errorf("open block device: %w", err)
	}
	return &BlockDevice{f}, nil
}

// Size is in bytes.
func (b *BlockDevice) Size() (int64, error) {
	var n uint64
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, b.f.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&n)))
	return int64(n), orNil(errno)
}

// ReadAt reads.
func (b *BlockDevice) ReadAt(p []byte, off int64) (int, error) { return b.f.ReadAt(p, off) }

// WriteAt writes.
func (b *BlockDevice) WriteAt(p []byte, off int64) (int, error) { return b.f.WriteAt(p, off) }

// Flush is an fsync.
func (b *BlockDevice) Flush() error { return b.f.Sync() }

// Discard is BLKDISCARD.
func (b *BlockDevice) Discard(off, n int64) error { return b.ranged(unix.BLKDISCARD, off, n) }

// Zero is BLKZEROOUT.
func (b *BlockDevice) Zero(off, n int64) error { return b.ranged(unix.BLKZEROOUT, off, n) }

func (b *BlockDevice) ranged(call uintptr, off, n int64) error {
	r := [2]uint64{uint64(off), uint64(n)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, b.f.Fd(), call, uintptr(unsafe.Pointer(&r)))
	return orNil(errno)
}

// Close closes.
func (b *BlockDevice) Close() error { return b.f.Close() }

func orNil(errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}
