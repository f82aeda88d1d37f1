package disk

import (
	"io"
	"io/fs"
	"math/bits"
	"syscall"
)

const (
	memPage   = 4096
	memSector = 512
	// maxMemSize bounds a file's size, in bytes, against a wild offset.
	maxMemSize = 1 << 40
)

// slot is the place of one page in a file. Page contents are immutable unless owned.
type slot struct {
	cur, old *[memPage]byte // nil reads as zeros; old is what survives a crash
	dirty    uint8          // bit i: sector i of cur is not durable
	owned    bool           // cur belongs to this slot alone and may be written in place
	alloc    bool           // the page occupies space
}

// memData is the contents of a file.
type memData struct {
	size, oldSize int64 // bytes; oldSize is durable
	slots         []slot
	dirty         []int64 // indexes of slots that became dirty since they were last clean
	pages         int64   // slots with alloc set
}

func (d *memData) allocated() int64 { return d.pages * memPage }

func (d *memData) grow(slots int64) {
	if n := slots - int64(len(d.slots)); n > 0 {
		d.slots = append(d.slots, make([]slot, n)...)
	}
}

// mark notes the sectors that [from, to) of page i touches as not durable.
func (d *memData) mark(i int64, from, to int) {
	s := &d.slots[i]
	if s.dirty == 0 {
		d.dirty = append(d.dirty, i)
	}
	first, last := from/memSector, (to-1)/memSector
	s.dirty |= uint8(1<<(last+1)-1) &^ uint8(1<<first-1)
}

// write copies p to one page; nil p writes n zeros.
func (d *memData) write(i int64, from int, p []byte, n int) {
	s := &d.slots[i]
	if p == nil && s.cur == nil {
		return
	}
	if !s.owned {
		fresh := new([memPage]byte)
		if s.cur != nil {
			*fresh = *s.cur
		}
		s.cur, s.owned = fresh, true
	}
	if p == nil {
		clear(s.cur[from : from+n])
	} else {
		copy(s.cur[from:from+n], p)
	}
	d.mark(i, from, from+n)
}

// drop makes page i a hole.
func (d *memData) drop(i int64) {
	s := &d.slots[i]
	if s.cur != nil {
		s.cur, s.owned = nil, false
		d.mark(i, 0, memPage)
	}
	if s.alloc {
		s.alloc = false
		d.pages--
	}
}

// zero makes [off, end) zeros and frees the whole pages in it.
func (d *memData) zero(off, end int64) {
	end = min(end, int64(len(d.slots))*memPage)
	for off < end {
		i, from := off/memPage, int(off%memPage)
		n := int(min(int64(memPage-from), end-off))
		if n == memPage {
			d.drop(i)
		} else {
			d.write(i, from, nil, n)
		}
		off += int64(n)
	}
}

// setSize sets the size; what lies beyond a smaller one is gone.
func (d *memData) setSize(size int64) {
	if size < d.size {
		end := (d.size + memPage - 1) / memPage * memPage
		d.zero(size, max(end, int64(len(d.slots))*memPage))
	}
	d.size = size
}

// persist makes the sectors in mask of page i durable. All eight, or all that are dirty, share the page.
func (d *memData) persist(i int64, mask uint8) {
	s := &d.slots[i]
	mask &= s.dirty
	switch {
	case mask == 0:
		return
	case mask == s.dirty:
		s.old, s.owned = s.cur, false
	default:
		mixed := new([memPage]byte)
		if s.old != nil {
			*mixed = *s.old
		}
		for ; mask != 0; mask &= mask - 1 {
			at := bits.TrailingZeros8(mask) * memSector
			if s.cur != nil {
				copy(mixed[at:at+memSector], s.cur[at:])
			} else {
				clear(mixed[at : at+memSector])
			}
			s.dirty &^= uint8(1) << (at / memSector)
		}
		s.old = mixed
		return
	}
	s.dirty = 0
}

func (d *memData) sync() {
	for _, i := range d.dirty {
		d.persist(i, 0xff)
	}
	d.dirty = d.dirty[:0]
	d.oldSize = d.size
}

// forget makes what is dirty count as clean without being durable: what Linux does after a failed fsync.
func (d *memData) forget() {
	for _, i := range d.dirty {
		s := &d.slots[i]
		s.dirty, s.owned = 0, false
	}
	d.dirty = d.dirty[:0]
}

type memFile struct {
	m      *Mem
	n      *memNode
	name   string
	closed bool
}

// enter locks the file system, and leaves it locked unless it fails.
func (f *memFile) enter(op string, off, n int64) error {
	f.m.mu.Lock()
	var err error
	switch {
	case f.m.off:
		err = ErrPowerOff
	case f.closed:
		err = fs.ErrClosed
	case off < 0 || n < 0:
		err = fs.ErrInvalid
	case off > maxMemSize || n > maxMemSize-off:
		err = syscall.EFBIG
	default:
		return nil
	}
	f.m.mu.Unlock()
	return pathErr(op, f.name, err)
}

// take occupies pages [first, last), or fails with ENOSPC and takes none.
func (f *memFile) take(op string, first, last int64) error {
	d := &f.n.data
	need := int64(0)
	for i := first; i < last; i++ {
		if i >= int64(len(d.slots)) {
			need += last - i
			break
		}
		if !d.slots[i].alloc {
			need++
		}
	}
	if f.m.capacity > 0 && need > 0 && f.m.used+need*memPage > f.m.capacity {
		return pathErr(op, f.name, syscall.ENOSPC)
	}
	d.grow(last)
	for i := first; i < last; i++ {
		d.slots[i].alloc = true
	}
	d.pages += need
	f.m.used += need * memPage
	return nil
}

// ReadAt implements io.ReaderAt.
func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.enter("read", off, int64(len(p))); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	d := &f.n.data
	if off >= d.size && len(p) > 0 {
		return 0, io.EOF
	}
	want := len(p)
	p = p[:min(int64(want), d.size-off)]
	for done := 0; done < len(p); {
		i, from := (off+int64(done))/memPage, int(off+int64(done))%memPage
		n := min(memPage-from, len(p)-done)
		if i < int64(len(d.slots)) && d.slots[i].cur != nil {
			copy(p[done:done+n], d.slots[i].cur[from:])
		} else {
			clear(p[done : done+n])
		}
		done += n
	}
	if len(p) < want {
		return len(p), io.EOF
	}
	return len(p), nil
}

// WriteAt implements io.WriterAt. It writes all of p, or nothing for want of space.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.enter("write", off, int64(len(p))); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	d, end := &f.n.data, off+int64(len(p))
	if err := f.take("write", off/memPage, (end+memPage-1)/memPage); err != nil {
		return 0, err
	}
	for done := 0; done < len(p); {
		i, from := (off+int64(done))/memPage, int(off+int64(done))%memPage
		n := min(memPage-from, len(p)-done)
		d.write(i, from, p[done:done+n], n)
		done += n
	}
	d.size = max(d.size, end)
	return len(p), nil
}

// Sync implements File.
func (f *memFile) Sync() error {
	if err := f.enter("sync", 0, 0); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	if !f.m.lying {
		f.n.data.sync()
	}
	return nil
}

// loseDirty makes unsynced bytes readable but never durable, as a failed fsync does.
func (f *memFile) loseDirty() {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.data.forget()
}

// resize runs a change of the file's data and counts the space that it freed.
func (f *memFile) resize(fn func(d *memData)) {
	d := &f.n.data
	before := d.allocated()
	fn(d)
	f.m.used += d.allocated() - before
}

// Truncate implements File.
func (f *memFile) Truncate(size int64) error {
	if err := f.enter("truncate", 0, size); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	f.resize(func(d *memData) { d.setSize(size) })
	return nil
}

// Allocate implements File.
func (f *memFile) Allocate(size int64) error {
	if err := f.enter("allocate", 0, size); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	if err := f.take("allocate", 0, (size+memPage-1)/memPage); err != nil {
		return err
	}
	f.n.data.size = max(f.n.data.size, size)
	return nil
}

// PunchHole implements File.
func (f *memFile) PunchHole(off, n int64) error {
	if err := f.enter("punch", off, n); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	f.resize(func(d *memData) { d.zero(off, off+n) })
	return nil
}

// Size implements File.
func (f *memFile) Size() (int64, error) {
	if err := f.enter("size", 0, 0); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	return f.n.data.size, nil
}

// Close implements io.Closer.
func (f *memFile) Close() error {
	if err := f.enter("close", 0, 0); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	f.closed = true
	f.n.opens--
	if f.n.opens == 0 && !f.n.linked {
		f.m.used -= f.n.data.allocated()
	}
	return nil
}
