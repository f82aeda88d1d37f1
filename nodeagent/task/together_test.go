package task

import (
	"testing"
	"time"
)

func TestTogether(t *testing.T) {
	const begin = 1000 * time.Second
	ends := map[time.Duration]bool{}
	for i := range 1000 {
		now := begin + time.Duration(i)*97*time.Microsecond // all within a tenth of a second
		for _, d := range []time.Duration{500 * time.Millisecond, time.Second, 15*time.Second + 1} {
			got := together(d, now)
			if got > d || got <= d-grid {
				t.Fatalf("%s became %s", d, got)
			}
			if d == time.Second {
				ends[now+got] = true
			}
		}
		for _, d := range []time.Duration{0, time.Millisecond, 499 * time.Millisecond} { // would be shortened by much
			if got := together(d, now); got != d {
				t.Fatalf("%s became %s", d, got)
			}
		}
	}
	if len(ends) != 1 {
		t.Errorf("a second's waits that began within a tenth of one end at %d moments", len(ends))
	}
}
