// Package disktest is the conformance suite of disk.FS: what every implementation must do. It judges by return values
// only, so that a test can also require that a broken implementation is refused.
//
// What survives a crash is not part of it, because only a file system that can crash can be asked: see disk.Mem.
package disktest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/disk"
)

// Case is one demand. Check gets an empty file system with room for at least 4 MiB.
type Case struct {
	Name  string
	Check func(disk.FS) error
}

// Run demands every case of the file systems that fresh makes, one for each case.
func Run(t *testing.T, fresh func(t *testing.T) disk.FS) {
	t.Helper()
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			if err := c.Check(fresh(t)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Failures lists the names of the cases that file systems made by fresh do not satisfy.
func Failures(fresh func() disk.FS) []string {
	var out []string
	for _, c := range Cases() {
		if c.Check(fresh()) != nil {
			out = append(out, c.Name)
		}
	}
	return out
}

// Cases is the suite.
func Cases() []Case {
	return []Case{
		{"escape", checkEscape},
		{"create and open", checkCreate},
		{"bytes", checkBytes},
		{"holes read as zeros", checkHoles},
		{"truncate", checkTruncate},
		{"allocate", checkAllocate},
		{"punch hole", checkPunch},
		{"rename", checkRename},
		{"remove", checkRemove},
		{"directories", checkDirs},
		{"sync", checkSync},
		{"closed file", checkClosed},
		{"usage", checkUsage},
	}
}

func want(err, target error, what string) error {
	if !errors.Is(err, target) {
		return fmt.Errorf("%s: got %v, want %v", what, err, target)
	}
	return nil
}

func pattern(n int, seed byte) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7+i>>8) ^ seed | 1
	}
	return p
}

// expect requires the bytes at an offset.
func expect(f disk.File, off int64, p []byte) error {
	got := bytes.Repeat([]byte{0xEE}, len(p))
	if n, err := f.ReadAt(got, off); n != len(p) || err != nil && err != io.EOF {
		return fmt.Errorf("read %d bytes at %d: got %d, %w", len(p), off, n, err)
	}
	if !bytes.Equal(got, p) {
		return fmt.Errorf("read %d bytes at %d: other bytes than expected", len(p), off)
	}
	return nil
}

func expectSize(f disk.File, size int64) error {
	if n, err := f.Size(); n != size || err != nil {
		return fmt.Errorf("size: got %d, %v, want %d", n, err, size)
	}
	return nil
}

// file makes a file with contents.
func file(d disk.FS, name string, p []byte) (disk.File, error) {
	f, err := d.Create(name)
	if err != nil {
		return nil, err
	}
	if n, err := f.WriteAt(p, 0); n != len(p) || err != nil {
		return nil, fmt.Errorf("write: %d, %w", n, err)
	}
	return f, nil
}

func checkEscape(d disk.FS) error {
	for _, name := range []string{"", "/etc/passwd", "../x", "a/../../x", "a/./b", "a//b", "a/"} {
		_, errC := d.Create(name)
		_, errO := d.Open(name)
		_, errL := d.List(name)
		for i, err := range []error{errC, errO, errL, d.Remove(name), d.MkdirAll(name), d.SyncDir(name),
			d.Rename(name, "x"), d.Rename("x", name)} {
			if err := want(err, fs.ErrInvalid, fmt.Sprintf("name %q, operation %d", name, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkCreate(d disk.FS) error {
	_, err := d.Open("a")
	if err := want(err, fs.ErrNotExist, "open of nothing"); err != nil {
		return err
	}
	f, err := file(d, "a", []byte("hello"))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = d.Create("a")
	if err := want(err, fs.ErrExist, "create again"); err != nil {
		return err
	}
	_, err = d.Create("no/dir")
	if err := want(err, fs.ErrNotExist, "create in nothing"); err != nil {
		return err
	}
	g, err := d.Open("a")
	if err != nil {
		return err
	}
	defer g.Close()
	return errors.Join(expect(g, 0, []byte("hello")), expectSize(g, 5))
}

func checkBytes(d disk.FS) error {
	p := pattern(3*4096+123, 0x5a)
	f, err := file(d, "a", p)
	if err != nil {
		return err
	}
	defer f.Close()
	patch := pattern(1000, 0xc3)
	if _, err := f.WriteAt(patch, 4000); err != nil {
		return err
	}
	copy(p[4000:], patch)
	if err := errors.Join(expect(f, 0, p), expect(f, 4001, p[4001:9000]), expectSize(f, int64(len(p)))); err != nil {
		return err
	}
	n, err := f.ReadAt(make([]byte, 100), int64(len(p))-10)
	if n != 10 || err != io.EOF {
		return fmt.Errorf("read over the end: %d, %v", n, err)
	}
	if n, err := f.ReadAt(make([]byte, 1), int64(len(p))+5000); n != 0 || err != io.EOF {
		return fmt.Errorf("read beyond the end: %d, %v", n, err)
	}
	_, errR := f.ReadAt(make([]byte, 1), -1)
	_, errW := f.WriteAt(make([]byte, 1), -1)
	if errR == nil || errW == nil {
		return errors.New("a negative offset was taken")
	}
	return nil
}

func checkHoles(d disk.FS) error {
	f, err := file(d, "a", []byte{1})
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{2}, 20000); err != nil {
		return err
	}
	return errors.Join(expect(f, 1, make([]byte, 19999)), expect(f, 20000, []byte{2}), expectSize(f, 20001))
}

func checkTruncate(d disk.FS) error {
	p := pattern(10000, 1)
	f, err := file(d, "a", p)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(5000), expectSize(f, 5000), f.Truncate(9000), expectSize(f, 9000)); err != nil {
		return err
	}
	if f.Truncate(-1) == nil {
		return errors.New("a negative size was taken")
	}
	return errors.Join(expect(f, 0, p[:5000]), expect(f, 5000, make([]byte, 4000)))
}

func checkAllocate(d disk.FS) error {
	p := pattern(100, 1)
	f, err := file(d, "a", p)
	if err != nil {
		return err
	}
	defer f.Close()
	_, before, err := d.Usage()
	if err != nil {
		return err
	}
	err = errors.Join(f.Allocate(1<<20), expectSize(f, 1<<20), expect(f, 0, p), expect(f, 100, make([]byte, 1<<20-100)),
		f.Allocate(4096), expectSize(f, 1<<20))
	if err != nil {
		return err
	}
	if _, after, err := d.Usage(); err != nil || after == before {
		return fmt.Errorf("allocate took no space: %d, %v", after, err)
	}
	return nil
}

func checkPunch(d disk.FS) error {
	p := pattern(64<<10, 1)
	f, err := file(d, "a", p)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, h := range [][2]int64{{4096, 8192}, {20000, 5000}, {60 << 10, 1 << 20}, {100, 0}} {
		if err := f.PunchHole(h[0], h[1]); err != nil {
			return err
		}
		clear(p[h[0]:min(h[0]+h[1], int64(len(p)))])
	}
	return errors.Join(expect(f, 0, p), expectSize(f, int64(len(p))))
}

func checkRename(d disk.FS) error {
	a, errA := file(d, "a", []byte("new"))
	b, errB := file(d, "b", []byte("old"))
	if err := errors.Join(errA, errB, d.Rename("a", "b")); err != nil {
		return err
	}
	defer a.Close()
	defer b.Close()
	_, err := d.Open("a")
	if err := want(err, fs.ErrNotExist, "open of the old name"); err != nil {
		return err
	}
	f, err := d.Open("b")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := errors.Join(expect(f, 0, []byte("new")), expect(b, 0, []byte("old"))); err != nil {
		return fmt.Errorf("contents after rename: %w", err)
	}
	if err := errors.Join(d.MkdirAll("x/y"), d.Rename("b", "x/y/c"), d.Rename("x", "z")); err != nil {
		return err
	}
	names, err := d.List("z/y")
	if !slices.Equal(names, []string{"c"}) {
		return fmt.Errorf("names after renaming a directory: %v, %v", names, err)
	}
	return want(d.Rename("nothing", "b"), fs.ErrNotExist, "rename of nothing")
}

func checkRemove(d disk.FS) error {
	f, err := file(d, "a", []byte("x"))
	if err != nil {
		return err
	}
	if err := errors.Join(d.MkdirAll("d/e"), d.Remove("a"), expect(f, 0, []byte("x")), f.Close()); err != nil {
		return err
	}
	if d.Remove("d") == nil {
		return errors.New("a directory that is not empty was removed")
	}
	if err := errors.Join(d.Remove("d/e"), d.Remove("d")); err != nil {
		return err
	}
	names, err := d.List(".")
	if len(names) != 0 || err != nil {
		return fmt.Errorf("left over: %v, %v", names, err)
	}
	return want(d.Remove("a"), fs.ErrNotExist, "remove again")
}

func checkDirs(d disk.FS) error {
	if err := errors.Join(d.MkdirAll("."), d.MkdirAll("c/d"), d.MkdirAll("c/d"), d.MkdirAll("b")); err != nil {
		return err
	}
	f, err := d.Create("a")
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := d.List(".")
	if err != nil || !slices.Equal(names, []string{"a", "b", "c"}) {
		return fmt.Errorf("list: %v, %v", names, err)
	}
	if d.MkdirAll("a/x") == nil {
		return errors.New("a directory was made under a file")
	}
	if _, err := d.List("a"); err == nil {
		return errors.New("a file was listed")
	}
	if _, err := d.Open("b"); err == nil {
		return errors.New("a directory was opened as a file")
	}
	_, err = d.List("nothing")
	return errors.Join(want(err, fs.ErrNotExist, "list of nothing"), d.SyncDir("."), d.SyncDir("c/d"),
		want(d.SyncDir("nothing"), fs.ErrNotExist, "sync of nothing"))
}

func checkSync(d disk.FS) error {
	p := pattern(9000, 3)
	f, err := file(d, "a", p)
	if err != nil {
		return err
	}
	defer f.Close()
	patch := pattern(700, 9)
	if err := f.Sync(); err != nil {
		return err
	}
	if _, err := f.WriteAt(patch, 4000); err != nil {
		return err
	}
	copy(p[4000:], patch)
	return errors.Join(expect(f, 0, p), f.Sync(), expect(f, 0, p), f.Sync())
}

func checkClosed(d disk.FS) error {
	f, err := file(d, "a", []byte("x"))
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	_, errR := f.ReadAt(make([]byte, 1), 0)
	_, errW := f.WriteAt(make([]byte, 1), 0)
	_, errS := f.Size()
	for i, err := range []error{errR, errW, errS, f.Sync(), f.Truncate(0), f.Allocate(1), f.PunchHole(0, 1), f.Close()} {
		if err := want(err, fs.ErrClosed, fmt.Sprintf("closed file, operation %d", i)); err != nil {
			return err
		}
	}
	return nil
}

func checkUsage(d disk.FS) error {
	total, used, err := d.Usage()
	if err != nil || used < 0 || total != 0 && used > total {
		return fmt.Errorf("usage: %d of %d, %v", used, total, err)
	}
	return nil
}
