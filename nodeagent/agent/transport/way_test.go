package transport

import (
	"encoding/binary"
	"errors"
	"sync"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// taker takes the answers of a way.
type taker struct {
	mu      sync.Mutex
	n       uint32
	settled uint32
	bad     error
	want    uint32
	all     chan struct{}
}

func (k *taker) done(st replica.Status, body []byte, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil && (st != replica.StatusOK || binary.LittleEndian.Uint32(body) != k.n) {
		err = errors.New("not the answer to the request that is next")
	}
	k.bad = errors.Join(k.bad, err)
	k.n++
}

func (k *taker) settle() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.settled != k.want && k.n == k.want {
		close(k.all)
	}
	k.settled = k.n
}

// TestWay: requests over a way, and sends between them, arrive in order, here and elsewhere, and each is answered and settled. What was given may be
// used again at once.
func TestWay(t *testing.T) {
	here, there := &echo{}, &elsewhere{}
	cut := NewCut(network(t, here, there))
	const n = 3000
	for store := range byte(3) {
		if store == 0 {
			continue
		}
		k := &taker{want: n, all: make(chan struct{})}
		w := cut.Bind(block.StoreID{store}, k.done, k.settle)
		var sent sync.WaitGroup
		var a [4]byte
		for i := range uint32(n) {
			binary.LittleEndian.PutUint32(a[:], i)
			if i%100 == 0 {
				sent.Add(1)
				cut.Send(block.StoreID{store}, replica.TypeAppend, func(replica.Status, []byte, error) { sent.Done() }, a[:], []byte("send"))
			}
			w.Send(replica.TypeAppend, a[:], []byte("way.")[:4], make([]byte, i%5000))
			clear(a[:])
		}
		<-k.all
		sent.Wait()
		if k.bad != nil {
			t.Errorf("store %d: %v", store, k.bad)
		}
	}
	here.mu.Lock()
	defer here.mu.Unlock()
	there.mu.Lock()
	defer there.mu.Unlock()
	for name, got := range map[string][][]byte{"here": here.got, "elsewhere": there.got} {
		next := uint32(0)
		for i, b := range got {
			at := binary.LittleEndian.Uint32(b)
			if string(b[4:8]) == "send" && at != next || string(b[4:8]) == "way." && at != next {
				t.Fatalf("%s: number %d is request %d, want %d", name, i, at, next)
			}
			if string(b[4:8]) == "way." {
				next++
			}
		}
		if next != n {
			t.Errorf("%s: %d arrived", name, next)
		}
	}
}

// TestWayFails: who has no way to a store is told, and a way that was cut refuses, as Send does; nothing settles then.
func TestWayFails(t *testing.T) {
	for _, store := range []byte{2, 3} {
		cut := NewCut(open(t, &echo{}))
		got := make(chan error, 1)
		w := cut.Bind(block.StoreID{store}, func(_ replica.Status, _ []byte, err error) { got <- err }, func() { t.Error("settled") })
		w.Send(replica.TypeAppend, []byte{1})
		if err := <-got; !errors.Is(err, replica.ErrUnreachable) {
			t.Errorf("store %d: %v", store, err)
		}
	}
	l := &late{}
	cut := NewCut(l)
	settled := 0
	var sts []replica.Status
	var errs []error
	w := cut.Bind(block.StoreID{1}, func(st replica.Status, _ []byte, err error) { sts, errs = append(sts, st), append(errs, err) }, func() { settled++ })
	w.Send(replica.TypeAppend, []byte{1})
	l.done(replica.StatusOK, nil, nil)
	if settled != 1 || errs[0] != nil || sts[0] != replica.StatusOK {
		t.Fatalf("control: settled %d, %v", settled, errs)
	}
	w.Send(replica.TypeAppend, []byte{1})
	cut.End()
	l.done(replica.StatusOK, nil, nil)
	if settled != 1 || !errors.Is(errs[1], replica.ErrUnreachable) {
		t.Errorf("late: settled %d, %v", settled, errs)
	}
}
