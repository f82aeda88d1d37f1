package build

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
)

// images are those that every cluster has: the pods' own, the sidecars', and one with a shell and tools for tests.
func images() []string {
	return []string{"pause", "csi-provisioner", "csi-resizer", "csi-snapshotter", "snapshot-controller", "tools"}
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
		args := append([]string{"-bin", filepath.Dir(b.Dir.Bin("x")), "-out", b.Dir.Images()}, images()...)
		cmd := exec.CommandContext(ctx, b.Dir.Bin("image"), args...)
		cmd.Stdout, cmd.Stderr = b.Out, b.Out
		return cmd.Run()
	}, "../image", "sidecars")
}
