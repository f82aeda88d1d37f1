package fuse

import (
	"slices"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// A reader waits for a disk itself, because the way over a worker costs more than most disks. One that hangs is not waited out: when it has taken patience, a
// worker gets the request, which asks other replicas, and another reader the place of the one that hangs, which ends when the disk answers, if ever. Until then no
// other reader waits for a disk. So a disk that hangs for ever stops a device for twice patience at most, and takes one thread for each reader.

// patience is for how long a reader may wait for a disk; it can take twice as long until that is seen.
const patience = 20 * time.Millisecond

// restful is how many looks at nothing end the looking, so that an idle device takes no time.
const restful = 50

// waits are the readers that wait for a disk.
type waits struct {
	mu       sync.Mutex
	of       []*reader
	taken    uint64 // turns so far
	lost     int    // readers that still wait, and whose place another one has
	watching bool
}

var _ export.Turn = (*reader)(nil)

// turn implements exchange.
func (r *reader) turn(q request, n int) export.Turn {
	r.q, r.size = q, n
	return r
}

// lost implements exchange. It is the reader's own question, outside of Take and Give.
func (r *reader) lost() bool { return r.gone }

// Take implements export.Turn.
func (r *reader) Take() bool {
	s := r.s
	w := &s.waits
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost > 0 || s.away.Load() >= int32(s.opt.Readers) { // the latter: see Resume
		return false
	}
	w.taken++
	r.took = w.taken
	w.of = append(w.of, r)
	if !w.watching {
		w.watching = true
		go s.watch()
	}
	return true
}

// Give implements export.Turn.
func (r *reader) Give() {
	w := &r.s.waits
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.gone {
		w.lost--
		return
	}
	w.of = slices.DeleteFunc(w.of, func(o *reader) bool { return o == r })
}

// watch looks after readers that wait, as long as there are any.
func (s *Server) watch() {
	t := time.NewTicker(patience)
	defer t.Stop()
	seen, idle := uint64(0), 0
	for range t.C {
		was := seen
		if seen = s.rescue(seen); seen > was {
			idle = 0
		} else if idle++; idle >= restful && s.unwatch() {
			return
		}
	}
}

// unwatch ends the looking if there is nothing to look at.
func (s *Server) unwatch() bool {
	w := &s.waits
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watching = len(w.of) > 0
	return !w.watching
}

// rescue has others deal with requests whose readers had the turn before it was taken seen times, and tells how often it was by now.
func (s *Server) rescue(seen uint64) uint64 {
	w := &s.waits
	w.mu.Lock()
	defer w.mu.Unlock()
	w.of = slices.DeleteFunc(w.of, func(r *reader) bool {
		if r.took > seen {
			return false
		}
		r.gone = true
		w.lost++
		j := r.job(r.q, r.size) // the reader's memory is there as long as it has the turn
		j.off, j.n = int64(native.Uint64(r.q.arg[8:])), int64(r.size)
		s.live.Add(1)
		go func() {
			defer s.leave()
			s.later(j)
			if other, err := newReader(s); err == nil {
				s.run([]*reader{other})
			}
		}()
		return true
	})
	return w.taken
}
