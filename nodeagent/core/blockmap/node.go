package blockmap

import (
	"encoding/binary"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// Shape of the map.
const (
	Fanout    = 1 << fanBits
	MaxLevels = 4
	MaxPages  = uint64(1) << (fanBits * MaxLevels) // most pages of a volume: 256 TiB

	fanBits = 9
)

const _ = uint(block.PageSize - Fanout*8) // a node is one page

// Pager reads map nodes. Node returns the verified content, block.PageSize bytes; it is borrowed until the next call
// and never written. The address is relative to the volume at hand.
type Pager interface {
	Node(a Addr) ([]byte, error)
}

// table is a decoded node, its entries relative to the volume at hand.
type table [Fanout]Addr

// load decodes a node that was read through an address of generation gen.
func (t *table) load(page []byte, gen uint16) error {
	page = page[:block.PageSize]
	for i := range t {
		e := Addr(binary.LittleEndian.Uint64(page[i*8:]))
		if e != 0 {
			if !e.validAt(gen) {
				return fmt.Errorf("slot %d: address %s, %d generations down: %w", i, e, gen, ErrFormat)
			}
			e += Addr(gen) << 48
		}
		t[i] = e
	}
	return nil
}

func (t *table) put(b []byte) {
	b = b[:block.PageSize]
	for i, e := range t {
		binary.LittleEndian.PutUint64(b[i*8:], uint64(e))
	}
}

func (t *table) empty() bool {
	for _, e := range t {
		if e != 0 {
			return false
		}
	}
	return true
}

func readNode(p Pager, a Addr, level uint8) ([]byte, error) {
	page, err := p.Node(a)
	if err != nil {
		return nil, fmt.Errorf("map node %s (level %d): %w", a, level, err)
	}
	if len(page) != block.PageSize {
		return nil, fmt.Errorf("map node %s (level %d) of %d bytes: %w", a, level, len(page), ErrFormat)
	}
	return page, nil
}

func checkRoot(root journal.MapRoot) error {
	a := Addr(root.Addr)
	if root.Levels > MaxLevels || root.Levels == 0 && a != 0 || a != 0 && !a.validAt(0) {
		return fmt.Errorf("map root %s of %d levels: %w", a, root.Levels, ErrFormat)
	}
	return nil
}

// span is the number of pages below a node of this level; a data page has level 0.
func span(level uint8) uint64 { return 1 << (fanBits * level) }

// Lookup is the address of a page, 0 for a hole or a page beyond the map. It allocates nothing.
func Lookup(p Pager, root journal.MapRoot, page uint64) (Addr, error) {
	var out [1]Addr
	_, err := lookup(p, root, page, out[:])
	return out[0], err
}

// LookupRange fills out with the addresses of the pages from first on. It reads each node on the way once a leaf and
// allocates nothing. On an error out is partly filled.
func LookupRange(p Pager, root journal.MapRoot, first uint64, out []Addr) error {
	for len(out) > 0 {
		n, err := lookup(p, root, first, out)
		if err != nil {
			return err
		}
		first, out = first+uint64(n), out[n:]
	}
	return nil
}

// lookup fills out up to the end of the leaf, or hole subtree, that covers first, and returns how many it filled.
func lookup(p Pager, root journal.MapRoot, first uint64, out []Addr) (int, error) {
	if err := checkRoot(root); err != nil {
		return 0, err
	}
	if root.Levels == 0 || first >= span(root.Levels) {
		clear(out)
		return len(out), nil
	}
	a := Addr(root.Addr)
	for level := root.Levels; ; level-- {
		left := span(level) - first&(span(level)-1)
		out = out[:min(uint64(len(out)), left)]
		if a == 0 {
			clear(out)
			return len(out), nil
		}
		page, err := readNode(p, a, level)
		if err != nil {
			return 0, err
		}
		slot := int(first >> (fanBits * (level - 1)) & (Fanout - 1))
		if level == 1 {
			return len(out), fill(out, page[slot*8:], a)
		}
		next := Addr(binary.LittleEndian.Uint64(page[slot*8:]))
		if a, err = next.Shift(a.Gen()); err != nil {
			return 0, fmt.Errorf("slot %d of a node of level %d: %w", slot, level, err)
		}
	}
}

// fill decodes entries of the leaf at a.
func fill(out []Addr, entries []byte, a Addr) (err error) {
	for i := range out {
		if out[i], err = Addr(binary.LittleEndian.Uint64(entries[i*8:])).Shift(a.Gen()); err != nil {
			return fmt.Errorf("map node %s: %w", a, err)
		}
	}
	return nil
}
