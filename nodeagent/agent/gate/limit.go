package gate

import (
	"sync"
	"sync/atomic"
	"time"
)

// burst is how much of a second's worth may go through at once.
const burst = 100 * time.Millisecond

// slice bounds a sleep, so that new limits are seen soon.
const slice = 50 * time.Millisecond

// limiter is two buckets. The zero value has no limit and uses the system's clock.
type limiter struct {
	on atomic.Bool // there is a limit

	mu         sync.Mutex
	iops, rate int64     // 0: none
	ops, bytes time.Time // up to when the bucket is used up

	clock func() time.Time    // nil: time.Now
	sleep func(time.Duration) // nil: time.Sleep
}

func (l *limiter) now() time.Time {
	if l.clock == nil {
		return time.Now()
	}
	return l.clock()
}

func (l *limiter) set(iops, rate int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.iops, l.rate, l.ops, l.bytes = iops, rate, now, now
	l.on.Store(iops > 0 || rate > 0)
}

// cost is what n units cost at a rate per second.
func cost(n, rate int64) time.Duration {
	return time.Duration(float64(n) / float64(rate) * float64(time.Second))
}

// take takes a request of n bytes, or says how long it has to wait.
func (l *limiter) take(n int) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if l.iops > 0 {
		wait = max(wait, l.ops.Sub(now)-burst)
	}
	if l.rate > 0 {
		wait = max(wait, l.bytes.Sub(now)-burst)
	}
	if wait > 0 {
		return wait
	}
	if l.iops > 0 {
		l.ops = later(l.ops, now).Add(cost(1, l.iops))
	}
	if l.rate > 0 {
		l.bytes = later(l.bytes, now).Add(cost(int64(n), l.rate))
	}
	return 0
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (l *limiter) try(n int) bool { return !l.on.Load() || l.take(n) == 0 }

// giveBack undoes a try whose request did not go through.
func (l *limiter) giveBack(n int) {
	if !l.on.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.iops > 0 {
		l.ops = l.ops.Add(-cost(1, l.iops))
	}
	if l.rate > 0 {
		l.bytes = l.bytes.Add(-cost(int64(n), l.rate))
	}
}

func (l *limiter) wait(n int) {
	for l.on.Load() {
		d := l.take(n)
		if d == 0 {
			return
		}
		if d = min(d, slice); l.sleep != nil {
			l.sleep(d)
		} else {
			time.Sleep(d)
		}
	}
}
