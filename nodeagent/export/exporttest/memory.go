package exporttest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// Layout of the shared memory: page 0 holds the size, then come the slots, then the volume.
//
//	slot   0 accepted u64 (0 or 1, written last) · 8 request id 24
const (
	slotCount = 4096
	slotSize  = 32
	slotsAt   = export.BlockSize
	dataAt    = slotsAt + slotCount*slotSize
	stripes   = 64
	stripeLog = 20
)

// Op names a backend's call for hooks and counters.
type Op int

// Ops.
const (
	OpRead Op = iota
	OpWrite
	OpFlush
	OpDiscard
	OpZero
	OpAccepted // a write is in the ring and not answered yet; its error is ignored
	OpAnswered
	OpResent
	numOps
)

// Memory is a backend in a memfd with a model of a ring: the ids of requests that were accepted and not answered.
// Like a real volume it accepts a request first and is told of its answer afterwards; what it holds counts as durable.
type Memory struct {
	fd   int
	mem  []byte
	data []byte

	locks [stripes]sync.RWMutex
	size  atomic.Int64
	count [numOps]atomic.Int64
	hook  atomic.Pointer[func(op Op, off, n int64) error]
	slow  atomic.Bool
	amnes atomic.Bool

	mu     sync.Mutex
	free   []uint32
	ids    map[export.RequestID]uint32
	former map[export.RequestID]uint32 // accepted by a former process; not asked for yet
}

var (
	_ export.Backend = (*Memory)(nil)
	_ export.Mapper  = (*Memory)(nil)
)

// NewMemory makes a volume of size bytes that can grow to limit bytes.
func NewMemory(size, limit int64) (*Memory, error) {
	fd, err := unix.MemfdCreate("volume", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make shared memory: %w", err)
	}
	if err := unix.Ftruncate(fd, dataAt+max(size, limit)); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make shared memory: %w", err)
	}
	m, err := OpenMemory(fd)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	m.Grow(size)
	return m, nil
}

// OpenMemory opens a volume that another Memory made, from its descriptor, which it then owns.
func OpenMemory(fd int) (*Memory, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("open shared memory: %w", err)
	}
	if st.Size < dataAt {
		return nil, errors.New("open shared memory: not a volume")
	}
	mem, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map shared memory: %w", err)
	}
	m := &Memory{
		fd: fd, mem: mem, data: mem[dataAt:],
		ids: map[export.RequestID]uint32{}, former: map[export.RequestID]uint32{},
	}
	m.size.Store(int64(binary.LittleEndian.Uint64(mem)))
	for i := range uint32(slotCount) {
		if s := m.slot(i); s[0] != 0 {
			m.former[export.RequestID(s[8:slotSize])] = i
		} else {
			m.free = append(m.free, i)
		}
	}
	return m, nil
}

// FD is the descriptor of the shared memory; it stays the Memory's.
func (m *Memory) FD() int { return m.fd }

// Close gives the memory back.
func (m *Memory) Close() {
	_ = unix.Munmap(m.mem)
	_ = unix.Close(m.fd)
}

// Grow sets the volume's size in bytes.
func (m *Memory) Grow(size int64) {
	binary.LittleEndian.PutUint64(m.mem, uint64(size))
	m.size.Store(size)
}

// SetHook has f called before every operation, where it may block or fail it. Nil takes it away.
func (m *Memory) SetHook(f func(op Op, off, n int64) error) {
	if f == nil {
		m.hook.Store(nil)
		return
	}
	m.hook.Store(&f)
}

// SetSlow makes TryRead and TryWrite decline, as a volume does whose ring is full or whose pages are far away.
func (m *Memory) SetSlow(slow bool) { m.slow.Store(slow) }

// SetAmnesia makes Accepted deny everything: a volume that does not know requests again. It is for negative controls.
func (m *Memory) SetAmnesia(on bool) { m.amnes.Store(on) }

// Count is how often an operation was done, by this Memory.
func (m *Memory) Count(op Op) int64 { return m.count[op].Load() }

// Pending is the number of requests that were accepted and not answered.
func (m *Memory) Pending() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.ids) + len(m.former)
}

// Bytes is the volume itself, for comparisons while nothing is written.
func (m *Memory) Bytes() []byte { return m.data[:m.size.Load()] }

func (m *Memory) slot(i uint32) []byte { return m.mem[slotsAt+i*slotSize:][:slotSize] }

func (m *Memory) before(op Op, off, n int64) error {
	m.count[op].Add(1)
	if f := m.hook.Load(); f != nil {
		return (*f)(op, off, n)
	}
	return nil
}

// each calls f for the pieces of [off, off+n) under their locks.
func (m *Memory) each(off, n int64, write bool, f func(p []byte, done int64)) {
	for done := int64(0); done < n; {
		at := off + done
		k := min(n-done, 1<<stripeLog-at&(1<<stripeLog-1))
		l := &m.locks[at>>stripeLog%stripes]
		if write {
			l.Lock()
			f(m.data[at:at+k], done)
			l.Unlock()
		} else {
			l.RLock()
			f(m.data[at:at+k], done)
			l.RUnlock()
		}
		done += k
	}
}

// Size is the volume's size in bytes.
func (m *Memory) Size() int64 { return m.size.Load() }

// TryRead reads, unless a hook is set or SetSlow was called.
func (m *Memory) TryRead(p []byte, off int64, _ export.Turn) (bool, error) {
	if m.slow.Load() || m.hook.Load() != nil {
		return false, nil
	}
	return true, m.Read(p, off)
}

// Read fills p.
func (m *Memory) Read(p []byte, off int64) error {
	if err := m.before(OpRead, off, int64(len(p))); err != nil {
		return err
	}
	m.each(off, int64(len(p)), false, func(q []byte, done int64) { copy(p[done:], q) })
	return nil
}

// TryWrite writes, unless a hook is set or SetSlow was called.
func (m *Memory) TryWrite(id export.RequestID, p []byte, off int64) (bool, error) {
	if m.slow.Load() || m.hook.Load() != nil {
		return false, nil
	}
	return true, m.Write(id, p, off)
}

// Write applies p and then notes the id.
func (m *Memory) Write(id export.RequestID, p []byte, off int64) error {
	if err := m.before(OpWrite, off, int64(len(p))); err != nil {
		return err
	}
	m.each(off, int64(len(p)), true, func(q []byte, done int64) { copy(q, p[done:]) })
	m.accept(id)
	_ = m.before(OpAccepted, off, int64(len(p)))
	return nil
}

// Discard clears the range.
func (m *Memory) Discard(id export.RequestID, off, n int64) error {
	return m.zero(OpDiscard, id, off, n)
}

// WriteZeroes clears the range.
func (m *Memory) WriteZeroes(id export.RequestID, off, n int64) error {
	return m.zero(OpZero, id, off, n)
}

func (m *Memory) zero(op Op, id export.RequestID, off, n int64) error {
	if err := m.before(op, off, n); err != nil {
		return err
	}
	m.each(off, n, true, func(q []byte, _ int64) { clear(q) })
	m.accept(id)
	return nil
}

// Flush counts.
func (m *Memory) Flush() error { return m.before(OpFlush, 0, 0) }

func (m *Memory) accept(id export.RequestID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.free[len(m.free)-1]
	m.free = m.free[:len(m.free)-1]
	s := m.slot(i)
	copy(s[8:], id[:])
	s[0] = 1 // last: a kill before it leaves the request unknown, and sent again
	m.ids[id] = i
}

// Accepted reports whether the id is noted.
func (m *Memory) Accepted(id export.RequestID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i, ok := m.former[id]; ok && !m.amnes.Load() {
		delete(m.former, id)
		m.ids[id] = i
	}
	_, ok := m.ids[id]
	return ok && !m.amnes.Load()
}

// Answered forgets the id.
func (m *Memory) Answered(id export.RequestID) {
	m.count[OpAnswered].Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if i, ok := m.ids[id]; ok {
		delete(m.ids, id)
		m.slot(i)[0] = 0
		m.free = append(m.free, i)
	}
}

// Resent forgets what a former process accepted and nobody asked for.
func (m *Memory) Resent() {
	m.count[OpResent].Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, i := range m.former {
		delete(m.former, id)
		m.slot(i)[0] = 0
		m.free = append(m.free, i)
	}
}

// Map reports blocks that hold only zeros as holes.
func (m *Memory) Map(off, n int64, yield func(n int64, data bool) bool) error {
	zero := make([]byte, export.BlockSize)
	isData := func(at int64) (data bool) {
		m.each(at, export.BlockSize, false, func(p []byte, _ int64) { data = !bytes.Equal(p, zero) })
		return data
	}
	for at := off; at < off+n; {
		data, end := isData(at), at+export.BlockSize
		for end < off+n && isData(end) == data {
			end += export.BlockSize
		}
		if !yield(end-at, data) {
			return nil
		}
		at = end
	}
	return nil
}
