package replica

import (
	"strings"
	"sync"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/disk"
	"mynetwork.io/mynetwork/nodeagent/store"
)

// TestPullHoldsUpNobody: while the disk does not get on with what is copied, appends to other extents of the store are answered, and the copy is there in the end.
// Small payloads are written as few large pieces.
func TestPullHoldsUpNobody(t *testing.T) {
	x, y := newWriter(e5, 1, s1, s2), newWriter(e6, 2, s1)
	for x.chain.DataLen < 4*MaxRead {
		x.write(1)
	}
	for range 5 {
		y.write(1)
	}
	w := newWorld(t, 2, small)
	w.send(s2, x, 0, len(x.recs))
	n := w.node[s1]
	n.srv.Stop()
	if err := n.st.Close(); err != nil {
		t.Fatal(err)
	}
	stuck, free := make(chan struct{}), make(chan struct{})
	var once sync.Once
	pieces := 0
	st, _, err := store.Open(disk.NewFaults(n.fs, func(op disk.Op) (f disk.Fault) {
		if op.Kind == disk.OpWrite && strings.HasSuffix(op.Name, x.x.String()+".dat") {
			pieces++
			f.Wait = func() {
				once.Do(func() { close(stuck) })
				<-free
			}
		}
		return f
	}), small)
	if err != nil {
		t.Fatal(err)
	}
	w.node[s1] = &node{id: s1, fs: n.fs, st: st, srv: NewServer(w.env, st, s1, allowAll{}, w.c)}
	done := make(chan error, 1)
	go func() {
		_, err := w.c.Pull(s1, e6, x.x, s2)
		done <- err
	}()
	<-stuck
	for i := range y.recs {
		got := make(chan answer, 1)
		go func() { got <- <-w.ask(s1, TypeAppend, y.body(s1, i)) }()
		select {
		case a := <-got:
			if a.st != StatusOK {
				t.Errorf("record %d: status %d %s", i, a.st, a.body)
			}
		case <-time.After(20 * time.Second): // only if it is wrong
			close(free)
			t.Fatal("an append waits for what is copied to another extent")
		}
	}
	close(free)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if most := 4*MaxRead/MaxRead + 1; pieces > most {
		t.Errorf("%d writes of what is copied, at most %d", pieces, most)
	}
	w.crash(s1)
	w.same(s1, x)
	w.same(s1, y)
}
