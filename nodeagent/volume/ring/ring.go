// Package ring is the write ring of one volume: acknowledged writes in shared memory that outlives the agent.
//
// The memory (a memfd that the holder also keeps) is drawn thus, little endian:
//
//	page 0    0 magic "MNRG" · 4 version u32 = 1 · 8 volume 16 · 24 epoch 20 · 44 slots u32 · 48 data u64 (bytes)
//	          56 crc32c of bytes 0..56
//	slots     slots × 64 bytes; the slot of write sequence w is number w mod slots
//	          0 commit u64 (w when committed, else 0; written last) · 8 request id 24 · 32 page u64 · 40 offset u64 into the data
//	          48 pages u32 · 52 op u8 · 53 answered u8 · 56 reserved 8
//	data      payloads, 4096-aligned, each contiguous
//
// A slot counts once its commit word is written after everything else of it. Slots are freed in order, by zeroing the
// commit word, and not before their request was answered: so a request that is sent again is either in the ring, or was
// never accepted.
//
// Not safe for concurrent use, but for the payload that Reserve returns: the caller fills it without a lock.
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
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

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

// Format makes a new ring in mem, which must be zero and at least 1 MiB, for a writer at e.
func Format(mem []byte, v block.VolumeID, e block.Epoch) (*Ring, error) {
	nslots := slotsFor(len(mem))
	if nslots == 0 {
		return nil, fmt.Errorf("%d bytes are too few: %w", len(mem), ErrFormat)
	}
	copy(mem, "MNRG")
	binary.LittleEndian.PutUint32(mem[4:], version)
	copy(mem[8:], v[:])
	binary.LittleEndian.PutUint32(mem[44:], uint32(nslots))
	binary.LittleEndian.PutUint64(mem[48:], uint64(len(mem)-headSize-nslots*slotSize))
	r := view(mem, nslots)
	r.low, r.next = 1, 1
	r.SetEpoch(e)
	return r, nil
}

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

// Open takes over a ring that a former process left. Slots that were not committed are given up: their requests were
// never answered. ErrFormat means that the memory is not a ring of this volume.
func Open(mem []byte, v block.VolumeID) (*Ring, error) {
	if len(mem) < headSize || string(mem[:4]) != "MNRG" || binary.LittleEndian.Uint32(mem[4:]) != version ||
		block.VolumeID(mem[8:24]) != v || binary.LittleEndian.Uint32(mem[56:]) != crc32.Checksum(mem[:56], castagnoli) {
		return nil, fmt.Errorf("volume %s: %w", v, ErrFormat)
	}
	nslots := int(binary.LittleEndian.Uint32(mem[44:]))
	if nslots != slotsFor(len(mem)) {
		return nil, fmt.Errorf("volume %s: %d slots in %d bytes: %w", v, nslots, len(mem), ErrFormat)
	}
	r := view(mem, nslots)
	r.recover()
	return r, nil
}

// recover finds the committed slots and rebuilds what is kept beside the memory.
func (r *Ring) recover() {
	var top uint64
	low := ^uint64(0)
	for i := uint64(0); i < r.nslots; i++ {
		w := r.commit(i).Load()
		if w == 0 || w%r.nslots != i {
			continue
		}
		low, top = min(low, w), max(top, w)
	}
	if top == 0 {
		r.low, r.next = 1, 1
		return
	}
	r.low, r.next = low, top+1
	first := true
	for w := low; w <= top; w++ {
		s, ok := r.Get(w)
		if !ok {
			continue
		}
		if s.ID != (ID{}) {
			r.ids[s.ID] = w
		}
		if s.Op != OpWrite {
			continue
		}
		off := binary.LittleEndian.Uint64(r.slot(w)[40:])
		if first {
			r.tail, first = off, false
		}
		r.head = off + s.Pages*block.PageSize
	}
	if !first {
		r.used = (r.head + uint64(len(r.data)) - r.tail) % uint64(len(r.data))
		if r.used == 0 {
			r.used = uint64(len(r.data))
		}
	}
}

func (r *Ring) slot(w uint64) []byte { i := w % r.nslots * slotSize; return r.slots[i : i+slotSize] }

func (r *Ring) commit(i uint64) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&r.slots[i%r.nslots*slotSize]))
}

// Epoch is the epoch that the ring was filled under.
func (r *Ring) Epoch() block.Epoch { return block.GetEpoch(r.mem[24:]) }

// SetEpoch changes the epoch; the writer does it before it uses a new session.
func (r *Ring) SetEpoch(e block.Epoch) {
	e.Put(r.mem[24:])
	binary.LittleEndian.PutUint32(r.mem[56:], crc32.Checksum(r.mem[:56], castagnoli))
}

// StartAt sets the next write sequence of an empty ring: above all that the journal has of this epoch.
func (r *Ring) StartAt(w uint64) {
	if r.low == r.next && w > r.next {
		r.low, r.next = w, w
	}
}

// Find gives the write sequence of a request that is in the ring.
func (r *Ring) Find(id ID) (w uint64, ok bool) {
	w, ok = r.ids[id]
	return w, ok
}

// Reserve takes a slot and room for its payload. ErrFull means: wait until slots are freed. pages is at most SlotPages
// for a write. The request counts once Commit was called.
func (r *Ring) Reserve(id ID, op Op, page, pages uint64) (w uint64, payload []byte, err error) {
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
	if s.Pages > SlotPages || off+s.Pages*block.PageSize > uint64(len(r.data)) {
		return Slot{}, false
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
	r.commit(w).Store(0)
	r.low++
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
