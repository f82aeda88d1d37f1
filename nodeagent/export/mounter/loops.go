package mounter

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/loop"
)

// recordDir has the records, below the devices' directory. No device has a name with a dot at its beginning.
const recordDir = ".loops"

// recordVersion is that of a record; it only climbs.
const recordVersion = 1

// loopRecord says which loop device is bound to a device's file.
type loopRecord struct {
	Version  int
	Path     string
	Sequence uint64
}

func recordFile(at string) string {
	return filepath.Join(filepath.Dir(at), recordDir, filepath.Base(at))
}

// record notes the loop device of the mount at. It need not be durable: a loop device does not outlive the kernel.
func record(at string, b loop.Bound) error {
	raw, err := json.Marshal(loopRecord{Version: recordVersion, Path: b.Path, Sequence: b.Seq})
	if err != nil {
		return fmt.Errorf("record of a loop device: %w", err)
	}
	file := recordFile(at)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("directory of the records: %w", err)
	}
	fresh := filepath.Join(filepath.Dir(file), "."+filepath.Base(file))
	if err := os.WriteFile(fresh, raw, 0o600); err != nil {
		return fmt.Errorf("record of a loop device: %w", err)
	}
	if err := os.Rename(fresh, file); err != nil {
		return fmt.Errorf("record of a loop device: %w", err)
	}
	return nil
}

// forget removes the record.
func forget(at string) error {
	if err := os.Remove(recordFile(at)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("record of a loop device: %w", err)
	}
	return nil
}

// recorded gives the loop device of a record, if it is still bound as it was then. A record that cannot be read is none.
func recorded(at string) (loop.Bound, bool, error) {
	raw, err := os.ReadFile(recordFile(at))
	var r loopRecord
	if err != nil || json.Unmarshal(raw, &r) != nil || r.Version != recordVersion || r.Sequence == 0 {
		return loop.Bound{}, false, nil
	}
	b, err := loop.Look(r.Path)
	return b, err == nil && b.File != "" && b.Seq == r.Sequence, err
}

// confirmTime is how long the kernel may take to say what a loop device is bound to: whoever serves its file may be dead.
const confirmTime = time.Second

// bound gives the loop device of the mount at: the one that was recorded, or, if a process was killed before it recorded
// it, the one whose file the kernel shows there and has in this very mount. A path alone is no proof: what other mount
// namespaces have at the same path looks the same. The kernel is asked, which takes a look at every loop device, only where
// this process does not know that it bound none.
func (l *Local) bound(at string) ([]loop.Bound, error) {
	b, ok, err := recorded(at)
	if ok {
		return []loop.Bound{b}, nil
	}
	if err != nil {
		return nil, err
	}
	conn, err := fuse.ConnOf(at)
	if errors.Is(err, fuse.ErrNotMounted) {
		return nil, nil
	}
	if err != nil || l.isFree(at, conn) {
		return nil, err
	}
	list, err := l.scan(at)
	return slices.DeleteFunc(list, func(b loop.Bound) bool { return !onDevice(b, unix.Mkdev(0, conn)) }), err
}

// setFree notes that no loop device is bound to the mount at, which is that of a connection: this process made it, or has ended
// its loop device.
func (l *Local) setFree(at string, conn uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free[at] = conn
}

// setUsed is the opposite of setFree: for what may have a loop device from now on, or is not there any more.
func (l *Local) setUsed(at string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.free, at)
}

func (l *Local) isFree(at string, conn uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.free[at]
	return ok && c == conn
}

// onDevice tells whether a loop device's file is on a file system. If the kernel does not say in time, it does not count.
func onDevice(b loop.Bound, device uint64) bool {
	is := make(chan bool, 1)
	go func() {
		got, err := loop.FileSystem(b.Path)
		is <- err == nil && got == device
	}()
	select {
	case yes := <-is:
		return yes
	case <-time.After(confirmTime):
		return false
	}
}

// list gives the devices below a directory, by name.
func (l *Local) list(root string) ([]Found, error) {
	all := map[string]*Found{}
	at := func(mount string) *Found {
		name := filepath.Base(mount)
		if filepath.Dir(mount) != root || CheckName(name) != nil {
			return &Found{} // not one of ours
		}
		if all[name] == nil {
			all[name] = &Found{Name: name}
		}
		return all[name]
	}
	mounts, err := fuse.Mounts(root)
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		at(m.Dir).Conn = m.Conn
	}
	records, err := os.ReadDir(filepath.Join(root, recordDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("records of loop devices: %w", err)
	}
	for _, e := range records {
		if _, ok, err := recorded(filepath.Join(root, e.Name())); err == nil && ok {
			at(filepath.Join(root, e.Name()))
		}
	}
	for name, f := range all {
		loops, err := l.bound(filepath.Join(root, name))
		if err != nil {
			return nil, err
		}
		if len(loops) > 0 {
			f.Loop = loops[0].Path
		}
	}
	var out []Found
	for _, f := range all {
		out = append(out, *f)
	}
	slices.SortFunc(out, func(a, b Found) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// tidy removes the empty directories and the records of devices that have ended by themselves: one that was discarded while a
// file system was mounted from it ends with that. Nobody may mount meanwhile.
func (l *Local) tidy(root string) error {
	for _, dir := range []string{root, filepath.Join(root, recordDir)} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look for what has ended: %w", err)
		}
		for _, e := range entries {
			at := filepath.Join(root, e.Name())
			if CheckName(e.Name()) != nil {
				continue
			}
			if _, err := fuse.ConnOf(at); !errors.Is(err, fuse.ErrNotMounted) {
				continue
			}
			if list, err := l.bound(at); err != nil || len(list) > 0 {
				continue
			}
			if err := forget(at); err != nil {
				return err
			}
			_ = unix.Rmdir(at) // stays if it is not empty, or no directory
		}
	}
	return nil
}
