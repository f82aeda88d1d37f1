// Package events remembers what happened lately on a node, for people who ask.
//
// Log keeps the last entries in a ring and hands new ones to followers; a follower that does not keep up loses the
// oldest, which it sees by a gap in the numbers. Invariants: numbers rise by one; adding never waits for a follower. It is safe
// for concurrent use. No secret goes into an event.
package events

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Event is one thing that happened.
type Event struct {
	Number  uint64
	At      time.Time
	Level   slog.Level
	Reason  string // one CamelCase word
	Volume  string // name or id; empty: none
	Message string
}

// Log is a ring of events. The zero value is not usable: see New.
type Log struct {
	out     *slog.Logger
	noticed func(reason string) // nil, or hears of warnings and errors

	mu    sync.Mutex
	ring  []Event
	next  uint64        // number of the next event, from 1
	added chan struct{} // closed at the next addition
}

// New makes a log that keeps n events and writes each to out.
func New(n int, out *slog.Logger) *Log {
	return &Log{out: out, ring: make([]Event, n), next: 1, added: make(chan struct{})}
}

// Notice has f hear the reasons of warnings and errors from now on. It is called before the log is shared.
func (l *Log) Notice(f func(reason string)) { l.noticed = f }

// Add notes an event.
func (l *Log) Add(level slog.Level, reason, volume, format string, args ...any) {
	e := Event{At: time.Now(), Level: level, Reason: reason, Volume: volume, Message: fmt.Sprintf(format, args...)}
	l.mu.Lock()
	e.Number = l.next
	l.ring[e.Number%uint64(len(l.ring))] = e
	l.next++
	close(l.added)
	l.added = make(chan struct{})
	l.mu.Unlock()
	l.out.Log(context.Background(), level, e.Message, "reason", reason, "volume", volume)
	if l.noticed != nil && level >= slog.LevelWarn {
		l.noticed(reason)
	}
}

// Count is how many events there have been.
func (l *Log) Count() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next - 1
}

// Info, Warn and Error are Add at their level.
func (l *Log) Info(reason, volume, format string, args ...any) {
	l.Add(slog.LevelInfo, reason, volume, format, args...)
}

// Warn is Add at slog.LevelWarn.
func (l *Log) Warn(reason, volume, format string, args ...any) {
	l.Add(slog.LevelWarn, reason, volume, format, args...)
}

// Error is Add at slog.LevelError.
func (l *Log) Error(reason, volume, format string, args ...any) {
	l.Add(slog.LevelError, reason, volume, format, args...)
}

// Since returns the events that are kept from a number on, oldest first, and a channel that is closed when there is another.
func (l *Log) Since(number uint64) ([]Event, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := uint64(len(l.ring))
	if l.next > n {
		number = max(number, l.next-n)
	}
	var out []Event
	for i := max(number, 1); i < l.next; i++ {
		out = append(out, l.ring[i%n])
	}
	return out, l.added
}

// Follow gives yield all events from a number on, until it returns an error or ctx ends.
func (l *Log) Follow(ctx context.Context, number uint64, yield func(Event) error) error {
	for {
		es, more := l.Since(number)
		for _, e := range es {
			if err := yield(e); err != nil {
				return err
			}
			number = e.Number + 1
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
