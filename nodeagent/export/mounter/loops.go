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

// bound gives the loop devices of the mount at: those whose file the kernel shows there, and the one that was recorded.
func bound(at string) ([]loop.Bound, error) {
	out, err := loop.List(at)
	if err != nil {
		return nil, err
	}
	b, ok, err := recorded(at)
	if ok && !slices.Contains(out, b) {
		out = append(out, b)
	}
	return out, err
}

// list gives the devices below a directory, by name.
func list(root string) ([]Found, error) {
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
	bounds, err := loop.List(root)
	if err != nil {
		return nil, err
	}
	for _, b := range bounds {
		at(filepath.Dir(b.File)).Loop = b.Path
	}
	records, err := os.ReadDir(filepath.Join(root, recordDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("records of loop devices: %w", err)
	}
	for _, e := range records {
		if mount := filepath.Join(root, e.Name()); CheckName(e.Name()) == nil {
			b, ok, err := recorded(mount)
			if err != nil {
				return nil, err
			}
			if ok {
				at(mount).Loop = b.Path
			}
		}
	}
	var out []Found
	for _, f := range all {
		out = append(out, *f)
	}
	slices.SortFunc(out, func(a, b Found) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}
