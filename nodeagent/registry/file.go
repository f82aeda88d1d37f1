package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

const (
	suffix   = ".json"
	lockName = "lock"
)

// File is the registry of one machine: a directory. The zero value is not usable: see OpenFile.
type File struct {
	dir string

	mu    sync.Mutex
	named map[string]block.VolumeID // where a live name was found last
}

var (
	_ Store = (*File)(nil)
	_ Namer = (*File)(nil)
)

// OpenFile opens the registry in a directory, which it makes if it is missing.
func OpenFile(dir string) (*File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	return &File{dir: dir, named: map[string]block.VolumeID{}}, nil
}

// Load implements volume.Registry. A deleted volume is ErrDeleted.
func (f *File) Load(v block.VolumeID) (volume.Fact, error) {
	r, err := f.Get(v)
	if err == nil && !r.Live() {
		err = fmt.Errorf("volume %q: %w", r.Name, ErrDeleted)
	}
	return r.Fact, err
}

// Swap implements volume.Registry.
func (f *File) Swap(v block.VolumeID, next volume.Fact) (string, error) {
	unlock, err := f.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	r, err := f.Get(v)
	if err != nil {
		return "", err
	}
	if !r.Live() {
		return "", fmt.Errorf("volume %q: %w", r.Name, ErrDeleted)
	}
	if r.Fact.Revision != next.Revision {
		return "", fmt.Errorf("volume %q is at revision %s, not %s: %w", r.Name, r.Fact.Revision, next.Revision, ErrConflict)
	}
	n, err := strconv.ParseUint(r.Fact.Revision, 10, 64)
	if err != nil {
		return "", fmt.Errorf("volume %q: revision: %w", r.Name, err)
	}
	next.Revision = strconv.FormatUint(n+1, 10)
	next.Epoch.Session = 0
	r.Fact = next
	return next.Revision, f.write(&r)
}

// Create implements Store.
func (f *File) Create(r Record) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	all, err := f.List()
	if err != nil {
		return fmt.Errorf("create volume %q: %w", r.Name, err)
	}
	r.Fact.Revision = "1"
	if err := CheckCreate(&r, all); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := f.write(&r); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.named[r.Name] = r.ID
	return nil
}

// Named implements Namer. What is remembered of a name is where to look first: the record that is read there says whether it is
// the name's still, and as a live name belongs to one volume there is no other one then. Else all are read.
func (f *File) Named(name string) (Record, error) {
	f.mu.Lock()
	id, known := f.named[name]
	f.mu.Unlock()
	if known {
		if r, err := f.Get(id); err == nil && r.Live() && r.Name == name {
			return r, nil
		}
	}
	all, err := f.List()
	named := map[string]block.VolumeID{}
	for i := range all {
		if all[i].Live() {
			named[all[i].Name] = all[i].ID
		}
	}
	f.mu.Lock()
	f.named = named
	f.mu.Unlock()
	return pick(name, all, err)
}

// Get implements Store.
func (f *File) Get(v block.VolumeID) (Record, error) {
	name := f.path(v)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, fmt.Errorf("volume %s: %w", v, ErrNotFound)
	}
	if err != nil {
		return Record{}, fmt.Errorf("volume %s: %w: %w", v, ErrCorrupt, err)
	}
	r, err := Decode(b)
	if err == nil && r.ID != v {
		err = fmt.Errorf("%w: it is volume %s", ErrCorrupt, r.ID)
	}
	if err != nil {
		return Record{}, fmt.Errorf("volume %s: %s: %w", v, name, err)
	}
	return r, nil
}

// List implements Store.
func (f *File) List() (out []Record, err error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok {
			continue
		}
		id, perr := block.ParseVolumeID(base)
		if perr != nil {
			err = errors.Join(err, fmt.Errorf("%s in the registry: %w: %w", e.Name(), ErrCorrupt, perr))
			continue
		}
		r, gerr := f.Get(id)
		if gerr != nil {
			err = errors.Join(err, gerr)
			continue
		}
		out = append(out, r)
	}
	return out, err
}

// Update implements Store.
func (f *File) Update(v block.VolumeID, change func(r *Record) error) (Record, error) {
	unlock, err := f.lock()
	if err != nil {
		return Record{}, err
	}
	defer unlock()
	before, err := f.Get(v)
	if err != nil {
		return Record{}, err
	}
	after := before.Clone()
	if err := change(&after); err != nil {
		return Record{}, err
	}
	err = CheckUpdate(&before, &after, func() ([]Record, error) {
		all, err := f.List()
		return ClonesOf(v, all), err
	})
	if err != nil {
		return Record{}, err
	}
	return after, f.write(&after)
}

func (f *File) path(v block.VolumeID) string { return filepath.Join(f.dir, v.String()+suffix) }

// lock takes the machine-wide lock. Each call opens the file anew, so it excludes goroutines as well as processes.
func (f *File) lock() (unlock func(), err error) {
	l, err := os.OpenFile(filepath.Join(f.dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("registry lock: %w", err)
	}
	for {
		err = unix.Flock(int(l.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("registry lock: %w", err)
	}
	return func() { l.Close() }, nil
}

// write replaces a record's file, durably. The caller has the lock.
func (f *File) write(r *Record) error {
	b, err := Encode(r)
	if err != nil {
		return err
	}
	if _, err := Decode(b); err != nil { // never write what cannot be read
		return fmt.Errorf("volume %q: %w", r.Name, err)
	}
	tmp := filepath.Join(f.dir, "."+r.ID.String()+".tmp")
	t, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write volume %q: %w", r.Name, err)
	}
	_, err = t.Write(b)
	if err = errors.Join(err, t.Sync(), t.Close()); err != nil {
		return fmt.Errorf("write volume %q: %w", r.Name, err)
	}
	if err := os.Rename(tmp, f.path(r.ID)); err != nil {
		return fmt.Errorf("write volume %q: %w", r.Name, err)
	}
	return syncDir(f.dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync the registry: %w", err)
	}
	return nil
}
