package authority

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
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
	// keyControl is the key that signs grants and deletion records. Agents have its public part alone.
	keyControl = "control.key"
)

// ErrInvalid tells that a Secret has no usable authority.
var ErrInvalid = errors.New("no usable authority")

// SecretName is the name of a network's Secret.
func SecretName(network string) string { return network + "-authority" }

// CA signs certificates for the nodes of one network, and has its control key. It is immutable.
type CA struct {
	network string
	cert    *x509.Certificate
	key     crypto.Signer
	bundle  []byte
	control ed25519.PrivateKey
}

// New makes an authority and a control key for the network of a uid, and returns the data of their Secret.
func New(uid string, now time.Time) (map[string][]byte, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	_, control, err := ed25519.GenerateKey(rand.Reader)
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
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	controlPEM, err := encodeKey(control)
	return map[string][]byte{keyCert: cert, keyCA: cert, keyKey: keyPEM, keyControl: controlPEM}, err
}

func encodeKey(key ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// decodeKey reads the key of that name in a Secret's data.
func decodeKey(data map[string][]byte, name string) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(data[name])
	if block == nil {
		return nil, fmt.Errorf("%w: %s is not PEM", ErrInvalid, name)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not a key in PKCS 8", ErrInvalid, name)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: %s is not an Ed25519 key", ErrInvalid, name)
	}
	return key, nil
}

// Load reads the data of a Secret. It returns ErrInvalid with what is wrong, never with the key.
func Load(data map[string][]byte, uid string) (*CA, error) {
	block, _ := pem.Decode(data[keyCert])
	if block == nil {
		return nil, fmt.Errorf("%w: %s is not PEM", ErrInvalid, keyCert)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, keyCert, err)
	}
	key, err := decodeKey(data, keyKey)
	if err != nil {
		return nil, err
	}
	control, err := decodeKey(data, keyControl)
	if err != nil {
		return nil, err
	}
	switch {
	case !key.Public().(ed25519.PublicKey).Equal(cert.PublicKey):
		return nil, fmt.Errorf("%w: %s and %s do not belong together", ErrInvalid, keyCert, keyKey)
	case !cert.IsCA || cert.Subject.CommonName != uid:
		return nil, fmt.Errorf("%w: the certificate is of network %q", ErrInvalid, cert.Subject.CommonName)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(data[keyCA]) {
		return nil, fmt.Errorf("%w: %s has no certificate", ErrInvalid, keyCA)
	}
	return &CA{network: uid, cert: cert, key: key, bundle: data[keyCA], control: control}, nil
}

// Bundle is the certificates that agents trust, in PEM.
func (ca *CA) Bundle() []byte { return slices.Clone(ca.bundle) }

// Control is the key that signs grants and deletion records.
func (ca *CA) Control() ed25519.PrivateKey { return ca.control }

// ControlKeys are the public parts of the keys whose signatures agents accept, in base64.
func (ca *CA) ControlKeys() []string {
	return []string{base64.StdEncoding.EncodeToString(ca.control.Public().(ed25519.PublicKey))}
}

// URI is the name of a node in a certificate.
func URI(uid, node string) *url.URL {
	return &url.URL{Scheme: "mynetwork", Host: uid, Path: "/node/" + node}
}

// ControlURI is the name of a client of the agents' control port: "operator" or "csi".
func ControlURI(uid, name string) *url.URL {
	return &url.URL{Scheme: "mynetwork", Host: uid, Path: "/control/" + name}
}

// Certify makes a certificate in PEM for a node that keeps its own key.
func (ca *CA) Certify(node string, pub ed25519.PublicKey, now time.Time) ([]byte, error) {
	return ca.leaf(node, URI(ca.network, node), pub, now)
}

// Issue makes a key, and a certificate for a client of the control port, both in PEM.
func (ca *CA) Issue(name string, now time.Time) (cert, key []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if key, err = encodeKey(priv); err != nil {
		return nil, nil, err
	}
	cert, err = ca.leaf(name, ControlURI(ca.network, name), pub, now)
	return cert, key, err
}

func (ca *CA) leaf(name string, uri *url.URL, pub ed25519.PublicKey, now time.Time) ([]byte, error) {
	return sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: name[:min(len(name), 64)]},
		URIs:        []*url.URL{uri},
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
