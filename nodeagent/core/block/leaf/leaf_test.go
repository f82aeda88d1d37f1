package leaf

import (
	"math/rand/v2"
	"testing"

	"github.com/zeebo/blake3"
)

func same(t *testing.T, a, b *[Size]byte) {
	t.Helper()
	wantA, wantB := blake3.Sum256(a[:]), blake3.Sum256(b[:])
	if got := Sum(a); got != wantA {
		t.Fatalf("Sum is %x, want %x", got, wantA)
	}
	if got := Sum2(a, b); got != [2][32]byte{wantA, wantB} {
		t.Fatalf("Sum2 is %x, want %x and %x", got, wantA, wantB)
	}
}

// TestSame: the sums are the library's, for pages of every kind and at every alignment.
func TestSame(t *testing.T) {
	t.Logf("kernel: %v", wide)
	rng := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 2*Size+64)
	for i := range 2000 {
		for j := range buf {
			buf[j] = byte(rng.Uint32())
		}
		switch i % 4 {
		case 1:
			clear(buf)
		case 2: // two bits apart from zeros
			clear(buf)
			buf[rng.IntN(len(buf))] = 1 << rng.IntN(8)
			buf[rng.IntN(len(buf))] = 0xff
		}
		at := rng.IntN(64)
		same(t, (*[Size]byte)(buf[at:]), (*[Size]byte)(buf[at+Size:]))
	}
}

// TestEachByteCounts is the control of TestSame: no byte of either page is left out, and none of one page counts for the other.
func TestEachByteCounts(t *testing.T) {
	var a, b [Size]byte
	whole := Sum2(&a, &b)
	for i := range Size {
		a[i] ^= 0x40
		if got := Sum2(&a, &b); got[0] == whole[0] || got[1] != whole[1] {
			t.Fatalf("byte %d of the first page", i)
		}
		a[i] ^= 0x40
		b[i] ^= 0x40
		if got := Sum2(&a, &b); got[0] != whole[0] || got[1] == whole[1] {
			t.Fatalf("byte %d of the second page", i)
		}
		b[i] ^= 0x40
	}
}

// TestShort: the sums of what has any length up to a chunk's are the library's, whatever lies around it.
func TestShort(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	buf := make([]byte, Short+200)
	for n := range Short + 1 {
		for j := range buf {
			buf[j] = byte(rng.Uint32())
		}
		p := buf[rng.IntN(99):][:n]
		want := blake3.Sum256(p)
		if got := SumShort(p); got != want {
			t.Fatalf("%d bytes: %x, want %x", n, got, want)
		}
		if n > 0 {
			p[rng.IntN(n)] ^= 1 << rng.IntN(8)
			if SumShort(p) == want {
				t.Fatalf("%d bytes: one does not count", n)
			}
		}
	}
}

// FuzzShort compares with the library.
func FuzzShort(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte("seed"))
	f.Fuzz(func(t *testing.T, p []byte) {
		p = p[:min(len(p), Short)]
		if got, want := SumShort(p), blake3.Sum256(p); got != want {
			t.Fatalf("%x, want %x", got, want)
		}
	})
}

func BenchmarkShort(b *testing.B) {
	var p [200]byte
	for range b.N {
		SumShort(p[:])
	}
}

func BenchmarkShortLibrary(b *testing.B) {
	var p [200]byte
	for range b.N {
		blake3.Sum256(p[:])
	}
}

// FuzzSame compares with the library.
func FuzzSame(f *testing.F) {
	f.Add([]byte("seed"), []byte("other"))
	f.Fuzz(func(t *testing.T, x, y []byte) {
		var a, b [Size]byte
		for i := range a {
			if len(x) > 0 {
				a[i] = x[i%len(x)]
			}
			if len(y) > 0 {
				b[i] = y[i%len(y)]
			}
		}
		same(t, &a, &b)
	})
}

func BenchmarkSum(b *testing.B) {
	var p [Size]byte
	b.SetBytes(Size)
	for range b.N {
		Sum(&p)
	}
}

func BenchmarkSum2(b *testing.B) {
	var p, q [Size]byte
	b.SetBytes(2 * Size)
	for range b.N {
		Sum2(&p, &q)
	}
}

// BenchmarkLibrary is what there is without the kernel.
func BenchmarkLibrary(b *testing.B) {
	var p [Size]byte
	b.SetBytes(Size)
	for range b.N {
		blake3.Sum256(p[:])
	}
}
