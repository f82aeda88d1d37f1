// Package memfd makes shared memory that outlives the process as long as the holder has its descriptor: a volume's ring, and the key of
// an encrypted volume, which is never on a disk.
//
// Concurrency: a Memory is what its user makes of it; New and Map are safe for concurrent use.
package memfd

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Memory is a piece of shared memory.
type Memory struct {
	FD int // the Memory's own
	B  []byte
}

// New makes zeroed memory of size bytes.
func New(name string, size int) (*Memory, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory for %s: %w", name, err)
	}
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("memory for %s of %d bytes: %w", name, size, err)
	}
	return Map(fd)
}

// Map maps what a descriptor stands for; it owns the descriptor, also when it fails.
func Map(fd int) (*Memory, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	if err == nil && (st.Size <= 0 || st.Size > maxMemory) {
		err = fmt.Errorf("%d bytes, at most %d: %w", st.Size, maxMemory, unix.EINVAL)
	}
	if err == nil {
		var b []byte
		if b, err = unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
			return &Memory{fd, b}, nil
		}
	}
	_ = unix.Close(fd)
	return nil, fmt.Errorf("map shared memory: %w", err)
}

// maxMemory bounds what is mapped of another process's descriptor, in bytes.
const maxMemory = 1 << 30

// Close lets the memory go. Nothing may use it afterwards.
func (m *Memory) Close() {
	_ = unix.Munmap(m.B)
	_ = unix.Close(m.FD)
}
