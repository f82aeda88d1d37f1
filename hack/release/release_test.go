package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// sources is a small repository with one program, which says its version. It needs little of the standard library.
func sources(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":            "module example.org/small\n\ngo 1.26.0\n",
		"cmd/small/main.go": "package main\n\nimport \"example.org/small/say\"\n\nvar version = \"dev\"\n\nfunc main() { say.Say(version) }\n",
		"say/say.go":        "package say\n\n//go:noinline\nfunc Say(s string) {\n\tif s == \"\" {\n\t\tpanic(s)\n\t}\n\tprintln(s)\n}\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Built at two places, the second time with an empty cache, the release is the same; built in the usual way, the program is not.
func TestTwoBuildsAreTheSame(t *testing.T) {
	host := []Target{{"linux", runtime.GOARCH}}
	t.Setenv("GOFLAGS", "-trimpath=false") // what a machine may have set
	var dirs, plainly []string
	for i, cache := range []string{"", t.TempDir()} {
		r := Release{Top: sources(t), Version: "1.2.3", Date: epoch, Targets: host, Cache: cache}
		dirs = append(dirs, filepath.Join(t.TempDir(), "release"))
		if err := r.Make(t.Context(), dirs[i]); err != nil {
			t.Fatal(err)
		}
		plainly = append(plainly, t.TempDir())
		cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", plainly[i], "./cmd/small")
		cmd.Dir = r.Top
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if err := Compare(dirs[0], dirs[1]); err != nil {
		t.Error(err)
	}
	if Compare(plainly[0], plainly[1]) == nil {
		t.Error("control: programs with the paths of their sources are the same")
	}
	program := filepath.Join(dirs[0], "small_1.2.3_linux_"+runtime.GOARCH)
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range info.Settings {
		if strings.HasPrefix(s.Key, "vcs") || s.Key == "CGO_ENABLED" && s.Value != "0" || s.Key == "-trimpath" && s.Value != "true" {
			t.Errorf("%s=%s", s.Key, s.Value)
		}
	}
	if runtime.GOOS == "linux" {
		if out, err := exec.Command(program).CombinedOutput(); err != nil || string(out) != "1.2.3\n" {
			t.Errorf("it says %q, %v", out, err)
		}
	}
	// What is there is what is in the sums, and one other byte is seen.
	sums, err := os.ReadFile(filepath.Join(dirs[0], sumsFile))
	if err != nil || strings.Count(string(sums), "\n") != 2 || !strings.Contains(string(sums), "  mynetwork_1.2.3.spdx.json\n") {
		t.Errorf("%s, %v", sums, err)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-1]++
	if err := os.WriteFile(program, text, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Compare(dirs[0], dirs[1]); err == nil || !strings.Contains(err.Error(), "small_1.2.3_linux") {
		t.Errorf("control: a changed byte was not seen: %v", err)
	}
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if Compare(dirs[0], dirs[1]) == nil {
		t.Error("control: a missing file was not seen")
	}
}

func TestVersions(t *testing.T) {
	for in, want := range map[string]string{
		"v1.2.3": "1.2.3", "1.2.3": "1.2.3", "v0.1.0-rc.1": "0.1.0-rc.1", "v0.1.0-3-gabc123-dirty": "0.1.0-3-gabc123-dirty",
		"": "", "dev": "", "31c42fd": "", "v1.2": "", "v01.2.3": "", "v1.2.3+build": "", "v1.2.3-": "", "v1.2.3 -X main.x=y": "",
	} {
		got, err := plain(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v, want %q", in, got, err, want)
		}
	}
}

// archive packs one file at a time, as Helm does.
func archive(t *testing.T, at time.Time) []byte {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	zip.Extra, zip.Comment, zip.ModTime = []byte("+aHR0"), "Helm", at
	to := tar.NewWriter(zip)
	if err := to.WriteHeader(&tar.Header{Name: "mynetwork/Chart.yaml", Mode: 0o644, Typeflag: tar.TypeReg, Size: 2, ModTime: at}); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Write([]byte("x\n")); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestChartHasTheSourcesDate(t *testing.T) {
	a, b := archive(t, epoch.Add(time.Hour)), archive(t, epoch.Add(2*time.Hour))
	if bytes.Equal(a, b) {
		t.Fatal("control: packed at two times, the archives are the same")
	}
	one, err := timeless(a, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if two, err := timeless(b, epoch); err != nil || !bytes.Equal(one, two) {
		t.Errorf("packed at two times, the charts differ, %v", err)
	}
	unzip, err := gzip.NewReader(bytes.NewReader(one))
	if err != nil || string(unzip.Extra) != "+aHR0" {
		t.Fatal(unzip, err)
	}
	files := tar.NewReader(unzip)
	h, err := files.Next()
	if err != nil || h.Name != "mynetwork/Chart.yaml" || !h.ModTime.Equal(epoch) {
		t.Fatal(h, err)
	}
	if text, err := io.ReadAll(files); err != nil || string(text) != "x\n" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := timeless(a[:len(a)-9], epoch); err == nil {
		t.Error("control: half an archive was taken")
	}
}

func TestDebianParagraphs(t *testing.T) {
	c, ok := debian("Package: mount\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2.38.1-5+deb12u3\nDescription: tools\n more: text\n")
	if want := (Component{Name: "mount", Version: "1:2.38.1-5+deb12u3", URL: "pkg:deb/debian/mount@1%3A2.38.1-5%2Bdeb12u3?arch=amd64"}); !ok || c != want {
		t.Errorf("%+v", c)
	}
	if _, ok := debian("Package: mount\n"); ok {
		t.Error("control: a package without a version was taken")
	}
}

// This test's own program is one with modules: all of them are in the document, once, and all that is related is there.
func TestBill(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	var parts []Part
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
		p, err := programPart(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, p)
	}
	parts[1].Has = "a"
	r := Release{Version: "1.2.3", Date: epoch}
	d, err := r.document(dir, parts)
	if err != nil {
		t.Fatal(err)
	}
	urls, ids := map[string]bool{}, map[string]bool{documentID: true}
	for _, p := range d.Packages {
		if ids[p.ID] || notInID.MatchString(p.ID) {
			t.Errorf("the identifier %s is there twice, or not allowed", p.ID)
		}
		ids[p.ID] = true
		for _, ref := range p.References {
			urls[ref.Locator] = true
		}
	}
	if want := len(parts[0].Uses) + 2; len(ids) != want+1 {
		t.Errorf("%d packages, want %d", len(ids)-1, want)
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(urls)), func(u string) bool {
		return strings.HasPrefix(u, "pkg:golang/github.com/google/go-containerregistry@v")
	}) {
		t.Errorf("a module of this program is missing in %v", urls)
	}
	for _, rel := range d.Relationships {
		if !ids[rel.From] || !ids[rel.To] {
			t.Errorf("%+v is about what is not there", rel)
		}
	}
	if d.Creation.Created != "2026-01-02T03:04:05Z" {
		t.Errorf("created %s", d.Creation.Created)
	}
	before := d.Namespace
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	if d, err = r.document(dir, parts); err != nil || d.Namespace == before {
		t.Errorf("another program, and the document has the same name: %v", err)
	}
}
