package plane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"mynetwork.io/mynetwork/hack/cluster/machine"
	"mynetwork.io/mynetwork/hack/cluster/record"
)

// lifetime of all certificates: longer than any test cluster's.
const lifetime = 10 * 365 * 24 * time.Hour

// pki makes and keeps keys and certificates: NAME.key and NAME.crt below dir. What is there is used again.
type pki struct {
	dir string
	ca  *x509.Certificate
	key *ecdsa.PrivateKey
}

func openPKI(dir string) (*pki, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p := &pki{dir: dir}
	err := p.load()
	if !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	p.ca = template(pkix.Name{CommonName: "mynetwork-cluster"})
	p.ca.IsCA, p.ca.BasicConstraintsValid, p.ca.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign|x509.KeyUsageDigitalSignature
	if err := p.write("ca", p.ca, p.key); err != nil {
		return nil, err
	}
	return p, p.load()
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }

func (p *pki) load() error {
	crt, err := readPEM(p.path("ca.crt"))
	if err != nil {
		return err
	}
	key, err := readPEM(p.path("ca.key"))
	if err != nil {
		return err
	}
	if p.ca, err = x509.ParseCertificate(crt); err != nil {
		return err
	}
	p.key, err = x509.ParseECPrivateKey(key)
	return err
}

func readPEM(name string) ([]byte, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", name)
	}
	return block.Bytes, nil
}

func template(subject pkix.Name) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand never fails on Linux
	}
	now := time.Now()
	return &x509.Certificate{SerialNumber: serial, Subject: subject, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lifetime)}
}

// write signs a certificate and writes it and its key; the certificate last, since it says that both are there.
func (p *pki) write(name string, c *x509.Certificate, key *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, c, p.ca, &key.PublicKey, p.key)
	if err != nil {
		return fmt.Errorf("sign %s: %w", name, err)
	}
	if err := p.writeKey(name+".key", key); err != nil {
		return err
	}
	return os.WriteFile(p.path(name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
}

func (p *pki) writeKey(file string, key *ecdsa.PrivateKey) error {
	b, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(p.path(file), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: b}), 0o600)
}

// issue makes a certificate for both sides of TLS. Alternative names that are addresses become such.
func (p *pki) issue(name, commonName, organization string, sans ...string) error {
	if _, err := os.Stat(p.path(name + ".crt")); err == nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	subject := pkix.Name{CommonName: commonName}
	if organization != "" {
		subject.Organization = []string{organization}
	}
	c := template(subject)
	c.KeyUsage = x509.KeyUsageDigitalSignature
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	for _, s := range sans {
		if ip := net.ParseIP(s); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, s)
		}
	}
	return p.write(name, c, key)
}

// serviceAccounts makes the key pair that signs service accounts' tokens.
func (p *pki) serviceAccounts() error {
	if _, err := os.Stat(p.path("sa.pub")); err == nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := p.writeKey("sa.key", key); err != nil {
		return err
	}
	b, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	return os.WriteFile(p.path("sa.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b}), 0o600)
}

// kubeconfig writes a kubeconfig with everything inside, for the certificate of this name.
func (p *pki) kubeconfig(file, name, server string) error {
	data := map[string]string{}
	for _, f := range []string{"ca.crt", name + ".crt", name + ".key"} {
		b, err := os.ReadFile(p.path(f))
		if err != nil {
			return err
		}
		data[f] = base64.StdEncoding.EncodeToString(b)
	}
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: mynetwork
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: %s
  user:
    client-certificate-data: %s
    client-key-data: %s
contexts:
- name: mynetwork
  context:
    cluster: mynetwork
    user: %[3]s
current-context: mynetwork
`, server, data["ca.crt"], name, data[name+".crt"], data[name+".key"])
	return os.WriteFile(file, []byte(text), 0o600)
}

// Certificates makes all keys, certificates and kubeconfigs of the cluster that are not there yet.
func Certificates(r *record.Record) error {
	p, err := openPKI(r.Dir().PKI())
	if err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	api := []string{machine.APIAddress, "127.0.0.1", serviceAddress, "localhost", "kubernetes", "kubernetes.default",
		"kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	errs := errors.Join(p.serviceAccounts(),
		p.issue("apiserver", "kube-apiserver", "", api...),
		p.issue("kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
		p.issue("front-proxy", "front-proxy", ""),
		p.issue("admin", "admin", "system:masters"),
		p.issue("snapshots", "snapshot-controller", "system:masters"), p.kubeconfig(p.path("snapshots.kubeconfig"), "snapshots", inside))
	for _, name := range []string{"kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		errs = errors.Join(errs, p.issue(name, "system:"+name, ""), p.kubeconfig(p.path(name+".kubeconfig"), name, inside))
	}
	for i, node := range r.Settings.Nodes {
		errs = errors.Join(errs, p.issue("node-"+node, "system:node:"+node, "system:nodes", machine.Address(i+1), "127.0.0.1", node),
			p.kubeconfig(p.path("node-"+node+".kubeconfig"), "node-"+node, inside))
	}
	return errs
}

// inside is the API server's address in the cluster's networks.
const inside = "https://" + machine.APIAddress + ":6443"
