package remote_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/remote"
	"mynetwork.io/mynetwork/csi/request"
)

const uid = "0f0e0d0c-1111-2222-3333-444455556666"

// authority signs certificates of a network.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  ed25519.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key}
	tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: uid}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert = tmpl
	a.cert = a.sign(tmpl, pub)
	return a
}

func (a *authority) sign(tmpl *x509.Certificate, pub ed25519.PublicKey) *x509.Certificate {
	a.t.Helper()
	tmpl.SerialNumber = big.NewInt(time.Now().UnixNano())
	if tmpl.NotAfter.IsZero() {
		tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, pub, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// issue makes a certificate with these names, and its key.
func (a *authority) issue(change func(c *x509.Certificate), names ...string) tls.Certificate {
	a.t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	for _, n := range names {
		u, err := url.Parse(n)
		if err != nil {
			a.t.Fatal(err)
		}
		tmpl.URIs = append(tmpl.URIs, u)
	}
	if change != nil {
		change(tmpl)
	}
	return tls.Certificate{Certificate: [][]byte{a.sign(tmpl, pub).Raw}, PrivateKey: key}
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// install writes the files of the network.
func (a *authority) install(dir string) {
	a.t.Helper()
	c := a.issue(nil, "mynetwork://"+uid+"/control/csi")
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	for name, b := range map[string][]byte{".crt": encode("CERTIFICATE", c.Certificate[0]), ".key": encode("PRIVATE KEY", key), ".ca": encode("CERTIFICATE", a.cert.Raw)} {
		if err := os.WriteFile(filepath.Join(dir, uid+name), b, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

type agent struct {
	agentv1.UnimplementedAgentServer
	name string
}

func (a agent) Info(context.Context, *agentv1.InfoRequest) (*agentv1.InfoResponse, error) {
	return &agentv1.InfoResponse{Node: a.name}, nil
}

// serve serves an agent that asks for a client's certificate of an authority.
func serve(t *testing.T, name string, own tls.Certificate, clients *authority) (address string, stop func()) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(clients.cert)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})))
	agentv1.RegisterAgentServer(s, agent{name: name})
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(s.Stop)
	return ln.Addr().String(), s.Stop
}

// places are where agents are.
type places struct {
	mu        sync.Mutex
	addresses map[string]string
}

func (p *places) Name(_ context.Context, id string) (string, bool, error) {
	return "main", id == uid, nil
}

func (p *places) Addresses(context.Context, string) (map[string]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]string{}
	for k, v := range p.addresses {
		out[k] = v
	}
	return out, nil
}

func (p *places) set(node, address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addresses[node] = address
}

func ask(t *testing.T, a *remote.Agents, node string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := a.Agent(ctx, uid, node)
	if err != nil {
		return "", err
	}
	for {
		r, err := c.Info(ctx, &agentv1.InfoRequest{})
		if status.Code(err) == codes.Unavailable && ctx.Err() == nil && !strings.Contains(err.Error(), "other end") {
			continue // the connection has just ended, or is tried again
		}
		return r.GetNode(), err
	}
}

// Agents are found by node or any of them, and again at another address; certificates are read anew.
func TestAgents(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	p := &places{addresses: map[string]string{}}
	a := remote.New(dir, p)
	t.Cleanup(func() { _ = a.Close() })
	if n, err := a.Networks(t.Context()); err != nil || len(n) != 0 {
		t.Errorf("networks without certificates: %v, %v", n, err)
	}
	if _, err := ask(t, a, "n1"); !errors.Is(err, request.ErrNetwork) {
		t.Errorf("without certificates: %v", err)
	}
	ca.install(dir)
	if err := os.WriteFile(filepath.Join(dir, "half-a-network.crt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Networks(t.Context()); err != nil || !slices.Equal(n, []request.Network{{ID: uid, Name: "main"}}) {
		t.Errorf("networks: %v, %v", n, err)
	}
	for _, node := range []string{"", "n1"} {
		if _, err := ask(t, a, node); !errors.Is(err, request.ErrNetwork) {
			t.Errorf("node %q without addresses: %v", node, err)
		}
	}
	own := func(node string) tls.Certificate { return ca.issue(nil, "mynetwork://"+uid+"/node/"+node) }
	at1, stop1 := serve(t, "n1", own("n1"), ca)
	at2, _ := serve(t, "n2", own("n2"), ca)
	p.set("n1", at1)
	p.set("n2", at2)
	for _, node := range []string{"n1", "n2"} {
		if got, err := ask(t, a, node); err != nil || got != node {
			t.Errorf("%s: %q answered, %v", node, got, err)
		}
	}
	if got, err := ask(t, a, ""); err != nil || got != "n1" && got != "n2" {
		t.Errorf("any: %q answered, %v", got, err)
	}
	stop1()
	if got, err := ask(t, a, ""); err != nil || got != "n2" {
		t.Errorf("any, with one dead: %q answered, %v", got, err)
	}
	at1, _ = serve(t, "n1 again", own("n1"), ca)
	p.set("n1", at1)
	if got, err := ask(t, a, "n1"); err != nil || got != "n1 again" {
		t.Errorf("at another address: %q answered, %v", got, err)
	}
	next := newAuthority(t) // a new network of the same uid, say: what is read is what is there now
	next.install(dir)
	at3, _ := serve(t, "n3", next.issue(nil, "mynetwork://"+uid+"/node/n3"), next)
	p.set("n3", at3)
	if got, err := ask(t, a, "n3"); err != nil || got != "n3" {
		t.Errorf("with other certificates: %q answered, %v", got, err)
	}
}

// Nobody is taken for an agent who cannot prove to be the one that was asked for.
func TestStrangers(t *testing.T) {
	ca, foreign, dir := newAuthority(t), newAuthority(t), t.TempDir()
	ca.install(dir)
	name := func(path string) string { return "mynetwork://" + uid + path }
	for what, own := range map[string]tls.Certificate{
		"another node":      ca.issue(nil, name("/node/n2")),
		"another network":   ca.issue(nil, "mynetwork://1f0e0d0c-1111-2222-3333-444455556666/node/n1"),
		"another authority": foreign.issue(nil, name("/node/n1")),
		"a client":          ca.issue(nil, name("/control/csi")),
		"two names":         ca.issue(nil, name("/node/n1"), name("/node/n2")),
		"no name":           ca.issue(nil),
		"another scheme":    ca.issue(nil, "https://"+uid+"/node/n1"),
		"no node":           ca.issue(nil, name("/node/")),
		"one of the past": ca.issue(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}, name("/node/n1")),
		"no server": ca.issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, name("/node/n1")),
	} {
		address, _ := serve(t, "n1", own, ca)
		a := remote.New(dir, &places{addresses: map[string]string{"n1": address}})
		for _, node := range []string{"n1", ""} {
			if node == "" && what == "another node" {
				continue // the control: any node of the network may answer
			}
			if got, err := ask(t, a, node); err == nil || !strings.Contains(err.Error(), "other end") {
				t.Errorf("%s was taken for node %q: %q, %v", what, node, got, err)
			}
		}
		if what == "another node" {
			if got, err := ask(t, a, ""); err != nil || got != "n1" {
				t.Errorf("the control: %q, %v", got, err)
			}
		}
		_ = a.Close()
	}
}
