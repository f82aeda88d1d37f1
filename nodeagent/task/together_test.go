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

func TestUntilBeat(t *testing.T) {
	const every = 500 * time.Millisecond
	for now, want := range map[time.Duration]time.Duration{0: every, 1: every - 1, every - 1: 1, every: every, 7*every + 3: every - 3} {
		if got := untilBeat(every, now); got != want {
			t.Errorf("at %s it is %s, want %s", now, got, want)
		}
		if (now+untilBeat(every, now))%grid != 0 {
			t.Errorf("from %s it ends beside the grid", now)
		}
	}
	if got := UntilBeat(time.Hour); got <= 0 || got > time.Hour {
		t.Errorf("it is %s until the next hour", got)
	}
}

// TestBeatsOfNodes: processes that began at different times look at the same moments, as far as their clocks agree.
func TestBeatsOfNodes(t *testing.T) {
	const every = 500 * time.Millisecond
	now := time.Date(2026, 11, 26, 12, 0, 0, 123, time.UTC)
	for i := range 1000 {
		began := now.Add(-time.Duration(i) * 7919 * time.Millisecond)
		if got, want := untilBeat(every, intoHour(began)+now.Sub(began)), every-123; got != want {
			t.Fatalf("begun at %s it is %s until the next beat, want %s", began, got, want)
		}
	}
}
