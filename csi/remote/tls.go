package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ErrPeer tells that the other end of a connection is not the agent that was asked for.
var ErrPeer = errors.New("the other end is not the agent that was asked for")

// scheme is that of the names in certificates.
const scheme = "mynetwork"

// tls is how a target is spoken to. The names of certificates are not those of hosts, so they are checked here.
func (a *Agents) tls(t target) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // VerifyConnection checks chain and name
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := tls.LoadX509KeyPair(filepath.Join(a.dir, t.uid+".crt"), filepath.Join(a.dir, t.uid+".key"))
			if err != nil {
				return nil, fmt.Errorf("certificate of the CSI controller for network %s: %w", t.uid, err)
			}
			return &c, nil
		},
		VerifyConnection: func(s tls.ConnectionState) error { return a.verify(t, s.PeerCertificates) },
	}
}

func (a *Agents) verify(t target, chain []*x509.Certificate) error {
	bundle, err := os.ReadFile(filepath.Join(a.dir, t.uid+".ca"))
	if err != nil {
		return fmt.Errorf("authorities of network %s: %w", t.uid, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return fmt.Errorf("%w: %s.ca has no certificate", ErrPeer, t.uid)
	}
	if len(chain) == 0 {
		return fmt.Errorf("%w: it has no certificate", ErrPeer)
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return fmt.Errorf("%w: %w", ErrPeer, err)
	}
	uris := chain[0].URIs
	if len(uris) != 1 || uris[0].Scheme != scheme || uris[0].Host != t.uid {
		return fmt.Errorf("%w: its certificate names %v, not a node of network %s", ErrPeer, uris, t.uid)
	}
	node, ok := strings.CutPrefix(uris[0].Path, "/node/")
	if !ok || node == "" || t.node != "" && node != t.node {
		return fmt.Errorf("%w: its certificate names %s, not node %q", ErrPeer, uris[0], t.node)
	}
	return nil
}
