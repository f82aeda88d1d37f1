package peer

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

// TestStranger: a node of another authority and plaintext are refused, and the server's log gets the reason. Control: the rig's own dial.
func TestStranger(t *testing.T) {
	r := newRig(t, echo, Settings{}, ServerOptions{})
	stranger := testCreds(t, testCA(t, testNetwork), "client", CredentialOptions{})
	_, err := r.tryDial(t, stranger, Settings{})
	wantErr(t, err, identity.ErrChain)
	r.rej.next()
	blocker := testCreds(t, r.ca, "server", CredentialOptions{Blocked: func(n string) bool { return n == "client" }})
	srv, err := NewServer(blocker, echo, Settings{}, ServerOptions{Rejected: r.rej.add})
	must(t, err)
	defer srv.Close()
	addr, err := srv.Listen("127.0.0.1:0")
	must(t, err)
	d, err := NewDialer(testCreds(t, r.ca, "client", CredentialOptions{}), Settings{})
	must(t, err)
	if _, err = d.Dial(context.Background(), "server", addr.String()); err == nil {
		t.Error("a blocked node got in")
	}
	err = r.rej.next()
	wantErr(t, err, identity.ErrBlocked)
	if !strings.Contains(err.Error(), "/node/client") {
		t.Errorf("the log does not say who: %v", err)
	}
	raw, err := net.Dial("tcp", r.addr)
	must(t, err)
	defer raw.Close()
	raw.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	if r.rej.next() == nil {
		t.Error("plaintext was not rejected")
	}
	must(t, r.dial(t, Settings{}).Err())
}

// TestWrongNode: the right network is not enough, the dialed node must be there.
func TestWrongNode(t *testing.T) {
	r := newRig(t, echo, Settings{}, ServerOptions{})
	d, err := NewDialer(testCreds(t, r.ca, "client", CredentialOptions{}), Settings{})
	must(t, err)
	_, err = d.Dial(context.Background(), "another", r.addr)
	wantErr(t, err, identity.ErrNode)
}

// TestRotation: replaced credentials serve the next connection, and the old connection goes on.
func TestRotation(t *testing.T) {
	r := newRig(t, echo, Settings{}, ServerOptions{})
	c := r.dial(t, Settings{})
	before := c.Remote().NotAfter
	cert, key, err := r.ca.Issue("server", time.Now(), 9*time.Hour)
	must(t, err)
	must(t, r.srv.creds.Replace(cert, key, r.ca.CertPEM()))
	if after := r.dial(t, Settings{}).Remote().NotAfter; !after.After(before) {
		t.Errorf("the new connection still sees the old certificate: %v", after)
	}
	_, err = c.Call(context.Background(), 1)
	must(t, err)
}

// TestUnwelcome: a node that is blocked while it is connected is cut off at the next tick. One whose certificate ends goes on: it
// is refused at its next connection.
func TestUnwelcome(t *testing.T) {
	var blocked atomic.Bool
	var clock atomic.Int64
	clock.Store(time.Now().UnixNano())
	for name, c := range map[string]struct {
		change func()
		rule   error
	}{
		"blocked": {func() { blocked.Store(true) }, identity.ErrBlocked},
		"expired": {func() { blocked.Store(false); clock.Add(int64(2 * time.Hour)) }, nil},
	} {
		blocked.Store(false)
		clock.Store(time.Now().UnixNano())
		r := newRig(t, echo, Settings{}, ServerOptions{})
		conn, err := r.tryDial(t, testCreds(t, r.ca, "client", CredentialOptions{
			Blocked: func(string) bool { return blocked.Load() },
			Now:     func() time.Time { return time.Unix(0, clock.Load()) },
		}), Settings{})
		must(t, err)
		conn.watch()
		must(t, conn.Err())
		c.change()
		conn.watch()
		if err := conn.Err(); !errors.Is(err, c.rule) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
