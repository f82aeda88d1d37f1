package peer

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestParseIdentity(t *testing.T) {
	for _, good := range []string{"mynetwork://net/node/a", "mynetwork://" + testNetwork + "/node/worker-1.zone.example"} {
		if id, err := ParseIdentity(good); err != nil || id.URI() != good {
			t.Errorf("%q: %v, %v", good, id, err)
		}
	}
	for _, bad := range []string{"", "mynetwork://", "mynetwork:///node/a", "mynetwork://net/node/", "mynetwork://net/a", "https://net/node/a",
		"mynetwork://net/node/a/b", "mynetwork://net/node/A", "mynetwork://u@net/node/a", "mynetwork://net:1/node/a", "mynetwork://net/node/a?x",
		"mynetwork://net/node/a#x", "mynetwork://net/node/%61", "mynetwork://net/node/-a", "mynetwork://net/node/a..b", "mynetwork://net/node/a\x00",
		"MYNETWORK://net/node/a", "mynetwork://net/node/" + strings.Repeat("a", 254), "mynetwork://" + strings.Repeat("a", 64) + "/node/a"} {
		if _, err := ParseIdentity(bad); !errors.Is(err, ErrSAN) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// cert is a certificate to be made wrong.
type cert struct {
	uris     []string
	validity time.Duration
	rsa      bool
	usage    []x509.ExtKeyUsage
}

// make signs it with a CA, and gives it with its key for TLS.
func (c cert) make(t *testing.T, ca *CA) tls.Certificate {
	t.Helper()
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	key := crypto.Signer(edKey)
	if c.rsa {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
		must(t, err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "subject"}, NotBefore: time.Now().Add(-48 * time.Hour),
		NotAfter: time.Now().Add(c.validity), ExtKeyUsage: c.usage}
	for _, u := range c.uris {
		uri, err := url.Parse(u)
		must(t, err)
		tmpl.URIs = append(tmpl.URIs, uri)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, key.Public(), ca.key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// forged makes credentials that present a certificate without the checks of NewCredentials.
func forged(t *testing.T, trust *CA, crt tls.Certificate) *Credentials {
	t.Helper()
	c := testCreds(t, trust, "forger", CredentialOptions{})
	m := *c.cur.Load()
	m.cert = crt
	c.cur.Store(&m)
	return c
}

// TestRefusals: on real connections, both sides refuse each wrong certificate, and say whose it was and which rule it broke. The right
// certificate, made by the same code, passes: that is the control of the test itself.
func TestRefusals(t *testing.T) {
	ca, other := testCA(t, testNetwork), testCA(t, testNetwork)
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	uri := "mynetwork://" + testNetwork + "/node/node"
	for name, c := range map[string]struct {
		by   *CA
		cert cert
		rule error
		who  string
	}{
		"right":         {ca, cert{[]string{uri}, time.Hour, false, both}, nil, ""},
		"wrong CA":      {other, cert{[]string{uri}, time.Hour, false, both}, ErrChain, uri},
		"wrong network": {ca, cert{[]string{"mynetwork://other/node/node"}, time.Hour, false, both}, ErrNetwork, "mynetwork://other/node/node"},
		"expired":       {ca, cert{[]string{uri}, -time.Hour, false, both}, ErrExpired, uri},
		"no SAN":        {ca, cert{nil, time.Hour, false, both}, ErrSAN, `"subject", serial 77`},
		"two SANs":      {ca, cert{[]string{uri, uri + "2"}, time.Hour, false, both}, ErrSAN, `"subject", serial 77`},
		"other SAN":     {ca, cert{[]string{"https://x/y"}, time.Hour, false, both}, ErrSAN, "https://x/y"},
		"RSA key":       {ca, cert{[]string{uri}, time.Hour, true, both}, ErrKeyType, uri},
		"blocked node":  {ca, cert{[]string{"mynetwork://" + testNetwork + "/node/bad"}, time.Hour, false, both}, ErrBlocked, "/node/bad"},
		"wrong usage":   {ca, cert{[]string{uri}, time.Hour, false, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}, ErrChain, uri},
	} {
		t.Run(name, func(t *testing.T) {
			honest := testCreds(t, ca, "honest", CredentialOptions{Blocked: func(n string) bool { return n == "bad" }})
			wrong := forged(t, ca, c.cert.make(t, c.by))
			check := func(side string, err error) {
				var ce *CertificateError
				switch {
				case c.rule == nil && err != nil:
					t.Errorf("%s refuses: %v", side, err)
				case c.rule != nil && (!errors.Is(err, c.rule) || !errors.As(err, &ce) || !strings.Contains(err.Error(), c.who)):
					t.Errorf("%s: %v", side, err)
				}
			}
			check("server", serverVerdict(t, honest, wrong))
			check("client", clientVerdict(t, honest, wrong))
		})
	}
}

// serverVerdict is what an honest server says to a client.
func serverVerdict(t *testing.T, honest, client *Credentials) error {
	rej := newRejections()
	srv, err := NewServer(honest, echo, Settings{}, ServerOptions{Rejected: rej.add})
	must(t, err)
	defer srv.Close()
	addr, err := srv.Listen("127.0.0.1:0")
	must(t, err)
	d, err := NewDialer(client, Settings{})
	must(t, err)
	c, err := d.Dial(context.Background(), "honest", addr.String())
	if err == nil {
		_, err = c.Call(context.Background(), 1)
		c.Close()
		return err
	}
	return rej.next()
}

// clientVerdict is what an honest client says to a server.
func clientVerdict(t *testing.T, honest, server *Credentials) error {
	srv, err := NewServer(server, echo, Settings{}, ServerOptions{})
	must(t, err)
	defer srv.Close()
	addr, err := srv.Listen("127.0.0.1:0")
	must(t, err)
	d, err := NewDialer(honest, Settings{})
	must(t, err)
	c, err := d.Dial(context.Background(), "node", addr.String())
	if err == nil {
		c.Close()
	}
	return err
}

// TestWrongNode: the right network is not enough, the dialed node must be there.
func TestWrongNode(t *testing.T) {
	r := newRig(t, echo, Settings{}, ServerOptions{})
	d, err := NewDialer(testCreds(t, r.ca, "client", CredentialOptions{}), Settings{})
	must(t, err)
	_, err = d.Dial(context.Background(), "another", r.addr)
	wantErr(t, err, ErrNode)
}

// TestOldTLS: TLS 1.2, a missing certificate, a foreign protocol and plaintext are refused.
func TestOldTLS(t *testing.T) {
	r := newRig(t, echo, Settings{}, ServerOptions{})
	creds := testCreds(t, r.ca, "client", CredentialOptions{})
	for name, change := range map[string]func(*tls.Config){
		"TLS 1.2":        func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
		"no certificate": func(c *tls.Config) { c.GetClientCertificate = nil },
		"no ALPN":        func(c *tls.Config) { c.NextProtos = nil },
		"other ALPN":     func(c *tls.Config) { c.NextProtos = []string{"h2"} },
	} {
		cfg := creds.client("server", new(Identity))
		cfg.VerifyConnection = nil
		change(cfg)
		raw, err := net.Dial("tcp", r.addr)
		must(t, err)
		c := tls.Client(raw, cfg)
		_, err = c.Read(make([]byte, 1))
		raw.Close()
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if r.rej.next() == nil {
			t.Errorf("%s: not rejected", name)
		}
	}
	raw, err := net.Dial("tcp", r.addr)
	must(t, err)
	defer raw.Close()
	raw.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	if r.rej.next() == nil {
		t.Error("plaintext was not rejected")
	}
	cfg := creds.client("server", new(Identity)) // control: unchanged, it is accepted
	raw2, err := net.Dial("tcp", r.addr)
	must(t, err)
	defer raw2.Close()
	must(t, tls.Client(raw2, cfg).Handshake())
}

// TestRotation: replaced credentials serve the next connection; what is not this node's is refused and the old ones stay.
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
	cert2, key2, err := r.ca.Issue("thief", time.Now(), time.Hour)
	must(t, err)
	wantErr(t, r.srv.creds.Replace(cert2, key2, r.ca.CertPEM()), ErrNode)
	if r.srv.creds.Replace(cert, key2, r.ca.CertPEM()) == nil {
		t.Error("a key that does not fit was taken")
	}
	wantErr(t, r.srv.creds.Replace(cert, key, testCA(t, testNetwork).CertPEM()), ErrChain)
	must(t, r.dial(t, Settings{}).Err())
}

// TestUnwelcome: a node that is blocked, or whose certificate ends, while it is connected is cut off at the next tick.
func TestUnwelcome(t *testing.T) {
	var blocked atomic.Bool
	var clock atomic.Int64
	clock.Store(time.Now().UnixNano())
	for name, c := range map[string]struct {
		change func()
		rule   error
	}{
		"blocked": {func() { blocked.Store(true) }, ErrBlocked},
		"expired": {func() { blocked.Store(false); clock.Add(int64(2 * time.Hour)) }, ErrExpired},
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

// TestCAFiles: keys are private, survive, and are never made again.
func TestCAFiles(t *testing.T) {
	dir := t.TempDir()
	ca, err := LoadOrNewCA(dir, "net", time.Now())
	must(t, err)
	for _, name := range []string{caKeyFile, caCertFile} {
		st, err := os.Stat(filepath.Join(dir, name))
		must(t, err)
		if st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, st.Mode())
		}
	}
	again, err := LoadOrNewCA(dir, "net", time.Now())
	must(t, err)
	if !again.key.Equal(ca.key) || !again.cert.Equal(ca.cert) {
		t.Error("loading made another authority")
	}
	_, err = LoadOrNewCA(dir, "other", time.Now())
	wantErr(t, err, ErrNetwork)
	must(t, os.Remove(filepath.Join(dir, caCertFile)))
	again, err = LoadOrNewCA(dir, "net", time.Now())
	must(t, err)
	if !again.key.Equal(ca.key) {
		t.Error("a lost certificate cost the key")
	}
	cert, key, err := again.Issue("n", time.Now(), time.Hour)
	must(t, err)
	must(t, again.SaveNode(dir, cert, key))
	must(t, again.SaveNode(dir, cert, key))
	_, err = LoadCredentials(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt"), CredentialOptions{})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, caKeyFile), []byte("damaged"), 0o600))
	_, err = LoadOrNewCA(dir, "net", time.Now())
	wantErr(t, err, ErrKeyFile)
	if b, _ := os.ReadFile(filepath.Join(dir, caKeyFile)); string(b) != "damaged" {
		t.Error("a damaged key was made again")
	}
	left, err := os.ReadDir(dir)
	must(t, err)
	if len(left) != 4 {
		t.Errorf("files left: %v", left)
	}
}
