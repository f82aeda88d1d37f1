package main

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

const metadataAPI = "cbt.storage.k8s.io/v1beta1"

// metadata are values that switch the service of changed blocks on, with more of its own.
func metadata(tls map[string]any) map[string]any {
	if tls == nil { // null would take the defaults away
		tls = map[string]any{}
	}
	return map[string]any{"csi": map[string]any{"snapshotMetadata": map[string]any{"enabled": true, "tls": tls}}}
}

// service is what backup programs find.
type service struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct{ Address, Audience, CaCert string }
}

// advertised cuts the SnapshotMetadataService, which is none of Kubernetes' own kinds, out of what was rendered.
func advertised(t *testing.T, rendered map[string]string) (s service) {
	t.Helper()
	const name = "csi/snapshot-metadata.yaml"
	var rest []string
	for doc := range strings.SplitSeq(rendered[name], "---\n") {
		if !strings.Contains(doc, "kind: SnapshotMetadataService\n") {
			rest = append(rest, doc)
			continue
		}
		if err := yaml.Unmarshal([]byte(doc), &s); err != nil {
			t.Fatal(err)
		}
	}
	rendered[name] = strings.Join(rest, "---\n")
	return s
}

func TestSnapshotMetadataIsOffByDefault(t *testing.T) {
	h := helm(t)
	r, err := h.Render(t.Context(), nil, metadataAPI)
	if err != nil || r["csi/snapshot-metadata.yaml"] != "" {
		t.Errorf("off: %v\n%s", err, r["csi/snapshot-metadata.yaml"])
	}
	if _, err := h.Render(t.Context(), metadata(nil)); err == nil || !strings.Contains(err.Error(), "install its definition first") {
		t.Errorf("without the definition: %v", err)
	}
	if _, err := h.Render(t.Context(), metadata(map[string]any{"secretName": "mine"}), metadataAPI); err == nil || !strings.Contains(err.Error(), "give the CA") {
		t.Errorf("a Secret without its CA: %v", err)
	}
}

// What is advertised is what is served: the name in the address is the certificate's, the CA is the one that has signed it.
func TestSnapshotMetadataIsTrusted(t *testing.T) {
	r, err := helm(t).Render(t.Context(), metadata(nil), metadataAPI)
	if err != nil {
		t.Fatal(err)
	}
	s := advertised(t, r)
	host, port, _ := strings.Cut(s.Spec.Address, ":")
	if s.Metadata.Name != "csi.mynetwork.io" || s.Spec.Audience != "csi.mynetwork.io" || port != "6443" || host != "mynetwork-csi-snapshot-metadata."+Namespace+".svc" {
		t.Errorf("%+v", s)
	}
	var secret *corev1.Secret
	kinds := map[string]int{}
	for _, o := range objects(t, map[string]string{"x": r["csi/snapshot-metadata.yaml"]}) {
		kinds[o.GetObjectKind().GroupVersionKind().Kind]++
		switch o := o.(type) {
		case *corev1.Secret:
			secret = o
		case *corev1.Service:
			if p := o.Spec.Ports; len(p) != 1 || p[0].Port != 6443 || p[0].TargetPort.IntValue() != 50051 || o.Name+"."+o.Namespace+".svc" != host {
				t.Errorf("Service: %+v", o)
			}
		case *rbacv1.ClusterRole:
			for _, rule := range o.Rules {
				if strings.Contains(strings.Join(append(rule.Verbs, rule.Resources...), " "), "secret") || strings.Contains(strings.Join(rule.Verbs, " "), "update") {
					t.Errorf("%s may %v", o.Name, rule)
				}
			}
		}
	}
	for kind, n := range map[string]int{"Secret": 1, "Deployment": 1, "ServiceAccount": 1, "ClusterRole": 2, "Role": 1, "NetworkPolicy": 1} {
		if kinds[kind] != n {
			t.Errorf("%d of %s: %v", kinds[kind], kind, kinds)
		}
	}
	ca, err := base64.StdEncoding.DecodeString(s.Spec.CaCert)
	if err != nil {
		t.Fatal(err)
	}
	verify := func(ca []byte, host string) error {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca)
		block, _ := pem.Decode(secret.Data[corev1.TLSCertKey])
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		_, err = leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: host})
		return err
	}
	if err := verify(ca, host); err != nil {
		t.Error(err)
	}
	if verify(ca, "else.svc") == nil || verify(nil, host) == nil {
		t.Error("control: another host, or no CA, was trusted")
	}
}

func TestSnapshotMetadataOfAnOwnSecret(t *testing.T) {
	const ca = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
	r, err := helm(t).Render(t.Context(), metadata(map[string]any{"secretName": "mine", "caCert": ca}), metadataAPI)
	if err != nil {
		t.Fatal(err)
	}
	if s := advertised(t, r); s.Spec.CaCert != base64.StdEncoding.EncodeToString([]byte(ca)) {
		t.Errorf("%+v", s)
	}
	text := r["csi/snapshot-metadata.yaml"]
	if strings.Contains(text, "kind: Secret\n") || !strings.Contains(text, "secretName: mine") {
		t.Errorf("the Secret is not the one that was named:\n%s", text)
	}
	if _, err := helm(t).Render(t.Context(), metadata(map[string]any{"secretName": "mine", "caCert": "no PEM"}), metadataAPI); err == nil {
		t.Error("a CA that is no PEM was accepted")
	}
}
