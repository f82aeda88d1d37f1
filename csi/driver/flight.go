package driver

import (
	"fmt"
	"sync"
)

// flight is the set of things that a call is at work on.
type flight struct {
	mu   sync.Mutex
	busy map[string]bool
}

// take takes all keys, or none and reports errInFlight. Call the result when the work has ended.
func (f *flight) take(keys ...string) (release func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, k := range keys {
		if f.busy[k] {
			f.drop(keys[:i])
			return nil, fmt.Errorf("%s: %w", k, errInFlight)
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

func (f *flight) drop(keys []string) {
	for _, k := range keys {
		delete(f.busy, k)
	}
}
