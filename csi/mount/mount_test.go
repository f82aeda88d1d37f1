package mount

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRelative(t *testing.T) {
	for path, want := range map[string]string{
		"/k/pods/1/mount":                  "pods/1/mount",
		"/k/a":                             "a",
		"/k":                               "",
		"/k/":                              "",
		"/":                                "",
		"":                                 "",
		"k/a":                              "",
		"/kk/a":                            "",
		"/k/../etc/shadow":                 "",
		"/k/a/../../etc":                   "",
		"/k/a/./b":                         "",
		"/k/a//b":                          "",
		"/k/a/":                            "",
		"/k/a\x00b":                        "",
		"/k/" + strings.Repeat("a/", 4096): "",
	} {
		got, err := Relative("/k", path)
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, ErrPath) {
			t.Errorf("Relative(%.40q) = %q, %v; want %q", path, got, err, want)
		}
	}
}

// TestSymlinks: no link below the root is followed, in a directory or at the end.
func TestSymlinks(t *testing.T) {
	base := t.TempDir()
	root, outside := filepath.Join(base, "root"), filepath.Join(base, "outside")
	for _, d := range []string{root, outside, filepath.Join(root, "real"), filepath.Join(outside, "keep")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"out": outside, "up": "..", "in": "real", "end": filepath.Join(outside, "keep")} {
		if err := os.Symlink(to, filepath.Join(root, from)); err != nil {
			t.Fatal(err)
		}
	}
	// The root itself may be reached by a link: it is the administrator's.
	link := filepath.Join(base, "link")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	m, err := New(link, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"out/keep", "up/outside/keep", "in/x"} {
		if err := m.Unmount(link+"/"+path, true); !errors.Is(err, ErrPath) {
			t.Errorf("Unmount(%s) = %v, want ErrPath", path, err)
		}
	}
	if err := m.Unmount(link+"/end", true); err == nil {
		t.Error("a link was removed as if it were a target")
	}
	if _, err := os.Stat(filepath.Join(outside, "keep")); err != nil {
		t.Errorf("something outside the root was touched: %v", err)
	}
	if err := m.Unmount(link+"/real", true); err != nil { // control: without a link it works
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root, "real")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the empty target was not removed: %v", err)
	}
}

// TestRemove: only what is empty goes, and nothing below it.
func TestRemove(t *testing.T) {
	root := t.TempDir()
	m, err := New(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("full/data", "precious")
	write("file", "precious")
	write("empty", "")
	for name, ok := range map[string]bool{"full": false, "file": false, "empty": true, "gone": true, "no/such/directory": true} {
		if err := m.Unmount(filepath.Join(root, name), true); (err == nil) != ok {
			t.Errorf("Unmount(%s) = %v, want success %t", name, err, ok)
		}
	}
	for _, name := range []string{"full/data", "file"} {
		if b, err := os.ReadFile(filepath.Join(root, name)); string(b) != "precious" {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
	}
}

func TestOptions(t *testing.T) {
	o, err := parseOptions([]string{"noatime,nodev", "discard", `context="system_u:object_r:container_file_t:s0:c1,c2"`, "data=ordered", "rw", "x-systemd.automount", ""})
	if err != nil {
		t.Fatal(err)
	}
	want := options{attributes: unix.MOUNT_ATTR_NOATIME | unix.MOUNT_ATTR_NODEV, flags: []string{"discard"},
		values: [][2]string{{"context", "system_u:object_r:container_file_t:s0:c1,c2"}, {"data", "ordered"}}}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("got %+v\nwant %+v", o, want)
	}
	for _, bad := range []string{"bind", "remount", "rshared", "loop=/dev/loop0", "source=/dev/sda", "journal_path=/dev/sda", "a\nb", "noatime,bind"} {
		if err := CheckOptions([]string{bad}); !errors.Is(err, ErrOption) {
			t.Errorf("option %q: %v, want ErrOption", bad, err)
		}
	}
}

func TestParseLine(t *testing.T) {
	for line, want := range map[string]entry{
		`36 35 7:1 / /k/a\040b rw,noatime shared:1 master:2 - ext4 /dev/loop1 rw,errors=continue`: {device: unix.Mkdev(7, 1), root: "/", path: "/k/a b", fs: "ext4"},
		`36 35 0:5 /loop7 /k/dev ro,nosuid - devtmpfs devtmpfs rw,size=4k`:                        {device: unix.Mkdev(0, 5), root: "/loop7", path: "/k/dev", fs: "devtmpfs", readOnly: true},
		`36 35 7:1 / /k/x rw - xfs /dev/loop1 ro`:                                                 {device: unix.Mkdev(7, 1), root: "/", path: "/k/x", fs: "xfs", readOnly: true},
	} {
		if got, ok := parseLine(line); !ok || got != want {
			t.Errorf("parseLine(%q) = %+v, %t; want %+v", line, got, ok, want)
		}
	}
	for _, bad := range []string{"", "36 35 7:1 /", "36 35 x:y / /k rw - ext4 a rw", "a - b"} {
		if _, ok := parseLine(bad); ok {
			t.Errorf("parseLine(%q) took it", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`36 35 7:1 / /k/a\040b rw - ext4 /dev/loop1 rw`)
	f.Fuzz(func(t *testing.T, s string) {
		parseLine(s)
		_, _ = parseOptions([]string{s})
		_, _ = Relative("/k", s)
	})
}

// TestMark: a mark is known again, and nothing else is taken for one.
func TestMark(t *testing.T) {
	const size = 64 << 20
	good := markOf(XFS, size)
	if !isMark(good, size) {
		t.Error("a mark is not known again")
	}
	if isMark(good, size+page) || isMark(make([]byte, page), size) {
		t.Error("the mark of another device, or none, is taken for one")
	}
	for i := range good {
		good[i] ^= 1
		if isMark(good, size) {
			t.Fatalf("a mark with byte %d changed is taken for one", i)
		}
		good[i] ^= 1
	}
}
