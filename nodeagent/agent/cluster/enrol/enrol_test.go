package enrol

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	certv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const network = "7c1f0c9e-0000-4000-8000-00000000abcd"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for what must become true, as long as the test may last.
func until(t *testing.T, f func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("it does not come")
		}
	}
}

// world is a Kubernetes API with an operator behind it, and a node's files.
type world struct {
	t   *testing.T
	dir string

	mu     sync.Mutex
	now    time.Time
	ca     *identity.CA
	asked  int
	down   bool
	silent bool // the operator does not answer
	deny   string
	lose   int // requests that are gone when they are asked for
	csrs   map[string]*certv1.CertificateSigningRequest
	used   chan time.Time // ends of certificates that came into use
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir(), now: time.Now(), csrs: map[string]*certv1.CertificateSigningRequest{}, used: make(chan time.Time, 16)}
	w.newCA()
	return w
}

func (w *world) newCA() {
	w.t.Helper()
	ca, err := identity.NewCA(network, w.clock())
	must(w.t, err)
	w.set(func() { w.ca = ca })
	must(w.t, os.WriteFile(w.caFile(), ca.CertPEM(), 0o600))
}

func (w *world) caFile() string { return filepath.Join(w.dir, "ca.crt") }

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) requests() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

func (w *world) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return errors.New("connection refused")
	}
	w.asked++
	csr := o.(*certv1.CertificateSigningRequest)
	csr.Name = fmt.Sprintf("%s%d", csr.GenerateName, w.asked)
	if csr.Spec.SignerName != v1alpha1.SignerName {
		w.t.Errorf("signer %q", csr.Spec.SignerName)
	}
	w.csrs[csr.Name] = csr.DeepCopy()
	return nil
}

func (w *world) Get(_ context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return errors.New("connection refused")
	}
	csr := w.csrs[key.Name]
	if w.lose > 0 {
		w.lose--
		return apierrors.NewNotFound(schema.GroupResource{Resource: "certificatesigningrequests"}, key.Name)
	}
	switch {
	case w.silent:
	case w.deny != "":
		csr.Status.Conditions = []certv1.CertificateSigningRequestCondition{{Type: certv1.CertificateDenied, Message: w.deny}}
	default:
		block, _ := pem.Decode(csr.Spec.Request)
		req, err := x509.ParseCertificateRequest(block.Bytes)
		must(w.t, err)
		id, err := identity.ParseIdentity(req.URIs[0].String())
		must(w.t, err)
		csr.Status.Certificate, err = w.ca.Certify(id.Node, req.PublicKey.(ed25519.PublicKey), w.now, 7*24*time.Hour)
		must(w.t, err)
	}
	csr.DeepCopyInto(o.(*certv1.CertificateSigningRequest))
	return nil
}

// enrol makes an enrolment of node a, as a starting agent does.
func (w *world) enrol() *Enrolment {
	var e *Enrolment
	e = New(Options{API: w, Network: network, Node: "a", Dir: filepath.Join(w.dir, "tls"), CA: w.caFile(), Now: w.clock, Poll: time.Millisecond,
		Log: slog.New(slog.DiscardHandler), Changed: func() { w.used <- e.creds.Self().NotAfter }})
	return e
}

// run runs what keeps the credentials fresh, until the test ends.
func (w *world) run(e *Enrolment) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = e.Run(ctx)
	}()
	return func() { cancel(); <-done }
}

func TestFirst(t *testing.T) {
	w := newWorld(t)
	w.set(func() { w.lose = 1 }) // the first request gets lost
	c, err := w.enrol().First(t.Context())
	must(t, err)
	if c.Self().Node != "a" || w.requests() != 2 {
		t.Errorf("%v after %d requests", c.Self(), w.requests())
	}
	for _, name := range []string{keyFile, certFile} {
		st, err := os.Stat(filepath.Join(w.dir, "tls", name))
		must(t, err)
		if st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, st.Mode())
		}
	}
}

// TestCached: with the API away, a pair on disk serves; one that has ended or is another node's does not.
func TestCached(t *testing.T) {
	w := newWorld(t)
	_, err := w.enrol().First(t.Context())
	must(t, err)
	w.set(func() { w.down = true })
	if _, err := w.enrol().First(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.requests() != 1 {
		t.Errorf("%d requests", w.requests())
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	w.set(func() { w.now = w.now.Add(8 * 24 * time.Hour) })
	if _, err := w.enrol().First(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("a certificate that has ended was used: %v", err)
	}
	w.set(func() { w.now = w.now.Add(-8 * 24 * time.Hour) })
	other := w.enrol()
	other.opt.Node = "b"
	if _, err := other.First(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("another node's certificate was used: %v", err)
	}
}

// TestDenied: a refusal is told, and asked again: the operator may not know the node yet.
func TestDenied(t *testing.T) {
	w := newWorld(t)
	w.set(func() { w.deny = "the pod is gone" })
	e := w.enrol()
	if _, err := e.ask(t.Context(), nil); !errors.Is(err, ErrDenied) {
		t.Errorf("%v", err)
	}
	done := make(chan error)
	go func() {
		_, err := e.First(t.Context())
		done <- err
	}()
	until(t, func() bool { return w.requests() >= 3 })
	w.set(func() { w.deny = "" })
	must(t, <-done)
}

// TestCrash: killed after any of the writes of a new pair, the agent finds a pair that fits.
func TestCrash(t *testing.T) {
	w := newWorld(t)
	_, err := w.enrol().First(t.Context())
	must(t, err)
	dir := filepath.Join(w.dir, "tls")
	cert, key, err := w.ca.Issue("a", w.clock(), 24*time.Hour)
	must(t, err)
	next := pair{cert, key}
	w.set(func() { w.down = true })
	for i, f := range []struct {
		name string
		b    []byte
	}{{nextFile, next.cert}, {keyFile, next.key}, {certFile, next.cert}} {
		must(t, os.WriteFile(filepath.Join(dir, f.name), f.b, 0o600))
		c, err := w.enrol().First(t.Context())
		if err != nil {
			t.Fatalf("after write %d: %v", i+1, err)
		}
		if isNew := c.Self().NotAfter.Before(w.clock().Add(48 * time.Hour)); isNew != (i > 0) {
			t.Errorf("after write %d the new pair is used: %v", i+1, isNew)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, keyFile), []byte("no key"), 0o600)) // control
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.enrol().First(gone); err == nil {
		t.Error("a pair that does not fit was used")
	}
}

// TestRenew: after a third of its life a certificate is renewed, once, with a new key; while that fails, the old one stays.
func TestRenew(t *testing.T) {
	w := newWorld(t)
	e := w.enrol()
	c, err := e.First(t.Context())
	must(t, err)
	first := <-w.used
	old, err := os.ReadFile(filepath.Join(w.dir, "tls", keyFile))
	must(t, err)
	stop := w.run(e)
	defer stop()
	w.set(func() { w.silent = true; w.now = w.now.Add(3 * 24 * time.Hour) })
	until(t, func() bool { return w.requests() >= 2 })
	if c.Self().NotAfter != first {
		t.Error("the old certificate is not in use while the new one is not there")
	}
	w.set(func() { w.silent = false })
	if second := <-w.used; !second.After(first) || c.Self().NotAfter != second {
		t.Errorf("renewed to %v from %v", second, first)
	}
	key, err := os.ReadFile(filepath.Join(w.dir, "tls", keyFile))
	must(t, err)
	if string(key) == string(old) {
		t.Error("the key is the old one")
	}
	if n := w.requests(); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// greet makes a TLS connection between two nodes.
func greet(t *testing.T, from, to *identity.Credentials) error {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	done := make(chan error, 1)
	go func() {
		defer b.Close()
		done <- tls.Server(b, to.ServerConfig(new(identity.Identity))).Handshake()
	}()
	err := tls.Client(a, from.ClientConfig(to.Self().Node, new(identity.Identity))).Handshake()
	a.Close()
	return errors.Join(err, <-done)
}

// TestAuthorities: a bundle that names another authority too is taken into use while the agent runs.
func TestAuthorities(t *testing.T) {
	w := newWorld(t)
	e := w.enrol()
	mine, err := e.First(t.Context())
	must(t, err)
	second, err := identity.NewCA(network, w.clock())
	must(t, err)
	bundle := append(w.ca.CertPEM(), second.CertPEM()...)
	cert, key, err := second.Issue("b", w.clock(), time.Hour)
	must(t, err)
	other, err := identity.NewCredentials(cert, key, bundle, identity.CredentialOptions{Now: w.clock})
	must(t, err)
	if greet(t, other, mine) == nil {
		t.Fatal("an authority that is not in the bundle is trusted")
	}
	defer w.run(e)()
	must(t, os.WriteFile(w.caFile(), []byte("garbage"), 0o600)) // not taken
	must(t, os.WriteFile(w.caFile(), bundle, 0o600))
	until(t, func() bool { return greet(t, other, mine) == nil })
}
