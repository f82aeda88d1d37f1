package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/peer"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers each request with its body, in order.
type echo struct {
	mu  sync.Mutex
	got [][]byte
}

func (e *echo) HandleOwn(_ string, _ replica.Type, body []byte, to replica.Replier) {
	e.mu.Lock()
	e.got = append(e.got, append([]byte(nil), body...))
	e.mu.Unlock()
	to.Reply(replica.StatusOK, body)
}

type noPool struct{}

var errRefused = errors.New("refused")

func (noPool) Try(string, peer.Class) (*peer.Conn, error) { return nil, errRefused }
func (noPool) Get(context.Context, string, peer.Class) (*peer.Conn, error) {
	return nil, errRefused
}

func open(t *testing.T, l Local) *Transport {
	tr := New(Options{Self: "a", Pool: noPool{},
		Local: func(s block.StoreID) Local {
			if s == (block.StoreID{1}) {
				return l
			}
			return nil
		},
		Owner: func(s block.StoreID) (string, bool) { return "b", s == block.StoreID{2} }})
	t.Cleanup(tr.Close)
	return tr
}

// TestLocalOrder: requests to a store of this process arrive in order, whole, and their buffers may be used again at once.
func TestLocalOrder(t *testing.T) {
	e := &echo{}
	tr := open(t, e)
	const n = 2000
	var wg sync.WaitGroup
	wg.Add(n)
	var a, b [4]byte
	for i := range uint32(n) {
		binary.LittleEndian.PutUint32(a[:], i)
		binary.LittleEndian.PutUint32(b[:], ^i)
		tr.Send(block.StoreID{1}, replica.TypeAppend, func(st replica.Status, body []byte, err error) {
			if st != replica.StatusOK || err != nil || len(body) != 8 || binary.LittleEndian.Uint32(body) != i {
				t.Errorf("request %d: %d %x %v", i, st, body, err)
			}
			wg.Done()
		}, a[:], b[:])
	}
	wg.Wait()
	for i, body := range e.got {
		if binary.LittleEndian.Uint32(body) != uint32(i) || binary.LittleEndian.Uint32(body[4:]) != ^uint32(i) {
			t.Fatalf("request %d arrived as %x", i, body)
		}
	}
}

func TestUnreachable(t *testing.T) {
	tr := open(t, &echo{})
	c := replica.Client{Env: task.NewReal(), Transport: tr}
	for _, s := range []block.StoreID{{2}, {3}} {
		if _, err := c.Volumes(s); !errors.Is(err, replica.ErrUnreachable) {
			t.Errorf("store %s: %v", s, err)
		}
	}
	if err := func() error { _, err := c.Volumes(block.StoreID{2}); return err }(); !errors.Is(err, errRefused) {
		t.Errorf("the reason is lost: %v", err)
	}
	tr.Close()
	if _, err := c.Volumes(block.StoreID{1}); !errors.Is(err, replica.ErrUnreachable) {
		t.Errorf("after Close: %v", err)
	}
}

// TestCut: once cut, a writer sees itself fenced, without a number that it would go above.
func TestCut(t *testing.T) {
	cut := NewCut(open(t, &echo{}))
	c := replica.Client{Env: task.NewReal(), Transport: cut}
	e := block.Epoch{Number: 7, Token: 8}
	if _, err := c.Promise(block.StoreID{1}, e, block.ExtentID{}); errors.Is(err, replication.ErrFenced) {
		t.Fatal("fenced before the cut")
	}
	cut.End()
	_, err := c.Promise(block.StoreID{1}, e, block.ExtentID{})
	var f *replica.FencedError
	if !errors.As(err, &f) || f.Promised.Number != 7 || f.Promised.Token == 8 {
		t.Fatal(err)
	}
}

// late is a transport that answers when it is told to.
type late struct{ done replica.Done }

func (l *late) Send(_ block.StoreID, _ replica.Type, done replica.Done, _ ...[]byte) { l.done = done }

// TestCutLate: an answer that comes after the cut is an error.
func TestCutLate(t *testing.T) {
	for _, ended := range []bool{false, true} {
		l := &late{}
		cut := NewCut(l)
		var st replica.Status
		var got error
		cut.Send(block.StoreID{1}, replica.TypeAppend, func(s replica.Status, _ []byte, err error) { st, got = s, err })
		if ended {
			cut.End()
		}
		l.done(replica.StatusFull, nil, nil)
		if ended != errors.Is(got, replica.ErrUnreachable) || !ended && st != replica.StatusFull {
			t.Errorf("ended %v: status %d, error %v", ended, st, got)
		}
	}
}
