package authority

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// Claims that the API server sets when it authenticates the token of a pod.
const (
	claimNode = "authentication.kubernetes.io/node-name"
	claimPod  = "authentication.kubernetes.io/pod-name"
	claimUID  = "authentication.kubernetes.io/pod-uid"
)

// Facts are what a request is held against. What could not be found is nil.
type Facts struct {
	User         string // full name of the agents' ServiceAccount
	Pod          *corev1.Pod
	Network      *v1alpha1.MyNetwork
	StorageNodes []v1alpha1.StorageNode // of that network
}

// Verdict is what becomes of a request.
type Verdict uint8

// The verdicts.
const (
	// Wait: something that is on its way is not there yet.
	Wait Verdict = iota
	// Deny: the request can never be signed.
	Deny
	// Sign: the key of the request is the node's.
	Sign
)

// Decision is a verdict, its reason for people, and, for Sign, what to sign.
type Decision struct {
	Verdict Verdict
	Message string
	Node    string
	Key     ed25519.PublicKey
}

func deny(format string, args ...any) Decision {
	return Decision{Verdict: Deny, Message: fmt.Sprintf(format, args...)}
}

func wait(format string, args ...any) Decision {
	return Decision{Verdict: Wait, Message: fmt.Sprintf(format, args...)}
}

// PodOf is the name of the pod that made a request, as the API server says. Empty: it was no pod.
func PodOf(spec *certv1.CertificateSigningRequestSpec) string { return claim(spec, claimPod) }

// claim is the one value of a claim; none or several are "".
func claim(spec *certv1.CertificateSigningRequestSpec, key string) string {
	if v := spec.Extra[key]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// Judge decides about a request from its spec, which the API server wrote but for the request itself, and from facts.
func Judge(spec *certv1.CertificateSigningRequestSpec, f Facts) Decision {
	if spec.Username != f.User {
		return deny("the user is %s, and only %s may ask", spec.Username, f.User)
	}
	node, uid := claim(spec, claimNode), claim(spec, claimUID)
	if node == "" || uid == "" || PodOf(spec) == "" {
		return deny("the token is not bound to a pod and a node: ask with the token that the kubelet mounts into the agent's pod")
	}
	csr, network, err := parse(spec.Request)
	if err != nil {
		return deny("%v", err)
	}
	if want := URI(network, node).String(); csr.URIs[0].String() != want {
		return deny("the name is %s, and a pod on this node may ask for %s", csr.URIs[0], want)
	}
	if d := usages(spec.Usages); d != "" {
		return deny("%s", d)
	}
	if f.Network == nil || string(f.Network.UID) != network {
		return deny("there is no network of uid %s", network)
	}
	switch pod := f.Pod; {
	case pod == nil:
		return wait("the pod is not seen yet")
	case string(pod.UID) != uid:
		return deny("the pod that asked is gone")
	case pod.DeletionTimestamp != nil:
		return deny("the pod is being deleted")
	case pod.Spec.NodeName != node:
		return deny("the pod is on node %s", pod.Spec.NodeName)
	case pod.Labels[v1alpha1.LabelNetwork] != f.Network.Name || pod.Labels[v1alpha1.LabelComponent] != "agent":
		return deny("the pod is no agent of network %s", f.Network.Name)
	}
	for i := range f.StorageNodes {
		if n := &f.StorageNodes[i]; n.Spec.NodeName == node {
			if n.DeletionTimestamp != nil {
				return deny("StorageNode %s is being deleted", n.Name)
			}
			return Decision{Verdict: Sign, Message: "the claims of the token name this node", Node: node, Key: csr.PublicKey.(ed25519.PublicKey)}
		}
	}
	return wait("there is no StorageNode for node %s yet", node)
}

// maxRequest bounds what is parsed, in bytes: a request with an Ed25519 key and one name has less than 1 KiB.
const maxRequest = 8 << 10

// parse reads a request with exactly one name, and the network in it.
func parse(b []byte) (csr *x509.CertificateRequest, network string, err error) {
	if len(b) > maxRequest {
		return nil, "", fmt.Errorf("the request has %d bytes, at most %d", len(b), maxRequest)
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, "", fmt.Errorf("the request is not one PEM block of a certificate request")
	}
	if csr, err = x509.ParseCertificateRequest(block.Bytes); err != nil {
		return nil, "", fmt.Errorf("the request can not be read: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, "", fmt.Errorf("the request is not signed by its key: %w", err)
	}
	if _, ok := csr.PublicKey.(ed25519.PublicKey); !ok {
		return nil, "", fmt.Errorf("the key is %v, it has to be Ed25519", csr.PublicKeyAlgorithm)
	}
	if len(csr.URIs) != 1 || len(csr.DNSNames)+len(csr.IPAddresses)+len(csr.EmailAddresses) > 0 {
		return nil, "", fmt.Errorf("the request must have one URI name and no other")
	}
	return csr, csr.URIs[0].Host, nil
}

// usages says what is wrong with the usages asked for.
func usages(list []certv1.KeyUsage) string {
	for _, u := range list {
		switch u {
		case certv1.UsageDigitalSignature, certv1.UsageClientAuth, certv1.UsageServerAuth:
		default:
			return fmt.Sprintf("usage %q is not given: ask for digital signature, client auth and server auth", u)
		}
	}
	return ""
}
