package figures

import (
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"

	"mynetwork.io/mynetwork/metrics"
)

// Events counts the events that pass on to the recorder behind it. Make one with NewEvents.
type Events struct {
	events.EventRecorder

	mu     sync.Mutex
	counts map[[2]string]uint64 // reason and type
}

// NewEvents puts a counter before a recorder.
func NewEvents(r events.EventRecorder) *Events {
	return &Events{EventRecorder: r, counts: map[[2]string]uint64{}}
}

// Eventf implements events.EventRecorder.
func (c *Events) Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any) {
	c.mu.Lock()
	c.counts[[2]string{reason, eventtype}]++
	c.mu.Unlock()
	c.EventRecorder.Eventf(regarding, related, eventtype, reason, action, note, args...)
}

func (c *Events) put(e *metrics.Emitter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, n := range c.counts {
		e.Put("operator_events_total", float64(n), k[0], k[1])
	}
}
