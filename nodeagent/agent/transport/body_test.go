package transport

import "testing"

// TestBodies: a body has room for what was asked, at most seven times it beyond the smallest class, and comes back without being
// made anew. Control: one beyond the largest class is made each time.
func TestBodies(t *testing.T) {
	var p bodies
	for _, n := range []int{0, 1, 4500, 6 << 10, 6<<10 + 1, 64 << 10, 265 << 10, 272 << 10, 1 << 20} {
		b := p.get(n)
		if len(*b) != 0 || cap(*b) < n || cap(*b) > max(6<<10, 7*n) {
			t.Errorf("%d bytes: a body of %d with room for %d", n, len(*b), cap(*b))
		}
		p.put(b)
	}
	again := func(n int) float64 { return testing.AllocsPerRun(100, func() { p.put(p.get(n)) }) }
	if got := again(100 << 10); got > 1.5 { // under the race detector pools drop a quarter of what they are given
		t.Errorf("a body of a class is made %v times a use", got)
	}
	if got := again(1 << 20); got < 2 {
		t.Errorf("control: a body beyond the classes is made %v times a use", got)
	}
}
