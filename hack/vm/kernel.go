package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// kernel is one that was unpacked.
type kernel struct {
	release string
	image   string // to boot
	modules string // directory of its modules
}

// fetchKernel unpacks the kernel of a suite below dir, if it is not there yet. To have a newer one, remove the suite's folder.
func fetchKernel(ctx context.Context, dir, suite string) (kernel, error) {
	dir = filepath.Join(dir, suite)
	if k, err := findKernel(dir); err == nil {
		return k, nil
	}
	fmt.Println("vm: fetching the kernel of", suite)
	tmp := dir + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return kernel{}, err
	}
	defer os.RemoveAll(tmp)
	a := apt{dir: filepath.Join(tmp, "apt")}
	if err := a.prepare(ctx, suite); err != nil {
		return kernel{}, err
	}
	list, err := a.packages(ctx)
	if err != nil {
		return kernel{}, err
	}
	for _, file := range list {
		if err := command(ctx, "dpkg-deb", "-x", file, tmp); err != nil {
			return kernel{}, err
		}
	}
	if err := os.RemoveAll(a.dir); err != nil {
		return kernel{}, err
	}
	if _, err := findKernel(tmp); err != nil {
		return kernel{}, err
	}
	if err := errors.Join(os.RemoveAll(dir), os.Rename(tmp, dir)); err != nil {
		return kernel{}, err
	}
	return findKernel(dir)
}

// findKernel finds what packages of either layout have unpacked.
func findKernel(dir string) (k kernel, err error) {
	for _, pattern := range []string{"usr/lib/modules/*/kernel", "lib/modules/*/kernel"} {
		if found, _ := filepath.Glob(filepath.Join(dir, pattern)); len(found) == 1 {
			k.modules = found[0]
		}
	}
	k.release = filepath.Base(filepath.Dir(k.modules))
	for _, at := range []string{filepath.Join(k.modules, "..", "vmlinuz"), filepath.Join(dir, "boot", "vmlinuz-"+k.release)} {
		if _, err := os.Stat(at); err == nil && k.modules != "" {
			k.image = at
			return k, nil
		}
	}
	return k, fmt.Errorf("no kernel in %s", dir)
}

// apt is Debian's, with sources and lists of its own: the machine's stay as they are.
type apt struct{ dir string }

func (a apt) options() []string {
	return []string{
		"-o", "Dir::Etc::sourcelist=" + filepath.Join(a.dir, "sources.list"), "-o", "Dir::Etc::sourceparts=-",
		"-o", "Dir::State::lists=" + filepath.Join(a.dir, "lists"), "-o", "Dir::Cache=" + filepath.Join(a.dir, "cache"),
		"-o", "APT::Sandbox::User=root", "-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
	}
}

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

func (a apt) prepare(ctx context.Context, suite string) error {
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return err
		}
	}
	line := fmt.Sprintf("deb [signed-by=%s] http://deb.debian.org/debian %s main\n", keyring, suite)
	if err := os.WriteFile(filepath.Join(a.dir, "sources.list"), []byte(line), 0o644); err != nil {
		return err
	}
	return command(ctx, "apt-get", append(a.options(), "-q", "update")...)
}

// packages downloads what the suite's kernel consists of: image and modules in one package, or in several, as Debian has it since 7.
func (a apt) packages(ctx context.Context) ([]string, error) {
	out, err := output(ctx, "apt-cache", append(a.options(), "depends", "linux-image-amd64")...)
	if err != nil {
		return nil, err
	}
	image := regexp.MustCompile(`linux-image-(\d\S*)`).FindStringSubmatch(out)
	if image == nil {
		return nil, fmt.Errorf("linux-image-amd64 names no kernel:\n%s", out)
	}
	known, err := output(ctx, "apt-cache", append(a.options(), "pkgnames", "linux-")...)
	if err != nil {
		return nil, err
	}
	args := append(a.options(), "-q", "download")
	for _, kind := range []string{"image", "binary", "modules"} {
		if name := "linux-" + kind + "-" + image[1]; slices.Contains(strings.Fields(known), name) {
			args = append(args, name)
		}
	}
	cwd := filepath.Join(a.dir, "cache", "archives")
	args = append([]string{"-C", cwd, "apt-get"}, args...) // it downloads into its working directory
	if err := command(ctx, "env", args...); err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(cwd, "*.deb"))
}
