package rootfs

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// dpkg is the database of a machine with one library and one program.
func dpkg() fstest.MapFS {
	return fstest.MapFS{
		"info/prog.list":       {Data: []byte("/.\n/bin\n/bin/prog\n/usr/share/doc/prog/README\n")},
		"info/libx:amd64.list": {Data: []byte("/lib/libx.so.1\n")},
		"status":               {Data: []byte("Package: prog\nVersion: 1\n\nPackage: libx\nVersion: 2\n")},
	}
}

func written(t *testing.T, tree *Tree) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tree.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// read lists an archive: name to what it says beside its content.
func read(t *testing.T, archive []byte) map[string]*tar.Header {
	t.Helper()
	out := map[string]*tar.Header{}
	for in := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = h
	}
}

func TestLayerTellsNothingOfItsMaking(t *testing.T) {
	layer := func(when time.Time, reverse bool) []byte {
		dir := t.TempDir()
		tree := New(Debian{})
		names := []string{"a", "b", "z"}
		if reverse {
			slices.Reverse(names)
		}
		for _, n := range names {
			f := filepath.Join(dir, n)
			if err := errors.Join(os.WriteFile(f, []byte(n), 0o640), os.Chtimes(f, when, when), tree.File("/data/"+n, f)); err != nil {
				t.Fatal(err)
			}
		}
		return written(t, tree)
	}
	first, second := layer(time.Unix(1, 0), false), layer(time.Unix(1e9, 0), true)
	if !bytes.Equal(first, second) {
		t.Error("the same files, added at another time in another order, make another layer")
	}
	headers := read(t, first)
	for _, h := range headers {
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.ModTime.Unix() != 0 {
			t.Errorf("%s tells of its maker: %+v", h.Name, h)
		}
	}
	if h := headers["data/a"]; h == nil || h.Mode != 0o640 {
		t.Errorf("data/a: %+v", h)
	}
	if h := headers["data/"]; h == nil || h.Mode != 0o755 {
		t.Errorf("the directory above was not made: %+v", h)
	}
}

func TestPathsGoWhereLinksLead(t *testing.T) {
	tree := New(Debian{})
	tree.Text("/bin/x", "1", 0o755)
	tree.Text("/usr/bin/y", "2", 0o755)
	tree.Text("lib/../sbin/z", "3", 0o755)
	got := slices.Sorted(maps.Keys(read(t, written(t, tree))))
	for _, want := range []string{"bin", "usr/bin/x", "usr/bin/y", "usr/sbin/z", "tmp/"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %v", want, got)
		}
	}
	for _, bad := range []string{"bin/x", "sbin/z"} {
		if slices.Contains(got, bad) {
			t.Errorf("%s lies behind a link: unpacking would fail", bad)
		}
	}
}

func TestSetIDIsLeftOut(t *testing.T) {
	f := filepath.Join(t.TempDir(), "su")
	if err := errors.Join(os.WriteFile(f, nil, 0o755), os.Chmod(f, 0o755|fs.ModeSetuid)); err != nil {
		t.Fatal(err)
	}
	tree := New(Debian{})
	if err := tree.File("/bin/su", f); err != nil {
		t.Fatal(err)
	}
	if h := read(t, written(t, tree))["usr/bin/su"]; h.Mode != 0o755 {
		t.Errorf("mode %o", h.Mode)
	}
}

func TestDatabase(t *testing.T) {
	d, err := database(dpkg())
	if err != nil {
		t.Fatal(err)
	}
	if d.owners["usr/bin/prog"] != "prog" || d.owners["usr/lib/libx.so.1"] != "libx" {
		t.Errorf("owners %v", d.owners)
	}
	if d.status["libx"] != "Package: libx\nVersion: 2\n" {
		t.Errorf("status %q", d.status)
	}
	if _, err := database(fstest.MapFS{}); err == nil {
		t.Error("a machine without dpkg: no error")
	}
	if err := New(d).Package("absent"); err == nil || !strings.Contains(err.Error(), "apt-get install absent") {
		t.Errorf("a package that is not installed: %v, want what to do", err)
	}
}

// TestProgramBringsItsLibraries takes the test's own machine: ls is linked with libc on every Debian.
func TestProgramBringsItsLibraries(t *testing.T) {
	debs, err := Machine(t.Context())
	if err != nil {
		t.Skip("not on Debian:", err)
	}
	tree := New(debs)
	if err := tree.Program("ls"); err != nil {
		t.Fatal(err)
	}
	var libc, linker bool
	for _, name := range tree.Names() {
		libc = libc || strings.HasSuffix(name, "/libc.so.6")
		linker = linker || strings.Contains(name, "/ld-linux")
	}
	if !libc || !linker || !tree.Has("/usr/bin/ls") || !tree.Has("/var/lib/dpkg/status.d/coreutils") {
		t.Errorf("libc %t, linker %t, in %v", libc, linker, tree.Names())
	}
	if err := tree.Program("no-such-program"); err == nil {
		t.Error("a program that is not there: no error")
	}
	// A library that is missing must stop the build, not the first container.
	debs.ldd = func(string) (string, error) { return "\tlibgone.so => not found\n", nil }
	if err := New(debs).Program("ls"); err == nil || !strings.Contains(err.Error(), "libgone.so") {
		t.Errorf("a missing library: %v", err)
	}
}
