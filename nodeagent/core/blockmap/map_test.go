package blockmap

import (
	"testing"

	"pgregory.net/rapid"
)

// TestModel: invariants 1-6 over random histories of a family of volumes.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(lo, hi int) int { return rapid.IntRange(lo, hi).Draw(rt, "n") }
		if err := newWorld(draw, faults{}).run(rapid.IntRange(1, 40).Draw(rt, "steps")); err != nil {
			rt.Fatal(err)
		}
	})
}

// TestModelLong is TestModel with longer histories.
func TestModelLong(t *testing.T) {
	for seed := range int64(20) {
		if err := newWorld(seeded(seed), faults{}).run(200); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestModelNotices: the negative controls.
func TestModelNotices(t *testing.T) {
	for name, bad := range map[string]faults{
		"a merge that forgets the shift": {forgetShift: true},
		"a merge that forgets a drop":    {forgetDrop: 20},
		"a merge that forgets a cut":     {forgetCut: true},
	} {
		for seed := range int64(5) {
			if err := newWorld(seeded(seed), bad).run(200); err == nil {
				t.Errorf("%s passed, seed %d", name, seed)
			} else if seed == 0 {
				t.Logf("%s: %v", name, err)
			}
		}
	}
}
