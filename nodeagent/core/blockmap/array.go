package blockmap

import (
	"bytes"
	"fmt"
	"math/bits"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// MaxArrayLevels is the height of the tallest array.
const MaxArrayLevels = 6

const (
	refFan  = block.PageSize / journal.RefSize
	refBits = 6
)

const _ = uint(1<<refBits-refFan) + uint(refFan-1<<refBits) // refFan is 1<<refBits

// RefPager reads array pages. Page returns the content that r.Leaf pins, block.PageSize bytes; it is borrowed until the
// next call and never written.
type RefPager interface {
	Page(r journal.Ref) ([]byte, error)
}

// Array is a paged copy-on-write array of entries of a fixed size: the block table or the extent directory. It is a
// value: a merge gives a new root.
type Array struct {
	Pager RefPager
	Root  journal.ArrayRoot
	Size  int // of an entry in bytes: BlockEntrySize or ExtentEntrySize
}

// ArrayEdits gives entries to set, by rising index. An entry is borrowed until the next call; nil or all zeros clears.
type ArrayEdits interface {
	Next() (index uint64, entry []byte, ok bool)
}

// ArrayPage is a new page of an array. Its content is borrowed until Emit returns.
type ArrayPage struct {
	Page  []byte
	Level uint8
	Index uint64
	Ref   journal.Ref // where it is, which Emit says

	old journal.Ref // of the page that it replaces; zero: of none
}

// ArraySink takes what a merge of an array does, as Sink does for the map. Emit stores 1 to MaxArrayBatch pages of one level and sets the Ref of each.
type ArraySink struct {
	Emit func(pages []ArrayPage) error
	Drop func(r journal.Ref)
}

// MaxArrayBatch is how many pages are emitted together at most: the leaves below one page.
const MaxArrayBatch = refFan

// leafBits is log2 of the entries of a leaf.
func (a *Array) leafBits() uint { return uint(bits.TrailingZeros(uint(block.PageSize / a.Size))) }

// width is log2 of the entries below a page of this level.
func (a *Array) width(level uint8) uint { return a.leafBits() + refBits*uint(level-1) }

func (a *Array) check() error {
	r := &a.Root
	bad := a.Size != BlockEntrySize && a.Size != ExtentEntrySize
	if bad || r.Levels > MaxArrayLevels || r.Levels == 0 && (r.Count != 0 || !r.Ref.IsZero()) ||
		r.Levels != 0 && r.Count > 1<<a.width(r.Levels) {
		return fmt.Errorf("array of %d entries of %d bytes, %d levels: %w", r.Count, a.Size, r.Levels, ErrFormat)
	}
	return nil
}

func (a *Array) read(r journal.Ref, level uint8) ([]byte, error) {
	page, err := a.Pager.Page(r)
	if err != nil {
		return nil, fmt.Errorf("array page of level %d: %w", level, err)
	}
	if len(page) != block.PageSize {
		return nil, fmt.Errorf("array page of level %d, %d bytes: %w", level, len(page), ErrFormat)
	}
	return page, nil
}

// Get copies entry i to dst, which has Size bytes; an entry that was never set reads as zeros. It allocates nothing.
func (a *Array) Get(i uint64, dst []byte) error {
	if err := a.check(); err != nil {
		return err
	}
	clear(dst[:a.Size])
	if i >= a.Root.Count {
		return nil
	}
	r := a.Root.Ref
	for level := a.Root.Levels; !r.IsZero(); level-- {
		page, err := a.read(r, level)
		if err != nil {
			return err
		}
		if level == 1 {
			copy(dst, page[int(i&(1<<a.leafBits()-1))*a.Size:][:a.Size])
			return nil
		}
		slot := i >> a.width(level-1) & (refFan - 1)
		r = journal.GetRef(page[slot*journal.RefSize:])
	}
	return nil
}

// Walk visits the entries that are not all zeros, from index from on. The entry is borrowed until visit returns.
func (a *Array) Walk(from uint64, visit func(i uint64, entry []byte) error) error {
	return a.walk(arrayWalker{Array: a, from: from, entry: visit})
}

// WalkRefs visits the array's pages, a page before those below it; visit says whether to go on below it. Leaves are
// not read.
func (a *Array) WalkRefs(visit func(r journal.Ref, level uint8, index uint64) (descend bool, err error)) error {
	return a.walk(arrayWalker{Array: a, ref: visit})
}

func (a *Array) walk(w arrayWalker) error {
	if err := a.check(); err != nil {
		return err
	}
	if a.Root.Ref.IsZero() || w.from >= a.Root.Count {
		return nil
	}
	return w.walk(a.Root.Ref, a.Root.Levels, 0)
}

type arrayWalker struct {
	*Array
	from  uint64
	ref   func(r journal.Ref, level uint8, index uint64) (bool, error)
	entry func(i uint64, entry []byte) error
	path  [MaxArrayLevels][block.PageSize]byte
}

func (w *arrayWalker) walk(r journal.Ref, level uint8, index uint64) error {
	if w.ref != nil {
		if descend, err := w.ref(r, level, index); err != nil || !descend || level == 1 {
			return err
		}
	}
	src, err := w.read(r, level)
	if err != nil {
		return err
	}
	page := &w.path[level-1]
	copy(page[:], src)
	if level == 1 {
		return w.entries(page[:], index)
	}
	for slot := uint64(0); slot < refFan; slot++ {
		child := index<<refBits | slot
		c := journal.GetRef(page[slot*journal.RefSize:])
		if c.IsZero() || (child+1)<<w.width(level-1) <= w.from {
			continue
		}
		if err := w.walk(c, level-1, child); err != nil {
			return err
		}
	}
	return nil
}

func (w *arrayWalker) entries(page []byte, index uint64) error {
	for at := 0; at < len(page); at += w.Size {
		i := index<<w.leafBits() + uint64(at/w.Size)
		entry := page[at:][:w.Size]
		if i < w.from || i >= w.Root.Count || isZero(entry) {
			continue
		}
		if err := w.entry(i, entry); err != nil {
			return err
		}
	}
	return nil
}

func isZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// Merge sets entries and returns the new root. Each changed page is emitted once, children first; pages that became all
// zeros are dropped for good. Count becomes one more than the highest index ever set. It returns ErrEdit for edits out of
// order or range, and then all that sink was told is void.
func (a *Array) Merge(edits ArrayEdits, sink ArraySink) (journal.ArrayRoot, error) {
	if err := a.check(); err != nil {
		return a.Root, err
	}
	m := arrayMerger{Array: a, ArraySink: sink, edits: edits, count: a.Root.Count}
	if err := m.next(); err != nil {
		return a.Root, err
	}
	levels := max(a.Root.Levels, 1)
	ref, err := m.page(a.Root.Ref, levels, 0)
	for err == nil && m.ok {
		levels++
		ref, err = m.above(ref, levels)
	}
	if err != nil {
		return a.Root, err
	}
	if m.count == 0 {
		return journal.ArrayRoot{}, nil
	}
	return journal.ArrayRoot{Ref: ref, Levels: levels, Count: m.count}, nil
}

type arrayMerger struct {
	*Array
	ArraySink
	edits ArrayEdits
	index uint64 // of the edit at hand
	entry []byte
	ok    bool
	begun bool
	count uint64
	path  [MaxArrayLevels][block.PageSize]byte

	leaves []byte // the changed leaves below the page of level 2 at hand
	batch  []ArrayPage
}

func (m *arrayMerger) next() error {
	last, begun := m.index, m.begun
	if m.index, m.entry, m.ok = m.edits.Next(); !m.ok {
		return nil
	}
	m.begun = true
	bad := m.entry != nil && len(m.entry) != m.Size
	if bad || begun && m.index <= last || m.index>>m.width(MaxArrayLevels) != 0 {
		return fmt.Errorf("entry %d of %d bytes after %d: %w", m.index, len(m.entry), last, ErrEdit)
	}
	m.count = max(m.count, m.index+1)
	return nil
}

// page merges the edits below the page at r (zero: nothing there) and returns its new reference.
func (m *arrayMerger) page(r journal.Ref, level uint8, index uint64) (journal.Ref, error) {
	if !m.ok || m.index>>m.width(level) != index {
		return r, nil
	}
	page := &m.path[level-1]
	if err := m.load(r, level, page[:]); err != nil {
		return r, err
	}
	changed, err := m.fill(page, level, index)
	if err != nil || !changed {
		return r, err
	}
	return m.finish(r, page, level, index)
}

// load copies the page at r (zero: an empty one).
func (m *arrayMerger) load(r journal.Ref, level uint8, page []byte) error {
	if r.IsZero() {
		clear(page)
		return nil
	}
	src, err := m.read(r, level)
	if err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	copy(page, src)
	return nil
}

// above puts a page on top of the tree at r.
func (m *arrayMerger) above(r journal.Ref, level uint8) (journal.Ref, error) {
	page := &m.path[level-1]
	clear(page[:])
	r.Put(page[:])
	if _, err := m.fill(page, level, 0); err != nil {
		return r, err
	}
	return m.finish(journal.Ref{}, page, level, 0)
}

// fill applies to the page all edits below it.
func (m *arrayMerger) fill(page *[block.PageSize]byte, level uint8, index uint64) (changed bool, err error) {
	switch level {
	case 1:
		return m.fillLeaf(page[:], index)
	case 2:
		return m.fillLeaves(page[:], index)
	}
	for m.ok && m.index>>m.width(level) == index && err == nil {
		child := m.index >> m.width(level-1)
		at := page[child&(refFan-1)*journal.RefSize:][:journal.RefSize]
		old := journal.GetRef(at)
		var r journal.Ref
		if r, err = m.page(old, level-1, child); r != old {
			r.Put(at)
			changed = true
		}
	}
	return changed, err
}

// fillLeaf is fill for a leaf.
func (m *arrayMerger) fillLeaf(page []byte, index uint64) (changed bool, err error) {
	for m.ok && m.index>>m.width(1) == index && err == nil {
		changed = m.set(page) || changed
		err = m.next()
	}
	return changed, err
}

// fillLeaves is fill for a page above leaves, which are emitted together.
func (m *arrayMerger) fillLeaves(page []byte, index uint64) (changed bool, err error) {
	m.leaves, m.batch = m.leaves[:0], m.batch[:0]
	for m.ok && m.index>>m.width(2) == index {
		child := m.index >> m.width(1)
		old := journal.GetRef(page[child&(refFan-1)*journal.RefSize:])
		n := len(m.leaves)
		m.leaves = slices.Grow(m.leaves, block.PageSize)[:n+block.PageSize]
		leaf := m.leaves[n:]
		if err := m.load(old, 1, leaf); err != nil {
			return false, err
		}
		changed, err := m.fillLeaf(leaf, child)
		switch {
		case err != nil:
			return false, err
		case !changed:
			m.leaves = m.leaves[:n]
		case isZero(leaf):
			m.leaves = m.leaves[:n]
			m.batch = append(m.batch, ArrayPage{Level: 1, Index: child, old: old})
		default:
			m.batch = append(m.batch, ArrayPage{Page: leaf, Level: 1, Index: child, old: old})
		}
	}
	if err := m.emit(m.batch); err != nil {
		return false, err
	}
	for i := range m.batch {
		p := &m.batch[i]
		p.Ref.Put(page[p.Index&(refFan-1)*journal.RefSize:])
		changed = changed || p.Ref != p.old
	}
	return changed, nil
}

func (m *arrayMerger) set(page []byte) (changed bool) {
	at := page[int(m.index&(1<<m.leafBits()-1))*m.Size:][:m.Size]
	if m.entry == nil {
		changed = !isZero(at)
		clear(at)
		return changed
	}
	changed = !bytes.Equal(at, m.entry)
	copy(at, m.entry)
	return changed
}

// finish stores the page, which replaces the one at old (zero: none).
func (m *arrayMerger) finish(old journal.Ref, page *[block.PageSize]byte, level uint8, index uint64) (journal.Ref, error) {
	one := []ArrayPage{{Page: page[:], Level: level, Index: index, old: old}}
	if isZero(page[:]) {
		one[0].Page = nil
	}
	err := m.emit(one)
	return one[0].Ref, err
}

// emit stores pages, but for those without content, which are gone, and drops those that they replace.
func (m *arrayMerger) emit(pages []ArrayPage) error {
	full := make([]ArrayPage, 0, len(pages))
	for i := range pages {
		if pages[i].Page != nil {
			full = append(full, pages[i])
		}
	}
	if len(full) > 0 {
		if err := m.Emit(full); err != nil {
			return fmt.Errorf("merge: emit %d pages of level %d from %d on: %w", len(full), full[0].Level, full[0].Index, err)
		}
	}
	for i := range pages {
		p := &pages[i]
		if p.Page != nil {
			p.Ref, full = full[0].Ref, full[1:]
			if p.Ref.IsZero() {
				return fmt.Errorf("merge: page %d of level %d emitted to nowhere: %w", p.Index, p.Level, ErrEdit)
			}
		}
		if !p.old.IsZero() {
			m.Drop(p.old)
		}
	}
	return nil
}
