package plane

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"mynetwork.io/mynetwork/hack/cluster/machine"
	"mynetwork.io/mynetwork/hack/cluster/record"
)

func cluster(t *testing.T, quick bool) *record.Record {
	t.Helper()
	r, err := record.Open(record.Dir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	r.Settings = record.Settings{Nodes: []string{"n1", "n2"}, Quick: quick}
	if err := Certificates(r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCertificates(t *testing.T) {
	r := cluster(t, false)
	dir := r.Dir().PKI()
	authority, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	for name, host := range map[string]string{"apiserver": machine.APIAddress, "node-n1": "10.77.0.11", "node-n2": "n2", "admin": ""} {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = pair.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if err != nil {
			t.Errorf("%s for %q: %v", name, host, err)
		}
	}
	if err := Certificates(r); err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil || string(again) != string(authority) {
		t.Errorf("a second call made another authority (%v)", err)
	}
	for _, name := range []string{"node-n1", "kube-scheduler", "snapshots"} {
		text, err := os.ReadFile(filepath.Join(dir, name+".kubeconfig"))
		if err != nil {
			t.Fatal(err)
		}
		var config struct {
			Clusters []struct{ Cluster struct{ Server string } }
		}
		if err := yaml.UnmarshalStrict(text, &map[string]any{}); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, &config); err != nil || config.Clusters[0].Cluster.Server != "https://10.77.0.1:6443" {
			t.Errorf("%s.kubeconfig: %+v, %v", name, config, err)
		}
	}
}

// TestFailuresTakeKubernetesDefaults holds the promise that timings are Kubernetes' own, unless Quick says otherwise.
func TestFailuresTakeKubernetesDefaults(t *testing.T) {
	timings := []string{"grace-period", "toleration-seconds", "eviction-rate", "nodeStatusUpdateFrequency", "nodeLeaseDurationSeconds"}
	for _, quick := range []bool{false, true} {
		r := cluster(t, quick)
		files, err := nodeFiles(r, "n1", 1)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(slices.Concat(apiServerArgs(r), controllerArgs(r), []string{string(files["kubelet.yaml"])}), "\n")
		for _, s := range timings {
			if strings.Contains(text, s) != quick {
				t.Errorf("quick %t: %s is set: %t", quick, s, strings.Contains(text, s))
			}
		}
	}
}

func TestNodeConfig(t *testing.T) {
	r := cluster(t, true)
	c, err := NodeConfig(r, "n2")
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "n2" || len(c.Services) != 3 || !c.Services[0].Import || c.Services[0].Socket == "" {
		t.Errorf("%+v", c)
	}
	for _, f := range []string{"kubelet.yaml", "kube-proxy.yaml", "cni/10-cluster.conflist", "kubelet.kubeconfig"} {
		text, err := os.ReadFile(filepath.Join(c.Settings, f))
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(text, &map[string]any{}); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
	text, err := os.ReadFile(filepath.Join(c.Settings, "cni/10-cluster.conflist"))
	if err != nil || !strings.Contains(string(text), `"10.78.2.0/24"`) {
		t.Errorf("pods of n2 are not in their network (%v): %s", err, text)
	}
	if _, err := NodeConfig(r, "n9"); err == nil || !strings.Contains(err.Error(), "n1, n2") {
		t.Errorf("a node that is not there: %v, want the names of those that are", err)
	}
}
