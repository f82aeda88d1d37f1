package rootfs

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Debian is what this machine's dpkg knows, and its dynamic linker. Tests put something else in their place.
type Debian struct {
	owners map[string]string // path, where links lead it, to package
	files  map[string][]string
	status map[string]string // by package, its paragraph
	// ldd prints the libraries of a program, as ldd(1) does.
	ldd func(program string) (string, error)
}

// Machine reads dpkg's database, below /var/lib/dpkg.
func Machine(ctx context.Context) (Debian, error) {
	d, err := database(os.DirFS("/var/lib/dpkg"))
	d.ldd = func(program string) (string, error) {
		out, err := exec.CommandContext(ctx, "ldd", program).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("ldd %s: %w: %s", program, err, bytes.TrimSpace(out))
		}
		return string(out), nil
	}
	return d, err
}

// database reads info/NAME.list, or info/NAME:ARCH.list, and status.
func database(dpkg fs.FS) (Debian, error) {
	d := Debian{owners: map[string]string{}, files: map[string][]string{}, status: map[string]string{}}
	lists, err := fs.Glob(dpkg, "info/*.list")
	if err != nil {
		return d, err
	}
	for _, list := range lists {
		text, err := fs.ReadFile(dpkg, list)
		if err != nil {
			return d, err
		}
		name, _, _ := strings.Cut(strings.TrimSuffix(path.Base(list), ".list"), ":")
		d.files[name] = strings.Split(strings.TrimSpace(string(text)), "\n")
		for _, file := range d.files[name] {
			d.owners[clean(file)] = name // of directories, which many have, nobody asks
		}
	}
	text, err := fs.ReadFile(dpkg, "status")
	if err != nil {
		return d, fmt.Errorf("%w: images are made of Debian's packages: run this on Debian or one of its kin", err)
	}
	for _, paragraph := range strings.Split(string(text), "\n\n") {
		first, _, _ := strings.Cut(paragraph, "\n")
		if name, ok := strings.CutPrefix(first, "Package: "); ok {
			d.status[name] = strings.TrimSpace(paragraph) + "\n"
		}
	}
	return d, nil
}

// library is a line of ldd's output that names a file.
var library = regexp.MustCompile(`(?m)^\s*(?:\S+ => )?(/\S+) \(0x`)

// Program adds a program of this machine at its own path, the link if it is called by one, and its libraries.
func (t *Tree) Program(name string) error {
	file := name
	if !filepath.IsAbs(name) {
		found, err := exec.LookPath(name)
		if err != nil {
			return fmt.Errorf("%w: install the package that has it (apt-file search bin/%s)", err, name)
		}
		file = found
	}
	return t.follow(file)
}

// follow adds a file with what it links to and what it is linked with.
func (t *Tree) follow(file string) error {
	if t.Has(file) {
		return nil
	}
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(file)
		if err != nil {
			return err
		}
		t.Link(file, target)
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(file), target)
		}
		return t.follow(target)
	}
	if err := t.File(file, file); err != nil {
		return err
	}
	if err := t.own(file); err != nil {
		return err
	}
	return t.libraries(file)
}

// libraries adds the libraries of a program, if it is one that has any.
func (t *Tree) libraries(file string) error {
	f, err := elf.Open(file)
	if err != nil { // a script, or data
		return nil
	}
	dynamic := f.Section(".dynamic") != nil
	f.Close()
	if !dynamic {
		return nil
	}
	out, err := t.debs.ldd(file)
	if err != nil {
		if strings.Contains(err.Error(), "not a dynamic executable") {
			return nil
		}
		return err
	}
	if strings.Contains(out, "not found") {
		return fmt.Errorf("%s lacks a library on this machine: %s", file, strings.TrimSpace(out))
	}
	for _, m := range library.FindAllStringSubmatch(out, -1) {
		if err := t.follow(m[1]); err != nil {
			return fmt.Errorf("library of %s: %w", file, err)
		}
	}
	return nil
}

// own notes the package that a file belongs to, with its licence, so that scanners and readers know what the image holds.
// A file that no package has, such as a link of update-alternatives, is noted nowhere.
func (t *Tree) own(file string) error {
	name, ok := t.debs.owners[clean(file)]
	if !ok {
		return nil
	}
	return t.note(name)
}

func (t *Tree) note(pkg string) error {
	status := "/var/lib/dpkg/status.d/" + pkg
	if t.Has(status) {
		return nil
	}
	t.Text(status, t.debs.status[pkg], 0o644)
	licence := "/usr/share/doc/" + pkg + "/copyright"
	if _, err := os.Stat(licence); err == nil {
		return t.File(licence, licence)
	}
	return nil
}

// left are files of packages that no image needs.
var left = []string{"/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/lintian/", "/usr/share/bug/", "/usr/share/info/"}

// Package adds all files of an installed package with the libraries of its programs, but for documentation and for files
// under the given prefixes.
func (t *Tree) Package(name string, without ...string) error {
	files, ok := t.debs.files[name]
	if !ok {
		return fmt.Errorf("package %s is not installed: apt-get install %[1]s", name)
	}
	if err := t.note(name); err != nil {
		return err
	}
	without = append(slices.Clone(left), without...)
	for _, file := range files {
		if slices.ContainsFunc(without, func(p string) bool { return strings.HasPrefix(file, p) }) {
			continue
		}
		info, err := os.Lstat(file)
		if err != nil { // dpkg lists files that were diverted or removed by hand
			continue
		}
		if info.IsDir() {
			if key := clean(file); key != "" && !t.Has(file) {
				t.Dir(file, info.Mode().Perm())
			}
			continue
		}
		if err := t.follow(file); err != nil {
			return fmt.Errorf("package %s: %w", name, err)
		}
	}
	return nil
}
