package external

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestBounded(t *testing.T) {
	for set, want := range map[string]bool{"000001ffffffffff": true, "000001fffeffffff": false} {
		if got, err := bounded("Name:\tx\nCapEff:\t0000000000000000\nCapBnd:\t"+set+"\n", 24); err != nil || got != want {
			t.Errorf("%s: %t, %v", set, got, err)
		}
	}
	if _, err := bounded("Name:\tx\n", 24); err == nil {
		t.Error("a status without the set is not an answer")
	}
	if _, err := GrowsExt4(); err != nil {
		t.Error(err)
	}
}

// What grows a mounted file system of the default type, and nothing else, is run apart; names are Kubernetes' own.
func TestGrowing(t *testing.T) {
	re := regexp.MustCompile(growing)
	const head = "[It] External Storage [Driver: csi.mynetwork.io] [Testpattern: "
	for name, want := range map[string]bool{
		"Dynamic PV (default fs)(allowExpansion)] volume-expand should resize volume when PVC is edited while pod is using it":                                                          true,
		"Generic Ephemeral-volume (default fs) (late-binding)] ephemeral should support expansion of pvcs created for ephemeral pvcs":                                                   true,
		"Dynamic PV (block volmode)(allowExpansion)] volume-expand should resize volume when PVC is edited while pod is using it":                                                       false,
		"Dynamic PV (default fs)(allowExpansion)] volume-expand Verify if offline PVC expansion works":                                                                                  false,
		"Dynamic PV (default fs)(allowExpansion)] volume-expand should resize volume when PVC is edited and the pod is re-created on the same node after controller resize is finished": false,
	} {
		if re.MatchString(head+name) != want {
			t.Errorf("%s: %t", name, !want)
		}
	}
	if got := either("", growing); got != growing || either("a", "b") != "a|b" {
		t.Errorf("either: %q", got)
	}
}

func TestClasses(t *testing.T) {
	for in, want := range map[string]string{
		`{"kind":"StorageClass","metadata":{"name":"a","uid":"u"},"parameters":{"network":"main"},"provisioner":"p"}`: `"csi.storage.k8s.io/fstype":"xfs","network":"main"`,
		`{"kind":"StorageClass","provisioner":"p"}`: `"parameters":{"csi.storage.k8s.io/fstype":"xfs"}`,
	} {
		a, err := OnXFS([]byte(in))
		if err != nil || !strings.Contains(a.Class, want) || !strings.Contains(a.Class, `"provisioner":"p"`) || strings.Contains(a.Class, "uid") {
			t.Errorf("%s: %s, %v", in, a.Class, err)
		}
	}
	a, err := OnImmediate([]byte(`{"provisioner":"p","volumeBindingMode":"WaitForFirstConsumer"}`))
	if err != nil || !strings.Contains(a.Class, `"volumeBindingMode":"Immediate"`) || strings.Contains(a.Class, "Wait") {
		t.Errorf("%s, %v", a.Class, err)
	}
	if _, err := OnXFS([]byte("no")); err == nil {
		t.Error("no JSON was accepted")
	}
}

// What changes a claim before a pod uses it is run apart, and no other spec of that suite.
func TestUnbound(t *testing.T) {
	re := regexp.MustCompile(unbound)
	for name, want := range map[string]bool{
		"volume-modify-stress [FeatureGate:VolumeAttributesClass] [Feature:VolumeAttributesClass] multiple pods should modify volumes with a different volumeAttributesClass": true,
		"volume-modify-stress [FeatureGate:VolumeAttributesClass] [Feature:VolumeAttributesClass] multiple pods should provision volumes with volumeAttributesClass":          false,
		"volume-modify [FeatureGate:VolumeAttributesClass] [Feature:VolumeAttributesClass] should modify volume with no VAC":                                                  false,
	} {
		if re.MatchString(name) != want {
			t.Errorf("%s: %t", name, !want)
		}
	}
}

// A spec that was left out and ran apart counts once, as what it came to there.
func TestTogether(t *testing.T) {
	ran := specs(t)
	out := *ran[2].Skipped
	out.Message = "skipped"
	left := spec{Name: ran[0].Name, Status: "skipped", Skipped: &out}
	got := together([]spec{left, ran[1]}, []spec{ran[0], {Name: ran[1].Name, Status: "skipped", Skipped: &out}}, "xfs")
	if len(got) != 2 || got[0].Name != ran[1].Name || got[1].Name != ran[0].Name+" (on xfs)" || got[1].Status != "passed" {
		t.Errorf("%+v", got)
	}
}

// A run apart has the class in a file, the others the cluster's own; the rest of the driver is the same.
func TestPassNamesTheClass(t *testing.T) {
	dir := t.TempDir()
	for i, class := range []string{"FromExistingClassName: mine", "FromFile: /x"} {
		report := filepath.Join(dir, string(rune('a'+i)))
		if _, _, err := pass(t.Context(), Options{Bin: dir, Class: "mine", Out: &strings.Builder{}}, report, class, ""); err == nil {
			t.Error("there is no ginkgo, and no error")
		}
		text, err := os.ReadFile(filepath.Join(report, "driver.yaml"))
		if err != nil || !strings.Contains(string(text), "\nStorageClass: {"+class+"}\nSnapshotClass: {FromExistingClassName: mine}\n") {
			t.Errorf("%v\n%s", err, text)
		}
	}
}
