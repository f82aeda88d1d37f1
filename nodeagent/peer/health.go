package peer

import (
	"sync"
	"time"
)

// Scales of Score, and weights of the moving averages.
const (
	goodRTT       = time.Millisecond // gives half of the latency score
	goodBandwidth = 100e6            // bytes/s; gives half of the bandwidth score
	smallTransfer = 64 << 10         // bytes; up to it an exchange measures latency, beyond it bandwidth

	measureWeight = 1.0 / 8  // as TCP smooths its round-trip time (RFC 6298)
	failureWeight = 1.0 / 4  // of one failure
	successWeight = 1.0 / 64 // of one success
)

// Health is what was observed of one node. Safe for concurrent use.
type Health struct {
	mu          sync.Mutex
	rtt         float64 // seconds, 0: not measured
	bandwidth   float64 // bytes/s, 0: not measured
	reliability float64 // [0, 1]
	reputation  float64 // [0, 1]
	failures    uint64
}

// NewHealth is the health of a node of which nothing is known: reliability and reputation 1.
func NewHealth() *Health { return &Health{reliability: 1, reputation: 1} }

func ewma(old, sample, weight float64) float64 { return old + weight*(sample-old) }

// observe counts a reply: the time since its request, and the bytes of both.
func (h *Health) observe(took time.Duration, bytes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := max(took.Seconds(), 1e-9)
	v, sample := &h.rtt, s
	if bytes > smallTransfer {
		v, sample = &h.bandwidth, float64(bytes)/s
	}
	if *v == 0 {
		*v = sample
	}
	*v = ewma(*v, sample, measureWeight)
	h.reliability = ewma(h.reliability, 1, successWeight)
}

// Fail counts a failure: a dial or a connection that failed.
func (h *Health) Fail() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures++
	h.reliability = ewma(h.reliability, 0, failureWeight)
}

// Judge counts whether the node was right about something that this node could check, such as the bytes of a block.
func (h *Health) Judge(right bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if right {
		h.reputation = ewma(h.reputation, 1, successWeight)
	} else {
		h.reputation = ewma(h.reputation, 0, failureWeight)
	}
}

// Report is a reading of a Health.
type Report struct {
	RTT         time.Duration // smoothed time from a small request to its reply, the handler's time included; 0 if not measured
	Bandwidth   float64       // smoothed bytes/s of large exchanges; 0 if not measured
	Reliability float64       // [0, 1]
	Reputation  float64       // [0, 1]
	Failures    uint64
}

// Report reads all values.
func (h *Health) Report() Report {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Report{RTT: time.Duration(h.rtt * float64(time.Second)), Bandwidth: h.bandwidth,
		Reliability: h.reliability, Reputation: h.reputation, Failures: h.failures}
}

// Score rates a node in [0, 1], higher is better:
//
//	0.3 × 1/(1 + RTT/1 ms) + 0.3 × B/(B + 100 MB/s) + 0.2 × reliability + 0.2 × reputation
//
// What was not measured counts as one half, so that an unknown node is tried.
func (r Report) Score() float64 {
	latency, bandwidth := r.Parts()
	return 0.3*latency + 0.3*bandwidth + 0.2*r.Reliability + 0.2*r.Reputation
}

// Parts are what latency and bandwidth add to Score, before their weights, each in [0, 1].
func (r Report) Parts() (latency, bandwidth float64) {
	latency, bandwidth = 0.5, 0.5
	if r.RTT > 0 {
		latency = 1 / (1 + float64(r.RTT)/float64(goodRTT))
	}
	if r.Bandwidth > 0 {
		bandwidth = r.Bandwidth / (r.Bandwidth + goodBandwidth)
	}
	return latency, bandwidth
}
