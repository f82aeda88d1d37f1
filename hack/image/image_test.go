package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"mynetwork.io/mynetwork/hack/image/rootfs"
)

// TestArchive writes an image twice and reads it as a container runtime would.
func TestArchive(t *testing.T) {
	if _, err := rootfs.Machine(t.Context()); err != nil {
		t.Skip("not on Debian:", err)
	}
	bin, out := t.TempDir(), t.TempDir()
	for _, n := range []string{"pause", "csi-resizer"} {
		if err := os.WriteFile(filepath.Join(bin, n), []byte(n), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var printed [2]strings.Builder
	var archives [2]string
	for i := range archives {
		if err := run(t.Context(), []string{"-bin", bin, "-out", out, "pause", "csi-resizer"}, &printed[i]); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(out, "pause.tar"))
		if err != nil {
			t.Fatal(err)
		}
		archives[i] = string(b)
	}
	if archives[0] != archives[1] || printed[0].String() != printed[1].String() {
		t.Errorf("built twice, the image differs: %s %s", printed[0].String(), printed[1].String())
	}
	tag, err := name.NewTag("registry.k8s.io/pause:3.10")
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(filepath.Join(out, "pause.tar"), &tag)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil || !slices.Equal(config.Config.Entrypoint, []string{"/pause"}) || !config.Created.IsZero() {
		t.Errorf("%+v, %v", config, err)
	}
}

func TestWrongUse(t *testing.T) {
	for want, args := range map[string][]string{
		"no image is named":     nil,
		`no image "nonsense"`:   {"nonsense"},
		"no such file":          {"-bin", t.TempDir(), "-out", t.TempDir(), "pause"},
		"make build":            {"-mynetwork", "/nonexistent", "-out", t.TempDir(), "mynetwork"},
		"flag provided but not": {"-nonsense"},
	} {
		if err := run(t.Context(), args, &strings.Builder{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}
