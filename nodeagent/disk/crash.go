package disk

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
)

// touches reports whether the operation changes a name in dir.
func (o *nameOp) touches(dir *memNode) bool {
	return slices.ContainsFunc(o.edits, func(e nameEdit) bool { return e.dir == dir })
}

type nameKey struct {
	dir  *memNode
	name string
}

// families splits the pending operations into sets that share no name, each oldest first; the order of the sets is
// that of their first operation.
func families(ops []*nameOp) [][]*nameOp {
	var sets [][]*nameOp
	owner := map[nameKey]int{}
	for _, op := range ops {
		into := -1
		for _, e := range op.edits {
			k, ok := owner[nameKey{e.dir, e.name}]
			switch {
			case !ok || k == into:
			case into < 0:
				into = k
			default: // this operation joins two sets
				a, b := min(into, k), max(into, k)
				sets[a] = append(sets[a], sets[b]...)
				sets[b] = nil
				for key, v := range owner {
					if v == b {
						owner[key] = a
					}
				}
				into = a
			}
		}
		if into < 0 {
			into = len(sets)
			sets = append(sets, nil)
		}
		sets[into] = append(sets[into], op)
		for _, e := range op.edits {
			owner[nameKey{e.dir, e.name}] = into
		}
	}
	return slices.DeleteFunc(sets, func(s []*nameOp) bool { return len(s) == 0 })
}

// settle makes operations durable and takes them off the pending list.
func (m *Mem) settle(done map[*nameOp]bool) {
	m.pending = slices.DeleteFunc(m.pending, func(op *nameOp) bool {
		if !done[op] {
			return false
		}
		for _, e := range op.edits {
			setName(e.dir.durable, e)
		}
		return true
	})
}

// syncNames makes the names of dir durable: each pending operation on it, and what that operation stands on.
func (m *Mem) syncNames(dir *memNode) {
	done := map[*nameOp]bool{}
	for _, set := range families(m.pending) {
		last := -1
		for i, op := range set {
			if op.touches(dir) {
				last = i
			}
		}
		for _, op := range set[:last+1] {
			done[op] = true
		}
	}
	m.settle(done)
}

// Writeback makes a part of what is not yet durable durable, drawn from rng: each family of names up to some point,
// each size, each sector on its own. It is what a kernel does behind the back of a program, at any moment.
func (m *Mem) Writeback(rng func() uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writeback(rng)
}

func (m *Mem) writeback(rng func() uint64) {
	done := map[*nameOp]bool{}
	for _, set := range families(m.pending) {
		for _, op := range set[:rng()%uint64(len(set)+1)] {
			done[op] = true
		}
	}
	// Files are visited by name, current names first, so that one seed gives one outcome.
	files := m.files()
	m.settle(done)
	for _, n := range files {
		n.data.writeback(rng)
	}
}

// writeback draws for the file as a whole (all, nothing, or each sector on its own), then for its size.
func (d *memData) writeback(rng func() uint64) {
	if len(d.dirty) == 0 && d.size == d.oldSize {
		return
	}
	draw := rng()
	switch draw % 4 {
	case 0:
	case 1:
		for _, i := range d.dirty {
			d.persist(i, 0xff)
		}
	default:
		for _, i := range d.dirty {
			d.persist(i, uint8(rng()))
		}
	}
	d.dirty = slices.DeleteFunc(d.dirty, func(i int64) bool { return d.slots[i].dirty == 0 })
	if draw>>32%2 == 1 {
		d.oldSize = d.size
	}
}

// files lists every file that has a current or a durable name, once, in an order that depends on names only.
func (m *Mem) files() []*memNode {
	var out []*memNode
	seen := map[*memNode]bool{}
	var visit func(n *memNode)
	visit = func(n *memNode) {
		if seen[n] {
			return
		}
		seen[n] = true
		if n.names == nil {
			out = append(out, n)
			return
		}
		for _, names := range []map[string]*memNode{n.names, n.durable} {
			for _, k := range slices.Sorted(maps.Keys(names)) {
				visit(names[k])
			}
		}
	}
	visit(m.root)
	return out
}

// Crash gives the file system as it is found after a power loss at this moment: what is durable, and of the rest what
// rng draws. It changes nothing in m, so several outcomes of one moment can be explored; use PowerOff to stop m.
func (m *Mem) Crash(rng func() uint64) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.fork()
	c.writeback(rng)
	c.pending = nil
	c.used = 0
	c.revert(c.root, map[*memNode]bool{})
	return c
}

// fork copies the tree; page contents are shared and from now on owned by nobody.
func (m *Mem) fork() *Mem {
	c := &Mem{capacity: m.capacity, used: m.used, lying: m.lying}
	copies := map[*memNode]*memNode{}
	var clone func(n *memNode) *memNode
	clone = func(n *memNode) *memNode {
		if n == nil {
			return nil
		}
		if k := copies[n]; k != nil {
			return k
		}
		k := &memNode{linked: n.linked}
		copies[n] = k
		if n.names == nil {
			for i := range n.data.slots {
				n.data.slots[i].owned = false
			}
			k.data = n.data
			k.data.slots = slices.Clone(n.data.slots)
			k.data.dirty = slices.Clone(n.data.dirty)
			return k
		}
		k.names, k.durable = map[string]*memNode{}, map[string]*memNode{}
		for name, e := range n.names {
			k.names[name] = clone(e)
		}
		for name, e := range n.durable {
			k.durable[name] = clone(e)
		}
		return k
	}
	c.root = clone(m.root)
	for _, op := range m.pending {
		edits := slices.Clone(op.edits)
		for i := range edits {
			edits[i].dir, edits[i].node = clone(edits[i].dir), clone(edits[i].node)
		}
		c.pending = append(c.pending, &nameOp{edits})
	}
	return c
}

// revert makes the durable state of the tree under n the current one.
func (m *Mem) revert(n *memNode, seen map[*memNode]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	if n.names == nil {
		n.linked = true
		n.data.revert()
		m.used += n.data.allocated()
		return
	}
	n.names = maps.Clone(n.durable)
	for _, e := range n.names {
		m.revert(e, seen)
	}
}

func (d *memData) revert() {
	d.pages = 0
	for i := range d.slots {
		s := &d.slots[i]
		*s = slot{cur: s.old, old: s.old, alloc: s.alloc || s.old != nil}
		if s.alloc {
			d.pages++
		}
	}
	d.dirty = nil
	// Bytes beyond the size that survived are gone; they must not come back when the file grows.
	d.zero(d.oldSize, int64(len(d.slots))*memPage)
	d.size = d.oldSize
	d.sync()
}

// FlipBit inverts one bit at rest: of the current and of the durable contents. off is in bytes, bit is 0 to 7.
func (m *Mem) FlipBit(name string, off int64, bit uint) error {
	return m.corrupt(name, off, func(b *byte) { *b ^= 1 << (bit % 8) })
}

// SetByte changes one byte at rest: of the current and of the durable contents. off is in bytes.
func (m *Mem) SetByte(name string, off int64, v byte) error {
	return m.corrupt(name, off, func(b *byte) { *b = v })
}

func (m *Mem) corrupt(name string, off int64, change func(*byte)) error {
	if err := m.enter("corrupt", name); err != nil {
		return err
	}
	defer m.mu.Unlock()
	n, err := m.walk(name)
	if err != nil {
		return pathErr("corrupt", name, err)
	}
	if n.names != nil || off < 0 || off >= n.data.size {
		return fmt.Errorf("corrupt %s at %d: %w", name, off, fs.ErrInvalid)
	}
	d, at := &n.data, off%memPage
	d.grow(off/memPage + 1)
	s := &d.slots[off/memPage]
	same := s.old == s.cur
	alter := func(p *[memPage]byte) *[memPage]byte {
		fresh := new([memPage]byte)
		if p != nil {
			*fresh = *p
		}
		change(&fresh[at])
		return fresh
	}
	s.cur = alter(s.cur)
	s.owned = !same
	if same {
		s.old = s.cur
	} else {
		s.old = alter(s.old)
	}
	return nil
}
