package disk

import (
	"io"
	"sync"
	"syscall"
)

// OpKind names an operation for a Plan.
type OpKind uint8

// The operations that a Plan is asked about.
const (
	OpCreate OpKind = iota + 1
	OpOpen
	OpRemove
	OpRename
	OpMkdir
	OpList
	OpSyncDir
	OpUsage
	OpRead
	OpWrite
	OpSync
	OpTruncate
	OpAllocate
	OpPunch
	OpSize
)

// String is the kind's name.
func (k OpKind) String() string {
	names := [...]string{"none", "create", "open", "remove", "rename", "mkdir", "list", "syncdir", "usage",
		"read", "write", "sync", "truncate", "allocate", "punch", "size"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// Op is an operation that is about to happen.
type Op struct {
	Kind OpKind
	Name string // of the file or directory, as it was opened
	To   string // the new name of a rename
	Off  int64  // bytes: of read, write and punch; the size of truncate and allocate
	Len  int64  // bytes: of read, write and punch
	N    uint64 // how many operations this Faults has seen, this one included
	Now  bool   // a read that must not wait: a Fault with a Wait fails it with ErrWouldWait, and Wait is not called
}

// Action says what a fault does to the bytes of a read or a write.
type Action uint8

// The actions. What a write reports is Fault.Err, success if that is nil, whatever lands.
const (
	// Pass does what was asked if Err is nil, else nothing.
	Pass Action = iota
	// Flip inverts bit At (counted from the first byte's lowest bit, modulo the length) of what is read or what lands.
	Flip
	// Zero replaces what is read, or what lands, by zeros.
	Zero
	// Short cuts a read or a write after At bytes: a read reports io.ErrUnexpectedEOF unless Err is set.
	Short
	// Lose drops a write; on a Sync, success is reported and nothing made durable.
	Lose
	// Misdirect makes a write land at offset At, or a read come from there.
	Misdirect
	// Torn lets land only the 512-byte sectors of the write whose bit is set in Mask (bit i modulo 64: sector i).
	Torn
	// Forget is for Sync: it fails (EIO unless Err is set) and what was unsynced stays readable, but a later Sync that
	// succeeds does not make it durable. That is Linux after a failed fsync. It needs a file of Mem.
	Forget
)

// Fault is what happens instead of an operation. The zero value is no fault.
type Fault struct {
	Err    error
	Action Action
	At     int64
	Mask   uint64
	// Wait, if not nil, runs before the operation, without any lock: it blocks until a stuck operation is released, or
	// moves a simulator's clock.
	Wait func()
}

// Plan decides about each operation. Calls are serialised, in the order in which operations arrive.
type Plan func(Op) Fault

// Faults is an FS that injects the faults of a plan into another FS.
type Faults struct {
	fs FS

	mu   sync.Mutex
	plan Plan
	n    uint64
}

var (
	_ FS     = (*Faults)(nil)
	_ File   = (*faultFile)(nil)
	_ Prompt = (*faultFile)(nil)
)

// NewFaults decorates fs. A nil plan injects nothing.
func NewFaults(fs FS, plan Plan) *Faults { return &Faults{fs: fs, plan: plan} }

// SetPlan replaces the plan, also for files that are open.
func (f *Faults) SetPlan(plan Plan) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan = plan
}

// ask gets the plan's decision, and waits if it says so.
func (f *Faults) ask(op Op) Fault {
	f.mu.Lock()
	f.n++
	op.N = f.n
	var out Fault
	if f.plan != nil {
		out = f.plan(op)
	}
	f.mu.Unlock()
	if out.Wait != nil {
		if op.Now {
			return Fault{Err: ErrWouldWait}
		}
		out.Wait()
	}
	return out
}

func (f *Faults) file(kind OpKind, name string, open func(string) (File, error)) (File, error) {
	if ft := f.ask(Op{Kind: kind, Name: name}); ft.Err != nil {
		return nil, pathErr(kind.String(), name, ft.Err)
	}
	inner, err := open(name)
	if err != nil {
		return nil, err
	}
	return &faultFile{fs: f, name: name, File: inner}, nil
}

func (f *Faults) do(op Op, run func() error) error {
	if ft := f.ask(op); ft.Err != nil {
		return pathErr(op.Kind.String(), op.Name, ft.Err)
	} else if ft.Action == Lose {
		return nil
	}
	return run()
}

// Create implements FS.
func (f *Faults) Create(name string) (File, error) { return f.file(OpCreate, name, f.fs.Create) }

// Open implements FS.
func (f *Faults) Open(name string) (File, error) { return f.file(OpOpen, name, f.fs.Open) }

// Remove implements FS.
func (f *Faults) Remove(name string) error {
	return f.do(Op{Kind: OpRemove, Name: name}, func() error { return f.fs.Remove(name) })
}

// Rename implements FS.
func (f *Faults) Rename(oldName, newName string) error {
	return f.do(Op{Kind: OpRename, Name: oldName, To: newName}, func() error { return f.fs.Rename(oldName, newName) })
}

// MkdirAll implements FS.
func (f *Faults) MkdirAll(name string) error {
	return f.do(Op{Kind: OpMkdir, Name: name}, func() error { return f.fs.MkdirAll(name) })
}

// List implements FS.
func (f *Faults) List(dir string) (names []string, err error) {
	err = f.do(Op{Kind: OpList, Name: dir}, func() error { names, err = f.fs.List(dir); return err })
	return names, err
}

// SyncDir implements FS.
func (f *Faults) SyncDir(dir string) error {
	return f.do(Op{Kind: OpSyncDir, Name: dir}, func() error { return f.fs.SyncDir(dir) })
}

// Usage implements FS.
func (f *Faults) Usage() (total, used int64, err error) {
	err = f.do(Op{Kind: OpUsage, Name: "."}, func() error { total, used, err = f.fs.Usage(); return err })
	return total, used, err
}

type faultFile struct {
	File
	fs   *Faults
	name string
}

func flip(p []byte, bit int64) {
	if len(p) > 0 {
		i := uint64(bit) % (uint64(len(p)) * 8)
		p[i/8] ^= 1 << (i % 8)
	}
}

// ReadAt implements io.ReaderAt.
func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	return f.read(p, off, f.fs.ask(Op{Kind: OpRead, Name: f.name, Off: off, Len: int64(len(p))}))
}

// ReadNow implements Prompt.
func (f *faultFile) ReadNow(p []byte, off int64) (int, error) {
	ft := f.fs.ask(Op{Kind: OpRead, Name: f.name, Off: off, Len: int64(len(p)), Now: true})
	if ft.Err == nil && ft.Action == Pass {
		return ReadNow(f.File, p, off)
	}
	return f.read(p, off, ft)
}

// read is ReadAt under a fault.
func (f *faultFile) read(p []byte, off int64, ft Fault) (int, error) {
	if ft.Err != nil && ft.Action != Short {
		return 0, pathErr("read", f.name, ft.Err)
	}
	switch ft.Action {
	case Misdirect:
		return f.File.ReadAt(p, ft.At)
	case Short:
		n, err := f.File.ReadAt(p[:min(ft.At, int64(len(p)))], off)
		if err == nil {
			if err = ft.Err; err == nil {
				err = io.ErrUnexpectedEOF
			}
			err = pathErr("read", f.name, err)
		}
		return n, err
	}
	n, err := f.File.ReadAt(p, off)
	switch ft.Action {
	case Flip:
		flip(p[:n], ft.At)
	case Zero:
		clear(p[:n])
	}
	return n, err
}

// WriteAt implements io.WriterAt.
func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	ft := f.fs.ask(Op{Kind: OpWrite, Name: f.name, Off: off, Len: int64(len(p))})
	if ft.Action == Pass && ft.Err == nil {
		return f.File.WriteAt(p, off)
	}
	if err := f.land(ft, p, off); err != nil {
		return 0, err
	}
	if ft.Err != nil {
		return 0, pathErr("write", f.name, ft.Err)
	}
	return len(p), nil
}

// land writes what a fault lets through.
func (f *faultFile) land(ft Fault, p []byte, off int64) error {
	var err error
	switch ft.Action {
	case Flip:
		p = append([]byte(nil), p...)
		flip(p, ft.At)
		_, err = f.File.WriteAt(p, off)
	case Zero:
		_, err = f.File.WriteAt(make([]byte, len(p)), off)
	case Short:
		_, err = f.File.WriteAt(p[:min(ft.At, int64(len(p)))], off)
	case Misdirect:
		_, err = f.File.WriteAt(p, ft.At)
	case Torn:
		// Sectors are those of the file, not of the buffer.
		for i := 0; len(p) > 0 && err == nil; i++ {
			n := min(memSector-int(off%memSector), len(p))
			if ft.Mask>>(i%64)&1 == 1 {
				_, err = f.File.WriteAt(p[:n], off)
			}
			p, off = p[n:], off+int64(n)
		}
	}
	return err
}

func (f *faultFile) do(op Op, run func() error) error {
	op.Name = f.name
	return f.fs.do(op, run)
}

// Sync implements File.
func (f *faultFile) Sync() error {
	ft := f.fs.ask(Op{Kind: OpSync, Name: f.name})
	if ft.Action == Forget {
		if l, ok := f.File.(interface{ loseDirty() }); ok {
			l.loseDirty()
		}
		if ft.Err == nil {
			ft.Err = syscall.EIO
		}
	}
	if ft.Err != nil {
		return pathErr("sync", f.name, ft.Err)
	}
	if ft.Action == Lose {
		return nil
	}
	return f.File.Sync()
}

// Truncate implements File.
func (f *faultFile) Truncate(size int64) error {
	return f.do(Op{Kind: OpTruncate, Off: size}, func() error { return f.File.Truncate(size) })
}

// Allocate implements File.
func (f *faultFile) Allocate(size int64) error {
	return f.do(Op{Kind: OpAllocate, Off: size}, func() error { return f.File.Allocate(size) })
}

// PunchHole implements File.
func (f *faultFile) PunchHole(off, n int64) error {
	return f.do(Op{Kind: OpPunch, Off: off, Len: n}, func() error { return f.File.PunchHole(off, n) })
}

// Size implements File.
func (f *faultFile) Size() (n int64, err error) {
	err = f.do(Op{Kind: OpSize}, func() error { n, err = f.File.Size(); return err })
	return n, err
}
