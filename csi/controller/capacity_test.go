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
