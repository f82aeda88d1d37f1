package leaf

import "github.com/zeebo/blake3"

// Size of a page in bytes.
const Size = 4096

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
