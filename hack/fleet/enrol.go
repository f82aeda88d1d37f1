package fleet

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net/url"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/authority"
	"mynetwork.io/mynetwork/hack/apiserver"
)

// Enrol has the agent of a node ask for a certificate for a node's name, mostly its own. It gives the name of the request.
func (f *Fleet) Enrol(ctx context.Context, node, as string) (request string, err error) {
	p := &corev1.Pod{}
	if err := f.s.Admin.Get(ctx, client.ObjectKey{Namespace: apiserver.Namespace, Name: f.o.Network + "-agent-" + node}, p); err != nil {
		return "", fmt.Errorf("the agent's pod: %w", err)
	}
	c, err := f.s.Client(f.s.Identity("mynetwork-agent", map[string][]string{apiserver.ClaimNode: {node}, apiserver.ClaimPod: {p.Name}, apiserver.ClaimUID: {string(p.UID)}}))
	if err != nil {
		return "", err
	}
	f.mu.Lock()
	name := authority.URI(f.uid, as)
	f.mu.Unlock()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: as}, URIs: []*url.URL{name}}, key)
	if err != nil {
		return "", err
	}
	csr := &certv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{GenerateName: "mynetwork-" + node + "-"}, Spec: certv1.CertificateSigningRequestSpec{
		Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: v1alpha1.SignerName,
		Usages: []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageClientAuth, certv1.UsageServerAuth}}}
	if err := c.Create(ctx, csr); err != nil {
		return "", err
	}
	return csr.Name, nil
}

// enrol has an agent ask for its own certificate. What the API server says of the request comes to heard.
func (f *Fleet) enrol(ctx context.Context, n *node) error {
	request, err := f.Enrol(ctx, n.name, n.name)
	if err != nil {
		return err
	}
	csr := &certv1.CertificateSigningRequest{}
	f.mu.Lock()
	n.asked, f.asked[request] = request, n
	f.mu.Unlock()
	if err := f.s.Admin.Get(ctx, client.ObjectKey{Name: request}, csr); err != nil { // it may have been signed before it was noted
		return client.IgnoreNotFound(err)
	}
	f.heard(ctx, csr)
	return nil
}
