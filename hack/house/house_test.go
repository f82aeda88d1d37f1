package house

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// exceptions from the limits of length. Keep it short; each entry says why the thing is one thing all the same.
var exceptions = Allow{}

func repository(t *testing.T) []*File {
	t.Helper()
	files, err := Parse(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("only %d Go files found: this does not look at the repository", len(files))
	}
	return files
}

func parse(t *testing.T, tree map[string]string) []*File {
	t.Helper()
	m := fstest.MapFS{}
	for name, text := range tree {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	files, err := Parse(m)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// clean fails with every finding.
func clean(t *testing.T, found []Finding) {
	t.Helper()
	slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.Where, b.Where) })
	for _, f := range found {
		t.Error(f)
	}
}

func TestFloorsHold(t *testing.T)       { clean(t, Floors(repository(t))) }
func TestEveryPackageSays(t *testing.T) { clean(t, Docs(repository(t))) }
func TestSizesHold(t *testing.T)        { clean(t, Sizes(repository(t), exceptions)) }
func TestNoTestSleeps(t *testing.T)     { clean(t, Sleeps(repository(t))) }

// TestFloorsAreSeenBroken is the negative control: each line breaks one floor and must be found with its reason.
func TestFloorsAreSeenBroken(t *testing.T) {
	for _, c := range []struct{ file, imp, reason string }{
		{"nodeagent/core/block/a.go", "golang.org/x/sys/unix", "only core, the standard library and blake3"},
		{"nodeagent/core/block/a.go", Module + "/nodeagent/disk", "only core, the standard library and blake3"},
		{"nodeagent/core/journal/a.go", "time", "time enters as ticks"},
		{"nodeagent/core/journal/a.go", "math/rand/v2", "time enters as ticks"},
		{"nodeagent/core/journal/a.go", "log/slog", "time enters as ticks"},
		{"nodeagent/store/a.go", "k8s.io/api/core/v1", "knows no Kubernetes"},
		{"nodeagent/volume/a.go", Module + "/api/v1alpha1", "knows no Kubernetes"},
		{"nodeagent/agent/a.go", Module + "/controllers/status", "the floor that cmd, csi and controllers stand on"},
		{"nodeagent/disk/a.go", Module + "/nodeagent/store", "below the store and the engine"},
		{"nodeagent/export/nbd/a.go", Module + "/nodeagent/volume", "serves whatever is a Backend"},
		{"nodeagent/volume/a.go", Module + "/nodeagent/export/nbd", "only agent and sim put"},
		{"csi/driver/a.go", Module + "/nodeagent/agent", "by the control protocol alone"},
		{"csi/driver/a.go", Module + "/controllers/status", "by the control protocol alone"},
		{"controllers/status/a.go", Module + "/nodeagent/core/block", "only core/placement and core/warrant"},
		{"api/v1alpha1/a.go", Module + "/nodeagent/core/block", "import nothing of ours"},
		{"nodeagent/agent/a.go", "github.com/spf13/viper", "flags and viper live in cmd"},
	} {
		files := parse(t, map[string]string{c.file: "package a\n\nimport _ \"" + c.imp + "\"\n"})
		found := Floors(files)
		if len(found) == 0 || !slices.ContainsFunc(found, func(f Finding) bool { return strings.Contains(f.What, c.reason) }) {
			t.Errorf("%s imports %s: found %v, want the reason %q", c.file, c.imp, found, c.reason)
		}
	}
	if found := Floors(parse(t, map[string]string{"nodeagent/core/a/a.go": "package a\n\nfunc f() { go f() }\n"})); len(found) != 1 {
		t.Errorf("a goroutine in core was not found: %v", found)
	}
}

// TestFloorsAllow tells that what the floors permit is not found.
func TestFloorsAllow(t *testing.T) {
	for file, imp := range map[string]string{
		"nodeagent/core/block/a.go":   "github.com/zeebo/blake3",
		"nodeagent/core/journal/a.go": Module + "/nodeagent/core/block",
		"nodeagent/agent/a.go":        "k8s.io/client-go/rest",
		"controllers/plan/a.go":       Module + "/nodeagent/core/placement",
		"controllers/sign/a.go":       Module + "/nodeagent/core/warrant",
		"csi/driver/a.go":             Module + "/api/agent/v1",
		"cmd/mynetwork/a.go":          "github.com/spf13/viper",
		"nodeagent/store/a_test.go":   "k8s.io/api/core/v1",
		"nodeagent/agent/yaml.go":     "sigs.k8s.io/yaml",
	} {
		if found := Floors(parse(t, map[string]string{file: "package a\n\nimport _ \"" + imp + "\"\n"})); len(found) != 0 {
			t.Errorf("%s imports %s: %v", file, imp, found)
		}
	}
}

func TestShapesAreSeenBroken(t *testing.T) {
	long := func(n int) string { return strings.Repeat("\t_ = 0\n", n) }
	fn := func(name string, lines int) string { return "func " + name + "() {\n" + long(lines-2) + "}\n" }
	head := "// Package a is a test.\npackage a\n\n"
	main := "// Command x is a test.\npackage main\n\n"
	for name, c := range map[string]struct {
		file, text string
		check      func([]*File) []Finding
		want       int
	}{
		"function of 60":       {"a/a.go", head + fn("f", 60), sizes, 0},
		"function of 61":       {"a/a.go", head + fn("f", 61), sizes, 1},
		"method of 61":         {"a/a.go", head + "type t int\n\nfunc (t) f() {\n" + long(59) + "}\n", sizes, 1},
		"file of 501":          {"a/a.go", head + strings.Repeat("//\n", 498), sizes, 1},
		"file of 500":          {"a/a.go", head + strings.Repeat("//\n", 497), sizes, 0},
		"long generated file":  {"a/a.go", "// Code generated by x. DO NOT EDIT.\n\n" + head + strings.Repeat("//\n", 498), sizes, 0},
		"main of 100":          {"cmd/x/main.go", main + strings.Repeat("//\n", 97), sizes, 1},
		"main of 99":           {"cmd/x/main.go", main + strings.Repeat("//\n", 96), sizes, 0},
		"no package comment":   {"a/a.go", "package a\n", Docs, 1},
		"wrong comment":        {"a/a.go", "// Here be a.\npackage a\n", Docs, 1},
		"comment of a command": {"cmd/x/main.go", main, Docs, 0},
		"sleep":                {"a/a_test.go", "package a\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n", Sleeps, 1},
		"sleep outside tests":  {"a/a.go", head + "import \"time\"\n\nfunc f() { time.Sleep(1) }\n", Sleeps, 0},
	} {
		if found := c.check(parse(t, map[string]string{c.file: c.text})); len(found) != c.want {
			t.Errorf("%s: %d findings, want %d: %v", name, len(found), c.want, found)
		}
	}
	if found := Sizes(nil, Allow{"a/a.go": "was long once"}); len(found) != 1 {
		t.Errorf("an exception that nothing needs was not found: %v", found)
	}
}

func sizes(files []*File) []Finding { return Sizes(files, nil) }
