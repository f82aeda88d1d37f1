package blockmap

import (
	"testing"

	"pgregory.net/rapid"
)

// TestModel: invariants B1-B6 and B9 over random histories of a family of volumes.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(lo, hi int) int { return rapid.IntRange(lo, hi).Draw(rt, "n") }
		if err := newWorld(draw, faults{}).run(rapid.IntRange(1, 40).Draw(rt, "steps")); err != nil {
			rt.Fatal(err)
		}
	})
}

// TestModelLong is TestModel with longer histories, which must meet all that matters.
func TestModelLong(t *testing.T) {
	did := map[string]int{}
	for seed := range int64(40) {
		w := newWorld(seeded(seed), faults{})
		if err := w.run(200); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for what, n := range w.did {
			did[what] += n
		}
	}
	for _, what := range []string{"cut", "growth", "empty", "rollback", "entry of generation 1", "entry of generation 2", "entry of generation 3"} {
		if did[what] < 20 {
			t.Errorf("%s: met %d times", what, did[what])
		}
	}
	t.Log(did)
}

// TestModelNotices: the negative controls.
func TestModelNotices(t *testing.T) {
	for name, bad := range map[string]faults{
		"a merge that forgets the shift":  {forgetShift: true},
		"a merge that forgets a drop":     {forgetDrop: 20},
		"a merge that forgets a cut":      {forgetCut: true},
		"a node overwritten":              {reuseNode: true},
		"a node emitted twice":            {emitTwice: true},
		"a diff that leaves out pages":    {forgetDiff: true},
		"an overlay where the first wins": {firstWins: true},
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
