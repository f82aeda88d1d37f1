package peer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"math"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/peer/grant"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

// newPool makes node "client"'s pool, which finds "server" at the address that addr holds.
func newPool(t *testing.T, ca *identity.CA, addr *atomic.Value) *Pool {
	t.Helper()
	p, err := NewPool(testCreds(t, ca, "client", CredentialOptions{}), Settings{BackoffMin: time.Millisecond, BackoffMax: 4 * time.Millisecond},
		func(_ context.Context, node string) (string, error) {
			if node != "server" {
				return "", errors.New("no such node")
			}
			return addr.Load().(string), nil
		})
	must(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

// TestPool: one connection for each class, shared; dialed again after a loss, at the address that holds then.
func TestPool(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, echo, Settings{}, ServerOptions{})
	var addr atomic.Value
	addr.Store(r.addr)
	p := newPool(t, r.ca, &addr)
	small, err := p.Get(ctx, "server", Small)
	must(t, err)
	again, err := p.Try("server", Small)
	must(t, err)
	bulk, err := p.Get(ctx, "server", Bulk)
	must(t, err)
	if small != again || small == bulk {
		t.Error("classes do not have one connection each")
	}
	resp, err := bulk.Call(ctx, 1, make([]byte, 1<<20))
	must(t, err)
	resp.Release()
	_, err = small.Call(ctx, 1)
	must(t, err)
	if rep := p.Health("server").Report(); rep.RTT <= 0 || rep.Bandwidth <= 0 || rep.Failures != 0 {
		t.Errorf("health: %+v", rep)
	}
	l, err := r.srv.Listen("127.0.0.1:0") // it moves
	must(t, err)
	addr.Store(l.String())
	r.srv.Disconnect(func(Identity) bool { return true })
	<-small.Done()
	next, err := p.Get(ctx, "server", Small)
	must(t, err)
	if next == small {
		t.Error("the lost connection was given again")
	}
	_, err = next.Call(ctx, 1)
	must(t, err)
	if next.raw.RemoteAddr().String() != l.String() {
		t.Error("the new address was not taken")
	}
	if rep := p.Health("server").Report(); rep.Failures == 0 || rep.Reliability >= 1 {
		t.Errorf("the loss does not show: %+v", rep)
	}
	p.Forget("server")
	wantErr(t, next.Err(), ErrClosed)
}

// TestPoolFailures: the reason of a failure is told, attempts go on, and Close ends them.
func TestPoolFailures(t *testing.T) {
	r := newRig(t, echo, Settings{}, ServerOptions{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var addr atomic.Value
	addr.Store(l.Addr().String())
	l.Close() // nobody listens there
	p := newPool(t, r.ca, &addr)
	_, err = p.Try("server", Small)
	wantErr(t, err, ErrBusy)
	for errors.Is(err, ErrBusy) {
		runtime.Gosched()
		_, err = p.Try("server", Small)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = p.Get(ctx, "server", Small)
	var op *net.OpError
	if !errors.Is(err, context.Canceled) || !errors.As(err, &op) {
		t.Errorf("the reason is missing: %v", err)
	}
	addr.Store(r.addr) // it comes up
	c, err := p.Get(context.Background(), "server", Small)
	must(t, err)
	must(t, c.Err())
	_, err = p.Try("stranger", Bulk)
	wantErr(t, err, ErrBusy)
	must(t, p.Close())
	_, err = p.Get(context.Background(), "server", Small)
	wantErr(t, err, ErrClosed)
	wantErr(t, c.Err(), ErrClosed)
}

// TestPoolGrants: a grant is presented on the connections that are there and on those to come, before any later request.
func TestPoolGrants(t *testing.T) {
	ctx, key := context.Background(), testKey(1)
	a := grant.NewAuthorizer(testNetwork, []ed25519.PublicKey{pub(key)}, nil)
	r := newRig(t, handlerFunc(func(from Identity, q *Request) {
		if a.Allow(from, block.VolumeID(q.Body[:16]), 7, grant.Write) == nil {
			q.Reply(StatusOK)
		} else {
			q.Reply(1)
		}
		q.Release()
	}), Settings{}, ServerOptions{Grants: a})
	var addr atomic.Value
	addr.Store(r.addr)
	p := newPool(t, r.ca, &addr)
	ask := func(vol byte) uint16 {
		t.Helper()
		c, err := p.Get(ctx, "server", Small)
		must(t, err)
		resp, err := c.Call(ctx, 1, append([]byte{vol}, make([]byte, 15)...))
		must(t, err)
		defer resp.Release()
		return resp.Status
	}
	present := func(vol byte) {
		t.Helper()
		b, err := grant.Grant{Volume: block.VolumeID{vol}, Node: "client", EpochNumber: 7, Verbs: grant.Write}.Encode(testNetwork, key)
		must(t, err)
		must(t, p.AddGrant(ctx, block.VolumeID{vol}, b))
	}
	present(1)
	if ask(1) != StatusOK || ask(2) == StatusOK {
		t.Error("a grant of before the connection")
	}
	present(2)
	if ask(2) != StatusOK {
		t.Error("a grant during the connection")
	}
	p.DropGrant(block.VolumeID{1})
	c, err := p.Get(ctx, "server", Small)
	must(t, err)
	r.srv.Disconnect(func(Identity) bool { return true })
	<-c.Done()
	r.ended.next()
	if ask(2) != StatusOK || ask(1) == StatusOK {
		t.Error("grants after the connection was made again")
	}
}

// TestScore pins the formula, its range, and that each part counts.
func TestScore(t *testing.T) {
	near := func(got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-9 {
			t.Errorf("score %v, want %v", got, want)
		}
	}
	near(NewHealth().Report().Score(), 0.7)
	near(Report{RTT: time.Millisecond, Bandwidth: 100e6, Reliability: 1, Reputation: 1}.Score(), 0.7)
	near(Report{RTT: 3 * time.Millisecond, Bandwidth: 300e6, Reliability: 0.5, Reputation: 0}.Score(), 0.3/4+0.3*3/4+0.1)
	near(Report{RTT: 1 << 62, Bandwidth: 1e-9}.Score(), 0)
	if s := (Report{RTT: 1, Bandwidth: 1e18, Reliability: 1, Reputation: 1}).Score(); s > 1 || s < 0.999 {
		t.Errorf("best score %v", s)
	}
	h := NewHealth()
	last := h.Report().Score()
	worse := func(what string, f func()) {
		t.Helper()
		f()
		if s := h.Report().Score(); s >= last {
			t.Errorf("%s: score %v after %v", what, s, last)
		} else {
			last = s
		}
	}
	worse("failure", h.Fail)
	worse("wrong bytes", func() { h.Judge(false) })
	worse("slow", func() { h.observe(20*time.Millisecond, 100) })
	worse("narrow", func() { h.observe(time.Second, 1<<20) })
	for range 500 {
		h.observe(50*time.Microsecond, 100)
		h.observe(time.Millisecond, 1<<20)
		h.Judge(true)
	}
	if s := h.Report().Score(); s < 0.9 {
		t.Errorf("it does not recover: %v, %+v", s, h.Report())
	}
}

func TestSettings(t *testing.T) {
	must(t, Settings{}.WithDefaults().Validate())
	for i, s := range []Settings{{MaxBody: 1}, {MaxQueue: 1}, {PeerBytes: 1}, {Misses: -1}, {PingInterval: -1}, {BackoffMin: time.Hour},
		{Software: string(make([]byte, 65))}} {
		if s.WithDefaults().Validate() == nil {
			t.Errorf("settings %d are accepted", i)
		}
	}
}
