package members

import (
	"context"
	"slices"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/task"
)

// Ask asks one node for its stores.
type Ask func(ctx context.Context, node string) ([]Store, error)

// Changed is told when a node is heard or lost again; err says why it is lost.
type Changed func(node string, alive bool, err error)

const (
	// Misses is how many questions in a row a node may leave unanswered before it is lost.
	Misses = 2
	// MaxWatched is how many nodes are asked at the interval, and told of when they are lost: those that follow this one in the order
	// of names, around the end. The operator counts words of those alone. The others are asked in turn, as often as all
	// of these together.
	MaxWatched = 64
)

// Run asks all nodes at an interval until ctx ends; changed may be nil. Nodes that come are asked from then on, and those that
// go are not asked any more.
func (t *Table) Run(ctx context.Context, every time.Duration, ask Ask, changed Changed) {
	var wg sync.WaitGroup
	running := map[string]context.CancelFunc{}
	for ctx.Err() == nil {
		t.mu.RLock()
		more := t.changed
		names := t.names()
		t.mu.RUnlock()
		for name, stop := range running {
			if !slices.Contains(names, name) {
				stop()
				delete(running, name)
			}
		}
		for _, name := range names {
			if running[name] == nil {
				c, stop := context.WithCancel(ctx)
				running[name] = stop
				wg.Go(func() { t.watch(c, name, every, ask, changed) })
			}
		}
		select {
		case <-more:
		case <-ctx.Done():
		}
	}
	for _, stop := range running {
		stop()
	}
	wg.Wait()
}

func (t *Table) names() (out []string) {
	for _, e := range t.sorted {
		out = append(out, e.Name)
	}
	return out
}

// watched lists the nodes that this one watches. The caller holds mu.
func (t *Table) watched() []*entry {
	n := len(t.sorted)
	at, found := slices.BinarySearchFunc(t.sorted, t.self, func(e *entry, name string) int {
		switch {
		case e.Name < name:
			return -1
		case e.Name > name:
			return 1
		}
		return 0
	})
	if !found {
		return nil
	}
	var out []*entry
	for k := 1; k <= min(MaxWatched, n-1); k++ {
		out = append(out, t.sorted[(at+k)%n])
	}
	return out
}

// Unreachable lists the watched nodes that do not answer, by name. A node that was not asked yet is not among them.
func (t *Table) Unreachable() (out []string) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, e := range t.watched() {
		if e.asked && !e.alive {
			out = append(out, e.Name)
		}
	}
	slices.Sort(out)
	return out
}

// pause is how long it is until a node is asked again: all are asked at the same moments, so that a process is woken once for all of them.
// It is never longer than the node's interval.
func (t *Table) pause(node string, every time.Duration) time.Duration {
	return task.UntilBeat(every) + every*time.Duration(t.rounds(node)-1)
}

// rounds is at which of the intervals a node is asked: at each, or at every so many of them.
func (t *Table) rounds(node string) int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	others := len(t.sorted) - 1 - MaxWatched
	if others <= 0 || node == t.self || slices.ContainsFunc(t.watched(), func(e *entry) bool { return e.Name == node }) {
		return 1
	}
	return 1 + (others+MaxWatched-1)/MaxWatched
}

// watch asks one node. A connection that is refused or broken is a loss at once; silence only after Misses questions.
func (t *Table) watch(ctx context.Context, node string, every time.Duration, ask Ask, changed Changed) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	was, misses := false, 0
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(t.pause(node, every))
		c, cancel := context.WithTimeout(ctx, max(2*every, time.Second))
		stores, err := ask(c, node)
		silent := c.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return
		}
		switch {
		case err == nil:
			misses = 0
			t.Heard(node, stores)
		default:
			if misses++; !silent || misses >= Misses || first {
				t.Lost(node, err)
			} else {
				err = nil // not yet
			}
		}
		if alive := err == nil; changed != nil && (alive != was || first) && (alive || misses > 0) {
			changed(node, alive, err)
			was = alive
		}
	}
}
