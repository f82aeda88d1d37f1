package replica

import (
	"bytes"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/store"
)

// line is a connection whose requests are there before they are handled.
type line struct {
	bodies [][]byte
	at     int
	sum    *[32]byte // left for the next one
	mine   *[32]byte
	left   int
	got    []answer
	done   chan struct{}
}

// inLine is the Replier of a request of a line.
type inLine struct {
	replyTo
	l *line
}

func (q inLine) Next() []byte {
	q.l.sum = nil
	if q.l.at+1 < len(q.l.bodies) {
		return q.l.bodies[q.l.at+1]
	}
	return nil
}

func (q inLine) Leave(sum [32]byte) { q.l.sum, q.l.left = &sum, q.l.left+1 }

func (q inLine) Left() (sum [32]byte, ok bool) {
	if q.l.mine == nil {
		return sum, false
	}
	return *q.l.mine, true
}

func (l *line) run(srv *Server) {
	l.got, l.done, l.left = make([]answer, len(l.bodies)), make(chan struct{}, len(l.bodies)), 0
	for l.at = 0; l.at < len(l.bodies); l.at++ {
		i := l.at
		l.mine, l.sum = l.sum, nil
		srv.Handle("test", TypeAppend, l.bodies[i], inLine{replyTo{func(st Status, b []byte, _ error) {
			l.got[i] = answer{st, bytes.Clone(b)}
			l.done <- struct{}{}
		}}, l})
	}
	for range l.bodies {
		<-l.done
	}
}

// TestPairs: pages of records that follow each other are checked together, and each of them is: one that is damaged is refused, whichever of a
// pair it is, and what follows it does not continue the log. Records of no or several pages stay out of it.
func TestPairs(t *testing.T) {
	for _, bad := range []int{-1, 2, 3, 4, 5, 6, 7} {
		w := newWorld(t, 1, store.Options{})
		s, e := block.StoreID{1}, block.Epoch{Number: 1, Token: 1}
		x := newWriter(e, 1, s)
		w.send(s, x, 0, 1)
		for _, pages := range []int{1, 1, 1, 1, 2, 1, 1, 1} {
			x.write(pages)
		}
		var l line
		for i := 1; i < len(x.recs); i++ {
			l.bodies = append(l.bodies, bytes.Clone(x.body(s, i)))
		}
		if bad >= 0 {
			l.bodies[bad][len(l.bodies[bad])-7] ^= 1
		}
		l.run(w.node[s].srv)
		for i, a := range l.got {
			want := StatusOK
			if bad >= 0 && i == bad {
				want = StatusMismatch
			} else if bad >= 0 && i > bad {
				want = StatusGap
			}
			if a.st != want {
				t.Errorf("bad %d: request %d: status %d %s, want %d", bad, i, a.st, a.body, want)
			}
		}
		if bad < 0 {
			w.same(s, x)
		}
		if l.left != 3 { // 0 and 1, 2 and 3, 5 and 6
			t.Errorf("bad %d: %d sums were left", bad, l.left)
		}
	}
}
