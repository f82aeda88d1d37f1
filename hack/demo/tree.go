package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// sum is a file's checksum.
type sum [sha256.Size]byte

// tree is the files of a directory with their checksums, by path.
type tree map[string]sum

// copyTree copies a tree's regular files and remembers the checksum of what it read. copied is told the bytes so far
// after each file.
func copyTree(from, to string, copied func(total int64) error) (tree, int64, error) {
	out := tree{}
	var total int64
	err := filepath.WalkDir(from, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case e.IsDir():
			return os.MkdirAll(target, 0o755)
		case !e.Type().IsRegular():
			return nil
		}
		s, n, err := copyFile(name, target)
		if err != nil {
			return err
		}
		out[rel], total = s, total+n
		return copied(total)
	})
	return out, total, err
}

func copyFile(from, to string) (s sum, n int64, err error) {
	in, err := os.Open(from)
	if err != nil {
		return s, 0, err
	}
	defer in.Close()
	f, err := os.Create(to)
	if err != nil {
		return s, 0, err
	}
	h := sha256.New()
	n, err = io.Copy(io.MultiWriter(f, h), in)
	copy(s[:], h.Sum(nil))
	return s, n, errors.Join(err, f.Close())
}

// verify reads every file of a directory and compares it with what must be there: nothing less, nothing more.
func (t tree) verify(dir string) (bytes int64, err error) {
	names := make([]string, 0, len(t))
	err = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		names = append(names, rel)
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if _, ok := t[name]; !ok {
			return 0, fmt.Errorf("%s should not be there", name)
		}
	}
	if len(names) != len(t) {
		return 0, fmt.Errorf("%d files, there must be %d", len(names), len(t))
	}
	slices.Sort(names)
	return t.compare(dir, names)
}

// compare reads the files on all processors.
func (t tree) compare(dir string, names []string) (int64, error) {
	var next, bytes atomic.Int64
	errs := make([]error, 2*runtime.NumCPU())
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for errs[i] == nil {
				k := int(next.Add(1)) - 1
				if k >= len(names) {
					return
				}
				got, n, err := checksum(filepath.Join(dir, names[k]))
				bytes.Add(n)
				if err == nil && got != t[names[k]] {
					err = fmt.Errorf("%s has wrong content", names[k])
				}
				errs[i] = err
			}
		})
	}
	wg.Wait()
	return bytes.Load(), errors.Join(errs...)
}

func checksum(name string) (s sum, n int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return s, 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err = io.Copy(h, f)
	copy(s[:], h.Sum(nil))
	return s, n, err
}
