package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// protocol is the only ALPN value that is spoken, so that no other TLS service can be taken for a peer.
const protocol = "mynetwork-peer"

// Credentials are a node's certificate and key, and the authorities that it trusts. They can be replaced while in
// use: new connections take the new ones. Safe for concurrent use.
type Credentials struct {
	now     func() time.Time
	blocked func(node string) bool
	cur     atomic.Pointer[material]
}

type material struct {
	cert  tls.Certificate
	roots *x509.CertPool
	self  Identity
}

// CredentialOptions are what Credentials may be given.
type CredentialOptions struct {
	// Now is the clock; nil is the system's.
	Now func() time.Time
	// Blocked reports whether a node is not welcome any more; it is asked at each connection and at each ping interval. nil blocks nobody.
	Blocked func(node string) bool
}

// NewCredentials reads PEM: the node's certificate (with what lies between it and the authority), its key, and one or more authorities. It
// refuses a certificate that other nodes would refuse.
func NewCredentials(certPEM, keyPEM, caPEM []byte, opt CredentialOptions) (*Credentials, error) {
	c := &Credentials{now: opt.Now, blocked: opt.Blocked}
	if c.now == nil {
		c.now = time.Now
	}
	if c.blocked == nil {
		c.blocked = func(string) bool { return false }
	}
	return c, c.Replace(certPEM, keyPEM, caPEM)
}

// LoadCredentials is NewCredentials from files.
func LoadCredentials(certFile, keyFile, caFile string, opt CredentialOptions) (*Credentials, error) {
	pems, err := readAll(certFile, keyFile, caFile)
	if err != nil {
		return nil, err
	}
	return NewCredentials(pems[0], pems[1], pems[2], opt)
}

// Reload is Replace from files.
func (c *Credentials) Reload(certFile, keyFile, caFile string) error {
	pems, err := readAll(certFile, keyFile, caFile)
	if err != nil {
		return err
	}
	return c.Replace(pems[0], pems[1], pems[2])
}

func readAll(names ...string) (out [][]byte, err error) {
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("credentials: %w", err)
		}
		out = append(out, b)
	}
	return out, nil
}

// Replace takes new credentials of the same node into use. If it fails, the old ones stay.
func (c *Credentials) Replace(certPEM, keyPEM, caPEM []byte) error {
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	m := &material{cert: cert, roots: x509.NewCertPool()}
	if !m.roots.AppendCertsFromPEM(caPEM) {
		return errors.New("credentials: no authority in the PEM")
	}
	var chain []*x509.Certificate
	for _, der := range cert.Certificate {
		x, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("credentials: %w", err)
		}
		chain = append(chain, x)
	}
	if len(chain[0].URIs) == 1 {
		m.self, _ = ParseIdentity(chain[0].URIs[0].String())
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		v := verification{roots: m.roots, network: m.self.Network, now: c.now(), usage: usage, blocked: func(string) bool { return false }}
		if m.self, err = v.check(chain); err != nil {
			return fmt.Errorf("own credentials: %w", err)
		}
	}
	if old := c.cur.Load(); old != nil && old.self.URI() != m.self.URI() {
		return &CertificateError{Subject: m.self.URI(), Rule: ErrNode, Detail: "this is " + old.self.URI()}
	}
	c.cur.Store(m)
	return nil
}

// Self is this node's identity.
func (c *Credentials) Self() Identity { return c.cur.Load().self }

// Welcome checks again what may change while a connection lasts: the block list. A certificate that ends meanwhile ends no
// connection: nodes go on when nobody is there to renew it.
func (c *Credentials) Welcome(id Identity) error {
	if c.blocked(id.Node) {
		return &CertificateError{Subject: id.URI(), Rule: ErrBlocked}
	}
	return nil
}

// verify is the VerifyConnection of both sides; it stores who was verified.
func (c *Credentials) verify(node string, usage x509.ExtKeyUsage, who *Identity) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		m := c.cur.Load()
		v := verification{roots: m.roots, network: m.self.Network, node: node, usage: usage, now: c.now(), blocked: c.blocked}
		id, err := v.check(cs.PeerCertificates)
		if err == nil && cs.NegotiatedProtocol != protocol {
			err = fmt.Errorf("%s: %w", id.URI(), ErrProtocol)
		}
		*who = id
		return err
	}
}

func (c *Credentials) config() *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		NextProtos:                  []string{protocol},
		SessionTicketsDisabled:      true, // each connection proves itself in full
		DynamicRecordSizingDisabled: true, // full records from the start
		Time:                        c.now,
	}
}

// ClientConfig makes the TLS configuration of the side that dials a node; who is set when that node was verified.
func (c *Credentials) ClientConfig(node string, who *Identity) *tls.Config {
	cfg := c.config()
	// Nodes are named by URI, not by host: the library's check of the host name does not fit. verify does all of it.
	cfg.InsecureSkipVerify = true
	cfg.VerifyConnection = c.verify(node, x509.ExtKeyUsageServerAuth, who)
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.cur.Load().cert, nil }
	return cfg
}

// ControlConfig makes the TLS configuration of the control port: it accepts who has a control certificate, and no node. The caller
// sets the protocols that it speaks.
func (c *Credentials) ControlConfig() *tls.Config {
	cfg := c.config()
	cfg.NextProtos = nil
	cfg.ClientAuth = tls.RequireAnyClientCert
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		m := c.cur.Load()
		v := verification{roots: m.roots, network: m.self.Network, role: RoleControl, usage: x509.ExtKeyUsageClientAuth, now: c.now(), blocked: c.blocked}
		_, err := v.check(cs.PeerCertificates)
		return err
	}
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c.cur.Load().cert, nil }
	return cfg
}

// PublicConfig makes the TLS configuration of a port that asks for no certificate: who may use it is decided otherwise. It shows the
// node's certificate, whose name is no host name.
func (c *Credentials) PublicConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &c.cur.Load().cert, nil
		},
	}
}

// ServerConfig makes the TLS configuration of the side that accepts; who is set when the other side was verified.
func (c *Credentials) ServerConfig(who *Identity) *tls.Config {
	cfg := c.config()
	cfg.ClientAuth = tls.RequireAnyClientCert
	cfg.VerifyConnection = c.verify("", x509.ExtKeyUsageClientAuth, who)
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c.cur.Load().cert, nil }
	return cfg
}
