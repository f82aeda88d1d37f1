package identity

import (
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
	"testing"
	"time"
)

const testNetwork = "7c1f0c9e-0000-4000-8000-00000000abcd"

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

func testCA(t testing.TB) *CA {
	t.Helper()
	ca, err := NewCA(testNetwork, time.Now())
	must(t, err)
	return ca
}

func testCreds(t testing.TB, ca *CA, node string, opt CredentialOptions) *Credentials {
	t.Helper()
	cert, key, err := ca.Issue(node, time.Now(), time.Hour)
	must(t, err)
	c, err := NewCredentials(cert, key, ca.CertPEM(), opt)
	must(t, err)
	return c
}

func TestParseIdentity(t *testing.T) {
	for _, good := range []string{"mynetwork://net/node/a", "mynetwork://" + testNetwork + "/node/worker-1.zone.example",
		"mynetwork://net/control/operator", "mynetwork://net/node/control"} {
		if id, err := ParseIdentity(good); err != nil || id.URI() != good {
			t.Errorf("%q: %v, %v", good, id, err)
		}
	}
	for _, bad := range []string{"", "mynetwork://", "mynetwork:///node/a", "mynetwork://net/node/", "mynetwork://net/a", "https://net/node/a",
		"mynetwork://net/node/a/b", "mynetwork://net/control/a/node/b", "mynetwork://net/control/", "mynetwork://net/admin/a", "mynetwork://net/node/a/control/b", "mynetwork://net/node/A", "mynetwork://u@net/node/a", "mynetwork://net:1/node/a", "mynetwork://net/node/a?x",
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

// handshake runs TLS over a connection of the loopback device, and gives what each side says.
func handshake(t *testing.T, client, server *tls.Config) (clientErr, serverErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	dialed, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	defer dialed.Close()
	accepted, err := l.Accept()
	must(t, err)
	done := make(chan error, 1)
	go func() {
		defer accepted.Close()
		done <- tls.Server(accepted, server).Handshake()
	}()
	c := tls.Client(dialed, client)
	clientErr = c.Handshake()
	if clientErr == nil { // the server's verdict on the client comes only now
		if _, err := c.Read(make([]byte, 1)); err != nil && strings.Contains(err.Error(), "remote error") {
			clientErr = err
		}
	} else {
		dialed.Close()
	}
	return clientErr, <-done
}

// TestRefusals: both sides refuse each wrong certificate, and say whose it was and which rule it broke. The right one, made by the
// same code, passes: that is the control of the test itself.
func TestRefusals(t *testing.T) {
	ca, other := testCA(t), testCA(t)
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	uri := "mynetwork://" + testNetwork + "/node/node"
	honest := testCreds(t, ca, "honest", CredentialOptions{Blocked: func(n string) bool { return n == "bad" }})
	forger := testCreds(t, ca, "forger", CredentialOptions{})
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
		"control":       {ca, cert{[]string{"mynetwork://" + testNetwork + "/control/operator"}, time.Hour, false, both}, ErrRole, "/control/operator"},
		"wrong usage":   {ca, cert{[]string{uri}, time.Hour, false, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}, ErrChain, uri},
	} {
		forged := c.cert.make(t, c.by)
		check := func(side string, err error, id Identity) {
			var ce *CertificateError
			switch {
			case c.rule == nil && (err != nil || id.URI() != uri):
				t.Errorf("%s: %s: %v, %v", name, side, err, id)
			case c.rule != nil && (!errors.Is(err, c.rule) || !errors.As(err, &ce) || !strings.Contains(err.Error(), c.who) || id != Identity{}):
				t.Errorf("%s: %s: %v, %v", name, side, err, id)
			}
		}
		var who Identity
		cfg := forger.ClientConfig("honest", new(Identity))
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &forged, nil }
		_, err := handshake(t, cfg, honest.ServerConfig(&who))
		check("server", err, who)
		who = Identity{}
		cfg = forger.ServerConfig(new(Identity))
		cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &forged, nil }
		err, _ = handshake(t, honest.ClientConfig("", &who), cfg)
		check("client", err, who)
	}
}

// TestOldTLS: TLS 1.2, a missing certificate and a foreign protocol are refused.
func TestOldTLS(t *testing.T) {
	ca := testCA(t)
	creds := testCreds(t, ca, "node", CredentialOptions{})
	for name, change := range map[string]func(*tls.Config){
		"right":          func(*tls.Config) {},
		"TLS 1.2":        func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
		"no certificate": func(c *tls.Config) { c.GetClientCertificate = nil },
		"no ALPN":        func(c *tls.Config) { c.NextProtos = nil },
		"other ALPN":     func(c *tls.Config) { c.NextProtos = []string{"h2"} },
	} {
		cfg := creds.ClientConfig("node", new(Identity))
		cfg.VerifyConnection = nil
		change(cfg)
		if _, err := handshake(t, cfg, creds.ServerConfig(new(Identity))); (err == nil) != (name == "right") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReplace: credentials that are not this node's, or that others would refuse, are not taken, and the old ones stay.
func TestReplace(t *testing.T) {
	ca := testCA(t)
	c := testCreds(t, ca, "node", CredentialOptions{})
	before := c.Self()
	cert, key, err := ca.Issue("node", time.Now(), 9*time.Hour)
	must(t, err)
	cert2, key2, err := ca.Issue("thief", time.Now(), time.Hour)
	must(t, err)
	old, oldKey, err := ca.Issue("node", time.Now().Add(-3*time.Hour), time.Hour)
	must(t, err)
	wantErr(t, c.Replace(cert2, key2, ca.CertPEM()), ErrNode)
	wantErr(t, c.Replace(old, oldKey, ca.CertPEM()), ErrExpired)
	wantErr(t, c.Replace(cert, key, testCA(t).CertPEM()), ErrChain)
	if c.Replace(cert, key2, ca.CertPEM()) == nil || c.Replace(cert, key, nil) == nil {
		t.Error("a key that does not fit, or no authority, was taken")
	}
	if c.Self() != before {
		t.Error("a refusal changed the credentials")
	}
	must(t, c.Replace(cert, key, ca.CertPEM()))
	if !c.Self().NotAfter.After(before.NotAfter) {
		t.Error("the new credentials are not in use")
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

// TestControlPort: it takes control certificates of this network alone, and no node's.
func TestControlPort(t *testing.T) {
	ca, other := testCA(t), testCA(t)
	agent := testCreds(t, ca, "node", CredentialOptions{})
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	uri := "mynetwork://" + testNetwork + "/control/operator"
	for name, c := range map[string]struct {
		by   *CA
		cert cert
		rule error
	}{
		"right":         {ca, cert{[]string{uri}, time.Hour, false, both}, nil},
		"a node":        {ca, cert{[]string{"mynetwork://" + testNetwork + "/node/node"}, time.Hour, false, both}, ErrRole},
		"wrong CA":      {other, cert{[]string{uri}, time.Hour, false, both}, ErrChain},
		"wrong network": {ca, cert{[]string{"mynetwork://other/control/operator"}, time.Hour, false, both}, ErrNetwork},
		"expired":       {ca, cert{[]string{uri}, -time.Hour, false, both}, ErrExpired},
		"only a server": {ca, cert{[]string{uri}, time.Hour, false, both[1:]}, ErrChain},
	} {
		forged := c.cert.make(t, c.by)
		cfg := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{forged}}
		if _, err := handshake(t, cfg, agent.ControlConfig()); !errors.Is(err, c.rule) || c.rule == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := handshake(t, &tls.Config{InsecureSkipVerify: true}, agent.ControlConfig()); err == nil {
		t.Error("no certificate, and control")
	}
	// The credentials of a node can not be made of a control certificate.
	crt, key, err := ca.IssueControl("operator", time.Now(), time.Hour)
	must(t, err)
	_, err = NewCredentials(crt, key, ca.CertPEM(), CredentialOptions{})
	wantErr(t, err, ErrRole)
}

func FuzzIdentity(f *testing.F) {
	f.Add("mynetwork://net/node/a.b-c")
	f.Add("mynetwork://net/node/../node/x")
	f.Fuzz(func(t *testing.T, in string) {
		if id, err := ParseIdentity(in); err == nil && id.URI() != in {
			t.Fatalf("%q became %q", in, id.URI())
		}
	})
}
