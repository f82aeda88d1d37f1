package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	uriScheme  = "mynetwork://"
	uriNode    = "/node/"
	uriControl = "/control/"
	maxNetwork = 63
	maxNode    = 253
)

// Rules that a certificate must satisfy. A CertificateError wraps one of them.
var (
	ErrNoCertificate = errors.New("no certificate was presented")
	ErrKeyType       = errors.New("the key is not Ed25519")
	ErrSAN           = errors.New("there must be exactly one URI name, mynetwork://<network>/node/<node> or mynetwork://<network>/control/<name>")
	ErrExpired       = errors.New("the certificate is not valid at this time")
	ErrChain         = errors.New("the certificate is not signed by the network's authority")
	ErrNetwork       = errors.New("the certificate belongs to another network")
	ErrBlocked       = errors.New("the node is blocked")
	ErrNode          = errors.New("the certificate belongs to another node")
	ErrRole          = errors.New("the certificate is not for this port")
	ErrProtocol      = errors.New("the other side does not speak this protocol")
)

// CertificateError says whose certificate was refused, and by which rule.
type CertificateError struct {
	Subject string // the URI name, else the common name and the serial number
	Rule    error
	Detail  string
}

// Error implements error.
func (e *CertificateError) Error() string {
	text := fmt.Sprintf("certificate of %s: %v", e.Subject, e.Rule)
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// Unwrap gives the rule.
func (e *CertificateError) Unwrap() error { return e.Rule }

// Identity is who is at the other end of a connection, as its certificate says.
type Identity struct {
	Network string // uid of the network
	Node    string // name of the node, or of who controls nodes
	Role    Role
	// NotAfter is when the certificate ends.
	NotAfter time.Time
}

// Role is what an identity may speak to.
type Role uint8

// The roles. Neither is welcome where the other is.
const (
	RoleNode    Role = iota // nodes speak to the peer port of nodes
	RoleControl             // the operator and the CSI controller speak to the control port of nodes
)

// String names the role.
func (r Role) String() string {
	if r == RoleControl {
		return "control"
	}
	return "node"
}

// URI is the name that stands in the certificate.
func (id Identity) URI() string {
	if id.Role == RoleControl {
		return uriScheme + id.Network + uriControl + id.Node
	}
	return uriScheme + id.Network + uriNode + id.Node
}

// ParseIdentity reads what URI writes, and nothing else.
func ParseIdentity(uri string) (id Identity, err error) {
	rest, ok := strings.CutPrefix(uri, uriScheme)
	role := RoleNode
	network, node, ok2 := strings.Cut(rest, uriNode)
	if !ok2 {
		role = RoleControl
		network, node, ok2 = strings.Cut(rest, uriControl)
	}
	if !ok || !ok2 || !validName(network, maxNetwork) || !validName(node, maxNode) {
		return id, fmt.Errorf("%.300q: %w", uri, ErrSAN)
	}
	return Identity{Network: network, Node: node, Role: role}, nil
}

// validName reports whether s is a DNS-1123 subdomain of at most limit bytes, as Kubernetes names its nodes.
func validName(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}

// verification is what a certificate is held against.
type verification struct {
	roots   *x509.CertPool
	network string
	role    Role
	node    string // "" is any
	usage   x509.ExtKeyUsage
	now     time.Time
	blocked func(node string) bool
}

// subject names a certificate in an error.
func subject(c *x509.Certificate) string {
	if len(c.URIs) == 1 {
		return c.URIs[0].String()
	}
	return fmt.Sprintf("%q, serial %v", c.Subject.CommonName, c.SerialNumber)
}

// check gives the identity in a chain, or a CertificateError.
func (v *verification) check(chain []*x509.Certificate) (Identity, error) {
	if len(chain) == 0 {
		return Identity{}, &CertificateError{Subject: "the other side", Rule: ErrNoCertificate}
	}
	leaf := chain[0]
	refuse := func(rule error, detail string) (Identity, error) {
		return Identity{}, &CertificateError{Subject: subject(leaf), Rule: rule, Detail: detail}
	}
	for _, c := range chain {
		if _, ok := c.PublicKey.(ed25519.PublicKey); !ok {
			return refuse(ErrKeyType, c.PublicKeyAlgorithm.String())
		}
	}
	if len(leaf.URIs) != 1 {
		return refuse(ErrSAN, fmt.Sprintf("it has %d", len(leaf.URIs)))
	}
	id, err := ParseIdentity(leaf.URIs[0].String())
	if err != nil {
		return refuse(ErrSAN, "")
	}
	id.NotAfter = leaf.NotAfter
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: v.roots, Intermediates: between, CurrentTime: v.now, KeyUsages: []x509.ExtKeyUsage{v.usage}})
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return refuse(ErrExpired, invalid.Detail)
	case err != nil:
		return refuse(ErrChain, err.Error())
	case id.Network != v.network:
		return refuse(ErrNetwork, "this one is "+v.network)
	case id.Role != v.role:
		return refuse(ErrRole, "a "+v.role.String()+" certificate is wanted")
	case v.role == RoleNode && v.blocked(id.Node):
		return refuse(ErrBlocked, "")
	case v.node != "" && id.Node != v.node:
		return refuse(ErrNode, "wanted "+v.node)
	}
	return id, nil
}
