package disk

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// ErrPowerOff is what every operation gives on a Mem whose power is off.
var ErrPowerOff = errors.New("disk: power is off")

// Mem is a file system in memory that knows what is durable and can lose power. It has no randomness and no clock of
// its own: what a crash keeps is drawn from the caller's source, so that one seed gives one outcome.
//
// Names: each change of a directory is an operation that waits until SyncDir of a directory it touches. A crash keeps,
// for each set of operations that share names, a prefix of them. A rename is one operation: it is kept or lost whole.
//
// Bytes: a page is shared between the current and the durable state until it is written; each page knows which of its
// 512-byte sectors differ. A crash keeps or loses each unsynced sector, and each unsynced size, on its own.
//
// One lock guards all; a Mem is safe for concurrent use.
type Mem struct {
	mu       sync.Mutex
	root     *memNode
	pending  []*nameOp // changes of names that are not durable, oldest first
	capacity int64     // bytes; 0 is without limit
	used     int64     // bytes
	lying    bool
	off      bool
}

// memNode is a file or a directory.
type memNode struct {
	names   map[string]*memNode // directory: the current names; nil for a file
	durable map[string]*memNode // directory: the names that survive a crash
	data    memData             // file
	opens   int                 // file: open handles
	linked  bool                // file: it has a name
}

// nameOp is one change of names: one entry for create, mkdir and remove, two for rename.
type nameOp struct{ edits []nameEdit }

type nameEdit struct {
	dir  *memNode
	name string
	node *memNode // nil: the name is removed
}

var (
	_ FS   = (*Mem)(nil)
	_ File = (*memFile)(nil)
)

// NewMem makes an empty file system of a capacity in bytes; 0 is without limit.
func NewMem(capacity int64) *Mem {
	return &Mem{root: newDir(), capacity: capacity}
}

func newDir() *memNode {
	return &memNode{names: map[string]*memNode{}, durable: map[string]*memNode{}}
}

// IgnoreSync makes Sync and SyncDir report success and do nothing, as a lying disk does. It is the negative control of
// every test of durability. A crashed copy lies too.
func (m *Mem) IgnoreSync(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lying = on
}

// PowerOff makes every later operation, also on open files, fail with ErrPowerOff. Crash works before and after.
func (m *Mem) PowerOff() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.off = true
}

func pathErr(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// enter locks m, and leaves it locked unless it fails.
func (m *Mem) enter(op string, names ...string) error {
	for _, n := range names {
		if err := checkName(op, n); err != nil {
			return err
		}
	}
	m.mu.Lock()
	if m.off {
		m.mu.Unlock()
		return pathErr(op, strings.Join(names, " "), ErrPowerOff)
	}
	return nil
}

// walk finds the node of a name, or gives nil with the reason.
func (m *Mem) walk(name string) (*memNode, error) {
	n := m.root
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if n.names == nil {
			return nil, syscall.ENOTDIR
		}
		if n = n.names[part]; n == nil {
			return nil, fs.ErrNotExist
		}
	}
	return n, nil
}

// parent finds the directory that holds, or would hold, a name.
func (m *Mem) parent(name string) (dir *memNode, base string, err error) {
	if name == "." {
		return nil, "", fs.ErrInvalid
	}
	dir, err = m.walk(path.Dir(name))
	if err == nil && dir.names == nil {
		err = syscall.ENOTDIR
	}
	return dir, path.Base(name), err
}

// apply makes a change of names current, and notes it as not durable.
func (m *Mem) apply(edits ...nameEdit) {
	for _, e := range edits {
		setName(e.dir.names, e)
	}
	m.pending = append(m.pending, &nameOp{edits})
}

func setName(names map[string]*memNode, e nameEdit) {
	if e.node == nil {
		delete(names, e.name)
	} else {
		names[e.name] = e.node
	}
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	if err := m.enter("create", name); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	if _, err := m.walk(name); err == nil {
		return nil, pathErr("create", name, fs.ErrExist)
	}
	dir, base, err := m.parent(name)
	if err != nil {
		return nil, pathErr("create", name, err)
	}
	n := &memNode{opens: 1, linked: true}
	m.apply(nameEdit{dir, base, n})
	return &memFile{m: m, n: n, name: name}, nil
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) {
	if err := m.enter("open", name); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	n, err := m.walk(name)
	if err == nil && n.names != nil {
		err = syscall.EISDIR
	}
	if err != nil {
		return nil, pathErr("open", name, err)
	}
	n.opens++
	return &memFile{m: m, n: n, name: name}, nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	if err := m.enter("remove", name); err != nil {
		return err
	}
	defer m.mu.Unlock()
	n, err := m.walk(name)
	if err == nil && len(n.names) > 0 {
		err = syscall.ENOTEMPTY
	}
	if err != nil {
		return pathErr("remove", name, err)
	}
	dir, base, err := m.parent(name)
	if err != nil {
		return pathErr("remove", name, err)
	}
	m.apply(nameEdit{dir, base, nil})
	m.unlink(n)
	return nil
}

// unlink frees a file's space unless it is still open.
func (m *Mem) unlink(n *memNode) {
	n.linked = false
	if n.opens == 0 {
		m.used -= n.data.allocated()
	}
}

// Rename implements FS.
func (m *Mem) Rename(oldName, newName string) error {
	if err := m.enter("rename", oldName, newName); err != nil {
		return err
	}
	defer m.mu.Unlock()
	n, err := m.walk(oldName)
	if err != nil {
		return pathErr("rename", oldName, err)
	}
	from, fromBase, err := m.parent(oldName)
	if err != nil {
		return pathErr("rename", oldName, err)
	}
	to, toBase, err := m.parent(newName)
	if err != nil {
		return pathErr("rename", newName, err)
	}
	victim := to.names[toBase]
	switch {
	case victim == n:
		return nil
	case strings.HasPrefix(newName, oldName+"/"):
		return pathErr("rename", newName, fs.ErrInvalid)
	case victim != nil && victim.names != nil && n.names == nil:
		return pathErr("rename", newName, fs.ErrExist)
	case victim != nil && victim.names == nil && n.names != nil:
		return pathErr("rename", newName, syscall.ENOTDIR)
	case victim != nil && len(victim.names) > 0:
		return pathErr("rename", newName, syscall.ENOTEMPTY)
	}
	m.apply(nameEdit{from, fromBase, nil}, nameEdit{to, toBase, n})
	if victim != nil {
		m.unlink(victim)
	}
	return nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(name string) error {
	if err := m.enter("mkdir", name); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if name == "." {
		return nil
	}
	n := m.root
	for part := range strings.SplitSeq(name, "/") {
		if n.names == nil {
			return pathErr("mkdir", name, syscall.ENOTDIR)
		}
		if n.names[part] == nil {
			m.apply(nameEdit{n, part, newDir()})
		}
		n = n.names[part]
	}
	if n.names == nil {
		return pathErr("mkdir", name, syscall.ENOTDIR)
	}
	return nil
}

// List implements FS.
func (m *Mem) List(dir string) ([]string, error) {
	if err := m.enter("list", dir); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	n, err := m.walk(dir)
	if err == nil && n.names == nil {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathErr("list", dir, err)
	}
	return slices.Sorted(maps.Keys(n.names)), nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	if err := m.enter("syncdir", dir); err != nil {
		return err
	}
	defer m.mu.Unlock()
	n, err := m.walk(dir)
	if err == nil && n.names == nil {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return pathErr("syncdir", dir, err)
	}
	if !m.lying {
		m.syncNames(n)
	}
	return nil
}

// Usage implements FS. Space counts in whole pages of 4096 bytes; directories are free.
func (m *Mem) Usage() (total, used int64, err error) {
	if err := m.enter("usage"); err != nil {
		return 0, 0, err
	}
	defer m.mu.Unlock()
	return m.capacity, m.used, nil
}
