package controller

import (
	"testing"

	"pgregory.net/rapid"
)

// TestPlaceable compares the formula with the definition: a size fits exactly if the nodes together take all copies, each
// node at most one.
func TestPlaceable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		free := rapid.SliceOfN(rapid.Int64Range(0, 60), 0, 7).Draw(t, "free")
		copies := rapid.IntRange(1, 5).Draw(t, "copies")
		fits := func(v int64) bool {
			var sum int64
			for _, f := range free {
				sum += min(f, v)
			}
			return sum >= int64(copies)*v
		}
		got := placeable(free, copies)
		if !fits(got) || got < 0 {
			t.Fatalf("placeable(%v, %d) = %d does not fit", free, copies, got)
		}
		if fits(got + 1) {
			t.Fatalf("placeable(%v, %d) = %d, but %d fits", free, copies, got, got+1)
		}
	})
}

// TestCoarse: never more than there is, at least 99 of 100, and not moved by each write. A full network is full.
func TestCoarse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 1<<50).Draw(t, "bytes")
		got := coarse(n)
		if got > n || n-got > max(n/100, 4095) || got%4096 != 0 {
			t.Fatalf("coarse(%d) = %d", n, got)
		}
	})
	seen := map[int64]bool{}
	for used := int64(0); used < 1<<30; used += 1 << 20 { // of 1 TiB
		seen[coarse(1<<40-used)] = true
	}
	if len(seen) > 2 {
		t.Errorf("a GiB written in MiBs changes what is told %d times", len(seen))
	}
}
