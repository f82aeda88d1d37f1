package volume

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// TestSuspects: whose failure is forgotten when. Times are in seconds since the failure at 100.
func TestSuspects(t *testing.T) {
	at := func(s int) time.Duration { return time.Duration(100+s) * time.Second }
	for _, c := range []struct {
		name           string
		s              suspect
		now            int
		suspected, ask bool
	}{
		{"lost just now", suspect{failed: at(0), lost: true}, 0, true, true},
		{"slow", suspect{failed: at(0)}, 1, true, false},
		{"slow a while ago", suspect{failed: at(0)}, 6, false, false},
		{"a question is under way", suspect{failed: at(0), lost: true, asked: true}, 1, true, false},
		{"it has answered", suspect{failed: at(0), lost: true, answered: at(1), ever: true}, 2, false, false},
		{"it has failed again at once", suspect{failed: at(2), lost: true, answered: at(1), ever: true}, 3, true, false},
		{"and a while has passed since its answer", suspect{failed: at(2), lost: true, answered: at(1), ever: true}, 7, true, true},
	} {
		if got, ask := c.s.suspected(at(c.now)), c.s.mayAsk(at(c.now)); got != c.suspected || ask != c.ask {
			t.Errorf("%s: suspected %v, asked %v", c.name, got, ask)
		}
	}
}

// TestRecalled: an answer counts for failures before its question, and only if they were losses.
func TestRecalled(t *testing.T) {
	w := newWorld(t, 3)
	e := w.open(w.create(1), Options{})
	defer func() { must(t, e.Close(false)) }()
	s, lost := w.ids[0], fmt.Errorf("test: %w", replica.ErrUnreachable)
	for _, c := range []struct {
		name        string
		why, answer error
		before      bool
		want        bool
	}{
		{"answers", lost, nil, false, true},
		{"does not answer", lost, lost, false, false},
		{"was asked before it failed", lost, nil, true, false},
		{"was slow", errSlow, nil, false, false},
		{"lacks the extent", fmt.Errorf("test: %w", replica.ErrNotHeld), nil, false, true},
		{"lacks a record", fmt.Errorf("test: %w", replica.ErrGap), nil, false, true},
		{"refused", errors.New("refused"), nil, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e.mu.Lock()
			e.suspects = map[block.StoreID]*suspect{}
			e.suspectLocked(s, c.why)
			asked := e.suspects[s].failed
			e.mu.Unlock()
			if c.before {
				asked--
			}
			e.recalled(s, asked, c.answer)
			e.mu.RLock()
			got := e.suspects[s].ever
			e.mu.RUnlock()
			if got != c.want {
				t.Errorf("the answer counts: %v", got)
			}
		})
	}
}

// TestFreedWhereThereIsNoRoom: a store that had no room for an extent is told like others what it may free, as that makes room. Control: one that failed
// otherwise is not waited for, and finds by itself what nobody needs.
func TestFreedWhereThereIsNoRoom(t *testing.T) {
	for why, told := range map[error]bool{replica.ErrFull: true, errSlow: false} {
		w := newWorld(t, 3)
		s := w.create(1)
		s.Extent = MinExtent
		e := w.open(s, Options{})
		for n := range 3 {
			must(t, e.Write(ring.ID{}, fill(make([]byte, 2*MinExtent), uint64(n)), 0))
			must(t, e.Flush())
		}
		e.mu.Lock()
		e.suspectLocked(w.ids[0], fmt.Errorf("test: %w", why))
		e.suspects[w.ids[0]].failed += time.Hour // for as long as the test takes
		e.mu.Unlock()
		_, err := e.Clean()
		must(t, err)
		suspect, other := len(w.node[w.ids[0]].st.Extents(s.ID)), len(w.node[w.ids[1]].st.Extents(s.ID))
		if freed := e.Status().Stats.Freed; freed == 0 || (suspect == other) != told {
			t.Errorf("%v: %d extents are freed, %d are left there, %d elsewhere", why, freed, suspect, other)
		}
		must(t, e.Close(false))
	}
}
