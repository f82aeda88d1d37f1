package external

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

func specs(t *testing.T) []spec {
	t.Helper()
	s, err := read("testdata/junit.xml")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestResultsAreToldAsTheyAre(t *testing.T) {
	dir := t.TempDir()
	var out strings.Builder
	err := conclude(&out, dir, specs(t), errors.New("exit status 1"))
	if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "1 specs") {
		t.Errorf("a failed spec: %v", err)
	}
	for _, want := range []string{"1 passed, 1 failed, 1 skipped, 1 not chosen", "should resize", "timed out waiting for the size"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	lines, err := os.ReadFile(filepath.Join(dir, "specs.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(lines), "\n") != 3 || !strings.Contains(string(lines), "Driver does not support topology") || strings.Contains(string(lines), "Windows") {
		t.Errorf("specs.txt:\n%s", lines)
	}
}

// TestNothingRunIsNoSuccess: a suite in which no spec ran, or that ended before its end, must not read as passed.
func TestNothingRunIsNoSuccess(t *testing.T) {
	all := specs(t)
	passed := slices.DeleteFunc(slices.Clone(all), func(s spec) bool { return s.Status != "passed" })
	skipped := slices.DeleteFunc(slices.Clone(all), func(s spec) bool { return s.Status != "skipped" })
	interrupted := append(slices.Clone(passed), spec{Name: "[It] x", Status: "interrupted"})
	for name, c := range map[string]struct {
		specs []spec
		ran   error
		ok    bool
	}{
		"all passed":                {passed, nil, true},
		"none":                      {nil, nil, false},
		"all skipped":               {skipped, nil, false},
		"ginkgo failed beside them": {passed, errors.New("exit status 1"), false},
		"one was interrupted":       {interrupted, nil, false},
	} {
		if err := conclude(&strings.Builder{}, t.TempDir(), c.specs, c.ran); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDriverIsDeclaredWithKnownKeys(t *testing.T) {
	var d struct {
		StorageClass, SnapshotClass, GroupSnapshotClass, VolumeAttributesClass struct {
			FromName                        bool
			FromFile, FromExistingClassName string
		}
		Timeouts   map[string]metav1.Duration
		DriverInfo struct {
			Name                 string
			SupportedSizeRange   struct{ Min, Max string }
			SupportedFsType      map[string]struct{}
			SupportedMountOption map[string]struct{}
			Capabilities         map[string]bool

			StressTestOptions                                                     struct{ NumPods, NumRestarts int }
			VolumeSnapshotStressTestOptions, VolumeGroupSnapshotStressTestOptions struct{ NumPods, NumSnapshots int }
			VolumeModifyStressTestOptions                                         struct{ NumPods int }
		}
	}
	if err := yaml.UnmarshalStrict([]byte(driver), &d); err != nil {
		t.Fatal(err)
	}
	// test/e2e/storage/framework/testdriver.go of Kubernetes 1.36.
	known := []string{"persistence", "block", "fsGroup", "volumeMountGroup", "exec", "snapshotDataSource", "snapshotMetadata", "groupSnapshot",
		"pvcDataSource", "multipods", "RWX", "controllerExpansion", "nodeExpansion", "offlineExpansion", "onlineExpansion", "volumeLimits",
		"singleNodeVolume", "topology", "capacity", "FSResizeFromSourceNotSupported", "readWriteOncePod", "multiplePVsSameID", "capReadOnlyMany", "seLinuxMount"}
	for name := range d.DriverInfo.Capabilities {
		if !slices.Contains(known, name) {
			t.Errorf("Kubernetes knows no capability %q", name)
		}
	}
	if d.DriverInfo.Name != "csi.mynetwork.io" || !d.DriverInfo.Capabilities["block"] {
		t.Errorf("%+v", d)
	}
	if err := yaml.UnmarshalStrict([]byte(attributes), &map[string]any{}); err != nil {
		t.Error(err)
	}
}

func TestSkippedTable(t *testing.T) {
	specs, err := read("testdata/junit.xml")
	if err != nil {
		t.Fatal(err)
	}
	got := skipped(specs)
	if !strings.Contains(got, "| Driver does not support topology | 1 | External Storage topology |\n") || strings.Count(got, "\n") != 3 {
		t.Errorf("want the one spec that skipped itself, not the one that was not chosen:\n%s", got)
	}
}

func TestArguments(t *testing.T) {
	all := strings.Join(arguments(Options{Focus: "F", Slow: true, Procs: 3, Timeout: time.Hour, Bin: "/b"}, "/r"), " ")
	short := strings.Join(arguments(Options{Skip: "mine", DryRun: true}, "/r"), " ")
	for text, wants := range map[string][]string{all: {"--procs=3", "--timeout=1h0m0s", "--focus=F", "-storage.testdriver=/r/driver.yaml", "/b/e2e.test"}, short: {"--dry-run", `\[Slow\]|mine`}} {
		for _, w := range wants {
			if !strings.Contains(text, w) {
				t.Errorf("no %s in %s", w, text)
			}
		}
	}
	if strings.Contains(all, "Slow") {
		t.Errorf("slow specs are left out: %s", all)
	}
}
