package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/peer"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// elsewhere is a node that notes what it is asked, in order.
type elsewhere struct {
	mu  sync.Mutex
	got [][]byte
}

func (e *elsewhere) Serve(_ peer.Identity, q *peer.Request) {
	e.mu.Lock()
	e.got = append(e.got, append([]byte(nil), q.Body...))
	e.mu.Unlock()
	q.Reply(replica.StatusOK, q.Body[:4])
	q.Release()
}

// network is a transport of node a, which has stores 1 and 4, and node b, over TLS, which has store 2.
func network(t *testing.T, here Local, there peer.Handler) *Transport {
	ca, err := identity.NewCA("n", time.Now())
	must(t, err)
	creds := func(node string) *identity.Credentials {
		cert, key, err := ca.Issue(node, time.Now(), time.Hour)
		must(t, err)
		c, err := identity.NewCredentials(cert, key, ca.CertPEM(), identity.CredentialOptions{})
		must(t, err)
		return c
	}
	srv, err := peer.NewServer(creds("b"), there, peer.Settings{}, peer.ServerOptions{})
	must(t, err)
	t.Cleanup(func() { srv.Close() })
	var addr net.Addr
	addr, err = srv.Listen("127.0.0.1:0")
	must(t, err)
	pool, err := peer.NewPool(creds("a"), peer.Settings{}, func(context.Context, string) (string, error) { return addr.String(), nil })
	must(t, err)
	t.Cleanup(func() { pool.Close() })
	tr := New(Options{Self: "a", Pool: pool,
		Local: func(s block.StoreID) Local {
			if s[0] == 1 || s[0] == 4 {
				return here
			}
			return nil
		},
		Owner: func(s block.StoreID) (string, bool) { return "b", s[0] == 2 }})
	t.Cleanup(tr.Close)
	return tr
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestSendAll: each store gets its own head and then the parts, in the order of all sends, whether it is here, elsewhere or a second
// one here; what was given may be changed at once. A store that nobody has fails alone.
func TestSendAll(t *testing.T) {
	here, there := &echo{}, &elsewhere{}
	cut := NewCut(network(t, here, there))
	const n = 200
	part, page := make([]byte, 100), make([]byte, 8<<10)
	var wg sync.WaitGroup
	wg.Add(4 * n)
	for i := range uint32(n) {
		binary.LittleEndian.PutUint32(part, i)
		for at := 0; at < len(page); at += 4 {
			binary.LittleEndian.PutUint32(page[at:], i)
		}
		var to []replica.Target
		var heads [4][8]byte
		for k, store := range []byte{2, 3, 1, 4} {
			binary.LittleEndian.PutUint32(heads[k][:], i)
			heads[k][4] = store
			to = append(to, replica.Target{Store: block.StoreID{store}, Head: heads[k][:], Done: func(st replica.Status, _ []byte, err error) {
				if gone := errors.Is(err, replica.ErrUnreachable); gone != (store == 3) || !gone && (st != replica.StatusOK || err != nil) {
					t.Errorf("request %d to store %d: %d, %v", i, store, st, err)
				}
				wg.Done()
			}})
		}
		if i%3 == 0 {
			cut.Send(block.StoreID{2}, replica.TypeAppend, func(replica.Status, []byte, error) {}, heads[0][:], part, page, page)
			cut.SendAll(replica.TypeAppend, to[1:], part, page, page)
			wg.Done()
		} else {
			cut.SendAll(replica.TypeAppend, to, part, page, page)
		}
		clear(part)
		clear(page)
		clear(heads[:])
	}
	wg.Wait()
	check := func(name string, store byte, got [][]byte) {
		i := uint32(0)
		for _, b := range got {
			if b[4] != store {
				continue
			}
			want := binary.LittleEndian.AppendUint32(nil, i)
			pages := bytes.Repeat(want, len(page)/2)
			if !bytes.Equal(b[:8], append(want, store, 0, 0, 0)) || !bytes.Equal(b[8:12], want[:4]) || !bytes.Equal(b[108:], pages) {
				t.Fatalf("%s: request %d is %x, %d bytes", name, i, b[:12], len(b))
			}
			i++
		}
		if i != n {
			t.Errorf("%s: %d of %d requests", name, i, n)
		}
	}
	here.mu.Lock()
	defer here.mu.Unlock()
	there.mu.Lock()
	defer there.mu.Unlock()
	check("elsewhere", 2, there.got)
	check("here", 1, here.got)
	check("here too", 4, here.got)
}

// TestSendAllAfterCut: every target sees itself fenced. Control: before the cut none does.
func TestSendAllAfterCut(t *testing.T) {
	cut := NewCut(open(t, &echo{}))
	for _, want := range []replica.Status{replica.StatusOK, replica.StatusFenced} {
		got := make(chan replica.Status, 2)
		done := func(st replica.Status, _ []byte, _ error) { got <- st }
		head := make([]byte, replica.AppendHeadSize)
		cut.SendAll(replica.TypeAppend, []replica.Target{{Store: block.StoreID{1}, Head: head, Done: done}, {Store: block.StoreID{1}, Head: head, Done: done}}, []byte("x"))
		for range 2 {
			if st := <-got; st != want {
				t.Errorf("status %d, want %d", st, want)
			}
		}
		cut.End()
	}
}

// TestParcelComesBack: the memory of a parcel is used again, so a record of a class is not made anew for each send. Control: it was made once.
func TestParcelComesBack(t *testing.T) {
	tr := open(t, &echo{})
	part := make([]byte, 200<<10)
	again := func(drop bool) float64 {
		return testing.AllocsPerRun(100, func() {
			p := tr.pack([][]byte{part})
			if drop {
				p.mem = new([]byte) // as if somebody kept it
			}
			p.Release()
		})
	}
	if got := again(false); got > 3 { // under the race detector pools drop a quarter of what they are given
		t.Errorf("%v allocations a parcel", got)
	}
	if got := again(true); got < 2 {
		t.Errorf("control: %v allocations a parcel that is kept", got)
	}
}
