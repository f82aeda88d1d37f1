// Package metered counts what a device's users ask for: a Backend before another one, with a Meter that is read when somebody wants to know.
//
// Times are those of the Backend behind: without what a front end adds, and without the wait for limits that were set on purpose. A request
// that a try did not take counts once, when it is asked for again and waits. Invariants: a request through it makes no garbage
// (TestCost); it changes no answer (TestAnswers).
//
// Concurrency: as the Backend behind.
package metered

import (
	"time"

	"mynetwork.io/mynetwork/metrics/meter"
	"mynetwork.io/mynetwork/nodeagent/export"
)

// Meter is what was counted. The zero value is usable.
type Meter struct {
	Reads, Writes, Flushes, Discards meter.Operations
}

// Stalled tells whether requests of any kind wait and none of that kind has ended for longer than meter.Stall.
func (m *Meter) Stalled(now time.Time) bool {
	return m.Reads.Stalled(now) || m.Writes.Stalled(now) || m.Flushes.Stalled(now) || m.Discards.Stalled(now)
}

// Backend counts in a Meter what goes through to the Backend behind it.
type Backend struct {
	export.Backend
	m *Meter
}

var _ export.Backend = (*Backend)(nil)

// New puts a Meter before b.
func New(b export.Backend, m *Meter) *Backend { return &Backend{b, m} }

func ended(o *meter.Operations, start time.Time, n int64, err error) error {
	o.Ended(start, n, err)
	o.End()
	return err
}

// TryRead implements export.Backend.
func (b *Backend) TryRead(p []byte, off int64, turn export.Turn) (bool, error) {
	start := time.Now()
	ok, err := b.Backend.TryRead(p, off, turn)
	if ok {
		b.m.Reads.Ended(start, int64(len(p)), err)
	}
	return ok, err
}

// Read implements export.Backend.
func (b *Backend) Read(p []byte, off int64) error {
	start := b.m.Reads.Begin()
	return ended(&b.m.Reads, start, int64(len(p)), b.Backend.Read(p, off))
}

// TryWrite implements export.Backend.
func (b *Backend) TryWrite(id export.RequestID, p []byte, off int64) (bool, error) {
	start := time.Now()
	ok, err := b.Backend.TryWrite(id, p, off)
	if ok {
		b.m.Writes.Ended(start, int64(len(p)), err)
	}
	return ok, err
}

// Write implements export.Backend.
func (b *Backend) Write(id export.RequestID, p []byte, off int64) error {
	start := b.m.Writes.Begin()
	return ended(&b.m.Writes, start, int64(len(p)), b.Backend.Write(id, p, off))
}

// Discard implements export.Backend.
func (b *Backend) Discard(id export.RequestID, off, n int64) error {
	start := b.m.Discards.Begin()
	return ended(&b.m.Discards, start, n, b.Backend.Discard(id, off, n))
}

// WriteZeroes implements export.Backend.
func (b *Backend) WriteZeroes(id export.RequestID, off, n int64) error {
	start := b.m.Discards.Begin()
	return ended(&b.m.Discards, start, n, b.Backend.WriteZeroes(id, off, n))
}

// Flush implements export.Backend.
func (b *Backend) Flush() error {
	start := b.m.Flushes.Begin()
	return ended(&b.m.Flushes, start, 0, b.Backend.Flush())
}
