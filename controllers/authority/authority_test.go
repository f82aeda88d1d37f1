package authority_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/authority"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

const (
	uid  = "6a1f0e9c-0000-4000-8000-000000000001"
	user = "system:serviceaccount:mynetwork-system:mynetwork-agent"
)

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func request(t *testing.T, key crypto.Signer, change func(*x509.CertificateRequest), names ...string) []byte {
	t.Helper()
	r := &x509.CertificateRequest{}
	for _, n := range names {
		u, err := url.Parse(n)
		if err != nil {
			t.Fatal(err)
		}
		r.URIs = append(r.URIs, u)
	}
	if change != nil {
		change(r)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, r, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func good(t *testing.T) (certv1.CertificateSigningRequestSpec, authority.Facts) {
	t.Helper()
	spec := certv1.CertificateSigningRequestSpec{
		SignerName: v1alpha1.SignerName, Username: user, Usages: []certv1.KeyUsage{certv1.UsageClientAuth, certv1.UsageServerAuth, certv1.UsageDigitalSignature},
		Request: request(t, newKey(t), nil, "mynetwork://"+uid+"/node/a"),
		Extra: map[string]certv1.ExtraValue{
			"authentication.kubernetes.io/node-name": {"a"}, "authentication.kubernetes.io/pod-name": {"main-agent-x"}, "authentication.kubernetes.io/pod-uid": {"pod-1"}},
	}
	return spec, authority.Facts{
		User: user,
		Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "main-agent-x", Namespace: "mynetwork-system", UID: "pod-1",
			Labels: map[string]string{v1alpha1.LabelNetwork: "main", v1alpha1.LabelComponent: "agent"}}, Spec: corev1.PodSpec{NodeName: "a"}},
		Network:      &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "main", UID: types.UID(uid)}},
		StorageNodes: []v1alpha1.StorageNode{{ObjectMeta: metav1.ObjectMeta{Name: "main.a"}, Spec: v1alpha1.StorageNodeSpec{Network: "main", NodeName: "a"}}},
	}
}

func TestJudge(t *testing.T) {
	type spec = certv1.CertificateSigningRequestSpec
	type facts = authority.Facts
	for name, c := range map[string]struct {
		change  func(*spec, *facts)
		want    authority.Verdict
		message string
	}{
		"good":            {func(*spec, *facts) {}, authority.Sign, "claims"},
		"another user":    {func(s *spec, _ *facts) { s.Username = "system:serviceaccount:default:default" }, authority.Deny, "user"},
		"no node claim":   {func(s *spec, _ *facts) { delete(s.Extra, "authentication.kubernetes.io/node-name") }, authority.Deny, "not bound"},
		"two node claims": {func(s *spec, _ *facts) { s.Extra["authentication.kubernetes.io/node-name"] = []string{"a", "b"} }, authority.Deny, "not bound"},
		"no pod claim":    {func(s *spec, _ *facts) { delete(s.Extra, "authentication.kubernetes.io/pod-uid") }, authority.Deny, "not bound"},
		"another's name":  {func(s *spec, _ *facts) { s.Request = request(t, newKey(t), nil, "mynetwork://"+uid+"/node/b") }, authority.Deny, "may ask for"},
		"another network": {func(s *spec, _ *facts) { s.Request = request(t, newKey(t), nil, "mynetwork://x/node/a") }, authority.Deny, "no network"},
		"two names": {func(s *spec, _ *facts) {
			u := "mynetwork://" + uid + "/node/"
			s.Request = request(t, newKey(t), nil, u+"a", u+"b")
		}, authority.Deny, "one URI"},
		"a query": {func(s *spec, _ *facts) { s.Request = request(t, newKey(t), nil, "mynetwork://"+uid+"/node/a?x=y") }, authority.Deny, "may ask for"},
		"no name": {func(s *spec, _ *facts) { s.Request = request(t, newKey(t), nil) }, authority.Deny, "one URI"},
		"a DNS name too": {func(s *spec, _ *facts) {
			s.Request = request(t, newKey(t), func(r *x509.CertificateRequest) { r.DNSNames = []string{"kubernetes"} }, "mynetwork://"+uid+"/node/a")
		}, authority.Deny, "no other"},
		"an address too": {func(s *spec, _ *facts) {
			s.Request = request(t, newKey(t), func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{{1, 2, 3, 4}} }, "mynetwork://"+uid+"/node/a")
		}, authority.Deny, "no other"},
		"not PEM":    {func(s *spec, _ *facts) { s.Request = []byte("x") }, authority.Deny, "PEM"},
		"too long":   {func(s *spec, _ *facts) { s.Request = make([]byte, 9000) }, authority.Deny, "bytes"},
		"two blocks": {func(s *spec, _ *facts) { s.Request = append(s.Request, s.Request...) }, authority.Deny, "PEM"},
		"another key type": {func(s *spec, _ *facts) {
			k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			s.Request = request(t, k, nil, "mynetwork://"+uid+"/node/a")
		}, authority.Deny, "Ed25519"},
		"usage":          {func(s *spec, _ *facts) { s.Usages = append(s.Usages, certv1.UsageCertSign) }, authority.Deny, "usage"},
		"no network":     {func(_ *spec, f *facts) { f.Network = nil }, authority.Deny, "no network"},
		"pod not seen":   {func(_ *spec, f *facts) { f.Pod = nil }, authority.Wait, "not seen"},
		"pod replaced":   {func(_ *spec, f *facts) { f.Pod.UID = "pod-2" }, authority.Deny, "gone"},
		"pod ends":       {func(_ *spec, f *facts) { f.Pod.DeletionTimestamp = &metav1.Time{Time: start} }, authority.Deny, "deleted"},
		"pod elsewhere":  {func(_ *spec, f *facts) { f.Pod.Spec.NodeName = "b" }, authority.Deny, "on node b"},
		"pod of another": {func(_ *spec, f *facts) { f.Pod.Labels[v1alpha1.LabelNetwork] = "x" }, authority.Deny, "no agent"},
		"a holder":       {func(_ *spec, f *facts) { f.Pod.Labels[v1alpha1.LabelComponent] = "holder" }, authority.Deny, "no agent"},
		"no StorageNode": {func(_ *spec, f *facts) { f.StorageNodes = nil }, authority.Wait, "no StorageNode"},
		"node removed":   {func(_ *spec, f *facts) { f.StorageNodes[0].DeletionTimestamp = &metav1.Time{Time: start} }, authority.Deny, "being deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := good(t)
			c.change(&s, &f)
			if d := authority.Judge(&s, f); d.Verdict != c.want || !strings.Contains(d.Message, c.message) {
				t.Errorf("%v %q, want %v %q", d.Verdict, d.Message, c.want, c.message)
			}
		})
	}
}

func scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func run(t *testing.T, change func(*certv1.CertificateSigningRequest, *authority.Facts)) (*certv1.CertificateSigningRequest, map[string][]byte) {
	t.Helper()
	spec, f := good(t)
	csr := &certv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: spec}
	change(csr, &f)
	data, err := authority.New(uid, start)
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: authority.SecretName("main"), Namespace: "mynetwork-system"}, Data: data}
	c := fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(csr, f.Pod, f.Network, &f.StorageNodes[0], secret).
		WithStatusSubresource(&certv1.CertificateSigningRequest{}).
		WithIndex(&v1alpha1.StorageNode{}, "spec.nodeName", func(o client.Object) []string { return []string{o.(*v1alpha1.StorageNode).Spec.NodeName} }).Build()
	r := &authority.Reconciler{Client: c, Events: events.NewFakeRecorder(10), Namespace: "mynetwork-system", Account: "mynetwork-agent", Now: func() time.Time { return start }}
	for range 2 {
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(csr)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(csr), csr); err != nil {
		t.Fatal(err)
	}
	return csr, data
}

func TestSignedCertificateIsAccepted(t *testing.T) {
	key := newKey(t)
	csr, data := run(t, func(c *certv1.CertificateSigningRequest, _ *authority.Facts) {
		c.Spec.Request = request(t, key, nil, "mynetwork://"+uid+"/node/a")
	})
	if len(csr.Status.Certificate) == 0 {
		t.Fatalf("not signed: %+v", csr.Status)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := accepts(csr.Status.Certificate, keyPEM, data["ca.crt"]); err != nil {
		t.Errorf("agents refuse it: %v", err)
	}
	// Negative control: another authority's bundle.
	other, err := authority.New(uid, start)
	if err != nil {
		t.Fatal(err)
	}
	if accepts(csr.Status.Certificate, keyPEM, other["ca.crt"]) == nil {
		t.Error("agents accept it under another authority")
	}
}

// accepts makes the credentials that an agent would make of a certificate.
func accepts(cert, key, ca []byte) error {
	_, err := identity.NewCredentials(cert, key, ca, identity.CredentialOptions{Now: func() time.Time { return start }})
	return err
}

func TestDeniedIsDenied(t *testing.T) {
	csr, _ := run(t, func(c *certv1.CertificateSigningRequest, _ *authority.Facts) { c.Spec.Username = "eve" })
	if len(csr.Status.Certificate) > 0 || len(csr.Status.Conditions) != 1 || csr.Status.Conditions[0].Type != certv1.CertificateDenied {
		t.Errorf("%+v", csr.Status)
	}
}

// An approval of somebody else does not make the operator sign.
func TestApprovalOfOthersIsNotEnough(t *testing.T) {
	csr, _ := run(t, func(c *certv1.CertificateSigningRequest, f *authority.Facts) {
		c.Status.Conditions = []certv1.CertificateSigningRequestCondition{{Type: certv1.CertificateApproved, Status: corev1.ConditionTrue}}
		f.Pod.Spec.NodeName = "b"
	})
	if len(csr.Status.Certificate) > 0 {
		t.Error("it was signed")
	}
}

func TestOtherSignersAreLeft(t *testing.T) {
	csr, _ := run(t, func(c *certv1.CertificateSigningRequest, _ *authority.Facts) {
		c.Spec.SignerName = "kubernetes.io/kube-apiserver-client"
	})
	if len(csr.Status.Conditions) != 0 || len(csr.Status.Certificate) != 0 {
		t.Errorf("%+v", csr.Status)
	}
}

func TestLoadRefuses(t *testing.T) {
	a, _ := authority.New(uid, start)
	b, _ := authority.New(uid, start)
	for name, data := range map[string]map[string][]byte{
		"empty": {}, "no key": {"tls.crt": a["tls.crt"]}, "mixed": {"tls.crt": a["tls.crt"], "tls.key": b["tls.key"]}} {
		if _, err := authority.Load(data, uid); err == nil {
			t.Errorf("%s was loaded", name)
		}
	}
	if _, err := authority.Load(a, "another"); err == nil {
		t.Error("another network's was loaded")
	}
	if _, err := authority.Load(a, uid); err != nil {
		t.Error(err)
	}
}

// A client of the control port is nobody on the peers' port, and the control key is whole after it was written and read.
func TestControl(t *testing.T) {
	data, err := authority.New(uid, start)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := authority.Load(data, uid)
	if err != nil {
		t.Fatal(err)
	}
	again, err := authority.Load(data, uid)
	if err != nil || !ca.Control().Equal(again.Control()) || len(ca.ControlKeys()) != 1 || ca.ControlKeys()[0] != again.ControlKeys()[0] {
		t.Errorf("%v, keys %v and %v", err, ca.ControlKeys(), again.ControlKeys())
	}
	cert, key, err := ca.Issue("operator", start)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Bundle())
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: start, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if name := leaf.URIs[0].String(); name != "mynetwork://"+uid+"/control/operator" {
		t.Errorf("name %s", name)
	}
	if id, err := identity.ParseIdentity(leaf.URIs[0].String()); err != nil || id.Role != identity.RoleControl {
		t.Errorf("a peer takes the operator for %+v: %v", id, err)
	}
	for name, damage := range map[string]func(map[string][]byte){
		"no control key": func(d map[string][]byte) { delete(d, "control.key") },
		"no bundle":      func(d map[string][]byte) { d["ca.crt"] = []byte("x") },
		"no PEM":         func(d map[string][]byte) { d["control.key"] = []byte("x") },
	} {
		bad := maps.Clone(data)
		damage(bad)
		if _, err := authority.Load(bad, uid); !errors.Is(err, authority.ErrInvalid) || strings.Contains(err.Error(), string(data["control.key"])) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
