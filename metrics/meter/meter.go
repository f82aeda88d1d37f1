package meter

import (
	"sync/atomic"
	"time"
)

const buckets = 14

// Bounds are the upper bounds of a histogram's buckets. The devices that are served answer between 0.1 ms and 10 ms on a good day; what
// takes above a second is a stall.
func Bounds() [buckets]time.Duration {
	const us, ms = time.Microsecond, time.Millisecond
	return [buckets]time.Duration{50 * us, 100 * us, 250 * us, 500 * us, ms, 2500 * us, 5 * ms, 10 * ms, 25 * ms, 100 * ms, 250 * ms, time.Second, 5 * time.Second, 30 * time.Second}
}

// Histogram counts durations.
type Histogram struct {
	counts [buckets + 1]atomic.Uint64 // the last one: above all bounds
	nanos  atomic.Uint64
}

// Observe counts one duration.
func (h *Histogram) Observe(d time.Duration) {
	i := 0
	for bounds := Bounds(); i < buckets && d > bounds[i]; i++ {
	}
	h.counts[i].Add(1)
	h.nanos.Add(uint64(max(d, 0)))
}

// Reading is a histogram at one moment.
type Reading struct {
	Count   uint64
	Seconds float64            // in all
	Buckets map[float64]uint64 // upper bound in seconds → durations up to it
}

// Read reads the histogram.
func (h *Histogram) Read() Reading {
	r := Reading{Buckets: make(map[float64]uint64, buckets)}
	for i, b := range Bounds() {
		r.Count += h.counts[i].Load()
		r.Buckets[b.Seconds()] = r.Count
	}
	r.Count += h.counts[buckets].Load()
	r.Seconds = time.Duration(h.nanos.Load()).Seconds()
	return r
}

// Stall is how long a request may take before it counts as stalled.
const Stall = time.Second

// Operations counts requests of one kind.
type Operations struct {
	Took   Histogram // of those that ended, the failed ones included
	Bytes  atomic.Uint64
	Errors atomic.Uint64
	Stalls atomic.Uint64 // of those that ended: took longer than Stall

	inside atomic.Int64 // begun and not ended
	moved  atomic.Int64 // Unix nanoseconds: when one last ended, or began while none was under way
}

// Begin counts a request that may wait; Ended follows, then End.
func (o *Operations) Begin() (start time.Time) {
	start = time.Now()
	if o.inside.Load() == 0 { // before it counts: nobody finds it waiting since long ago
		o.moved.Store(start.UnixNano())
	}
	o.inside.Add(1)
	return start
}

// End takes back what Begin counted.
func (o *Operations) End() {
	o.moved.Store(time.Now().UnixNano())
	o.inside.Add(-1)
}

// Ended counts one request that began at start, was about n bytes and ended with err.
func (o *Operations) Ended(start time.Time, n int64, err error) {
	d := time.Since(start)
	o.Took.Observe(d)
	if d > Stall {
		o.Stalls.Add(1)
	}
	if err != nil {
		o.Errors.Add(1)
		return
	}
	o.Bytes.Add(uint64(n))
}

// Inside is how many requests wait at the moment.
func (o *Operations) Inside() int64 { return o.inside.Load() }

// Stalled tells whether requests wait and none has ended for longer than Stall.
func (o *Operations) Stalled(now time.Time) bool {
	since := o.Waiting()
	return !since.IsZero() && now.Sub(since) > Stall
}

// Waiting is since when requests have waited and none has ended; zero if none waits.
func (o *Operations) Waiting() time.Time {
	if o.inside.Load() == 0 {
		return time.Time{}
	}
	return time.Unix(0, o.moved.Load())
}
