// Package figures is what the CSI driver exports: how often each of its calls was made, how it ended and how long it took.
//
// The controller serves it like the operator does. The node's part has no network listener: it shows its figures to the agents of its node
// over their mounter's directory, and they export them beside their own.
//
// Invariant: names are in Families, pass promlint, and stand in docs/metrics.md. (TestCalls; hack/metrics)
//
// Concurrency: Calls is safe for concurrent use; its zero value is usable.
package figures

import (
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"mynetwork.io/mynetwork/metrics"
	"mynetwork.io/mynetwork/metrics/meter"
)

// Families lists what the driver exports. part is controller or node.
func Families() []metrics.Family {
	return []metrics.Family{
		{Name: "csi_operation_seconds", Kind: metrics.Histogram, Labels: []string{"part", "method", "code"}, Help: "Time of calls of the storage interface, by the code that they ended with. NodeStageVolume waits inside the call for a volume that is held elsewhere."},
		{Name: "csi_operations_active", Kind: metrics.Gauge, Labels: []string{"part"}, Help: "Calls under way."},
	}
}

// Calls counts calls.
type Calls struct {
	mu     sync.Mutex
	ended  map[call]*meter.Histogram
	active int
}

type call struct {
	method string
	code   codes.Code
}

// Begin counts a call; what it returns is called with its code when it has ended.
func (c *Calls) Begin(method string) (end func(codes.Code)) {
	start := time.Now()
	c.mu.Lock()
	c.active++
	c.mu.Unlock()
	return func(code codes.Code) {
		took := time.Since(start)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.active--
		if c.ended == nil {
			c.ended = map[call]*meter.Histogram{}
		}
		h := c.ended[call{method, code}]
		if h == nil {
			h = &meter.Histogram{}
			c.ended[call{method, code}] = h
		}
		h.Observe(took)
	}
}

// Collector exports the calls of a part.
func (c *Calls) Collector(part string) *metrics.Collector {
	return metrics.New(Families(), func(e *metrics.Emitter) {
		c.mu.Lock()
		defer c.mu.Unlock()
		e.Put("csi_operations_active", float64(c.active), part)
		for k, h := range c.ended {
			e.Observed("csi_operation_seconds", h.Read(), part, k.method, k.code.String())
		}
	})
}
