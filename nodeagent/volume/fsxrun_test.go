package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// fsxVolume is a volume with its model.
type fsxVolume struct {
	fsxModel
	spec  Spec
	mem   []byte
	e     *Engine
	io    subject
	snaps []*fsxSnapshot
	from  *fsxSnapshot // what a clone was made of
}

type fsxSnapshot struct {
	id     [16]byte
	pages  []uint64
	clones int
}

// fsx is one run.
type fsx struct {
	w       *world
	d       Deps
	r       *rand.Rand
	wrap    func(*Engine) subject
	v       []*fsxVolume // the first stays; the others are clones
	version uint64
	ids     byte // volumes made
	buf     []byte
	down    *block.StoreID
	count   map[string]int
}

func newFsx(t testing.TB, seed uint64) *fsx {
	f := &fsx{w: newWorld(t, 3), r: rand.New(rand.NewPCG(seed, 3)), buf: make([]byte, fsxMaxPages*block.PageSize), count: map[string]int{},
		wrap: func(e *Engine) subject { return e }}
	f.d = f.w.deps()
	f.d.Logf = func(string, ...any) {} // a million operations say too much
	f.d.Cache, f.d.Local = &smallCache{m: map[CacheKey]any{}}, f.w.local
	s := f.w.create(1)
	s.Pages, s.Extent, f.ids = fsxPages, 4<<20, 1
	if f.r.IntN(2) == 0 {
		s.Key = fill(make([]byte, 32), seed)
	}
	v := &fsxVolume{spec: s, mem: make([]byte, 4<<20)}
	v.pages = make([]uint64, fsxPages)
	must(t, f.open(v, Options{}))
	f.v = []*fsxVolume{v}
	return f
}

// smallCache forgets all when it is full, so that maps and pages are read again and again.
type smallCache struct {
	mu sync.Mutex
	m  map[CacheKey]any
}

func (c *smallCache) Get(k CacheKey) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.m[k]
	return v, ok
}

func (c *smallCache) Put(k CacheKey, v any, _ int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.m) >= 4096 {
		clear(c.m)
	}
	c.m[k] = v
}

func (f *fsx) open(v *fsxVolume, o Options) error {
	o.Ring = v.mem
	e, err := Open(f.d, v.spec, o)
	if err == nil {
		v.e, v.io = e, f.wrap(e)
	}
	return err
}

// run does n operations, then checks everything.
func (f *fsx) run(n int) error {
	for i := range n {
		v := f.v[0]
		if len(f.v) > 1 && f.r.IntN(4) == 0 {
			v = f.v[1+f.r.IntN(len(f.v)-1)]
		}
		if name, err := f.step(v); err != nil {
			return fmt.Errorf("operation %d, %s of volume %s: %w", i, name, v.spec.ID, err)
		}
	}
	for _, v := range f.v {
		if err := f.compare(v); err != nil {
			return fmt.Errorf("at the end, volume %s: %w", v.spec.ID, err)
		}
	}
	return f.checkSnapshots()
}

// fsxOps are the operations and how many of 10,000 are of each.
var fsxOps = []struct {
	name string
	of   int
	do   func(*fsx, *fsxVolume) error
}{
	{"write", 4450, (*fsx).write},
	{"read", 3750, (*fsx).read},
	{"discard", 1000, (*fsx).discard},
	{"flush", 650, func(f *fsx, v *fsxVolume) error { v.flushed(); return v.e.Flush() }},
	{"checkpoint", 30, func(f *fsx, v *fsxVolume) error { return v.e.Checkpoint() }},
	{"snapshot", 22, (*fsx).snapshot},
	{"delete snapshot", 20, (*fsx).deleteSnapshot},
	{"clean", 20, func(f *fsx, v *fsxVolume) error { _, err := v.e.Clean(); return err }},
	{"rollback", 12, (*fsx).rollback},
	{"resume", 10, (*fsx).resume},
	{"replica", 8, (*fsx).replica},
	{"grow", 8, (*fsx).grow},
	{"reopen", 6, (*fsx).reopen},
	{"crash", 6, (*fsx).crash},
	{"clone", 5, (*fsx).clone},
	{"drop clone", 3, (*fsx).drop},
}

func (f *fsx) step(v *fsxVolume) (string, error) {
	k := f.r.IntN(10000)
	for _, o := range fsxOps {
		if k -= o.of; k < 0 {
			f.count[o.name]++
			return o.name, o.do(f, v)
		}
	}
	panic("shares of operations do not add up to 10,000")
}

func (f *fsx) span(v *fsxVolume, most int) (page, n int) {
	page = f.r.IntN(len(v.pages))
	return page, min(1+f.r.IntN(most), len(v.pages)-page)
}

func (f *fsx) write(v *fsxVolume) error {
	page, n := f.span(v, fsxMaxIO)
	versions := make([]uint64, n)
	for i := range versions {
		f.version++
		versions[i] = f.version
		stamp(f.buf[i*block.PageSize:][:block.PageSize], f.version)
	}
	v.set(page, versions...)
	return v.io.Write(ring.ID{}, f.buf[:n*block.PageSize], int64(page)*block.PageSize)
}

func (f *fsx) discard(v *fsxVolume) error {
	page, n := f.span(v, 4*fsxMaxIO)
	v.set(page, make([]uint64, n)...)
	return v.io.Discard(ring.ID{}, int64(page)*block.PageSize, int64(n)*block.PageSize)
}

func (f *fsx) read(v *fsxVolume) error {
	page, n := f.span(v, fsxMaxIO)
	return f.expect(v.io, page, v.pages[page:page+n])
}

func (f *fsx) compare(v *fsxVolume) error {
	if size := v.e.Size(); size != int64(len(v.pages))*block.PageSize {
		return fmt.Errorf("has %d bytes, must have %d pages", size, len(v.pages))
	}
	return f.expect(v.io, 0, v.pages)
}

func (f *fsx) expect(s subject, page int, want []uint64) error {
	got, err := f.versions(s, page, len(want))
	first, bad := -1, 0
	for i := range got {
		if got[i] != want[i] {
			if bad++; first < 0 {
				first = i
			}
		}
	}
	if bad == 0 {
		return err
	}
	again, _ := f.versions(s, page, len(want)) // tells a wrong answer from a lost page
	return fmt.Errorf("page %d is of version %d, must be of %d; %d pages of %d are wrong; read again, all are right: %v", page+first, got[first], want[first],
		bad, len(want), slices.Equal(again, want))
}

func (f *fsx) versions(s subject, page, n int) ([]uint64, error) {
	p := f.buf[:n*block.PageSize]
	if err := s.Read(p, int64(page)*block.PageSize); err != nil {
		return nil, err
	}
	out := make([]uint64, n)
	for i := range out {
		var err error
		if out[i], err = stamped(p[i*block.PageSize:][:block.PageSize]); err != nil {
			return nil, fmt.Errorf("page %d: %w", page+i, err)
		}
	}
	return out, nil
}

func (f *fsx) snapshot(v *fsxVolume) error {
	if len(v.snaps) >= 4 {
		return f.deleteSnapshot(v)
	}
	f.version++
	s := &fsxSnapshot{pages: slices.Clone(v.pages)}
	binary.LittleEndian.PutUint64(s.id[:], f.version)
	v.snaps = append(v.snaps, s)
	v.flushed()
	return v.e.Snapshot(journal.Snapshot{ID: s.id, Name: fmt.Sprint("s", f.version)})
}

func (f *fsx) deleteSnapshot(v *fsxVolume) error {
	for i, s := range v.snaps {
		if s.clones == 0 {
			v.snaps = slices.Delete(v.snaps, i, i+1)
			return v.e.DeleteSnapshot(s.id)
		}
	}
	return nil
}

func (f *fsx) rollback(v *fsxVolume) error {
	if len(v.snaps) == 0 {
		return nil
	}
	s := v.snaps[f.r.IntN(len(v.snaps))]
	if err := v.e.Rollback(s.id); err != nil {
		return err
	}
	v.pages = slices.Clone(s.pages)
	v.flushed()
	return f.compare(v)
}

func (f *fsx) grow(v *fsxVolume) error {
	n := min(len(v.pages)+f.r.IntN(256), fsxMaxPages)
	if err := v.e.Resize(int64(n) * block.PageSize); err != nil {
		return err
	}
	v.pages = append(v.pages, make([]uint64, n-len(v.pages))...)
	v.flushed()
	return f.compare(v)
}

// reopen closes the volume in order and has another writer open it.
func (f *fsx) reopen(v *fsxVolume) error {
	if err := v.e.Close(true); err != nil {
		return err
	}
	v.flushed()
	clear(v.mem)
	return errors.Join(f.open(v, Options{Force: true}), f.compare(v))
}

// resume kills the writer; the next one has its ring, so all that was acknowledged is there.
func (f *fsx) resume(v *fsxVolume) error {
	_ = v.e.Close(false)
	before := v.e.Status()
	if err := f.open(v, Options{}); err != nil {
		return err
	}
	if err := f.compare(v); err != nil {
		return fmt.Errorf("%w; before: %+v; after: %+v; unflushed: %v", err, before, v.e.Status(), v.log)
	}
	return nil
}

// crash kills the writer with its ring.
func (f *fsx) crash(v *fsxVolume) error {
	_ = v.e.Close(false)
	clear(v.mem)
	if err := f.open(v, Options{Force: true}); err != nil {
		return err
	}
	got, err := f.versions(v.io, 0, len(v.pages))
	if err != nil {
		return err
	}
	return v.settle(got)
}

// clone makes a volume of a snapshot.
func (f *fsx) clone(v *fsxVolume) error {
	if len(v.snaps) == 0 || len(f.v) > fsxClones || f.ids == 255 {
		return nil
	}
	c, err := f.cloneOf(v, v.snaps[f.r.IntN(len(v.snaps))])
	if err != nil {
		return err
	}
	f.v = append(f.v, c)
	return f.compare(c)
}

func (f *fsx) cloneOf(v *fsxVolume, s *fsxSnapshot) (*fsxVolume, error) {
	if err := v.e.Checkpoint(); err != nil { // a clone starts from what a checkpoint names
		return nil, err
	}
	f.ids++
	f.w.mu.Lock()
	spec := f.w.create(f.ids)
	f.w.mu.Unlock()
	spec.Pages, spec.Extent, spec.Key, spec.Parent, spec.Snapshot = uint64(len(s.pages)), v.spec.Extent, v.spec.Key, v.spec.ID, s.id
	c := &fsxVolume{spec: spec, mem: make([]byte, 4<<20), from: s}
	c.pages = slices.Clone(s.pages)
	s.clones++
	return c, f.open(c, Options{})
}

// drop deletes a clone that has none itself.
func (f *fsx) drop(v *fsxVolume) error {
	if v.from == nil || slices.ContainsFunc(v.snaps, func(s *fsxSnapshot) bool { return s.clones > 0 }) {
		return nil
	}
	f.v = slices.DeleteFunc(f.v, func(o *fsxVolume) bool { return o == v })
	return f.remove(v)
}

func (f *fsx) remove(v *fsxVolume) error {
	v.from.clones--
	err := v.e.Close(true)
	for _, n := range f.w.node {
		_, derr := n.st.DropVolume(v.spec.ID, []byte("gone"))
		_, cerr := n.st.Commit()
		err = errors.Join(err, derr, cerr)
	}
	return err
}

// replica has a store go away or come back. The next one goes only when all volumes are whole again.
func (f *fsx) replica(*fsxVolume) error {
	if f.down != nil {
		f.w.setDown(*f.down, false)
		f.down = nil
		return nil
	}
	for _, v := range f.v {
		st := v.e.Status()
		if st.Degraded > 0 || slices.ContainsFunc(st.Members, func(m MemberStatus) bool { return m.Failed }) {
			return nil
		}
	}
	f.down = &f.w.ids[f.r.IntN(3)]
	f.w.setDown(*f.down, true)
	f.count["replica goes"]++
	return nil
}

// checkSnapshots opens a clone of every snapshot that is left.
func (f *fsx) checkSnapshots() error {
	for _, v := range f.v {
		for _, s := range v.snaps {
			c, err := f.cloneOf(v, s)
			if err == nil {
				err = errors.Join(f.compare(c), f.remove(c))
			}
			if err != nil {
				return fmt.Errorf("at the end, snapshot %x of volume %s: %w", s.id, v.spec.ID, err)
			}
		}
	}
	return nil
}

func (f *fsx) close() {
	for _, v := range f.v {
		if v.e != nil {
			_ = v.e.Close(false)
		}
	}
}
