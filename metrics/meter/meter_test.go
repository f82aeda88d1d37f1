package meter

import (
	"errors"
	"sync"
	"testing"
	"time"
)

// TestHistogram: each duration is counted in the bucket whose bound it does not exceed, and in all above.
func TestHistogram(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{-1, 0, 50 * time.Microsecond, 51 * time.Microsecond, time.Second, time.Hour} {
		h.Observe(d)
	}
	r := h.Read()
	if r.Count != 6 || r.Buckets[50e-6] != 3 || r.Buckets[100e-6] != 4 || r.Buckets[0.25] != 4 || r.Buckets[1] != 5 || r.Buckets[30] != 5 {
		t.Errorf("%+v", r)
	}
	if want := 3601.000101; r.Seconds < want-1e-9 || r.Seconds > want+1e-9 {
		t.Errorf("%v seconds, want %v", r.Seconds, want)
	}
}

// TestBounds: they rise, or buckets would not add up.
func TestBounds(t *testing.T) {
	b := Bounds()
	for i := 1; i < len(b); i++ {
		if b[i] <= b[i-1] {
			t.Errorf("bound %d is %v after %v", i, b[i], b[i-1])
		}
	}
}

// TestConcurrent: nothing is lost, and no reading is torn.
func TestConcurrent(t *testing.T) {
	var o Operations
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 1000 {
				o.Took.Observe(time.Duration(i) * time.Millisecond)
			}
		})
	}
	wg.Go(func() {
		for range 100 {
			r := o.Took.Read()
			var last uint64
			for _, b := range Bounds() {
				n := r.Buckets[b.Seconds()]
				if n < last || n > r.Count {
					t.Errorf("torn: %+v", r)
				}
				last = n
			}
		}
	})
	wg.Wait()
	if r := o.Took.Read(); r.Count != 4000 {
		t.Errorf("%d of 4000", r.Count)
	}
}

// TestEnded: a failed request moves no bytes, one that took long is a stall, and counting makes no garbage.
func TestEnded(t *testing.T) {
	var o Operations
	now := time.Now()
	o.Ended(now, 4096, nil)
	o.Ended(now, 4096, errors.New("disk"))
	o.Ended(now.Add(-2*Stall), 4096, nil)
	if o.Took.Read().Count != 3 || o.Bytes.Load() != 8192 || o.Errors.Load() != 1 || o.Stalls.Load() != 1 {
		t.Errorf("%d requests, %d bytes, %d errors, %d stalls", o.Took.Read().Count, o.Bytes.Load(), o.Errors.Load(), o.Stalls.Load())
	}
	if n := testing.AllocsPerRun(1000, func() { o.Ended(time.Now(), 1, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestStalled: only what waits is stalled, and only if nothing has ended for long.
func TestStalled(t *testing.T) {
	var o Operations
	soon, late := time.Now(), time.Now().Add(time.Hour)
	if o.Stalled(late) || !o.Waiting().IsZero() {
		t.Error("stalled without a request")
	}
	if start := o.Begin(); !o.Waiting().Equal(start) {
		t.Errorf("one began at %v, and waits since %v", start, o.Waiting())
	}
	o.Begin()
	if o.Stalled(soon) || !o.Stalled(late) || o.Inside() != 2 {
		t.Error("two wait")
	}
	o.End()
	if !o.Stalled(late) {
		t.Error("one waits")
	}
	o.End()
	if o.Stalled(late) || o.Inside() != 0 {
		t.Error("none waits")
	}
}

func BenchmarkEnded(b *testing.B) {
	var o Operations
	for b.Loop() {
		o.Ended(time.Now(), 4096, nil)
	}
}
