package volume

import (
	"errors"
	"sync/atomic"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// failingReads is a transport under which reads fail from the n-th on, counted down in left; negative: none fails.
type failingReads struct {
	replica.Transport
	left atomic.Int64
}

func (f *failingReads) Send(s block.StoreID, typ replica.Type, done replica.Done, parts ...[]byte) {
	if typ == replica.TypeReadData || typ == replica.TypeReadLog {
		if n := f.left.Load(); n == 0 || (n > 0 && f.left.Add(-1) == 0) {
			go done(replica.StatusError, []byte("the disk does not give it"), nil)
			return
		}
	}
	f.Transport.Send(s, typ, done, parts...)
}

// TestFailureOnTheWay has checkpoints and cleaning fail at each read that they make. The next ones must miss nothing of
// what the failed one had taken, and free nothing that it had not moved: the volume is read before and after another
// writer takes it.
func TestFailureOnTheWay(t *testing.T) {
	size, least, growth := 3<<20, 5, func(n int64) int64 { return n*5/4 + 1 }
	if testing.Short() { // fewer places: under the race detector each takes long
		size, least, growth = 1<<19, 2, func(n int64) int64 { return 3*n + 1 }
	}
	for name, f := range map[string]func(e *Engine) error{
		"checkpoint": func(e *Engine) error { return e.Checkpoint() },
		"cleaning":   func(e *Engine) error { _, err := e.Clean(); return err },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3)
			s := w.create(1)
			s.Extent = MinExtent
			d := w.deps()
			reads := &failingReads{Transport: w}
			d.Client = &replica.Client{Env: w.env, Transport: reads}
			open := func() *Engine {
				e, err := Open(d, s, Options{Ring: make([]byte, 4<<20), Force: true})
				must(t, err)
				return e
			}
			reads.left.Store(-1)
			e := open()
			m := newModel(31, size)
			must(t, e.Checkpoint())
			failed := 0
			for n := int64(1); ; n = growth(n) {
				m.steps(t, e, 30)
				reads.left.Store(n)
				err := f(e)
				late := reads.left.Swap(-1) != 0
				if late {
					must(t, err)
					break
				}
				if err != nil {
					failed++
				}
				m.steps(t, e, 10)
				must(t, f(e))
				must(t, f(e))
				m.checkAll(t, e)
				must(t, errors.Join(e.Flush(), e.Close(false)))
				e = open()
				m.checkAll(t, e)
			}
			if failed < least {
				t.Fatalf("%d failed: nothing was tried", failed)
			}
			must(t, e.Close(true))
		})
	}
}
