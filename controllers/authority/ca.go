package authority

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// Times of certificates.
const (
	// Validity of a node's certificate. It is renewed at a third, so an operator may be away for more than four days.
	Validity = 7 * 24 * time.Hour
	// backdate lets a node whose clock is slow use a certificate at once.
	backdate   = time.Hour
	caValidity = 10 * 365 * 24 * time.Hour
)

// Keys of the Secret's data.
const (
	keyCert = "tls.crt"
	keyKey  = "tls.key"
	keyCA   = "ca.crt" // the bundle that agents trust
)

// ErrInvalid tells that a Secret has no usable authority.
var ErrInvalid = errors.New("no usable authority")

// SecretName is the name of a network's Secret.
func SecretName(network string) string { return network + "-authority" }

// CA signs certificates for the nodes of one network. It is immutable.
type CA struct {
	network string
	cert    *x509.Certificate
	key     crypto.Signer
}

// New makes an authority for the network of a uid, and returns the data of its Secret.
func New(uid string, now time.Time) (map[string][]byte, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: uid, Organization: []string{"mynetwork authority"}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caValidity),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	cert, err := sign(t, t, pub, key)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{keyCert: cert, keyCA: cert, keyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}, nil
}

// Load reads the data of a Secret. It returns ErrInvalid with what is wrong, never with the key.
func Load(data map[string][]byte, uid string) (*CA, error) {
	certBlock, _ := pem.Decode(data[keyCert])
	keyBlock, _ := pem.Decode(data[keyKey])
	if certBlock == nil || keyBlock == nil {
		return nil, fmt.Errorf("%w: %s or %s is not PEM", ErrInvalid, keyCert, keyKey)
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, keyCert, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not a key in PKCS 8", ErrInvalid, keyKey)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	switch {
	case !ok || !key.Public().(ed25519.PublicKey).Equal(cert.PublicKey):
		return nil, fmt.Errorf("%w: %s and %s do not belong together", ErrInvalid, keyCert, keyKey)
	case !cert.IsCA || cert.Subject.CommonName != uid:
		return nil, fmt.Errorf("%w: the certificate is of network %q", ErrInvalid, cert.Subject.CommonName)
	}
	return &CA{network: uid, cert: cert, key: key}, nil
}

// URI is the name of a node in a certificate.
func URI(uid, node string) *url.URL {
	return &url.URL{Scheme: "mynetwork", Host: uid, Path: "/node/" + node}
}

// Certify makes a certificate in PEM for a node that keeps its own key.
func (ca *CA) Certify(node string, pub ed25519.PublicKey, now time.Time) ([]byte, error) {
	return sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: node[:min(len(node), 64)]},
		URIs:        []*url.URL{URI(ca.network, node)},
		NotBefore:   now.Add(-backdate),
		NotAfter:    now.Add(Validity),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, ca.cert, pub, ca.key)
}

func sign(t, parent *x509.Certificate, pub ed25519.PublicKey, key crypto.Signer) ([]byte, error) {
	var err error
	if t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
