package replica

import "time"

const (
	// gatherFrom is from how many bytes of payload on an append waits for more to be committed with it: a store syncs the extent's data
	// for such a one, and then its log.
	gatherFrom = 32 << 10
	// gatherBytes is how many bytes of payload are enough for a commit.
	gatherBytes = 1 << 20
	// gatherTime is how long a commit waits for what seemed to be on its way, and is not: its sender, or the network, has stopped in between.
	gatherTime = 5 * time.Millisecond
)

// streaming is a Replier that can tell whether more of what its sender sends has arrived already, so that another request is likely to
// be handled soon. It is not asked after Reply.
type streaming interface{ More() bool }

// wait registers an answer that is due once its change is durable. The caller holds s.mu.
//
// Each change asks for a commit, but for large appends that others follow: these gather. They hold up nobody: what comes after them
// is here already, and its sender did not wait for them to be durable.
func (s *Server) wait(w waiting) {
	if s.stopped {
		s.refuse(w.to, errStopped)
		return
	}
	s.pending = append(s.pending, w)
	if w.payload < gatherFrom || s.gathered+w.payload >= gatherBytes || !more(w.to) {
		s.asked = true
	}
	s.gathered += w.payload
	if s.asked || len(s.pending) == 1 {
		s.commit.Notify()
	}
}

func more(to Replier) bool {
	m, ok := to.(streaming)
	return ok && m.More()
}

// gather waits until what is pending is to be committed.
func (s *Server) gather() {
	var until time.Duration
	for {
		s.mu.Lock()
		patience := s.patience
		ready := s.asked || s.stopped || len(s.pending) == 0 || len(s.blocked) > 0
		s.mu.Unlock()
		if ready {
			return
		}
		now := s.env.Now()
		if until == 0 {
			until = now + patience
		}
		if now >= until || !s.commit.WaitFor(until-now) {
			return
		}
	}
}
