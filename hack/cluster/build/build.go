// Package build makes the programs of a test cluster from their Go modules, once for each state of their sources.
//
// Modules, each in a directory of that name beside this package:
//
//	world      etcd and all of Kubernetes in one program that goes by the names of its parts
//	sidecars   the CSI sidecars and the snapshot controller
//	metadata   the CSI sidecar for changed blocks, which is written for older libraries than the others, and a client of it
//	e2e        Kubernetes' end-to-end tests of storage drivers, ginkgo and agnhost
//
// All of them use the dependencies of Kubernetes' own release, so that what one has compiled the others find in Go's cache.
package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"mynetwork.io/mynetwork/hack/cluster/record"
)

// Builder builds into a cluster's directory.
type Builder struct {
	Source string     // the directory hack/cluster of the repository
	Dir    record.Dir // programs go to its bin
	Out    io.Writer  // of the compiler
}

// Source finds hack/cluster of the repository that the working directory lies in.
func Source() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		source := filepath.Join(dir, "hack", "cluster")
		if _, err := os.Stat(filepath.Join(source, "world", "go.mod")); err == nil {
			return source, nil
		}
		if dir == "/" {
			return "", errors.New("hack/cluster is not found from here up: run this in the repository")
		}
	}
	return "", err
}

// names are what the world program is called as.
func names() []string {
	return []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"}
}

// World builds Kubernetes. Without a cache that takes 15 minutes of processor time.
func (b Builder) World(ctx context.Context) error {
	return b.once("world", func(dir string) error {
		version, err := b.output(ctx, dir, "go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
		if err != nil {
			return err
		}
		part := strings.Split(strings.TrimPrefix(version, "v"), ".")
		flags := fmt.Sprintf("-s -w -X k8s.io/component-base/version.gitVersion=%[1]s -X k8s.io/component-base/version.gitMajor=%s"+
			" -X k8s.io/component-base/version.gitMinor=%s -X k8s.io/client-go/pkg/version.gitVersion=%[1]s", version, part[0], part[1])
		if err := b.compile(ctx, dir, flags, b.Dir.Bin("world"), "."); err != nil {
			return err
		}
		for _, name := range names() {
			if err := os.Remove(b.Dir.Bin(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err := os.Symlink("world", b.Dir.Bin(name)); err != nil {
				return err
			}
		}
		return nil
	}, "world")
}

// Sidecars builds the CSI sidecars, and a client of the one for changed blocks, and puts the definitions of snapshots and of that one's
// service among the addons.
func (b Builder) Sidecars(ctx context.Context) error {
	err := b.once("sidecars", func(dir string) error { return b.sidecars(ctx, dir, "external-snapshotter/client/v8") }, "sidecars")
	if err != nil {
		return err
	}
	return b.once("metadata", func(dir string) error {
		err := b.compile(ctx, dir, "-s -w", b.Dir.Bin("snapshot-metadata-lister"), "./snapshot-metadata-lister")
		return errors.Join(err, b.sidecars(ctx, dir, "external-snapshot-metadata/client"))
	}, "metadata")
}

// sidecars builds the tools of a module, and copies the definitions of what their clients speak of.
func (b Builder) sidecars(ctx context.Context, dir, client string) error {
	programs, err := b.output(ctx, dir, "go", "list", "-f", "{{.ImportPath}} {{.Module.Version}}", "tool")
	if err != nil {
		return err
	}
	for _, line := range strings.Split(programs, "\n") {
		program, version, _ := strings.Cut(line, " ")
		if err := b.compile(ctx, dir, "-s -w -X main.version="+version, b.Dir.Bin(filepath.Base(program)), program); err != nil {
			return err
		}
	}
	source, err := b.output(ctx, dir, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/kubernetes-csi/"+client)
	if err != nil {
		return err
	}
	return b.definitions(filepath.Join(source, "config", "crd"))
}

// definitions copies the custom resource definitions in dir.
func (b Builder) definitions(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*storage.k8s.io_*.yaml"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("no definitions in %s", dir)
	}
	if err := os.MkdirAll(b.Dir.Addons(), 0o755); err != nil {
		return err
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(b.Dir.Addons(), "crd-"+filepath.Base(f)), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// once calls f with the first of the directories, unless it has succeeded before with all of them as they are now.
// Directories are named from hack/cluster.
func (b Builder) once(name string, f func(dir string) error, dirs ...string) error {
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.Version())
	for i, dir := range dirs {
		dirs[i] = filepath.Join(b.Source, dir)
		if err := digest(sum, dirs[i]); err != nil {
			return err
		}
	}
	now, stamp := hex.EncodeToString(sum.Sum(nil)), b.Dir.Bin("."+name+".stamp")
	if old, err := os.ReadFile(stamp); err == nil && string(old) == now {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(stamp), 0o755); err != nil {
		return err
	}
	fmt.Fprintf(b.Out, "building %s from %s\n", name, dirs[0])
	if err := f(dirs[0]); err != nil {
		return fmt.Errorf("build %s: %w", name, err)
	}
	return os.WriteFile(stamp, []byte(now), 0o644)
}

// digest sums the names and contents of the files below dir.
func digest(sum io.Writer, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(sum, "%s %d\n%s", strings.TrimPrefix(path, dir), len(text), text)
		return err
	})
}

// compile runs go build at low priority, for programs that need no library.
func (b Builder) compile(ctx context.Context, dir, ldflags, out, what string) error {
	cmd := exec.CommandContext(ctx, "nice", "-n", "5", "go", "build", "-trimpath", "-ldflags", ldflags, "-o", out, what)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, b.Out, b.Out
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return cmd.Run()
}

func (b Builder) output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}
