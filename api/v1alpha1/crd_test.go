package v1alpha1_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// maxSettings is how many settings a MyNetwork may have.
const maxSettings = 20

type object = map[string]any

// crds reads the generated definitions, by kind.
func crds(t *testing.T) map[string]object {
	t.Helper()
	files, err := filepath.Glob("../../config/crd/storage.mynetwork.io_*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]object{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var crd object
		if err := yaml.Unmarshal(b, &crd); err != nil {
			t.Fatal(f, err)
		}
		spec := crd["spec"].(object)
		out[spec["names"].(object)["kind"].(string)] = spec
	}
	if len(out) != 4 {
		t.Fatalf("%d definitions, want 4", len(out))
	}
	return out
}

func version(spec object) object { return spec["versions"].([]any)[0].(object) }

func schema(spec object) object {
	return version(spec)["schema"].(object)["openAPIV3Schema"].(object)
}

// foreign tells whether a schema belongs to a type of Kubernetes that is embedded here, and has its own texts.
func foreign(path string) bool {
	for _, s := range []string{".metadata", ".conditions", ".tolerations", ".selector", ".nodes.storage", ".resources"} {
		if strings.Contains(path, s+".") || strings.Contains(path, s+"[]") || strings.HasSuffix(path, ".metadata") {
			return true
		}
	}
	return false
}

// undescribed lists fields that kubectl explain has no text for, and rules without a message.
func undescribed(path string, s object) (out []string) {
	if foreign(path) {
		return nil
	}
	if d, _ := s["description"].(string); len(d) < 10 && !strings.HasSuffix(path, "[]") {
		out = append(out, path+" has no description")
	}
	for _, r := range list(s["x-kubernetes-validations"]) {
		if m, _ := r.(object)["message"].(string); m == "" {
			out = append(out, path+" has a rule without a message")
		}
	}
	for name, p := range fields(s) {
		out = append(out, undescribed(path+"."+name, p)...)
	}
	if items, ok := s["items"].(object); ok {
		out = append(out, undescribed(path+"[]", items)...)
	}
	return out
}

func list(v any) []any { l, _ := v.([]any); return l }

func fields(s object) map[string]object {
	out := map[string]object{}
	props, _ := s["properties"].(object)
	for name, p := range props {
		out[name] = p.(object)
	}
	return out
}

// leaves lists the settings: what is no group of settings of this package.
func leaves(path string, s object) (out []string) {
	group := []string{".nodes", ".storage", ".volumes", ".storageClass", ".agent", ""}
	if !slices.Contains(group, path) {
		return []string{path}
	}
	for name, p := range fields(s) {
		out = append(out, leaves(path+"."+name, p)...)
	}
	return out
}

func TestEveryFieldIsExplained(t *testing.T) {
	for kind, spec := range crds(t) {
		s := schema(spec)
		for _, problem := range undescribed(kind, s) {
			t.Error(problem)
		}
		// Negative control: a field without text is found.
		s["properties"].(object)["spec"].(object)["properties"].(object)["bare"] = object{"type": "string"}
		if got := undescribed(kind, s); len(got) != 1 || got[0] != kind+".spec.bare has no description" {
			t.Errorf("%s: a field without description was not found: %v", kind, got)
		}
	}
}

func TestMyNetworkHasFewSettings(t *testing.T) {
	spec := schema(crds(t)["MyNetwork"])["properties"].(object)["spec"].(object)
	if got := leaves("", spec); len(got) > maxSettings {
		t.Errorf("%d settings, at most %d:\n%s", len(got), maxSettings, strings.Join(got, "\n"))
	}
	if _, required := spec["required"]; required {
		t.Errorf("spec requires %v: a name must be enough", spec["required"])
	}
}

func TestShape(t *testing.T) {
	want := map[string]struct {
		scope, short string
		columns      []string
		selectable   []string
	}{
		"MyNetwork":    {"Cluster", "mynet", []string{"Ready", "Nodes", "Used", "Activity"}, nil},
		"StorageNode":  {"Cluster", "snode", []string{"Ready", "Used", "Activity"}, []string{".spec.network", ".spec.nodeName"}},
		"ContentGroup": {"Namespaced", "cg", []string{"Ready", "Used", "Activity"}, []string{".spec.network", ".spec.kind"}},
		"VolumeRecord": {"Cluster", "vrec", []string{"Size", "Claim", "Node"}, []string{".spec.network", ".spec.volumeID"}},
	}
	for kind, spec := range crds(t) {
		w := want[kind]
		names := spec["names"].(object)
		if spec["scope"] != w.scope || !slices.Contains(list(names["shortNames"]), any(w.short)) || !slices.Contains(list(names["categories"]), any("mynetwork")) {
			t.Errorf("%s: scope %v, short names %v, categories %v", kind, spec["scope"], names["shortNames"], names["categories"])
		}
		v := version(spec)
		for _, c := range w.columns {
			if !slices.ContainsFunc(list(v["additionalPrinterColumns"]), func(x any) bool { return x.(object)["name"] == c }) {
				t.Errorf("%s has no column %s", kind, c)
			}
		}
		for _, f := range w.selectable {
			if !slices.ContainsFunc(list(v["selectableFields"]), func(x any) bool { return x.(object)["jsonPath"] == f }) {
				t.Errorf("%s: %s can not be selected", kind, f)
			}
		}
		if _, ok := v["subresources"].(object)["status"]; !ok {
			t.Errorf("%s has no status subresource", kind)
		}
		if _, ok := v["subresources"].(object)["scale"]; ok != (kind == "ContentGroup") {
			t.Errorf("%s: scale is %v", kind, ok)
		}
	}
}

func TestSchemeKnowsAllKinds(t *testing.T) {
	s := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	for kind := range crds(t) {
		for _, k := range []string{kind, kind + "List"} {
			if !s.Recognizes(v1alpha1.GroupVersion().WithKind(k)) {
				t.Errorf("%s is not registered", k)
			}
		}
	}
}

// An object that a client writes back without having touched it must not gain fields: GitOps would see drift.
func TestEmptySpecStaysEmpty(t *testing.T) {
	b, err := json.Marshal(v1alpha1.MyNetwork{})
	if err != nil {
		t.Fatal(err)
	}
	var got object
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if _, ok := got["spec"]; ok {
		t.Errorf("an empty spec is written as %v", got["spec"])
	}
}

// The samples are what the types say: no unknown field, and the one with all settings has all of them.
func TestSamples(t *testing.T) {
	files, err := filepath.Glob("../../config/samples/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var head struct{ Kind string }
		if err := yaml.Unmarshal(b, &head); err != nil {
			t.Fatal(f, err)
		}
		switch head.Kind {
		case "MyNetwork":
			err = yaml.UnmarshalStrict(b, &v1alpha1.MyNetwork{})
		case "ContentGroup":
			err = yaml.UnmarshalStrict(b, &v1alpha1.ContentGroup{})
		case "Kustomization":
		default:
			t.Errorf("%s: kind %q", f, head.Kind)
		}
		if err != nil {
			t.Errorf("%s: %v", f, err)
		}
		if filepath.Base(f) != "mynetwork-all.yaml" {
			continue
		}
		var all object
		if err := yaml.Unmarshal(b, &all); err != nil {
			t.Fatal(err)
		}
		for _, setting := range leaves("", schema(crds(t)["MyNetwork"])["properties"].(object)["spec"].(object)) {
			at := any(all["spec"])
			for _, key := range strings.Split(strings.TrimPrefix(setting, "."), ".") {
				m, _ := at.(object)
				at = m[key]
			}
			if at == nil {
				t.Errorf("%s does not show %s", f, setting)
			}
		}
	}
}
