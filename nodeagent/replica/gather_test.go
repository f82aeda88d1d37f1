package replica

import (
	"bytes"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/store"
)

// follows is a Replier whose sender sends more, or not.
type follows struct {
	replyTo
	more bool
}

func (f follows) More() bool { return f.more }

// TestGather: large appends that others follow are committed when there are enough of them, when one comes that nothing follows, or when
// anything else waits; each of which they are answered with. Controls: as long as that is not so, none is; and what seemed to follow
// and never comes is not waited for longer than patience.
func TestGather(t *testing.T) {
	w := newWorld(t, 1, store.Options{})
	s, e := block.StoreID{1}, block.Epoch{Number: 1, Token: 1}
	n := w.node[s]
	n.srv.mu.Lock()
	n.srv.patience = time.Hour
	n.srv.mu.Unlock()
	x := newWriter(e, 1, s)
	w.send(s, x, 0, 1)
	var got chan answer
	push := func(pages int, more bool) {
		x.write(pages)
		n.srv.Handle("test", TypeAppend, x.body(s, len(x.recs)-1), follows{replyTo{func(st Status, b []byte, _ error) { got <- answer{st, bytes.Clone(b)} }}, more})
	}
	pending := func() int {
		n.srv.mu.Lock()
		defer n.srv.mu.Unlock()
		return len(n.srv.pending)
	}
	for name, last := range map[string]func(){
		"enough":          func() { push(64, true) },
		"nothing follows": func() { push(64, false) },
		"a small one":     func() { push(1, true) },
		"something else": func() {
			h := Head{Store: s, Epoch: e, Extent: x.x}
			n.srv.Handle("test", TypePromise, h.Encode(), follows{replyTo{func(st Status, _ []byte, _ error) { got <- answer{st: st} }}, true})
		},
	} {
		got = make(chan answer, 9)
		for range 3 {
			push(64, true)
		}
		if p := pending(); p != 3 || len(got) != 0 {
			t.Fatalf("%s: control: %d are pending, %d answered", name, p, len(got))
		}
		last()
		for range 4 {
			if a := <-got; a.st != StatusOK {
				t.Fatalf("%s: status %d %s", name, a.st, a.body)
			}
		}
	}
	n.srv.mu.Lock()
	n.srv.patience = time.Millisecond
	n.srv.mu.Unlock()
	push(64, true)
	if a := <-got; a.st != StatusOK {
		t.Fatalf("alone: status %d %s", a.st, a.body)
	}
	w.same(s, x)
}
