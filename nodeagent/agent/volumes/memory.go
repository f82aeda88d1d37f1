package volumes

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// memory is a piece of shared memory that outlives the process as long as the holder has its descriptor.
type memory struct {
	fd int
	b  []byte
}

// newMemory makes zeroed memory.
func newMemory(name string, size int) (*memory, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory for %s: %w", name, err)
	}
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("memory for %s of %d bytes: %w", name, size, err)
	}
	return mapMemory(fd)
}

// mapMemory maps what a descriptor stands for; it owns the descriptor, also when it fails.
func mapMemory(fd int) (*memory, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	if err == nil && (st.Size <= 0 || st.Size > maxMemory) {
		err = fmt.Errorf("%d bytes, at most %d: %w", st.Size, maxMemory, unix.EINVAL)
	}
	if err == nil {
		var b []byte
		if b, err = unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
			return &memory{fd, b}, nil
		}
	}
	_ = unix.Close(fd)
	return nil, fmt.Errorf("map shared memory: %w", err)
}

// maxMemory bounds what is mapped of another process's descriptor, in bytes.
const maxMemory = 1 << 30

// close lets the memory go. Nothing may use it afterwards.
func (m *memory) close() {
	_ = unix.Munmap(m.b)
	_ = unix.Close(m.fd)
}
