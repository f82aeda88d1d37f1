package build

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
)

// images are those that every cluster has: the pods' own, the sidecars', and one with a shell and tools for tests.
func images() []string {
	return []string{"pause", "csi-provisioner", "csi-resizer", "csi-snapshotter", "csi-snapshot-metadata", "snapshot-controller", "tools"}
}

// Images builds the images that every cluster has, and the program that builds images.
func (b Builder) Images(ctx context.Context) error {
	if err := os.MkdirAll(b.Dir.Images(), 0o755); err != nil {
		return err
	}
	return b.once("images", func(dir string) error {
		for program, what := range map[string]string{"image": ".", "pause": "./pause"} {
			if err := b.compile(ctx, dir, "-s -w", b.Dir.Bin(program), what); err != nil {
				return err
			}
		}
		return b.image(ctx, images()...)
	}, "../image", "sidecars", "metadata")
}

// E2E builds Kubernetes' tests of storage drivers, what runs them, and the image of their test server.
func (b Builder) E2E(ctx context.Context) error {
	if err := b.Images(ctx); err != nil { // the program that builds images
		return err
	}
	return b.once("e2e", func(dir string) error {
		if err := b.compile(ctx, dir, "-s -w", filepath.Dir(b.Dir.Bin("x"))+"/", "tool"); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, "nice", "-n", "5", "go", "test", "-c", "-trimpath", "-ldflags", "-s -w", "-o", b.Dir.Bin("e2e.test"), "./e2e")
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, b.Out, b.Out
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if err := cmd.Run(); err != nil {
			return err
		}
		return b.image(ctx, "agnhost")
	}, "world", "../image")
}

func (b Builder) image(ctx context.Context, names ...string) error {
	args := append([]string{"-bin", filepath.Dir(b.Dir.Bin("x")), "-out", b.Dir.Images()}, names...)
	cmd := exec.CommandContext(ctx, b.Dir.Bin("image"), args...)
	cmd.Stdout, cmd.Stderr = b.Out, b.Out
	return cmd.Run()
}

// Helm builds helm, for whoever installs charts in the cluster.
func (b Builder) Helm(ctx context.Context) error {
	return b.once("helm", func(dir string) error {
		return b.compile(ctx, dir, "-s -w", b.Dir.Bin("helm"), "helm.sh/helm/v3/cmd/helm")
	}, "../tools")
}
