package blockmap

import (
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// Edit maps the pages [Page, Page+Count) to consecutive addresses of one block, or to holes when Addr is 0.
type Edit struct {
	Page  uint64
	Count uint64
	Addr  Addr // of the first page
}

// Edits gives edits in page order, none overlapping another.
type Edits interface {
	Next() (e Edit, ok bool)
}

// Sink takes what a merge does. Each function is required. On a merge's error all that they were told is void.
type Sink struct {
	// Emit stores a new node and returns its address; node is borrowed until Emit returns. Node i of a level covers
	// pages [i<<9*level, (i+1)<<9*level). Children are emitted before their parents.
	Emit func(node []byte, level uint8, index uint64) (Addr, error)
	// Drop is told each address, of a page or a node, that the new root does not name and the old one did, other than
	// those below a cut. Shared addresses (generation above 0, or named by a snapshot) are told too.
	Drop func(a Addr)
	// Cut is told of a whole subtree that is no longer named: its node, not yet dropped, and all below. To account
	// for it, walk MapRoot{a, level}, in steps if need be (pages then count from the subtree's first).
	Cut func(a Addr, level uint8)
}

// Merge applies edits to the map at root and returns the new root. It visits touched subtrees only, in page order, holds
// one path of nodes, and emits each changed node once; a node's old pages are borrowed only while it is decoded. An
// address is taken to be mapped by one page at most. The tree grows as needed; holes beyond it are passed over. It
// returns ErrEdit for edits out of order or range.
func Merge(p Pager, root journal.MapRoot, edits Edits, sink Sink) (journal.MapRoot, error) {
	return newMerger(p, edits, sink).run(root)
}

type merger struct {
	Sink
	p     Pager
	edits Edits
	load  func(t *table, page []byte, gen uint16) error // (*table).load; tests break it

	cur Edit // what is left of the edit at hand
	ok  bool // there is one
	end uint64

	path [MaxLevels]table
	page [block.PageSize]byte
}

func newMerger(p Pager, edits Edits, sink Sink) *merger {
	return &merger{Sink: sink, p: p, edits: edits, load: (*table).load}
}

func (m *merger) run(root journal.MapRoot) (journal.MapRoot, error) {
	if err := checkRoot(root); err != nil {
		return root, err
	}
	if err := m.next(); err != nil {
		return root, err
	}
	levels := max(root.Levels, 1)
	a, err := m.node(Addr(root.Addr), levels, 0)
	for err == nil {
		var more bool
		if more, err = m.beyond(); err != nil || !more {
			break
		}
		levels++
		a, err = m.above(a, levels)
	}
	if err != nil {
		return root, err
	}
	if a == 0 {
		return journal.MapRoot{}, nil
	}
	return journal.MapRoot{Addr: uint64(a), Levels: levels}, nil
}

// next fetches an edit and checks it.
func (m *merger) next() error {
	if m.cur, m.ok = m.edits.Next(); !m.ok {
		return nil
	}
	e := m.cur
	switch {
	case e.Count == 0, e.Page < m.end, e.Page+e.Count < e.Page:
		return fmt.Errorf("%d pages at %d after %d: %w", e.Count, e.Page, m.end, ErrEdit)
	case e.Addr == 0:
	case e.Page >= MaxPages, e.Count > MaxPages-e.Page, !e.Addr.validAt(0), e.Count > block.MaxPages-uint64(e.Addr.Page()):
		return fmt.Errorf("%d pages at %d to %s: %w", e.Count, e.Page, e.Addr, ErrEdit)
	}
	m.end = e.Page + e.Count
	return nil
}

// advance passes over the first n pages of the edit at hand.
func (m *merger) advance(n uint64) error {
	if n == m.cur.Count {
		return m.next()
	}
	m.cur.Page += n
	m.cur.Count -= n
	if m.cur.Addr != 0 {
		m.cur.Addr += Addr(n)
	}
	return nil
}

// beyond reports whether the tree must grow, that is, whether more than holes are left.
func (m *merger) beyond() (bool, error) {
	for m.ok && m.cur.Addr == 0 {
		if err := m.next(); err != nil {
			return false, err
		}
	}
	return m.ok, nil
}

// node merges into the subtree at a (0: nothing there) the edits of its pages, and returns its new address.
func (m *merger) node(a Addr, level uint8, index uint64) (Addr, error) {
	start := index * span(level)
	end := start + span(level)
	if a != 0 && m.hole(end) && m.cur.Page == start && m.cur.Count >= span(level) {
		m.Cut(a, level)
		return 0, m.advance(span(level))
	}
	for a == 0 && m.hole(end) {
		if err := m.advance(min(m.cur.Count, end-m.cur.Page)); err != nil {
			return 0, err
		}
	}
	if !m.ok || m.cur.Page >= end {
		return a, nil
	}
	t := &m.path[level-1]
	if a == 0 {
		clear(t[:])
	} else {
		page, err := readNode(m.p, a, level)
		if err == nil {
			err = m.load(t, page, a.Gen())
		}
		if err != nil {
			return 0, fmt.Errorf("merge: %w", err)
		}
	}
	changed, err := m.fill(t, level, index)
	if err != nil || !changed {
		return a, err
	}
	return m.finish(a, t, level, index)
}

// hole reports whether the edit at hand is a hole that begins below end.
func (m *merger) hole(end uint64) bool { return m.ok && m.cur.Addr == 0 && m.cur.Page < end }

// above puts a node on top of the tree at a, which ends where the edits go on.
func (m *merger) above(a Addr, level uint8) (Addr, error) {
	t := &m.path[level-1]
	clear(t[:])
	t[0] = a
	if _, err := m.fill(t, level, 0); err != nil {
		return 0, err
	}
	return m.finish(0, t, level, 0)
}

// fill applies to t all edits within its pages.
func (m *merger) fill(t *table, level uint8, index uint64) (changed bool, err error) {
	end := (index + 1) * span(level)
	for m.ok && m.cur.Page < end && err == nil {
		slot := m.cur.Page >> (fanBits * (level - 1)) & (Fanout - 1)
		if level == 1 {
			n := min(m.cur.Count, end-m.cur.Page)
			changed = m.leaf(t[slot:slot+n]) || changed
			err = m.advance(n)
			continue
		}
		var a Addr
		a, err = m.node(t[slot], level-1, index<<fanBits|slot)
		if a != t[slot] {
			t[slot], changed = a, true
		}
	}
	return changed, err
}

// leaf applies the edit at hand to the entries of its pages.
func (m *merger) leaf(entries []Addr) (changed bool) {
	to := m.cur.Addr
	for i, old := range entries {
		if old != to {
			if old != 0 {
				m.Drop(old)
			}
			entries[i], changed = to, true
		}
		if to != 0 {
			to++
		}
	}
	return changed
}

// finish stores t, which replaces the node at old (0: none).
func (m *merger) finish(old Addr, t *table, level uint8, index uint64) (a Addr, err error) {
	if !t.empty() {
		t.put(m.page[:])
		if a, err = m.Emit(m.page[:], level, index); err != nil {
			return 0, fmt.Errorf("merge: emit node %d of level %d: %w", index, level, err)
		}
		if !a.validAt(0) {
			return 0, fmt.Errorf("merge: node %d of level %d emitted to %s: %w", index, level, a, ErrEdit)
		}
	}
	if old != 0 {
		m.Drop(old)
	}
	return a, nil
}
