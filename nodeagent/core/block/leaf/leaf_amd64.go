//go:build !purego

package leaf

// pair puts the sums of two pages, which may be the same, into sums.
//
//go:noescape
func pair(a, b *[Size]byte, sums *[2][32]byte)

// chunk puts the sum of n bytes, 1024 at most, into sum: those at p, but for the last 64 or fewer of them, which are those of tail, with zeros behind.
//
//go:noescape
func chunk(p *byte, n int, tail *[64]byte, sum *[32]byte)

func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)

// xcr0 is what the operating system keeps of a thread's registers. Only where cpuid says OSXSAVE.
func xcr0() uint32

// wide tells whether pair works here.
var wide = detect()

func detect() bool {
	const (
		osxsave  = 1 << 27 // leaf 1, ecx
		avx2     = 1 << 5  // leaf 7, ebx
		avx512f  = 1 << 16
		avx512vl = 1 << 31
		kept     = 0xe6 // xcr0: registers of SSE, AVX and AVX-512
	)
	if last, _, _, _ := cpuid(0, 0); last < 7 {
		return false
	}
	if _, _, c, _ := cpuid(1, 0); c&osxsave == 0 || xcr0()&kept != kept {
		return false
	}
	_, b, _, _ := cpuid(7, 0)
	return b&avx2 != 0 && b&avx512f != 0 && b&avx512vl != 0
}
