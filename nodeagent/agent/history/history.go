// Package history remembers what a node did in the last day: copies it made from other nodes, and what went wrong.
//
// It is a ring of Slots slots of Width each, one a file of JSON with a format that only climbs, written whole and durably at most once a
// Flush, and at the end. Its size does not depend on what happens: a slot counts copies, and at most MaxReasons reasons of events, the others
// together as Other. A file that can not be read is begun anew: it is a report's, not the data's.
//
// # Invariants
//
//  1. What is older than Slots slots is gone, whatever clock the machine had meanwhile. (TestOld)
//  2. A restart loses at most the last Flush. (TestRestart)
//  3. The file has at most MaxBytes. (TestBounded)
//
// Concurrency: Run is a Runnable; all else may be called from any goroutine.
package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/atomicfile"
)

// Bounds.
const (
	Width      = 10 * time.Minute
	Slots      = 24 * 6
	Flush      = time.Minute
	MaxReasons = 16
	MaxBytes   = 256 << 10
	Other      = "Other"

	format    = 1
	maxReason = 63 // bytes
)

// Slot is what happened in one Width of time.
type Slot struct {
	Start  int64             `json:"start"` // Unix seconds, a multiple of Width
	Copies uint64            `json:"copies,omitempty"`
	Failed uint64            `json:"failed,omitempty"`
	Bytes  uint64            `json:"bytes,omitempty"`  // that came with copies
	Nanos  uint64            `json:"nanos,omitempty"`  // that copies took, failed ones not
	Events map[string]uint64 `json:"events,omitempty"` // warnings and errors by reason
}

type file struct {
	Format int    `json:"format"`
	Slots  []Slot `json:"slots"`
}

// History is a node's. Make one with Open.
type History struct {
	path string
	now  func() time.Time

	mu      sync.Mutex
	slots   []Slot // ascending
	changed bool
}

// Open reads what is kept in a file, which need not be there. now is the clock.
func Open(path string, now func() time.Time) (*History, error) {
	h := &History{path: path, now: now}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	var f file
	if len(b) <= MaxBytes && json.Unmarshal(b, &f) == nil && f.Format == format {
		h.slots = f.Slots[max(0, len(f.Slots)-Slots):]
	}
	return h, nil
}

// slot gives the present slot. The caller holds mu.
func (h *History) slot() *Slot {
	start := h.now().Truncate(Width).Unix()
	for n := len(h.slots); n > 0 && h.slots[n-1].Start > start; n-- { // the clock went back
		h.slots = h.slots[:n-1]
	}
	if n := len(h.slots); n == 0 || h.slots[n-1].Start != start {
		h.slots = append(h.slots, Slot{Start: start})
		h.slots = h.slots[max(0, len(h.slots)-Slots):]
	}
	h.changed = true
	return &h.slots[len(h.slots)-1]
}

// Copied notes a copy that was made here.
func (h *History) Copied(bytes int64, took time.Duration, failed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.slot()
	if failed {
		s.Failed++
		return
	}
	s.Copies++
	s.Bytes += uint64(max(bytes, 0))
	s.Nanos += uint64(max(took, 0))
}

// Event notes a warning or an error.
func (h *History) Event(reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.slot()
	if s.Events == nil {
		s.Events = map[string]uint64{}
	}
	if _, known := s.Events[reason]; !known && len(s.Events) >= MaxReasons || len(reason) > maxReason {
		reason = Other
	}
	s.Events[reason]++
}

// Since gives the slots that began at or after a moment, oldest first.
func (h *History) Since(from time.Time) (out []Slot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	oldest := max(from.Unix(), h.now().Add(-Slots*Width).Unix())
	for _, s := range h.slots {
		if s.Start < oldest {
			continue
		}
		events := make(map[string]uint64, len(s.Events))
		for k, v := range s.Events {
			events[k] = v
		}
		s.Events = events
		out = append(out, s)
	}
	return out
}

// Save writes what changed.
func (h *History) Save() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.changed {
		return nil
	}
	b, err := json.Marshal(file{format, h.slots})
	if err == nil {
		err = atomicfile.Write(h.path, b)
	}
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	h.changed = false
	return nil
}

// Run saves now and then until ctx ends, and once more then. failed hears of what can not be written.
func (h *History) Run(ctx context.Context, failed func(error)) {
	tick := time.NewTicker(Flush)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		if err := h.Save(); err != nil {
			failed(err)
		}
	}
}
