package scrub

import "time"

// Bounds of the rate in bytes per second. With Floor, 600 GiB are read in a week; with Cap, 38 TiB.
const (
	Floor = 1 << 20
	Cap   = 64 << 20
)

// Window is how much time a pass has: passes begin so often.
func Window(period time.Duration) time.Duration { return period / 2 }

// Rate is how many bytes a second a pass reads that has left bytes to read, and so much time for them. A pass that is late
// reads as much as is allowed.
func Rate(left int64, time_ time.Duration) int64 {
	if time_ <= 0 {
		return Cap
	}
	rate := float64(left) / time_.Seconds()
	return int64(min(max(rate, Floor), Cap))
}

// busyRequests is how many requests in a second make a store busy.
const busyRequests = 32

// rebuildCalm is how long after the last order to make a copy a store counts as rebuilding.
const rebuildCalm = 10 * time.Second

// watch tells from a store's counters whether others need it.
type watch struct {
	at       time.Time
	requests uint64
	rebuilds uint64
	rebuilt  time.Time
	busy     bool
}

// see takes the counters of this moment. A second at least has to pass between two looks that count.
func (w *watch) see(now time.Time, requests, rebuilds uint64) (busy bool) {
	if w.at.IsZero() {
		w.at, w.requests, w.rebuilds = now, requests, rebuilds
		return false
	}
	if rebuilds != w.rebuilds {
		w.rebuilds, w.rebuilt = rebuilds, now
	}
	if passed := now.Sub(w.at); passed >= time.Second {
		w.busy = float64(requests-w.requests) > busyRequests*passed.Seconds()
		w.at, w.requests = now, requests
	}
	return w.busy || !w.rebuilt.IsZero() && now.Sub(w.rebuilt) < rebuildCalm
}
