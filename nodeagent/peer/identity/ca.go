package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

const (
	caValidity = 10 * 365 * 24 * time.Hour
	// clockSkew is how far certificates are valid into the past, for nodes whose clocks differ.
	clockSkew = 5 * time.Minute

	caCertFile = "ca.crt"
	caKeyFile  = "ca.key"
)

// ErrKeyFile is returned when a key file exists and can not be used. It is never replaced.
var ErrKeyFile = errors.New("key file is not usable")

// CA is a network's authority: it issues the certificates of its nodes.
type CA struct {
	network string
	cert    *x509.Certificate
	key     ed25519.PrivateKey
}

// NewCA makes an authority with a new key, valid for ten years from now.
func NewCA(network string, now time.Time) (*CA, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return newCA(network, key, now)
}

func newCA(network string, key ed25519.PrivateKey, now time.Time) (*CA, error) {
	if !validName(network, maxNetwork) {
		return nil, fmt.Errorf("%q is no uid of a network", network)
	}
	tmpl := &x509.Certificate{
		Subject:               pkix.Name{CommonName: network, Organization: []string{"mynetwork authority"}},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(caValidity),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	cert, err := sign(tmpl, tmpl, key.Public().(ed25519.PublicKey), key)
	if err != nil {
		return nil, err
	}
	return &CA{network: network, cert: cert, key: key}, nil
}

func sign(tmpl, parent *x509.Certificate, pub ed25519.PublicKey, key ed25519.PrivateKey) (*x509.Certificate, error) {
	var err error
	if tmpl.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// Network is the uid of the authority's network.
func (ca *CA) Network() string { return ca.network }

// CertPEM is the authority's certificate.
func (ca *CA) CertPEM() []byte { return certPEM(ca.cert) }

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func keyPEM(key ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseKey(b []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("no private key in the PEM")
	}
	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := any.(ed25519.PrivateKey)
	if !ok {
		return nil, ErrKeyType
	}
	return key, nil
}

// Issue makes a key and a certificate for a node, valid from now for a duration.
func (ca *CA) Issue(node string, now time.Time, validity time.Duration) (cert, key []byte, err error) {
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if key, err = keyPEM(priv); err != nil {
		return nil, nil, err
	}
	cert, err = ca.Certify(node, priv.Public().(ed25519.PublicKey), now, validity)
	return cert, key, err
}

// IssueControl makes a key and a certificate for who controls nodes.
func (ca *CA) IssueControl(name string, now time.Time, validity time.Duration) (cert, key []byte, err error) {
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if key, err = keyPEM(priv); err != nil {
		return nil, nil, err
	}
	cert, err = ca.certify(Identity{Network: ca.network, Node: name, Role: RoleControl}, priv.Public().(ed25519.PublicKey), now, validity)
	return cert, key, err
}

// Certify makes a certificate for a node that keeps its own key.
func (ca *CA) Certify(node string, pub ed25519.PublicKey, now time.Time, validity time.Duration) ([]byte, error) {
	return ca.certify(Identity{Network: ca.network, Node: node}, pub, now, validity)
}

func (ca *CA) certify(id Identity, pub ed25519.PublicKey, now time.Time, validity time.Duration) ([]byte, error) {
	if _, err := ParseIdentity(id.URI()); err != nil {
		return nil, err
	}
	uri, err := url.Parse(id.URI())
	if err != nil {
		return nil, err
	}
	cert, err := sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: id.Node[:min(len(id.Node), 64)]},
		URIs:        []*url.URL{uri},
		NotBefore:   now.Add(-clockSkew),
		NotAfter:    now.Add(validity),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, ca.cert, pub, ca.key)
	if err != nil {
		return nil, err
	}
	return certPEM(cert), nil
}

// LoadOrNewCA reads the authority from ca.key and ca.crt in a directory, or makes it there if there is no key. A key that exists is never
// made again: if it can not be read, that is an error; if only the certificate is missing, it is made from the key.
func LoadOrNewCA(dir, network string, now time.Time) (*CA, error) {
	key, err := loadOrNewKey(filepath.Join(dir, caKeyFile))
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, caCertFile))
	if errors.Is(err, fs.ErrNotExist) {
		ca, err := newCA(network, key, now)
		if err != nil {
			return nil, err
		}
		return ca, writeNew(filepath.Join(dir, caCertFile), ca.CertPEM())
	}
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("authority: no certificate in %s", caCertFile)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	if !key.Public().(ed25519.PublicKey).Equal(cert.PublicKey) {
		return nil, fmt.Errorf("authority: %s does not belong to %s", caCertFile, caKeyFile)
	}
	if cert.Subject.CommonName != network {
		return nil, fmt.Errorf("authority: %s: %w: %s", dir, ErrNetwork, cert.Subject.CommonName)
	}
	return &CA{network: network, cert: cert, key: key}, nil
}

// loadOrNewKey reads a key, or makes it if the file does not exist.
func loadOrNewKey(name string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		if b, err = keyPEM(key); err != nil {
			return nil, err
		}
		return key, writeNew(name, b)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	key, err := parseKey(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrKeyFile, name, err)
	}
	return key, nil
}

// SaveNode writes a node's certificate and key as tls.crt, tls.key and ca.crt to a directory, all readable by the owner only. It
// replaces what is there: a node's key is made anew at each rotation.
func (ca *CA) SaveNode(dir string, cert, key []byte) error {
	for name, b := range map[string][]byte{"tls.crt": cert, "tls.key": key, caCertFile: ca.CertPEM()} {
		tmp := filepath.Join(dir, "."+name)
		if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("save: %w", err)
		}
		if err := writeSynced(tmp, b); err != nil {
			return err
		}
		if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("save: %w", err)
		}
	}
	return nil
}

// writeNew makes a file whole and durable, or fails if it exists.
func writeNew(name string, b []byte) error {
	tmp := fmt.Sprintf("%s.%d", name, os.Getpid())
	if err := writeSynced(tmp, b); err != nil {
		return err
	}
	defer os.Remove(tmp)
	if err := os.Link(tmp, name); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	defer d.Close()
	return d.Sync()
}

func writeSynced(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
