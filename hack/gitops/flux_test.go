package gitops

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

const (
	top     = "../.."
	fluxDir = top + "/config/flux"
)

// decode reads an object strictly: a field that its type has not is an error.
func decode(t *testing.T, text string) (client.Object, error) {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, helmv2.AddToScheme, kustomizev1.AddToScheme, sourcev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	o, _, err := serializer.NewCodecFactory(s, serializer.EnableStrict).UniversalDeserializer().Decode([]byte(text), nil, nil)
	if err != nil {
		return nil, err
	}
	return o.(client.Object), nil
}

// example is every object of config/flux by KIND/NAME.
func example(t *testing.T) map[string]client.Object {
	t.Helper()
	out := map[string]client.Object{}
	err := filepath.WalkDir(fluxDir, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(file) != ".yaml" || e.Name() == "kustomization.yaml" {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for doc := range strings.SplitSeq(string(text), "\n---\n") {
			o, err := decode(t, doc)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			out[o.GetObjectKind().GroupVersionKind().Kind+"/"+o.GetName()] = o
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// check holds values against the chart's schema.
func check(t *testing.T, values map[string]any) error {
	t.Helper()
	text, err := os.ReadFile(top + "/charts/mynetwork/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema spec.Schema
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	return validate.NewSchemaValidator(&schema, nil, "values", strfmt.Default).Validate(values).AsError()
}

func TestFluxInstallsTheChart(t *testing.T) {
	all := example(t)
	release, ok := all["HelmRelease/mynetwork"].(*helmv2.HelmRelease)
	if !ok {
		t.Fatalf("no HelmRelease in %v", all)
	}
	source, ok := all["OCIRepository/mynetwork"].(*sourcev1.OCIRepository)
	if ref := release.Spec.ChartRef; !ok || ref.Kind != "OCIRepository" || ref.Name != source.Name || release.Namespace != source.Namespace {
		t.Errorf("the release's chart is %+v, which is not there", ref)
	}
	if all["Namespace/"+release.Namespace] == nil {
		t.Errorf("nobody makes the namespace %s", release.Namespace)
	}
	values := release.GetValues()
	if len(values) == 0 {
		t.Error("there are no values to check")
	}
	if err := check(t, values); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]map[string]any{
		"unknown key":   {"imagee": map[string]any{}},
		"unknown below": {"operator": map[string]any{"replica": 2.0}},
		"out of range":  {"operator": map[string]any{"replicas": 0.0}},
		"no repository": {"image": map[string]any{"tag": "1"}},
	} {
		if check(t, bad) == nil {
			t.Errorf("control: %s was accepted", name)
		}
	}
}

// The network comes after the operator, and who applied it learns how it is.
func TestFluxWaitsForTheNetwork(t *testing.T) {
	all := example(t)
	for name, want := range map[string]string{"mynetwork": "HelmRelease/mynetwork", "mynetwork-network": "MyNetwork/main"} {
		k, ok := all["Kustomization/"+name].(*kustomizev1.Kustomization)
		if !ok || len(k.Spec.HealthChecks) != 1 {
			t.Fatalf("Kustomization %s: %+v", name, k)
		}
		h := k.Spec.HealthChecks[0]
		o := all[h.Kind+"/"+h.Name]
		if h.Kind+"/"+h.Name != want || o == nil || o.GetObjectKind().GroupVersionKind().GroupVersion().String() != h.APIVersion || o.GetNamespace() != h.Namespace {
			t.Errorf("%s waits for %+v, want %s", name, h, want)
		}
		if k.Spec.Prune {
			t.Errorf("%s deletes what is taken out of Git", name)
		}
		list, err := os.ReadFile(filepath.Join(top, k.Spec.Path, "kustomization.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(filepath.Join(top, k.Spec.Path))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != "kustomization.yaml" && !strings.Contains(string(list), "- "+e.Name()+"\n") {
				t.Errorf("%s does not list %s", k.Spec.Path, e.Name())
			}
		}
	}
	last := all["Kustomization/mynetwork-network"].(*kustomizev1.Kustomization)
	if len(last.Spec.DependsOn) != 1 || last.Spec.DependsOn[0].Name != "mynetwork" {
		t.Errorf("the network depends on %v", last.Spec.DependsOn)
	}
}

// Negative control: a setting that Flux or the API does not have is seen.
func TestFluxUnknownFieldsAreSeen(t *testing.T) {
	for _, file := range []string{"sync.yaml", "install/chart.yaml", "install/release.yaml"} {
		text, err := os.ReadFile(filepath.Join(fluxDir, file))
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), "\n---\n")
		if _, err := decode(t, strings.Replace(first, "\nspec:\n", "\nspec:\n  noSuch: 1\n", 1)); err == nil {
			t.Errorf("%s: an unknown field was accepted", file)
		}
	}
}
