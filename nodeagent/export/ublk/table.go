package ublk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
)

const (
	tableVersion = 1
	headSize     = 64
	entrySize    = 32
	numberBits   = 48 // of a request's number; the tag is above it
)

// ErrTable tells that memory is not a device's table, or that of a newer version.
var ErrTable = errors.New("not the table of a ublk device of a known version")

// table counts the uses of tags in shared memory. See the package's comment.
type table struct {
	fd   int
	mem  []byte
	conn [16]byte
}

// tableEntry is one tag's.
type tableEntry struct {
	use     uint64 // atomic: number << 1 | unanswered
	op      uint32
	sectors uint32
	start   uint64
	_       uint64
}

var _ [entrySize]byte = [unsafe.Sizeof(tableEntry{})]byte{}

func newTable(conn [16]byte, tags int) (*table, error) {
	fd, err := unix.MemfdCreate("ublk", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a ublk device's table: %w", err)
	}
	page := os.Getpagesize()
	if err = unix.Ftruncate(fd, int64((headSize+tags*entrySize+page-1)/page*page)); err == nil {
		var head [headSize]byte
		binary.LittleEndian.PutUint32(head[:], tableVersion)
		binary.LittleEndian.PutUint32(head[4:], uint32(tags))
		copy(head[8:], conn[:])
		_, err = unix.Pwrite(fd, head[:], 0)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make a ublk device's table: %w", err)
	}
	return openTable(fd)
}

// openTable maps what newTable made, also in another process. It owns fd.
func openTable(fd int) (t *table, err error) {
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTable, err)
	}
	if st.Size < headSize || st.Size > headSize+maxDepth*entrySize+1<<16 {
		return nil, fmt.Errorf("%w: %d bytes", ErrTable, st.Size)
	}
	mem, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map a ublk device's table: %w", err)
	}
	t = &table{fd: fd, mem: mem, conn: [16]byte(mem[8:24])}
	if v, n := binary.LittleEndian.Uint32(mem), t.tags(); v != tableVersion || n < 1 || n > maxDepth || headSize+n*entrySize > len(mem) {
		_ = unix.Munmap(mem)
		return nil, fmt.Errorf("%w: version %d, %d tags in %d bytes", ErrTable, v, n, st.Size)
	}
	return t, nil
}

func (t *table) close() {
	_ = unix.Munmap(t.mem)
	_ = unix.Close(t.fd)
}

func (t *table) tags() int { return int(binary.LittleEndian.Uint32(t.mem[4:])) }

func (t *table) entry(tag int) *tableEntry {
	return (*tableEntry)(unsafe.Pointer(&t.mem[headSize+tag*entrySize]))
}

func (t *table) id(tag int, number uint64) export.RequestID {
	return export.NewRequestID(t.conn, uint64(tag)<<numberBits|number&(1<<numberBits-1))
}

// begin marks a new request of a tag as unanswered and gives it its identity.
func (t *table) begin(tag int, d *ioDesc) export.RequestID {
	e := t.entry(tag)
	number := atomic.LoadUint64(&e.use)>>1 + 1
	atomic.StoreUint64(&e.use, number<<1) // while the rest is half written, it stands for nothing
	e.op, e.sectors, e.start = d.op(), d.sectors, d.start
	atomic.StoreUint64(&e.use, number<<1|1)
	return t.id(tag, number)
}

// end marks a tag's request as answered.
func (t *table) end(tag int) {
	e := t.entry(tag)
	atomic.StoreUint64(&e.use, atomic.LoadUint64(&e.use)&^1)
}

// unanswered gives the identity of a tag's request that was not answered.
func (t *table) unanswered(tag int) (id export.RequestID, ok bool) {
	use := atomic.LoadUint64(&t.entry(tag).use)
	return t.id(tag, use>>1), use&1 == 1
}

// same reports whether d is what a tag's entry stands for.
func (t *table) same(tag int, d *ioDesc) bool {
	e := t.entry(tag)
	return e.op == d.op() && e.sectors == d.sectors && e.start == d.start
}
