package rootfs

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// entry is one file, directory or link.
type entry struct {
	mode   fs.FileMode // of a directory, a regular file or a link, and its permissions
	target string      // of a link
	text   []byte      // of a regular file, if source is empty
	source string      // the file on this machine that holds the content
}

// Tree is the file system of an image.
type Tree struct {
	entries map[string]entry // by path without leading slash
	debs    Debian
}

// New is a tree with the directories and links that every image has.
func New(debs Debian) *Tree {
	t := &Tree{entries: map[string]entry{}, debs: debs}
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		t.entries[name] = entry{mode: fs.ModeSymlink | 0o777, target: "usr/" + name}
		t.Dir("/usr/"+name, 0o755)
	}
	for _, name := range []string{"/etc", "/proc", "/sys", "/dev", "/run", "/root", "/var/lib", "/var/tmp"} {
		t.Dir(name, 0o755)
	}
	t.Dir("/tmp", 0o777|fs.ModeSticky)
	t.entries["var/run"] = entry{mode: fs.ModeSymlink | 0o777, target: "../run"}
	return t
}

// clean is the key of a path: where the links of New lead it.
func clean(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		if rest, ok := strings.CutPrefix(name, link+"/"); ok {
			return "usr/" + link + "/" + rest
		}
	}
	return name
}

func (t *Tree) set(name string, e entry) {
	key := clean(name)
	for dir := path.Dir(key); dir != "."; dir = path.Dir(dir) {
		if _, ok := t.entries[dir]; !ok {
			t.entries[dir] = entry{mode: fs.ModeDir | 0o755}
		}
	}
	t.entries[key] = e
}

// Has tells whether the tree has the path.
func (t *Tree) Has(name string) bool {
	_, ok := t.entries[clean(name)]
	return ok
}

// Dir adds a directory.
func (t *Tree) Dir(name string, mode fs.FileMode) { t.set(name, entry{mode: fs.ModeDir | mode}) }

// Text adds a file with this content.
func (t *Tree) Text(name, text string, mode fs.FileMode) {
	t.set(name, entry{mode: mode, text: []byte(text)})
}

// Link adds a symbolic link.
func (t *Tree) Link(name, target string) {
	t.set(name, entry{mode: fs.ModeSymlink | 0o777, target: target})
}

// File adds a file of this machine under a name. Links are followed. Set-id bits are left out: whoever runs as root in a
// container needs none, and nobody else shall become root by one.
func (t *Tree) File(name, source string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", source)
	}
	t.set(name, entry{mode: info.Mode().Perm(), source: source})
	return nil
}

// Write writes the tree as a tar archive.
func (t *Tree) Write(w io.Writer) error {
	out := tar.NewWriter(w)
	for _, name := range t.Names() {
		if err := write(out, name, t.entries[name]); err != nil {
			return fmt.Errorf("/%s: %w", name, err)
		}
	}
	return out.Close()
}

// Names lists the tree's paths, sorted, without leading slash.
func (t *Tree) Names() []string {
	names := make([]string, 0, len(t.entries))
	for name := range t.entries {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func write(out *tar.Writer, name string, e entry) error {
	h := &tar.Header{Name: name, Mode: int64(e.mode.Perm()), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	if e.mode&fs.ModeSticky != 0 {
		h.Mode |= 0o1000
	}
	switch {
	case e.mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		return out.WriteHeader(h)
	case e.mode&fs.ModeSymlink != 0:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.target
		return out.WriteHeader(h)
	}
	text := e.text
	if e.source != "" {
		var err error
		if text, err = os.ReadFile(e.source); err != nil {
			return err
		}
	}
	h.Size = int64(len(text))
	if err := out.WriteHeader(h); err != nil {
		return err
	}
	_, err := out.Write(text)
	return err
}
