package request

import (
	"fmt"
	"sync"
)

// Flight is the set of things that a call is at work on. The zero value is empty. Safe for concurrent use.
type Flight struct {
	mu   sync.Mutex
	busy map[string]bool
}

// Take takes all keys, or none and reports ErrInFlight. Call the result when the work has ended.
func (f *Flight) Take(keys ...string) (release func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, k := range keys {
		if f.busy[k] {
			f.drop(keys[:i])
			return nil, fmt.Errorf("%s: %w", k, ErrInFlight)
		}
		if f.busy == nil {
			f.busy = map[string]bool{}
		}
		f.busy[k] = true
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.drop(keys)
	}, nil
}

func (f *Flight) drop(keys []string) {
	for _, k := range keys {
		delete(f.busy, k)
	}
}
