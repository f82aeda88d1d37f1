package enrol

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"

	certv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// newRequest makes a key and the request for its certificate, both in PEM.
func newRequest(network, node string) (key, request []byte, err error) {
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, nil, err
	}
	uri, err := url.Parse(identity.Identity{Network: network, Node: node}.URI())
	if err != nil {
		return nil, nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{uri}}, priv)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}), nil
}

// ask has a request signed: ErrDenied when the operator refuses.
func (e *Enrolment) ask(ctx context.Context, request []byte) ([]byte, error) {
	csr := &certv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "mynetwork-node-"},
		Spec: certv1.CertificateSigningRequestSpec{Request: request, SignerName: v1alpha1.SignerName,
			Usages: []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageClientAuth, certv1.UsageServerAuth}},
	}
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	if err := e.opt.API.Create(ctx, csr); err != nil {
		return nil, fmt.Errorf("ask for a certificate: %w", err)
	}
	for {
		if !task.Pause(ctx, e.every(firstPoll)) {
			return nil, fmt.Errorf("certificate request %s: the operator does not answer: %w; see kubectl describe csr %s, and whether the operator runs", csr.Name, ctx.Err(), csr.Name)
		}
		if err := e.opt.API.Get(ctx, client.ObjectKeyFromObject(csr), csr); err != nil {
			if client.IgnoreNotFound(err) == nil {
				return nil, fmt.Errorf("certificate request %s is gone: %w", csr.Name, err)
			}
			continue // the API is away for a moment
		}
		if len(csr.Status.Certificate) > 0 {
			return csr.Status.Certificate, nil
		}
		for _, c := range csr.Status.Conditions {
			if c.Type == certv1.CertificateDenied || c.Type == certv1.CertificateFailed {
				return nil, fmt.Errorf("certificate request %s: %w: %s", csr.Name, ErrDenied, c.Message)
			}
		}
	}
}
