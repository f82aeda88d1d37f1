package sim

import (
	"strings"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// slowToClose has replicas stand still for some time when they are to close an extent.
type slowToClose struct {
	honest
	stood map[*node]bool
}

func (l slowToClose) onSend(w *World, _ *proc, dst *node, r *request) bool {
	if r.typ != replica.TypeAppend || r.body[headSize+4+3] != byte(journal.TypeClosed) || r.epoch.Session == 0 || l.stood[dst] || dst.proc == nil {
		return false
	}
	l.stood[dst] = true
	dst.proc.frozen = w.s.now + 7*time.Second
	return false
}

// Found by seeds (26913, 37833): a recovery in place lost its quorum on the way, and the replicas, which were only slow, made it up before the
// next try. So there was none, and reads and FLUSHes waited for ever for the map.
func TestHalfRecovered(t *testing.T) {
	inPlace := uint64(0)
	seed, r := playLie(5, 10, func() lie { return slowToClose{stood: make(map[*node]bool)} }, func(s *script) {
		a := s.outsider()
		i := a.n.idx
		a.write(0, 8)
		s.flush(a)
		s.wait(time.Second)
		for k := range s.w.nodes {
			if k != i {
				s.apart(i, k)
			}
		}
		a.write(8, 8)
		s.wait(8 * time.Second)
		s.w.join()
		s.flush(a)
		got, ok := a.readAll()
		s.require(ok && equal(got, a.r.state), "after the recovery: %s", explain(a.r.log, len(a.r.log), len(a.r.log), got))
		inPlace += a.e.Status().Stats.Recoveries - 1
	})
	if r.Failure != nil || inPlace == 0 {
		t.Fatalf("seed %d: %d recoveries in place: %v\n%s", seed, inPlace, r.Failure, strings.Join(r.Trace, "\n"))
	}
}
