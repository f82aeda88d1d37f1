package replica

import (
	"bytes"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/store"
)

// lends is a Replier whose request's body becomes something else when its last use has ended.
type lends struct {
	follows
	body []byte
	uses *int
}

func (l lends) Hold() { *l.uses++ }

func (l lends) Release() {
	if *l.uses--; *l.uses == 0 {
		clear(l.body)
	}
}

// TestKeptBodies: the bodies of large appends are held until the commit, from which all are answered, and no longer; small ones, and those that wait
// for room, are not held, and nothing is read from them later.
func TestKeptBodies(t *testing.T) {
	w := newWorld(t, 1, store.Options{})
	s, e := block.StoreID{1}, block.Epoch{Number: 1, Token: 1}
	n := w.node[s]
	n.srv.mu.Lock()
	n.srv.patience, n.srv.rest = time.Hour, time.Hour // tidying would move what is held
	n.srv.mu.Unlock()
	x := newWriter(e, 1, s)
	w.send(s, x, 0, 1)
	got := make(chan answer, 9)
	push := func(pages int, more bool) *int {
		x.write(pages)
		uses := 1
		l := lends{follows{replyTo{func(st Status, b []byte, _ error) { got <- answer{st, bytes.Clone(b)} }}, more}, x.body(s, len(x.recs)-1), &uses}
		n.srv.Handle("test", TypeAppend, l.body, l)
		l.Release()
		return &uses
	}
	first, second := push(64, true), push(60, true)
	if *first != 1 || *second != 1 || len(got) != 0 {
		t.Fatalf("control: %d and %d uses, %d answers", *first, *second, len(got))
	}
	data := make([]byte, x.chain.DataLen)
	if err := n.st.ReadData(x.x, 0, data); err != nil || !bytes.Equal(data, bytes.Join(x.data, nil)) {
		t.Fatalf("what is held reads otherwise: %v", err)
	}
	small := push(1, true) // asks for the commit
	for range 3 {
		if a := <-got; a.st != StatusOK {
			t.Fatalf("status %d %s", a.st, a.body)
		}
	}
	if *first != 0 || *second != 0 || *small != 0 {
		t.Errorf("%d, %d and %d uses are left", *first, *second, *small)
	}
	w.same(s, x)

	n.srv.mu.Lock() // as if an append to it waited already
	n.srv.blocked = append(n.srv.blocked, blocked{head: Head{Store: s, Extent: x.x}, to: replyTo{func(Status, []byte, error) {}}})
	n.srv.mu.Unlock()
	if waits := push(64, false); *waits != 0 {
		t.Errorf("what waits for room is held, %d times", *waits)
	}
	n.srv.unblock()
	if a := <-got; a.st != StatusOK {
		t.Fatalf("status %d %s", a.st, a.body)
	}
	w.same(s, x)
}
