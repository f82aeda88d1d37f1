package gate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// Errors of holds.
var (
	ErrHeld = errors.New("writes are held back already; release that hold first, or wait until it ends")
	ErrOver = errors.New("the hold is over: other writes may have come in between; hold again and repeat")
)

// Gate is a Backend before another one. The zero value is not usable: see New.
type Gate struct {
	export.Backend
	limits limiter

	inside atomic.Int64         // changes that are on their way through
	held   atomic.Pointer[hold] // nil: open
	mu     sync.Mutex           // guards changes of held
}

// hold is one hold.
type hold struct {
	token string
	made  map[string]bool // names that Note was told
	over  chan struct{}   // closed when writes go on
	timer *time.Timer
}

// New makes an open gate without limits.
func New(b export.Backend) *Gate { return &Gate{Backend: b} }

// through passes a change on as soon as nothing holds it.
func (g *Gate) through(f func() error) error {
	for {
		g.inside.Add(1)
		h := g.held.Load()
		if h == nil {
			err := f()
			g.inside.Add(-1)
			return err
		}
		g.inside.Add(-1)
		<-h.over
	}
}

// TryRead implements export.Backend.
func (g *Gate) TryRead(p []byte, off int64, turn export.Turn) (bool, error) {
	if !g.limits.try(len(p)) {
		return false, nil
	}
	ok, err := g.Backend.TryRead(p, off, turn)
	if !ok {
		g.limits.giveBack(len(p)) // the blocking call asks again
	}
	return ok, err
}

// Read implements export.Backend.
func (g *Gate) Read(p []byte, off int64) error {
	g.limits.wait(len(p))
	return g.Backend.Read(p, off)
}

// TryWrite implements export.Backend.
func (g *Gate) TryWrite(id export.RequestID, p []byte, off int64) (bool, error) {
	if !g.limits.try(len(p)) {
		return false, nil
	}
	g.inside.Add(1)
	defer g.inside.Add(-1)
	if g.held.Load() != nil {
		g.limits.giveBack(len(p))
		return false, nil
	}
	ok, err := g.Backend.TryWrite(id, p, off)
	if !ok {
		g.limits.giveBack(len(p))
	}
	return ok, err
}

// Write implements export.Backend.
func (g *Gate) Write(id export.RequestID, p []byte, off int64) error {
	g.limits.wait(len(p))
	return g.through(func() error { return g.Backend.Write(id, p, off) })
}

// Discard implements export.Backend. It counts as a request of no bytes.
func (g *Gate) Discard(id export.RequestID, off, n int64) error {
	g.limits.wait(0)
	return g.through(func() error { return g.Backend.Discard(id, off, n) })
}

// WriteZeroes implements export.Backend. It counts as a request of no bytes.
func (g *Gate) WriteZeroes(id export.RequestID, off, n int64) error {
	g.limits.wait(0)
	return g.through(func() error { return g.Backend.WriteZeroes(id, off, n) })
}

// ReadOnly implements export.ReadOnly for a Backend that does.
func (g *Gate) ReadOnly() bool {
	r, ok := g.Backend.(export.ReadOnly)
	return ok && r.ReadOnly()
}

// SetLimits sets what may go through in a second; 0 is no limit. Requests that wait already are let through as the new limits say.
func (g *Gate) SetLimits(iops, bytesPerSecond int64) { g.limits.set(iops, bytesPerSecond) }

// settle is between looks at whether changes are through.
const settle = time.Millisecond

// Hold holds writes back for at most d, and returns once none is on its way any more. token names the hold. It fails with ErrHeld if
// another hold is on, and when ctx ends before it is complete.
func (g *Gate) Hold(ctx context.Context, token string, d time.Duration) error {
	h := &hold{token: token, over: make(chan struct{}), made: map[string]bool{}}
	g.mu.Lock()
	if g.held.Load() != nil {
		g.mu.Unlock()
		return ErrHeld
	}
	g.held.Store(h)
	h.timer = time.AfterFunc(d, func() { _ = g.Release(token) })
	g.mu.Unlock()
	for g.inside.Load() > 0 {
		select {
		case <-time.After(settle):
		case <-h.over:
			return ErrOver
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("hold writes back: some are still on their way: %w", ctx.Err()), g.Release(token))
		}
	}
	return g.Check(token)
}

// Check reports ErrOver unless the hold of that token is still on.
func (g *Gate) Check(token string) error {
	if h := g.held.Load(); h == nil || h.token != token {
		return ErrOver
	}
	return nil
}

// Note remembers that something was made under a hold, and Noted tells whether it was.
func (g *Gate) Note(token, name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if h := g.held.Load(); h != nil && h.token == token {
		h.made[name] = true
	}
}

// Noted tells whether Note was told that name under the hold that is on.
func (g *Gate) Noted(token, name string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.held.Load()
	return h != nil && h.token == token && h.made[name]
}

// Release lets writes go on. ErrOver tells that they had gone on before: the hold was broken.
func (g *Gate) Release(token string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.held.Load()
	if h == nil || h.token != token {
		return ErrOver
	}
	h.timer.Stop()
	g.held.Store(nil)
	close(h.over)
	return nil
}

// Break ends any hold, as the device is about to end.
func (g *Gate) Break() {
	if h := g.held.Load(); h != nil {
		_ = g.Release(h.token)
	}
}
