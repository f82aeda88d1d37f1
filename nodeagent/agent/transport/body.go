package transport

import "sync"

// classes are the capacities of pooled bodies, in bytes: one page, and 8, 32 and 64 pages, each with head and rows.
const classes = 4

func classSize(i int) int { return [classes]int{6 << 10, 40 << 10, 136 << 10, 272 << 10}[i] }

// bodies keeps the memory of requests that wait in lanes, by size: a pool of all sizes would grow small ones again and again.
type bodies struct{ pools [classes]sync.Pool }

// get gives an empty body with room for n bytes.
func (p *bodies) get(n int) *[]byte {
	for i := range p.pools {
		if size := classSize(i); n <= size {
			b, _ := p.pools[i].Get().(*[]byte)
			if b == nil {
				room := make([]byte, 0, size)
				b = &room
			}
			*b = (*b)[:0]
			return b
		}
	}
	room := make([]byte, 0, n)
	return &room
}

// put takes a body back. One that is larger than the largest class is left to the garbage collector.
func (p *bodies) put(b *[]byte) {
	for i := range p.pools {
		if cap(*b) == classSize(i) {
			p.pools[i].Put(b)
			return
		}
	}
}
