package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// Target is what programs are built for.
type Target struct{ OS, Arch string }

// Targets are those of a release. The client is Linux's too: it reads stores of a stopped node itself ("mynetwork fsck"), by
// system calls that darwin and Windows have not.
func Targets() []Target { return []Target{{"linux", "amd64"}, {"linux", "arm64"}} }

// Release is what to make.
type Release struct {
	Top     string    // the repository
	Version string    // SemVer without a v
	Date    time.Time // of the sources
	Targets []Target
	Helm    string // program; empty: no chart
	Image   string // program; empty: no image
	Cache   string // Go's build cache; empty: the usual one
}

var semver = regexp.MustCompile(`^v?((0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?)$`)

// plain is the version without its v. A chart needs SemVer, and an image's tag can have no "+".
func plain(version string) (string, error) {
	m := semver.FindStringSubmatch(version)
	if m == nil {
		return "", fmt.Errorf("the version %q is not of the form v1.2.3 or v1.2.3-rc.1: make release VERSION=v1.2.3, or tag the commit", version)
	}
	return m[1], nil
}

// Make makes the release in dir, which is emptied before.
func (r Release) Make(ctx context.Context, dir string) error {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	var parts []Part
	for _, t := range r.Targets {
		made, err := r.programs(ctx, dir, t)
		if err != nil {
			return err
		}
		parts = append(parts, made...)
	}
	if r.Image != "" {
		p, err := r.image(ctx, dir)
		if err != nil {
			return err
		}
		parts = append(parts, p)
	}
	if r.Helm != "" {
		p, err := r.chart(ctx, dir)
		if err != nil {
			return err
		}
		parts = append(parts, p)
	}
	if err := r.bill(dir, parts); err != nil {
		return err
	}
	return Sums(dir)
}

// name of a file of the release, for one target.
func (r Release) name(program string, t Target) string {
	return strings.Join([]string{program, r.Version, t.OS, t.Arch}, "_")
}

// programs builds all of cmd for a target.
func (r Release) programs(ctx context.Context, dir string, t Target) (parts []Part, err error) {
	tmp, err := os.MkdirTemp(dir, "bin")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	if tmp, err = filepath.Abs(tmp); err != nil {
		return nil, err
	}
	// The version control's stamp is left out: a source archive is to give the same bytes as a checkout.
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+r.Version, "-o", tmp+"/", "./cmd/...")
	cmd.Dir = r.Top
	// Settings of the machine that would change the code.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+t.OS, "GOARCH="+t.Arch, "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOFIPS140=off", "GOFLAGS=", "GOWORK=off")
	if r.Cache != "" {
		cmd.Env = append(cmd.Env, "GOCACHE="+r.Cache)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build for %s/%s: %w\n%s", t.OS, t.Arch, err, out)
	}
	made, err := os.ReadDir(tmp)
	if err != nil {
		return nil, err
	}
	for _, e := range made {
		name := r.name(e.Name(), t)
		if err := os.Rename(filepath.Join(tmp, e.Name()), filepath.Join(dir, name)); err != nil {
			return nil, err
		}
		p, err := programPart(dir, name)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// image makes the image of this machine's architecture, whose Debian packages it is made of.
func (r Release) image(ctx context.Context, dir string) (Part, error) {
	host := Target{"linux", runtime.GOARCH}
	program := r.name("mynetwork", host)
	cmd := exec.CommandContext(ctx, r.Image, "-mynetwork", filepath.Join(dir, program), "-out", dir, "-tag", r.Version, "mynetwork")
	if out, err := cmd.CombinedOutput(); err != nil {
		return Part{}, fmt.Errorf("image: %w\n%s", err, out)
	}
	name := r.name("mynetwork-image", host) + ".tar"
	if err := os.Rename(filepath.Join(dir, "mynetwork.tar"), filepath.Join(dir, name)); err != nil {
		return Part{}, err
	}
	return imagePart(dir, name, program)
}
