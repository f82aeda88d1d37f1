package blockmap

import (
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// NodeVisitor is called for a node before what is below it; it says whether to go on below it.
type NodeVisitor func(a Addr, level uint8, index uint64) (descend bool, err error)

// Walk visits nodes and mapped pages in page order. A nil visitNode descends everywhere; with a nil visitData leaf nodes
// are visited but not read. An error of a visitor ends the walk and is returned as it is. Depth is bounded by the root's
// levels, whatever the nodes say; the number of visits is the visitors' to bound.
func Walk(p Pager, root journal.MapRoot, visitNode NodeVisitor, visitData func(page uint64, a Addr) error) error {
	return WalkFrom(p, root, 0, visitNode, visitData)
}

// WalkFrom is Walk without what lies wholly below page from. Nodes on the path to it are visited again, so a walk can
// be cut into steps: the next step's from is the first page not done.
func WalkFrom(p Pager, root journal.MapRoot, from uint64, visitNode NodeVisitor, visitData func(page uint64, a Addr) error) error {
	if err := checkRoot(root); err != nil {
		return err
	}
	if root.Addr == 0 || from >= span(root.Levels) {
		return nil
	}
	w := walker{p: p, from: from, node: visitNode, data: visitData}
	return w.walk(Addr(root.Addr), root.Levels, 0)
}

type walker struct {
	p    Pager
	from uint64
	node NodeVisitor
	data func(page uint64, a Addr) error
	path [MaxLevels]table
}

func (w *walker) walk(a Addr, level uint8, index uint64) error {
	if w.node != nil {
		if descend, err := w.node(a, level, index); err != nil || !descend {
			return err
		}
	}
	if level == 1 && w.data == nil {
		return nil
	}
	t := &w.path[level-1]
	if err := loadNode(t, w.p, a, level); err != nil {
		return fmt.Errorf("walk: %w", err)
	}
	first := uint64(0)
	if start := index * span(level); w.from > start {
		first = (w.from - start) / span(level-1)
	}
	for slot := first; slot < Fanout; slot++ {
		child := t[slot]
		if child == 0 {
			continue
		}
		var err error
		if level == 1 {
			err = w.data(index<<fanBits|slot, child)
		} else {
			err = w.walk(child, level-1, index<<fanBits|slot)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func loadNode(t *table, p Pager, a Addr, level uint8) error {
	page, err := readNode(p, a, level)
	if err != nil {
		return err
	}
	if err := t.load(page, a.Gen()); err != nil {
		return fmt.Errorf("map node %s (level %d): %w", a, level, err)
	}
	return nil
}
