package volume

import (
	"errors"
	"maps"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// tellFull adds the stores that had no room to full, and tells of them once too few others are left to try.
func (e *Engine) tellFull(o *opening, full map[block.StoreID]bool) {
	o.mu.Lock()
	for s, err := range o.acks {
		if err == nil {
			delete(full, s)
		}
	}
	o.mu.Unlock()
	for _, s := range o.fullStores() {
		full[s] = true
	}
	left := 0
	for _, s := range e.Placer.Candidates(o.id.Key()) {
		if e.Placer.Alive(s) && !e.left(s) && !full[s] {
			left++
		}
	}
	if e.noRoom != nil && left < o.structure() {
		e.noRoom(slices.SortedFunc(maps.Keys(full), func(a, b block.StoreID) int { return slices.Compare(a[:], b[:]) }), o.capacity)
	}
}

// fullStores lists the members that had no room for it.
func (o *opening) fullStores() (out []block.StoreID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for s, err := range o.acks {
		if errors.Is(err, replica.ErrFull) {
			out = append(out, s)
		}
	}
	return out
}

// forgive lets stores be chosen again that were suspected because they had no room up to the users' mark: there are too few others.
func (e *Engine) forgive() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.suspects {
		if p.full {
			p.failed, p.full = e.Env.Now()-suspicion-1, false
		}
	}
}
