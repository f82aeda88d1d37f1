package leaf

import (
	"unsafe"

	"github.com/zeebo/blake3"
)

// Size of a page in bytes.
const Size = 4096

// Short is the most bytes that SumShort takes.
const Short = 1024

// SumShort is BLAKE3-256 of up to Short bytes.
func SumShort(p []byte) (sum [32]byte) {
	if !wide {
		return blake3.Sum256(p)
	}
	var tail [64]byte
	copy(tail[:], p[max(0, len(p)-1)/64*64:])
	chunk(unsafe.SliceData(p), len(p), &tail, &sum)
	return sum
}

// Sum is BLAKE3-256 of a page.
func Sum(p *[Size]byte) (sum [32]byte) {
	if wide {
		var two [2][32]byte
		pair(p, p, &two)
		return two[0]
	}
	return blake3.Sum256(p[:])
}

// Sum2 is the sums of two pages, in little more than the time of one where there is a kernel.
func Sum2(a, b *[Size]byte) (sums [2][32]byte) {
	if wide {
		pair(a, b, &sums)
		return sums
	}
	return [2][32]byte{blake3.Sum256(a[:]), blake3.Sum256(b[:])}
}
