package peer

import (
	"sync"
	"unsafe"
)

const (
	// chunkSize is the unit of the send queue in bytes: four full TLS records.
	chunkSize = 64 << 10
	// pageSize is what the ends of large buffers are aligned to: pages that end a frame's body can so go past the page cache to a disk.
	pageSize = 4 << 10
)

// buffer is a pooled byte slice. Its owner calls free once and forgets it.
type buffer struct {
	b    []byte
	mem  []byte // what b is part of
	home *sync.Pool
	lent *Shared // whose memory b is; nil: it is its own
}

func (b *buffer) free() {
	if b == nil || b.home == nil {
		return
	}
	if s := b.lent; s != nil {
		b.b, b.lent = nil, nil
		s.Release()
	}
	b.home.Put(b)
}

// classes are the capacities that are pooled, in bytes: one page or one MiB each fit with their meta.
const classes = 6

func classSize(i int) int {
	return [classes]int{1 << 10, 8 << 10, chunkSize, 272 << 10, 1088 << 10, 2112 << 10}[i]
}

// buffers is a set of pools, one for each size class, and one for what is lent. The zero value is ready.
type buffers struct {
	pools [classes]sync.Pool
	lent  sync.Pool
}

// lend gives a full buffer that is a part of s, and holds s until it is freed.
func (p *buffers) lend(s *Shared, part []byte) *buffer {
	b, _ := p.lent.Get().(*buffer)
	if b == nil {
		b = &buffer{home: &p.lent}
	}
	s.Hold()
	b.b, b.lent = part[:len(part):len(part)], s
	return b
}

// get gives a buffer of length n; above the largest class it is not pooled. One of chunkSize or more ends at a multiple of pageSize.
func (p *buffers) get(n int) *buffer {
	for i := range p.pools {
		if size := classSize(i); n <= size {
			b, _ := p.pools[i].Get().(*buffer)
			if b == nil {
				b = &buffer{mem: memory(size), home: &p.pools[i]}
			}
			first := 0
			if size >= chunkSize {
				first = -n & (pageSize - 1)
			}
			b.b = b.mem[first : first+n]
			return b
		}
	}
	return &buffer{b: make([]byte, n)}
}

// memory is n bytes, from a multiple of pageSize on if they are a chunk or more.
func memory(n int) []byte {
	if n < chunkSize {
		return make([]byte, n)
	}
	b := make([]byte, n+pageSize)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (pageSize - 1)
	return b[skip : skip+n : skip+n]
}
