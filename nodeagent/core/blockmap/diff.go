package blockmap

import (
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// PageChange is a run of pages whose addresses differ between two roots. Each side is a hole throughout (0) or
// consecutive addresses of one block, from the one given.
type PageChange struct {
	Page, Count uint64
	From, To    Addr
}

// Diff visits, in page order, the runs of pages whose addresses differ between roots a and b, both relative to the same
// volume (see Clone), and skips equal subtrees. It leaves out what lies below page from. visitNode, which may be nil, is told each pair of nodes that differ, with
// 0 for none. An error of a visitor ends it and is returned as it is.
func Diff(p Pager, a, b journal.MapRoot, from uint64, visitNode func(level uint8, from, to Addr) error, visit func(PageChange) error) error {
	for _, root := range []journal.MapRoot{a, b} {
		if err := checkRoot(root); err != nil {
			return err
		}
	}
	d := differ{p: p, from: from, node: visitNode, visit: visit}
	top := max(a.Levels, b.Levels)
	if top == 0 {
		return nil
	}
	d.side[0].root, d.side[1].root = a, b
	if err := d.diff(d.side[0].at(top), d.side[1].at(top), top, 0); err != nil {
		return err
	}
	return d.flush()
}

type differ struct {
	p     Pager
	from  uint64
	node  func(level uint8, from, to Addr) error
	visit func(PageChange) error
	side  [2]side
	run   PageChange
}

// side is one of the two trees. The lower one is seen as if it had the other's height, by virtual nodes on top.
type side struct {
	root journal.MapRoot
	path [MaxLevels]table
}

const virtual = ^Addr(0) // never a valid address

// at is the address of node 0 of a level at or above the root.
func (s *side) at(level uint8) Addr {
	if level == s.root.Levels || s.root.Addr == 0 {
		return Addr(s.root.Addr)
	}
	return virtual
}

func (s *side) load(p Pager, a Addr, level uint8) (*table, error) {
	t := &s.path[level-1]
	switch a {
	case 0:
		clear(t[:])
	case virtual:
		clear(t[:])
		t[0] = s.at(level - 1)
	default:
		return t, loadNode(t, p, a, level)
	}
	return t, nil
}

func actual(a Addr) Addr {
	if a == virtual {
		return 0
	}
	return a
}

func (d *differ) diff(a, b Addr, level uint8, index uint64) error {
	if a == b || (index+1)*span(level) <= d.from {
		return nil
	}
	if level == 0 {
		return d.page(index, a, b)
	}
	if d.node != nil && (actual(a) != 0 || actual(b) != 0) {
		if err := d.node(level, actual(a), actual(b)); err != nil {
			return err
		}
	}
	old, err := d.side[0].load(d.p, a, level)
	if err != nil {
		return fmt.Errorf("diff: %w", err)
	}
	now, err := d.side[1].load(d.p, b, level)
	if err != nil {
		return fmt.Errorf("diff: %w", err)
	}
	for slot := range old {
		if err := d.diff(old[slot], now[slot], level-1, index<<fanBits|uint64(slot)); err != nil {
			return err
		}
	}
	return nil
}

// page adds one page to the run at hand, or begins another.
func (d *differ) page(page uint64, from, to Addr) error {
	r := &d.run
	if r.Count != 0 && page == r.Page+r.Count && follows(r.From, r.Count, from) && follows(r.To, r.Count, to) {
		r.Count++
		return nil
	}
	if err := d.flush(); err != nil {
		return err
	}
	d.run = PageChange{Page: page, Count: 1, From: from, To: to}
	return nil
}

// follows reports whether next goes on a run of n addresses from first. A valid page number never carries over into
// the block number, so a sum in the same block is a run.
func follows(first Addr, n uint64, next Addr) bool {
	if first == 0 || next == 0 {
		return first == next
	}
	return next == first+Addr(n)
}

func (d *differ) flush() error {
	if d.run.Count == 0 {
		return nil
	}
	return d.visit(d.run)
}
