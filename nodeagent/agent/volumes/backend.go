package volumes

import (
	"sync/atomic"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/volume"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// backend is an engine as a front end sees it. Once frozen is set, no request is answered any more, and none fails: the
// next process of this agent gets them again.
type backend struct {
	e      *volume.Engine
	frozen *atomic.Bool
}

var _ export.Backend = backend{}

// answer gives err, or blocks for ever. It is asked after the engine, so that no error of an engine that was ended on
// purpose gets through.
func (b backend) answer(err error) error {
	if b.frozen.Load() {
		select {}
	}
	return err
}

// Size implements export.Backend.
func (b backend) Size() int64 { return b.e.Size() }

// TryRead implements export.Backend.
func (b backend) TryRead(p []byte, off int64, turn export.Turn) (bool, error) {
	ok, err := b.e.TryRead(p, off, turn)
	return ok && !b.frozen.Load(), err
}

// Read implements export.Backend.
func (b backend) Read(p []byte, off int64) error { return b.answer(b.e.Read(p, off)) }

// TryWrite implements export.Backend.
func (b backend) TryWrite(id export.RequestID, p []byte, off int64) (bool, error) {
	ok, err := b.e.TryWrite(ring.ID(id), p, off)
	return ok && !b.frozen.Load(), err
}

// Write implements export.Backend.
func (b backend) Write(id export.RequestID, p []byte, off int64) error {
	return b.answer(b.e.Write(ring.ID(id), p, off))
}

// Discard implements export.Backend.
func (b backend) Discard(id export.RequestID, off, n int64) error {
	return b.answer(b.e.Discard(ring.ID(id), off, n))
}

// WriteZeroes implements export.Backend. It frees the space too: the engine keeps no zeros.
func (b backend) WriteZeroes(id export.RequestID, off, n int64) error { return b.Discard(id, off, n) }

// Flush implements export.Backend.
func (b backend) Flush() error { return b.answer(b.e.Flush()) }

// Accepted implements export.Backend.
func (b backend) Accepted(id export.RequestID) bool { return b.e.Accepted(ring.ID(id)) }

// Answered implements export.Backend.
func (b backend) Answered(id export.RequestID) { b.e.Answered(ring.ID(id)) }

// Resent implements export.Backend.
func (b backend) Resent() { b.e.Resent() }
