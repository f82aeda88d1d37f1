package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
)

const top = "../.."

// helm is built where the last run of the tests has built it: go build links a program that is there and up to date no second time, which
// takes a minute on a busy machine.
func helm(t *testing.T) Helm {
	t.Helper()
	program, err := Build(t.Context(), top, filepath.Join(os.TempDir(), "mynetwork-chart-test"))
	if err != nil {
		t.Fatal(err)
	}
	return Helm{Program: program, Chart: top + "/charts/mynetwork"}
}

// objects reads what was rendered, strictly: a field that there is not is an error. Definitions of resources are left out.
func objects(t *testing.T, rendered map[string]string) (out []runtime.Object) {
	t.Helper()
	s := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	strict := serializer.NewCodecFactory(s, serializer.EnableStrict).UniversalDeserializer()
	for name, text := range rendered {
		if strings.HasPrefix(name, "crds/") {
			continue
		}
		for doc := range strings.SplitSeq(text, "---\n") {
			o, _, err := strict.Decode([]byte(doc), nil, nil)
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, doc)
				continue
			}
			out = append(out, o)
		}
	}
	return out
}

func pods(o runtime.Object) (name string, spec *corev1.PodSpec) {
	switch o := o.(type) {
	case *appsv1.Deployment:
		return o.Name, &o.Spec.Template.Spec
	case *appsv1.DaemonSet:
		return o.Name, &o.Spec.Template.Spec
	}
	return "", nil
}

func TestConfigIsTheChart(t *testing.T) {
	files, err := helm(t).Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range Differences(top+"/config", files) {
		t.Error(err)
	}
	for name := range files {
		files[name] += "# changed\n"
		break
	}
	if len(Differences(top+"/config", files)) != 1 || len(files) < 12 {
		t.Errorf("control: of %d files one differs, and it was not found", len(files))
	}
}

// Only the node plugin has privilege, and every other container has none at all.
func TestOnlyTheMounterIsPrivileged(t *testing.T) {
	r, err := helm(t).Render(t.Context(), metadata(nil), "snapshot.storage.k8s.io/v1", metadataAPI)
	if err != nil {
		t.Fatal(err)
	}
	advertised(t, r)
	seen := 0
	for _, o := range objects(t, r) {
		name, spec := pods(o)
		if spec == nil {
			continue
		}
		if spec.HostNetwork || spec.HostPID || spec.HostIPC || spec.ServiceAccountName == "" {
			t.Errorf("%s shares the node's namespaces, or has no account", name)
		}
		for _, c := range spec.Containers {
			seen++
			sec := c.SecurityContext
			privileged := sec != nil && sec.Privileged != nil && *sec.Privileged
			if privileged != (name == "mynetwork-csi-node") {
				t.Errorf("%s/%s: privileged %v", name, c.Name, privileged)
			}
			if privileged {
				if len(c.Ports) != 0 {
					t.Errorf("%s listens on %v", name, c.Ports)
				}
				continue
			}
			if sec == nil || sec.ReadOnlyRootFilesystem == nil || !*sec.ReadOnlyRootFilesystem || len(sec.Capabilities.Drop) != 1 || spec.SecurityContext.RunAsNonRoot == nil {
				t.Errorf("%s/%s is not restricted: %+v", name, c.Name, sec)
			}
			if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() {
				t.Errorf("%s/%s requests nothing", name, c.Name)
			}
		}
	}
	if seen != 9 {
		t.Errorf("%d containers looked at", seen)
	}
}

// No wildcard in any right, and Secrets of other namespaces only for who is told so.
func TestRights(t *testing.T) {
	rules := func(values map[string]any) map[string][]rbacv1.PolicyRule {
		r, err := helm(t).Render(t.Context(), values)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string][]rbacv1.PolicyRule{}
		for _, o := range objects(t, r) {
			switch o := o.(type) {
			case *rbacv1.ClusterRole:
				out[o.Name] = append(out[o.Name], o.Rules...)
			case *rbacv1.Role:
				out[o.Namespace+"/"+o.Name] = append(out[o.Namespace+"/"+o.Name], o.Rules...)
			}
		}
		return out
	}
	has := func(rules []rbacv1.PolicyRule, resource string) bool {
		return strings.Contains(fmt.Sprint(rules), resource)
	}
	all := rules(nil)
	for name, list := range all {
		if strings.Contains(fmt.Sprint(list), "*") {
			t.Errorf("%s has a wildcard: %v", name, list)
		}
		if !strings.Contains(name, "/") && has(list, "secrets") {
			t.Errorf("%s reads the Secrets of the cluster", name)
		}
	}
	if len(all) < 8 {
		t.Errorf("%d roles", len(all))
	}
	some := rules(map[string]any{"csi": map[string]any{"secretNamespaces": []string{"keys"}}})
	if !has(some["keys/mynetwork-csi-secrets"], "secrets") || has(some["mynetwork-csi-controller"], "secrets") {
		t.Errorf("one namespace: %v", some["keys/mynetwork-csi-secrets"])
	}
	if every := rules(map[string]any{"csi": map[string]any{"secretNamespaces": []string{"*"}}}); !has(every["mynetwork-csi-controller"], "secrets") {
		t.Error("all namespaces: no right")
	}
}

func TestValues(t *testing.T) {
	h := helm(t)
	for name, bad := range map[string]map[string]any{
		"unknown key":     {"imagee": map[string]any{}},
		"unknown below":   {"operator": map[string]any{"replica": 2}},
		"replicas":        {"operator": map[string]any{"replicas": 0}},
		"level":           {"csi": map[string]any{"node": map[string]any{"logLevel": "loud"}}},
		"kubelet's slash": {"csi": map[string]any{"kubeletDir": "/var/lib/kubelet/"}},
		"namespace":       {"csi": map[string]any{"secretNamespaces": []string{"No Such"}}},
	} {
		if _, err := h.Render(t.Context(), bad); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	r, err := h.Render(t.Context(), map[string]any{
		"image": map[string]any{"repository": "r.example/m", "tag": "1"}, "holderImage": map[string]any{"tag": "0"}, "crds": map[string]any{"install": false},
		"admissionPolicies": map[string]any{"enabled": false}, "networkPolicies": map[string]any{"enabled": false}, "podDisruptionBudgets": map[string]any{"enabled": false},
		"operator": map[string]any{"replicas": 1, "metricsPort": 0}})
	if err != nil {
		t.Fatal(err)
	}
	for name := range r {
		if d := path.Dir(name); d == "crds" || d == "admission" || strings.Contains(name, "policies") || strings.Contains(name, "budgets") {
			t.Errorf("%s is there", name)
		}
	}
	text := r["operator/deployment.yaml"]
	for _, want := range []string{"--image=r.example/m:1", "--holder-image=r.example/m:0", "--metrics-address=0", "replicas: 1"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	objects(t, r)
}

// Definitions stay when the chart goes, and what agents and holders, which go on, stand on.
func TestDefinitionsAreKept(t *testing.T) {
	r, err := helm(t).Render(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for name, text := range r {
		if strings.HasPrefix(name, "crds/") {
			n++
			if !strings.Contains(text, "helm.sh/resource-policy: keep") {
				t.Errorf("%s is not kept", name)
			}
		}
	}
	if n != 4 {
		t.Errorf("%d definitions", n)
	}
	objects := strings.Split(r["agent/rbac.yaml"], "\n---\n")
	for _, o := range objects {
		if !strings.Contains(o, "helm.sh/resource-policy: keep") {
			t.Errorf("of the agents' rights this is not kept:\n%s", o)
		}
	}
	if len(objects) < 4 {
		t.Errorf("%d objects", len(objects))
	}
}

// What watches the network is off by default, and each part is switched on by itself.
func TestMonitoring(t *testing.T) {
	h := helm(t)
	parts := map[string]string{"podMonitors": "pod-monitors", "rules": "rules", "dashboards": "dashboards"}
	check := func(values map[string]any, want ...string) map[string]string {
		t.Helper()
		r, err := h.Render(t.Context(), values)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for name := range r {
			if strings.HasPrefix(name, "monitoring/") {
				n++
			}
		}
		for _, w := range want {
			if r["monitoring/"+w+".yaml"] == "" {
				t.Errorf("%v: no %s", values, w)
			}
		}
		if n != len(want) {
			t.Errorf("%v: %d files, want %v", values, n, want)
		}
		return r
	}
	check(nil)
	for key, name := range parts {
		check(map[string]any{"monitoring": map[string]any{key: map[string]any{"enabled": true}}}, name)
	}
	r := check(map[string]any{"monitoring": map[string]any{"rules": map[string]any{"enabled": true, "runbooks": "https://x.example/r.md", "labels": map[string]string{"release": "prom"}}}}, "rules")
	for _, want := range []string{"runbook_url: https://x.example/r.md#mynetworkdegraded", "release: prom", "{{ $labels.volume }}"} {
		if !strings.Contains(r["monitoring/rules.yaml"], want) {
			t.Errorf("the rules have no %s", want)
		}
	}
	off := map[string]any{"monitoring": map[string]any{"podMonitors": map[string]any{"enabled": true}}, "operator": map[string]any{"metricsPort": 0}}
	if text := check(off, "pod-monitors")["monitoring/pod-monitors.yaml"]; strings.Contains(text, "name: mynetwork-operator") || strings.Count(text, "kind: PodMonitor") != 2 {
		t.Errorf("of an operator without metrics:\n%s", text)
	}
	for name, bad := range map[string]any{"interval": map[string]any{"podMonitors": map[string]any{"interval": "soon"}}, "key": map[string]any{"alerts": true}} {
		if _, err := h.Render(t.Context(), map[string]any{"monitoring": bad}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
