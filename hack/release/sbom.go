package main

import (
	"archive/tar"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Part is a file of the release and what it is made of.
type Part struct {
	Name string
	File string // in the release's directory
	Uses []Component
	Has  string // another file of the release that is in it, or none
}

// Component is somebody else's work in a part.
type Component struct {
	Name, Version string
	URL           string // package URL, which tells it from all others
	Sum           string // of a Go module, as in go.sum
}

// programPart reads what the linker wrote into a program.
func programPart(dir, name string) (Part, error) {
	info, err := buildinfo.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return Part{}, err
	}
	goVersion, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ")
	p := Part{Name: filepath.Base(info.Path), File: name, Uses: []Component{{Name: "stdlib", Version: goVersion, URL: "pkg:golang/stdlib@" + goVersion}}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		// Modules' paths keep their case, as vulnerability databases have them.
		p.Uses = append(p.Uses, Component{m.Path, m.Version, "pkg:golang/" + m.Path + "@" + url.QueryEscape(m.Version), m.Sum})
	}
	return p, nil
}

// packages is where the image program leaves the paragraph of each Debian package.
const packages = "var/lib/dpkg/status.d/"

// imagePart reads which Debian packages an image's files are from.
func imagePart(dir, name, program string) (p Part, err error) {
	p = Part{Name: "mynetwork-image", File: name, Has: program}
	img, err := tarball.ImageFromPath(filepath.Join(dir, name), nil)
	if err != nil {
		return p, err
	}
	files := mutate.Extract(img)
	defer func() { err = errors.Join(err, files.Close()) }()
	for r := tar.NewReader(files); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return p, err
		}
		if !strings.HasPrefix(h.Name, packages) || h.Typeflag != tar.TypeReg {
			continue
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return p, err
		}
		if c, ok := debian(string(text)); ok {
			p.Uses = append(p.Uses, c)
		}
	}
	if len(p.Uses) == 0 {
		return p, fmt.Errorf("%s: no package is told in %s: the SBOM would be wrong", name, packages)
	}
	return p, nil
}

// debian reads a paragraph of dpkg's status.
func debian(text string) (Component, bool) {
	field := map[string]string{}
	for line := range strings.Lines(text) {
		if key, v, ok := strings.Cut(line, ": "); ok && !strings.HasPrefix(line, " ") {
			field[key] = strings.TrimSpace(v)
		}
	}
	c := Component{Name: field["Package"], Version: field["Version"]}
	c.URL = "pkg:deb/debian/" + c.Name + "@" + url.QueryEscape(c.Version) + "?arch=" + field["Architecture"]
	return c, c.Name != "" && c.Version != ""
}

// bill writes the SBOM of all parts.
func (r Release) bill(dir string, parts []Part) error {
	d, err := r.document(dir, parts)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "mynetwork_"+r.Version+".spdx.json"), append(text, '\n'), 0o644)
}

// document describes parts and components in SPDX. Its namespace is made of the parts' sums: other parts, another document.
func (r Release) document(dir string, parts []Part) (*spdx, error) {
	d := &spdx{Version: "SPDX-2.3", License: "CC0-1.0", ID: documentID, Name: "mynetwork-" + r.Version}
	d.Creation.Created, d.Creation.Creators = r.Date.UTC().Format("2006-01-02T15:04:05Z"), []string{"Tool: mynetwork-hack-release-" + r.Version}
	all := sha256.New()
	seen := map[string]bool{}
	for _, p := range parts {
		s, err := sum(filepath.Join(dir, p.File))
		if err != nil {
			return nil, err
		}
		fmt.Fprintln(all, s, p.File)
		id := spdxID(p.File)
		d.Packages = append(d.Packages, spdxPackage{ID: id, Name: p.Name, VersionInfo: r.Version, FileName: p.File, Location: "NOASSERTION",
			Checksums: []spdxChecksum{{"SHA256", s}}})
		d.relate(documentID, "DESCRIBES", id)
		if p.Has != "" {
			d.relate(id, "CONTAINS", spdxID(p.Has))
		}
		for _, c := range p.Uses {
			d.relate(id, "CONTAINS", spdxID(c.URL))
			if seen[c.URL] {
				continue
			}
			seen[c.URL] = true
			used := spdxPackage{ID: spdxID(c.URL), Name: c.Name, VersionInfo: c.Version, Location: "NOASSERTION",
				References: []spdxReference{{"PACKAGE-MANAGER", "purl", c.URL}}}
			if c.Sum != "" {
				used.Comment = "go.sum " + c.Sum
			}
			d.Packages = append(d.Packages, used)
		}
	}
	slices.SortStableFunc(d.Packages, func(a, b spdxPackage) int { return strings.Compare(a.ID, b.ID) })
	d.Namespace = fmt.Sprintf("https://mynetwork.io/spdx/mynetwork-%s-%x", r.Version, all.Sum(nil)[:16])
	return d, nil
}
