package peer

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

const testNetwork = "7c1f0c9e-0000-4000-8000-00000000abcd"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
}

func testCA(t testing.TB, network string) *identity.CA {
	t.Helper()
	ca, err := identity.NewCA(network, time.Now())
	must(t, err)
	return ca
}

func testCreds(t testing.TB, ca *identity.CA, node string, opt identity.CredentialOptions) *identity.Credentials {
	t.Helper()
	cert, key, err := ca.Issue(node, time.Now(), time.Hour)
	must(t, err)
	c, err := identity.NewCredentials(cert, key, ca.CertPEM(), opt)
	must(t, err)
	return c
}

// CredentialOptions is short for what many tests leave empty.
type CredentialOptions = identity.CredentialOptions

// handlerFunc makes a Handler of a function.
type handlerFunc func(Identity, *Request)

func (f handlerFunc) Serve(from Identity, r *Request) { f(from, r) }

// echo replies with the body.
var echo = handlerFunc(func(_ Identity, r *Request) {
	r.Reply(StatusOK, r.Body)
	r.Release()
})

// rejections collects what a server refused.
type rejections struct {
	mu   sync.Mutex
	errs []error
	more chan struct{}
}

func newRejections() *rejections { return &rejections{more: make(chan struct{}, 1000)} }

func (r *rejections) add(_ net.Addr, err error) {
	r.mu.Lock()
	r.errs = append(r.errs, err)
	r.mu.Unlock()
	r.more <- struct{}{}
}

// next waits for a rejection.
func (r *rejections) next() error {
	<-r.more
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.errs[0]
	r.errs = r.errs[1:]
	return err
}

type rig struct {
	ca   *identity.CA
	srv  *Server
	addr string
	rej  *rejections // connections that were refused

	ended *rejections // connections that were served
}

// newRig starts a server, node "server", with a handler.
func newRig(t testing.TB, h Handler, set Settings, opt ServerOptions) *rig {
	t.Helper()
	r := &rig{ca: testCA(t, testNetwork), rej: newRejections(), ended: newRejections()}
	opt.Rejected = r.rej.add
	opt.Ended = func(_ Identity, err error) { r.ended.add(nil, err) }
	srv, err := NewServer(testCreds(t, r.ca, "server", CredentialOptions{}), h, set, opt)
	must(t, err)
	r.srv = srv
	addr, err := srv.Listen("127.0.0.1:0")
	must(t, err)
	r.addr = addr.String()
	t.Cleanup(func() { srv.Close() })
	return r
}

// dial connects as node "client".
func (r *rig) dial(t testing.TB, set Settings) *Conn {
	t.Helper()
	c, err := r.tryDial(t, testCreds(t, r.ca, "client", CredentialOptions{}), set)
	must(t, err)
	return c
}

func (r *rig) tryDial(t testing.TB, creds *identity.Credentials, set Settings) (*Conn, error) {
	t.Helper()
	d, err := NewDialer(creds, set)
	must(t, err)
	c, err := d.Dial(context.Background(), "server", r.addr)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}
