// Package task is where an agent's long-running work runs: real goroutines and time in a process, and a seeded
// scheduler in the simulator. Code written on Env blocks only through it (Event, Signal, Sleep), holds no lock while
// it blocks, and so runs unchanged, and repeatably, under both.
package task

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"
)

// Env starts tasks and lets them wait. Safe for concurrent use.
type Env interface {
	// Go starts f as a task. The name appears in traces.
	Go(name string, f func())
	// Now is the time since some fixed start; it never goes back. Safety never depends on it.
	Now() time.Duration
	// Sleep blocks the calling task.
	Sleep(d time.Duration)
	// NewEvent makes an event that is not set.
	NewEvent() Event
	// NewSignal makes a signal with no notice pending.
	NewSignal() Signal
	// Rand gives 64 random bits.
	Rand() uint64
}

// Event is a latch: once set it stays set.
type Event interface {
	Set()
	Wait()
	// WaitFor waits at most d and reports whether the event was set.
	WaitFor(d time.Duration) bool
}

// Signal is a wake-up that is remembered once: Notify lets one present or future Wait return.
type Signal interface {
	Notify()
	Wait()
	// WaitFor waits at most d and reports whether there was a notice.
	WaitFor(d time.Duration) bool
}

// Real runs tasks as goroutines. The zero value is not usable: see NewReal.
type Real struct {
	start time.Time
	wg    sync.WaitGroup
}

var _ Env = (*Real)(nil)

// NewReal makes an environment of goroutines and the system's monotonic clock. All of a process have the same time, so that who waits for a multiple
// of something is woken together with others.
func NewReal() *Real { return &Real{start: began} }

// Go starts f in a goroutine.
func (r *Real) Go(_ string, f func()) { r.wg.Go(f) }

// Wait returns when all tasks have ended.
func (r *Real) Wait() { r.wg.Wait() }

// Now is the time since the process began.
func (r *Real) Now() time.Duration { return time.Since(r.start) }

// Sleep blocks for d.
func (r *Real) Sleep(d time.Duration) { time.Sleep(d) }

// Rand gives bits of the system's generator.
func (r *Real) Rand() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// NewEvent makes an event.
func (r *Real) NewEvent() Event { return &event{ch: make(chan struct{})} }

// NewSignal makes a signal.
func (r *Real) NewSignal() Signal { return signal(make(chan struct{}, 1)) }

type event struct {
	once sync.Once
	ch   chan struct{}
}

func (e *event) Set()                         { e.once.Do(func() { close(e.ch) }) }
func (e *event) Wait()                        { <-e.ch }
func (e *event) WaitFor(d time.Duration) bool { return waitFor(e.ch, d) }

type signal chan struct{}

func (s signal) Notify() {
	select {
	case s <- struct{}{}:
	default:
	}
}
func (s signal) Wait()                        { <-s }
func (s signal) WaitFor(d time.Duration) bool { return waitFor(s, d) }

func waitFor(ch <-chan struct{}, d time.Duration) bool {
	select {
	case <-ch:
		return true
	default:
	}
	t := time.NewTimer(together(d, time.Since(began)))
	defer t.Stop()
	select {
	case <-ch:
		return true
	case <-t.C:
		return false
	}
}

const (
	grid   = 100 * time.Millisecond // at whose multiples long waits end
	isLong = 5 * grid
)

// began is where the grid begins: nodes that are told the same time do not look at the same moments, but for what UntilBeat says.
var began = time.Now()

// together shortens a long wait that begins now a little, so that those of many tasks end at the same moments: each volume has half a dozen
// tasks that look at something once or twice a second, and waking a thread for each look of a hundred volumes takes more than the looks.
func together(d, now time.Duration) time.Duration {
	if d < isLong {
		return d
	}
	return d - (now+d)%grid
}

// UntilBeat is how long it is until the next multiple of every, counted from a full hour of the wall clock as it was when the process began: those who
// wait until then are woken together, on all nodes whose clocks agree. So who asks others is asked by them while it is awake for that anyway. It is more
// than 0, and every at most.
func UntilBeat(every time.Duration) time.Duration {
	return untilBeat(every, hourAtStart+time.Since(began))
}

// hourAtStart is how far the hour was when the process began. A clock that is set later changes nothing.
var hourAtStart = intoHour(began)

func intoHour(t time.Time) time.Duration { return time.Duration(t.UnixNano()) % time.Hour }

func untilBeat(every, now time.Duration) time.Duration { return every - now%every }
