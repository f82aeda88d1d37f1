package peer

import "sync"

// chunkSize is the unit of the send queue in bytes: four full TLS records.
const chunkSize = 64 << 10

// buffer is a pooled byte slice. Its owner calls free once and forgets it.
type buffer struct {
	b    []byte
	home *sync.Pool
}

func (b *buffer) free() {
	if b != nil && b.home != nil {
		b.home.Put(b)
	}
}

// classes are the capacities that are pooled, in bytes: one page or one MiB each fit with their meta.
const classes = 6

func classSize(i int) int {
	return [classes]int{1 << 10, 8 << 10, chunkSize, 272 << 10, 1088 << 10, 2112 << 10}[i]
}

// buffers is a set of pools, one for each size class. The zero value is ready.
type buffers struct{ pools [classes]sync.Pool }

// get gives a buffer of length n; above the largest class it is not pooled.
func (p *buffers) get(n int) *buffer {
	for i := range p.pools {
		if size := classSize(i); n <= size {
			b, _ := p.pools[i].Get().(*buffer)
			if b == nil {
				b = &buffer{b: make([]byte, size), home: &p.pools[i]}
			}
			b.b = b.b[:n]
			return b
		}
	}
	return &buffer{b: make([]byte, n)}
}
