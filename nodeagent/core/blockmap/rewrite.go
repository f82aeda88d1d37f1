package blockmap

import (
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// Rewrite emits anew each page that stale names, and the pages above it, and returns the new root: so that the place
// where they lie can be given up. Entries stay as they are. Leaves that are not stale are not read.
func (a *Array) Rewrite(stale func(r journal.Ref) bool, sink ArraySink) (journal.ArrayRoot, error) {
	if err := a.check(); err != nil || a.Root.Ref.IsZero() {
		return a.Root, err
	}
	ref, err := a.rewrite(a.Root.Ref, a.Root.Levels, 0, stale, sink)
	if err != nil {
		return a.Root, err
	}
	root := a.Root
	root.Ref = ref
	return root, nil
}

func (a *Array) rewrite(r journal.Ref, level uint8, index uint64, stale func(r journal.Ref) bool, sink ArraySink) (journal.Ref, error) {
	changed := stale(r)
	if level == 1 && !changed {
		return r, nil
	}
	borrowed, err := a.read(r, level)
	if err != nil {
		return r, err
	}
	page := [block.PageSize]byte(borrowed)
	for i := 0; level > 1 && i < refFan; i++ {
		b := page[i*journal.RefSize:]
		child := journal.GetRef(b)
		if child.IsZero() {
			continue
		}
		moved, err := a.rewrite(child, level-1, index<<refBits|uint64(i), stale, sink)
		if err != nil {
			return r, err
		}
		if moved != child {
			moved.Put(b)
			changed = true
		}
	}
	if !changed {
		return r, nil
	}
	sink.Drop(r)
	one := []ArrayPage{{Page: page[:], Level: level, Index: index}}
	err = sink.Emit(one)
	return one[0].Ref, err
}
