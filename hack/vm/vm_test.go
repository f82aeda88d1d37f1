package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mynetwork.io/mynetwork/hack/vm/plan"
)

// Only a machine that ran all programs to a good end, with tests, passes.
func TestJudge(t *testing.T) {
	const good = "noise\nvm: begins a\n=== RUN   TestX\n--- PASS: TestX (0.00s)\nPASS\nvm: ended a 0\nvm: begins b\n    --- PASS: TestY/z (1s)\r\nvm: ended b 0\nvm: done\n"
	p := plan.Plan{Programs: []plan.Program{{Name: "a"}, {Name: "b"}}}
	for name, c := range map[string]struct{ console, wrong string }{
		"good":             {good, ""},
		"nothing":          {"", "did not come to the end"},
		"no boot":          {"Kernel panic - not syncing\n", "did not come to the end"},
		"cut":              {good[:len(good)-len("vm: done\n")], "did not come to the end"},
		"a program failed": {strings.Replace(good, "ended b 0", "ended b 1", 1), "b failed"},
		"one did not run":  {good[:strings.Index(good, "vm: begins b")] + "vm: done\n", "b did not run"},
		"no test":          {strings.Replace(good, "--- PASS: TestX", "warning: no tests to run", 1), "a passed no test"},
		"a test skipped":   {strings.Replace(good, "PASS\n", "    --- SKIP: TestX/y (0.00s)\n", 1), "a skipped a test"},
		"no plan":          {"vm: failed: plan: no such file\n", "no such file"},
		"kernel bug":       {"[ 1.0] BUG: unable to handle page fault\n" + good, "the kernel complained"},
		"kernel warning":   {"[ 1.0] WARNING: CPU: 0 PID: 1 at block/x.c\n" + good, "the kernel complained"},
		"kernel warning 7": {"[ 1.0] WARNING: block/x.c:12 at f+0x1/0x2, CPU#0: a/1\n" + good, "the kernel complained"},
	} {
		err := judge(strings.NewReader(c.console), p)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v, want %q", name, err, c.wrong)
		}
	}
}

// The archive is what the kernel reads: members with headers of hexadecimal numbers, directories before what is in them, a trailer.
func TestArchive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	a, err := create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"init", "d/e/f", "d/g"} {
		if err := a.add(name, []byte(name+"!")); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for at := 0; at < len(b); {
		field := func(i int) int {
			n, err := strconv.ParseUint(string(b[at+6+8*i:][:8]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		if string(b[at:at+6]) != "070701" {
			t.Fatalf("at %d: no header", at)
		}
		mode, size, length := field(1), field(6), field(11)
		name := string(bytes.TrimRight(b[at+110:at+110+length], "\x00"))
		body := (at + 110 + length + 3) &^ 3
		got = append(got, fmt.Sprintf("%s %o %s", name, mode, b[body:body+size]))
		at = (body + size + 3) &^ 3
	}
	want := []string{"init 100755 init!", "d 40755 ", "d/e 40755 ", "d/e/f 100755 d/e/f!", "d/g 100755 d/g!", "TRAILER!!! 0 "}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Modules come after those that they depend on, whatever the file's name writes for an underscore; one that is part of the kernel is left out.
func TestModules(t *testing.T) {
	k := kernel{modules: t.TempDir()}
	for name, needs := range map[string]string{"fs/ext4/ext4": "mbcache,jbd2", "fs/mbcache": "", "fs/jbd2/jbd2": "crc32c-generic", "crypto/crc32c_generic": ""} {
		at := filepath.Join(k.modules, name+".ko")
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte("\x7fELF\x00license=GPL\x00depends="+needs+"\x00x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a, err := create(filepath.Join(t.TempDir(), "a"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.addModules(k, []string{"ext4", "fuse", "jbd2"})
	want := []string{"/modules/mbcache.ko", "/modules/crc32c_generic.ko", "/modules/jbd2.ko", "/modules/ext4.ko"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

// Both layouts of Debian's packages are found.
func TestFindKernel(t *testing.T) {
	for _, c := range []struct{ modules, image string }{
		{"usr/lib/modules/7.3.4/kernel", "usr/lib/modules/7.3.4/vmlinuz"},
		{"lib/modules/6.12/kernel", "boot/vmlinuz-6.12"},
	} {
		dir := t.TempDir()
		if _, err := findKernel(dir); err == nil {
			t.Error("a kernel in an empty directory")
		}
		if err := os.MkdirAll(filepath.Join(dir, c.modules), 0o755); err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(dir, c.image)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		k, err := findKernel(dir)
		if err != nil || filepath.Clean(k.image) != at || k.modules != filepath.Join(dir, c.modules) || k.release != filepath.Base(filepath.Dir(c.modules)) {
			t.Errorf("%+v, %v", k, err)
		}
	}
}
