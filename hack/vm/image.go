package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// archive writes a cpio archive in the format "newc", of which the kernel makes its first file system
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	f    *os.File
	ino  int
	dirs map[string]bool
}

const (
	modeDir  = 0o040755
	modeFile = 0o100755
	trailer  = "TRAILER!!!"
)

func create(file string) (*archive, error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	return &archive{f: f, dirs: map[string]bool{".": true, "/": true}}, nil
}

func (a *archive) close() error {
	return errors.Join(a.put(trailer, 0, nil), a.f.Close())
}

// put writes one member.
func (a *archive) put(name string, mode int, body []byte) error {
	a.ino++
	var b bytes.Buffer
	fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.ino, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name)+1, 0, name)
	pad(&b)
	b.Write(body)
	pad(&b)
	_, err := a.f.Write(b.Bytes())
	return err
}

// pad fills up to the next multiple of four, from which each member starts.
func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}

// add writes a file and the directories above it.
func (a *archive) add(name string, body []byte) error {
	if err := a.mkdir(path.Dir(name)); err != nil {
		return err
	}
	return a.put(name, modeFile, body)
}

func (a *archive) mkdir(name string) error {
	if a.dirs[name] {
		return nil
	}
	a.dirs[name] = true
	if err := a.mkdir(path.Dir(name)); err != nil {
		return err
	}
	return a.put(name, modeDir, nil)
}

func (a *archive) copy(name, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return a.add(name, b)
}

func (a *archive) json(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.add(name, b)
}

// addTool adds a program of this machine and the libraries that it is linked with, under their own paths.
func (a *archive) addTool(name string) error {
	file, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("a tool for the machine: %w", err)
	}
	if err := a.copy("bin/"+name, file); err != nil {
		return err
	}
	out, err := exec.Command("ldd", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("libraries of %s: %w\n%s", file, err, out)
	}
	for _, lib := range regexp.MustCompile(`/\S+`).FindAllString(string(out), -1) {
		at := strings.TrimPrefix(lib, "/")
		if a.dirs[at] || strings.HasSuffix(lib, ":") {
			continue
		}
		a.dirs[at] = true // not a directory: taken along
		if err := a.copy(at, lib); err != nil {
			return err
		}
	}
	return nil
}

// addModules adds modules with those that they depend on and gives their paths in the order to load them in. A module that is not
// there is part of the kernel.
func (a *archive) addModules(k kernel, names []string) ([]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(k.modules, func(at string, d fs.DirEntry, err error) error {
		if name, _, ok := strings.Cut(filepath.Base(at), ".ko"); ok && !d.IsDir() {
			files[strings.ReplaceAll(name, "-", "_")] = at
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var order []string
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = strings.ReplaceAll(name, "-", "_")
		file := files[name]
		if seen[name] || file == "" {
			return nil
		}
		seen[name] = true
		b, err := unpack(file)
		if err != nil {
			return err
		}
		for _, need := range depends(b) {
			if err := add(need); err != nil {
				return err
			}
		}
		at := "modules/" + name + ".ko"
		order = append(order, "/"+at)
		return a.add(at, b)
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// depends reads the names of other modules from a module's own description.
func depends(module []byte) []string {
	m := regexp.MustCompile(`\x00depends=([^\x00]*)\x00`).FindSubmatch(module)
	if m == nil || len(m[1]) == 0 {
		return nil
	}
	return strings.Split(string(m[1]), ",")
}

// unpack gives a module's bytes.
func unpack(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !strings.HasSuffix(file, ".xz") {
		return io.ReadAll(f)
	}
	cmd := exec.Command("xz", "-dc")
	cmd.Stdin = f
	b, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("unpack %s with xz: %w", file, err)
	}
	return b, nil
}
