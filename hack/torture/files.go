package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// file is what a file must hold: bytes that follow from a seed.
type file struct {
	seed uint64
	size int
}

func (f file) content() []byte {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], f.seed)
	b := make([]byte, f.size)
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// files is a tree of files and what it must hold.
type files struct {
	dir     string
	r       *rand.Rand
	want    map[string]file
	names   []string
	changes int
}

func newFiles(dir string, seed uint64) *files {
	return &files{dir: dir, r: rand.New(rand.NewPCG(seed, 1)), want: map[string]file{}}
}

func (f *files) bytes() (n int) {
	for _, w := range f.want {
		n += w.size
	}
	return n
}

// churn writes, replaces, renames, reads and removes files until stop is closed.
func (f *files) churn(stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		var err error
		switch k := f.r.IntN(10); {
		case len(f.names) < 20 || k < 4 && f.bytes() < 150<<20:
			err = f.write(fmt.Sprintf("d%d/f%d", f.r.IntN(20), f.changes))
		case k < 6:
			err = f.write(f.names[f.r.IntN(len(f.names))])
		case k == 6:
			err = f.rename()
		case k == 7 && f.bytes() > 100<<20:
			err = f.remove()
		default:
			err = f.check(f.names[f.r.IntN(len(f.names))])
		}
		if err != nil {
			return err
		}
		f.changes++
	}
}

func (f *files) path(name string) string { return filepath.Join(f.dir, name) }

// write makes or replaces a file; every other one is synced.
func (f *files) write(name string) error {
	w := file{f.r.Uint64(), f.r.IntN(1 << (8 + f.r.IntN(13)))}
	if err := os.MkdirAll(filepath.Dir(f.path(name)), 0o700); err != nil {
		return err
	}
	h, err := os.Create(f.path(name))
	if err != nil {
		return err
	}
	_, err = h.Write(w.content())
	if err == nil && f.r.IntN(2) == 0 {
		err = h.Sync()
	}
	if err = errors.Join(err, h.Close()); err != nil {
		return err
	}
	if _, ok := f.want[name]; !ok {
		f.names = append(f.names, name)
	}
	f.want[name] = w
	return nil
}

func (f *files) rename() error {
	i := f.r.IntN(len(f.names))
	from, to := f.names[i], fmt.Sprintf("d%d/r%d", f.r.IntN(20), f.changes)
	if err := os.MkdirAll(filepath.Dir(f.path(to)), 0o700); err != nil {
		return err
	}
	if err := os.Rename(f.path(from), f.path(to)); err != nil {
		return err
	}
	f.want[to], f.names[i] = f.want[from], to
	delete(f.want, from)
	return nil
}

func (f *files) remove() error {
	i := f.r.IntN(len(f.names))
	name := f.names[i]
	f.names[i] = f.names[len(f.names)-1]
	f.names = f.names[:len(f.names)-1]
	delete(f.want, name)
	return os.Remove(f.path(name))
}

func (f *files) check(name string) error {
	b, err := os.ReadFile(f.path(name))
	if err == nil && !bytes.Equal(b, f.want[name].content()) {
		err = fmt.Errorf("%s has wrong content", name)
	}
	return err
}

// verify checks that the tree holds what it must, no less and no more.
func (f *files) verify() error {
	seen := 0
	err := filepath.WalkDir(f.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(f.dir, path)
		if err != nil {
			return err
		}
		if _, ok := f.want[name]; !ok {
			return fmt.Errorf("%s should not be there", name)
		}
		seen++
		return f.check(name)
	})
	if err == nil && seen != len(f.want) {
		err = fmt.Errorf("%d files, there must be %d", seen, len(f.want))
	}
	return err
}
