package store

import "testing"

// TestCountExtents: the count is what the volumes' lists add up to, also while what was freed is not swept yet.
func TestCountExtents(t *testing.T) {
	s := opened(t, formatted(t, small), small)
	check := func(want int) {
		t.Helper()
		sum := 0
		for _, v := range s.Volumes() {
			sum += v.Extents
		}
		if got := s.CountExtents(); got != want || sum != want {
			t.Errorf("counted %d, listed %d, want %d", got, sum, want)
		}
	}
	check(0)
	for i := range byte(4) {
		w := newScribe(testID(1+i/2, uint32(1+i)))
		appendOK(t, s, w.id, w.open(1<<16), nil)
		check(int(i) + 1)
	}
	if _, err := s.Free(testID(1, 1)); err != nil {
		t.Fatal(err)
	}
	check(3)
	commitOK(t, s)
	check(3)
}
