package stores

import (
	"fmt"
	"time"

	"mynetwork.io/mynetwork/nodeagent/task"
)

const (
	// measureEvery is how often a store's file system is asked for its room. Whoever asks the store gets that figure with what the store has
	// reserved since, so only what others on the file system take, and what is given back, is known later.
	measureEvery = time.Second
	// patience is how long a disk may end nothing that it was asked for before that is told. A disk that is busy ends something every second.
	patience = 5 * time.Second
)

// measuring asks a store's file system for its room until the set closes: every second, together with whoever else is woken then, and once an extent was
// freed. It is the only task that waits for that answer, but for those that open an extent.
func (s *Set) measuring(st *Store) {
	t := time.NewTimer(task.UntilBeat(measureEvery))
	defer t.Stop()
	for {
		select {
		case <-s.closing:
			return
		case <-st.freed:
		case <-t.C:
			t.Reset(task.UntilBeat(measureEvery))
		}
		_ = st.Measure() // Usage gives the error
	}
}

// gaveBack has a store's room measured soon.
func (st *Store) gaveBack() {
	select {
	case st.freed <- struct{}{}:
	default: // it will be
	}
}

// Silence says, for people, since when the disk has not answered; empty: it does, or nothing was asked of it for long.
func (st *Store) Silence(now time.Time) string {
	since := st.Disk.Silent()
	if since.IsZero() || now.Sub(since) < patience {
		return ""
	}
	return fmt.Sprintf("the disk does not answer since %s; what it is asked for waits, reads go to other nodes", since.UTC().Format(time.RFC3339))
}
