package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"unsafe"
)

// exitUnhealthy and exitRefused are mynetwork's exit codes.
const (
	exitUnhealthy = 3
	exitRefused   = 5
)

func (d *demo) clone() (string, string, error) {
	if _, err := d.my("volume", "clone", volume, snapshot, copyName); err != nil {
		return "", "", err
	}
	device, err := d.attach(copyName, "n3")
	if err != nil {
		return "", "", err
	}
	note, err := d.verifyDevice(device)
	return device, note, err
}

// independent changes the clone and verifies that the volume it came from did not change.
func (d *demo) independent(device, clone string) (string, error) {
	if err := d.mountFS(clone); err != nil {
		return "", err
	}
	err := os.RemoveAll(filepath.Join(d.files(), "cmd"))
	if err = errors.Join(err, d.umountFS()); err != nil {
		return "", err
	}
	if _, err := d.my("volume", "detach", copyName); err != nil {
		return "", err
	}
	return d.verifyDevice(device)
}

func (d *demo) second() (string, error) {
	_, err := d.my("volume", "attach", volume, "--node", "n2")
	if codeOf(err) != exitRefused {
		return "", fmt.Errorf("attach to n2 while n1 serves ended with code %d, it must be refused: %v", codeOf(err), err)
	}
	return "refused", nil
}

// move takes the volume to n2. n1 does not know and goes on to believe that it has it.
func (d *demo) move() (string, string, error) {
	device, err := d.attach(volume, "n2", "--force")
	if err != nil {
		return "", "", err
	}
	note, err := d.verifyDevice(device)
	return device, note, err
}

// fenced reads from and writes to the former device, past every cache: both must fail with EIO. Then it is put away.
func (d *demo) fenced(device string) (string, error) {
	f, err := os.OpenFile(device, os.O_RDWR|syscall.O_DIRECT, 0)
	if err != nil {
		return "", err
	}
	page := aligned()
	_, werr := f.WriteAt(page, 512<<20)
	serr := f.Sync()
	_, rerr := f.ReadAt(page, 0)
	_ = f.Close()
	if werr == nil && serr == nil {
		return "", errors.New("a write and its fsync on the former device succeeded: it is not fenced")
	}
	for name, err := range map[string]error{"write": errors.Join(werr, serr), "read": rerr} {
		if !errors.Is(err, syscall.EIO) {
			return "", fmt.Errorf("%s on the former device: %v; it must be EIO", name, err)
		}
	}
	if _, err := d.my("volume", "detach", volume, "--node", "n1", "--force"); err != nil {
		return "", fmt.Errorf("put the former device away: %w", err)
	}
	return "write and read: input/output error; detached", nil
}

// aligned is a page for direct I/O.
func aligned() []byte {
	b := make([]byte, 8192)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & 4095
	return b[skip : skip+4096 : skip+4096]
}

// flips is how many places are spoiled.
const flips = 8

// flip inverts a bit in some pages of the data files of closed extents on n3's disk, and has fsck see them.
func (d *demo) flip() (string, error) {
	files, err := filepath.Glob(filepath.Join(d.net, "n3", "store", "ext", "*", "*.dat"))
	if err != nil {
		return "", err
	}
	files = slices.DeleteFunc(files, func(name string) bool {
		_, err := os.Stat(name[:len(name)-len("dat")] + "ftr") // only closed extents have a footer
		return err != nil
	})
	if len(files) == 0 {
		return "", errors.New("n3's store has no closed extents to spoil")
	}
	done := 0
	for try := 0; done < flips && try < 10000; try++ {
		ok, err := spoil(files[rand.IntN(len(files))])
		if err != nil {
			return "", err
		}
		if ok {
			done++
		}
	}
	if done == 0 {
		return "", errors.New("found no data to spoil in n3's store")
	}
	_, err = d.my("fsck", volume)
	if codeOf(err) != exitUnhealthy {
		return "", fmt.Errorf("fsck ended with code %d over %d spoiled pages, it must be %d: %v", codeOf(err), done, exitUnhealthy, err)
	}
	return fmt.Sprintf("%d pages spoiled, fsck sees it", done), nil
}

// spoil inverts one bit of a page of a file, unless the page is empty.
func spoil(name string) (bool, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() < 4096 {
		return false, err
	}
	page := make([]byte, 4096)
	off := rand.Int64N(st.Size()/4096) * 4096
	if _, err := f.ReadAt(page, off); err != nil {
		return false, err
	}
	i := rand.IntN(len(page))
	if page[i] == 0 {
		return false, nil
	}
	if _, err := f.WriteAt([]byte{page[i] ^ 1<<rand.IntN(8)}, off+int64(i)); err != nil {
		return false, err
	}
	return true, f.Sync()
}

// checked is what scrub and fsck print as JSON.
type checked struct {
	Bytes    int64   `json:"bytes"`
	Errors   int64   `json:"errors"`
	Repaired int64   `json:"repaired"`
	Seconds  float64 `json:"seconds"`
}

func (d *demo) check(args ...string) (c checked, err error) {
	out, err := d.my(append(args, "-o", "json")...)
	if jerr := json.Unmarshal([]byte(out), &c); jerr != nil && err == nil {
		err = fmt.Errorf("%v printed %q: %w", args, out, jerr)
	}
	return c, err
}

func (d *demo) scrub() (string, error) {
	var sum checked
	for _, v := range []string{volume, copyName} { // the clone shares extents with the volume
		c, err := d.check("volume", "scrub", v)
		if err != nil {
			return "", err
		}
		sum.Bytes, sum.Errors, sum.Repaired = sum.Bytes+c.Bytes, sum.Errors+c.Errors, sum.Repaired+c.Repaired
	}
	if sum.Repaired == 0 || sum.Repaired != sum.Errors {
		return "", fmt.Errorf("scrub found %d errors and repaired %d", sum.Errors, sum.Repaired)
	}
	return fmt.Sprintf("%d found, %d repaired in %d MB of replicas", sum.Errors, sum.Repaired, sum.Bytes/1e6), nil
}

func (d *demo) fsck() (string, error) {
	c, err := d.check("fsck")
	return fmt.Sprintf("%d MB, %d errors", c.Bytes/1e6, c.Errors), err
}

func (d *demo) e2fsck(device string) (string, error) {
	_, err := d.exec("e2fsck", "-f", "-n", device)
	return "clean", err
}

// offline loses the registry and checks the volumes from the disks alone.
func (d *demo) offline() (string, error) {
	if _, err := d.my("dev", "down"); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(d.net, "registry"), filepath.Join(d.dir, "lost")); err != nil {
		return "", err
	}
	defer os.RemoveAll(filepath.Join(d.dir, "lost"))
	if err := os.Mkdir(filepath.Join(d.net, "registry"), 0o700); err != nil {
		return "", err
	}
	c, err := d.check("fsck", "--offline", "--rebuild-registry")
	if err == nil && c.Bytes == 0 {
		err = errors.New("nothing was checked")
	}
	return fmt.Sprintf("registry lost and rebuilt, %d MB, %d errors", c.Bytes/1e6, c.Errors), err
}
