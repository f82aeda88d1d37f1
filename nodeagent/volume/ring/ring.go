package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync/atomic"
	"unsafe"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// Sizes in bytes.
const (
	headSize    = 4096
	slotSize    = 64
	lowAt       = 64   // in the head: the lowest write sequence that is not freed
	mintedAt    = 72   // in the head: how many extent numbers the writer has used up
	freedAt     = 80   // in the head: the highest write sequence of a request that was freed
	copyAt      = 2048 // in the head: its second copy
	fixedSize   = 60   // of the part of the head that there are two copies of
	version     = 1
	SlotPages   = 64 // most pages of one slot
	DefaultSize = headSize + 8192*slotSize + 32<<20
)

// Op is what a slot asks for.
type Op uint8

// Ops. A discard makes a range read as zeros and carries no payload.
const (
	OpWrite Op = 1 + iota
	OpDiscard
)

// ID is a front end's request id; the zero ID is never sent again and is not looked for.
type ID [24]byte

// Errors.
var (
	ErrFull   = errors.New("write ring is full")
	ErrFormat = errors.New("not a write ring of this volume and version")
	ErrPages  = errors.New("no such number of pages fits a slot")
)

// Ring is the ring of one volume.
type Ring struct {
	mem    []byte
	slots  []byte
	data   []byte
	nslots uint64

	low  uint64 // lowest write sequence that is not freed
	next uint64 // next write sequence to hand out
	head uint64 // where the next payload goes in data
	tail uint64 // start of the oldest payload in use; head == tail means empty only if used == 0
	used uint64

	ids map[ID]uint64
}

// Slot is a view of one slot.
type Slot struct {
	WSeq    uint64
	ID      ID
	Op      Op
	Page    uint64
	Pages   uint64 // of the payload or, for a discard, of the range
	Payload []byte // in the ring's memory; valid until the slot is freed
}

// Format makes a new ring in mem, which must be zero, 8-aligned and at least 1 MiB, for a writer at e. It writes the
// magic last: until then the memory does not pass for a ring.
func Format(mem []byte, v block.VolumeID, e block.Epoch) (*Ring, error) {
	nslots := slotsFor(len(mem))
	if nslots == 0 || uintptr(unsafe.Pointer(&mem[0]))%8 != 0 {
		return nil, fmt.Errorf("%d bytes are too few or not aligned: %w", len(mem), ErrFormat)
	}
	r := view(mem, nslots)
	r.setLow(1)
	r.next = 1
	head := r.fixed(v, e)
	copy(mem[copyAt:], head[:])
	copy(mem[8:], head[8:])
	r.word(0).Store(binary.LittleEndian.Uint64(head[:]))
	return r, nil
}

// fixed encodes the part of the head that there are two copies of.
func (r *Ring) fixed(v block.VolumeID, e block.Epoch) (h [fixedSize]byte) {
	copy(h[:], "MNRG")
	binary.LittleEndian.PutUint32(h[4:], version)
	copy(h[8:], v[:])
	e.Put(h[24:])
	binary.LittleEndian.PutUint32(h[44:], uint32(r.nslots))
	binary.LittleEndian.PutUint64(h[48:], uint64(len(r.mem)-headSize)-r.nslots*slotSize)
	binary.LittleEndian.PutUint32(h[56:], checksum(h[:56]))
	return h
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func slotsFor(size int) int {
	n := 8192
	for n > 64 && headSize+n*slotSize+n*1024 > size {
		n /= 2
	}
	if headSize+n*slotSize+2*SlotPages*block.PageSize > size {
		return 0
	}
	return n
}

func view(mem []byte, nslots int) *Ring {
	end := headSize + nslots*slotSize
	data := mem[end:]
	data = data[:len(data)/block.PageSize*block.PageSize]
	return &Ring{mem: mem, slots: mem[headSize:end], data: data, nslots: uint64(nslots), ids: make(map[ID]uint64)}
}

func (r *Ring) slot(w uint64) []byte { i := w % r.nslots * slotSize; return r.slots[i : i+slotSize] }

func (r *Ring) commit(i uint64) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&r.slots[i%r.nslots*slotSize]))
}

// word is the 8 bytes at off in the head, as one that is written at once.
func (r *Ring) word(off int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&r.mem[off])) }

func (r *Ring) setLow(w uint64) {
	r.low = w
	r.word(lowAt).Store(w)
}

// Epoch is the epoch that the ring was filled under.
func (r *Ring) Epoch() block.Epoch { return block.GetEpoch(r.mem[24:]) }

// SetEpoch changes the epoch; the writer does it before it uses a new session. One copy of the head is whole at any
// moment: the second is touched only once the first is complete.
func (r *Ring) SetEpoch(e block.Epoch) {
	head := r.fixed(block.VolumeID(r.mem[8:24]), e)
	copy(r.mem, head[:])
	copy(r.mem[copyAt:], head[:])
}

// SetMinted keeps how many extent numbers the epoch's writer has used up, before it uses the last of them. A later session of it
// starts there: what was opened under a number may still lie on a store that does not answer.
func (r *Ring) SetMinted(n uint32) { r.word(mintedAt).Store(uint64(n)) }

// Minted is what SetMinted kept.
func (r *Ring) Minted() uint32 { return uint32(r.word(mintedAt).Load()) }

// Freed is the highest write sequence of a request that was freed, so that the journal alone has it; 0 if there is none. Sequences
// that no request came to have may be above it, and below Low.
func (r *Ring) Freed() uint64 { return min(r.word(freedAt).Load(), r.low-1) }

// StartAt sets the next write sequence of an empty ring: above all that the journal has of this epoch.
func (r *Ring) StartAt(w uint64) {
	if r.low == r.next && w > r.next {
		r.setLow(w)
		r.next = w
	}
}

// Find gives the write sequence of a request that is in the ring.
func (r *Ring) Find(id ID) (w uint64, ok bool) {
	w, ok = r.ids[id]
	return w, ok
}

// Reserve takes a slot and room for its payload. ErrFull means: wait until slots are freed. pages is at most SlotPages
// for a write (else ErrPages). The request counts once Commit was called.
func (r *Ring) Reserve(id ID, op Op, page, pages uint64) (w uint64, payload []byte, err error) {
	if pages == 0 || (op == OpWrite && pages > SlotPages) {
		return 0, nil, fmt.Errorf("%d pages: %w", pages, ErrPages)
	}
	if r.next-r.low >= r.nslots {
		return 0, nil, ErrFull
	}
	var off uint64
	if op == OpWrite {
		n := pages * block.PageSize
		var ok bool
		if off, ok = r.room(n); !ok {
			return 0, nil, ErrFull
		}
		payload = r.data[off : off+n : off+n]
	}
	w = r.next
	r.next++
	s := r.slot(w)
	r.commit(w).Store(0)
	copy(s[8:32], id[:])
	binary.LittleEndian.PutUint64(s[32:], page)
	binary.LittleEndian.PutUint64(s[40:], off)
	binary.LittleEndian.PutUint32(s[48:], uint32(min(pages, 1<<32-1)))
	s[52], s[53] = byte(op), 0
	if op == OpDiscard {
		binary.LittleEndian.PutUint64(s[40:], pages)
	}
	if id != (ID{}) {
		r.ids[id] = w
	} else {
		s[53] = 1
	}
	return w, payload, nil
}

// room finds n contiguous bytes of data behind head.
func (r *Ring) room(n uint64) (off uint64, ok bool) {
	size := uint64(len(r.data))
	if r.used == 0 {
		r.head, r.tail = 0, 0
	}
	skip := uint64(0)
	if r.head+n > size {
		skip = size - r.head
	}
	if r.used+skip+n > size {
		return 0, false
	}
	off = (r.head + skip) % size
	r.head = off + n
	if r.head == size {
		r.head = 0
	}
	r.used += skip + n
	return off, true
}

// Commit makes slot w count. The payload has been filled.
func (r *Ring) Commit(w uint64) { r.commit(w).Store(w) }

// Answered tells that the request's reply is with its sender.
func (r *Ring) Answered(id ID) {
	if w, ok := r.ids[id]; ok {
		r.slot(w)[53] = 1
	}
}

// AllAnswered marks every slot so: no request is sent again any more.
func (r *Ring) AllAnswered() {
	for w := r.low; w < r.next; w++ {
		r.slot(w)[53] = 1
	}
}

// Get gives slot w if it is committed.
func (r *Ring) Get(w uint64) (s Slot, ok bool) {
	if w < r.low || w >= r.next || r.commit(w).Load() != w {
		return s, false
	}
	b := r.slot(w)
	s = Slot{WSeq: w, ID: ID(b[8:32]), Op: Op(b[52]), Page: binary.LittleEndian.Uint64(b[32:]), Pages: uint64(binary.LittleEndian.Uint32(b[48:]))}
	off := binary.LittleEndian.Uint64(b[40:])
	if s.Op == OpDiscard {
		s.Pages = off
		return s, true
	}
	s.Payload = r.data[off : off+s.Pages*block.PageSize]
	return s, true
}

// Low is the lowest write sequence that is not freed, Next the one that is handed out next.
func (r *Ring) Low() uint64  { return r.low }
func (r *Ring) Next() uint64 { return r.next }

// Free lets go of the lowest slot. It reports false if the slot may not go yet: its request is not answered. A slot
// that was never committed by a former process goes at once.
func (r *Ring) Free() bool {
	if r.low >= r.next {
		return false
	}
	w := r.low
	b := r.slot(w)
	s, ok := r.Get(w)
	if ok && b[53] == 0 {
		return false
	}
	if id := ID(b[8:32]); r.ids[id] == w {
		delete(r.ids, id)
	}
	if ok {
		r.word(freedAt).Store(w) // it is in the journal, whether or not low has passed it yet
	}
	r.setLow(w + 1) // first: a sequence that was freed is never handed out again
	r.commit(w).Store(0)
	if ok && s.Op == OpWrite {
		r.drop(binary.LittleEndian.Uint64(b[40:]), s.Pages*block.PageSize)
	}
	return true
}

// drop moves tail behind the payload at off.
func (r *Ring) drop(off, n uint64) {
	size := uint64(len(r.data))
	gone := (off + size - r.tail) % size // bytes skipped at the wrap
	r.used -= min(r.used, gone+n)
	r.tail = (off + n) % size
}

// Used is how many bytes of payload space are taken.
func (r *Ring) Used() int64 { return int64(r.used) }

// Size is how many bytes of payload space there are.
func (r *Ring) Size() int64 { return int64(len(r.data)) }

// Crowded tells whether more than seven eighths of the slots are taken.
func (r *Ring) Crowded() bool { return (r.next-r.low)*8 > r.nslots*7 }
