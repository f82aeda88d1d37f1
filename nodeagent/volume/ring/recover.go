package ring

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// Open takes over a ring that a former process left. Slots that were not committed are given up: their requests were
// never answered. ErrFormat means that the memory is not a ring of this volume, or was damaged.
func Open(mem []byte, v block.VolumeID) (*Ring, error) {
	nslots := slotsFor(len(mem))
	if nslots == 0 || uintptr(unsafe.Pointer(&mem[0]))%8 != 0 {
		return nil, fmt.Errorf("volume %s: %d bytes: %w", v, len(mem), ErrFormat)
	}
	r := view(mem, nslots)
	if !r.valid(mem, v) {
		if !r.valid(mem[copyAt:], v) {
			return nil, fmt.Errorf("volume %s: %w", v, ErrFormat)
		}
		copy(mem[:fixedSize], mem[copyAt:]) // killed while the first copy was written
	}
	if err := r.recover(); err != nil {
		return nil, fmt.Errorf("volume %s: %w", v, err)
	}
	return r, nil
}

// valid tells whether a copy of the head is whole and describes this memory.
func (r *Ring) valid(head []byte, v block.VolumeID) bool {
	return [fixedSize]byte(head) == r.fixed(v, block.GetEpoch(head[24:]))
}

// recover finds the committed slots and rebuilds what is kept beside the memory.
func (r *Ring) recover() error {
	r.low = r.word(lowAt).Load()
	if r.low == 0 || r.low > 1<<62 {
		return fmt.Errorf("lowest write sequence %d: %w", r.low, ErrFormat)
	}
	r.next = r.low
	for i := uint64(0); i < r.nslots; i++ {
		w := r.commit(i).Load()
		switch {
		case w == 0:
		case w%r.nslots != i || w >= r.low+r.nslots:
			return fmt.Errorf("slot %d holds write %d, the lowest is %d: %w", i, w, r.low, ErrFormat)
		case w < r.low:
			r.commit(i).Store(0) // freed; killed before this
		default:
			r.next = max(r.next, w+1)
		}
	}
	first := true
	for w := r.low; w < r.next; w++ {
		if r.commit(w).Load() != w {
			continue
		}
		if err := r.adopt(w, first); err != nil {
			return err
		}
		first = first && Op(r.slot(w)[52]) != OpWrite
	}
	return nil
}

// adopt checks committed slot w and takes its payload into the account. first: no payload is accounted for yet.
func (r *Ring) adopt(w uint64, first bool) error {
	b := r.slot(w)
	off, pages := binary.LittleEndian.Uint64(b[40:]), uint64(binary.LittleEndian.Uint32(b[48:]))
	size := uint64(len(r.data))
	n := pages * block.PageSize
	switch Op(b[52]) {
	case OpDiscard:
		if off == 0 {
			return fmt.Errorf("write %d discards nothing: %w", w, ErrFormat)
		}
	case OpWrite:
		if pages == 0 || pages > SlotPages || off%block.PageSize != 0 || off > size-n {
			return fmt.Errorf("write %d: %d pages at %d of %d bytes: %w", w, pages, off, size, ErrFormat)
		}
		if first {
			r.tail = off
		}
		gone := (off + size - r.tail) % size // from the oldest payload to this one
		if gone < r.used || gone+n > size {
			return fmt.Errorf("write %d: its payload at %d lies in that of another: %w", w, off, ErrFormat)
		}
		r.used = gone + n
		r.head = (off + n) % size
	default:
		return fmt.Errorf("write %d: operation %d: %w", w, b[52], ErrFormat)
	}
	if id := ID(b[8:32]); id != (ID{}) {
		r.ids[id] = w
	}
	return nil
}
