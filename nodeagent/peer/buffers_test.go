package peer

import (
	"testing"
	"unsafe"
)

// TestBuffers: a buffer is as long as asked for, also at its second use, and a large one ends at a page.
func TestBuffers(t *testing.T) {
	var p buffers
	for range 2 {
		for _, n := range []int{0, 1, 1024, 4200, 8 << 10, 8<<10 + 1, chunkSize, chunkSize + 1, 262144 + 5941, 272 << 10, 1<<20 + 3, 2112 << 10, 3 << 20} {
			b := p.get(n)
			if len(b.b) != n {
				t.Fatalf("%d bytes for %d", len(b.b), n)
			}
			clear(b.b)
			end := uintptr(unsafe.Pointer(unsafe.SliceData(b.b))) + uintptr(n)
			if n > 8<<10 && n <= 2112<<10 && end%pageSize != 0 {
				t.Errorf("a buffer of %d bytes ends %d bytes behind a page", n, end%pageSize)
			}
			b.free()
		}
	}
}
