package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"unsafe"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

const (
	sectorSize = 512
	sectorHead = 16
	sectorData = 492
	crcAt      = 508
	prologue   = 16
	entryHead  = 8
	page       = 4096
)

const _ = uint(sectorHead + sectorData - crcAt) // the sector's parts meet
const _ = uint(crcAt - sectorHead - sectorData)

// Kinds of log entries.
const (
	kindInline = 1 + iota
	kindExtern
	kindPromise
	kindCut
	kindFree
	kindDrop
	kindMeta
)

// batch is what one Commit writes. It is laid out in sectors while entries are staged.
type batch struct {
	buf     []byte // whole sectors
	n       int    // bytes of stream so far, the prologue included
	entries uint32
	first   LSN
	last    LSN

	touched []*extent // extents with entries here
	syncs   []*extent // whose data files must be fsynced before the log is written
	created []*extent // whose names must be durable before the log is written
	cuts    []*extent
	frees   []*extent
}

func (b *batch) reset() {
	b.buf, b.n, b.entries, b.first, b.last = b.buf[:0], 0, 0, 0, 0
	clear(b.touched)
	clear(b.syncs)
	clear(b.created)
	clear(b.cuts)
	clear(b.frees)
	b.touched, b.syncs, b.created, b.cuts, b.frees = b.touched[:0], b.syncs[:0], b.created[:0], b.cuts[:0], b.frees[:0]
}

// sectorsFor is the number of sectors of a stream of n bytes, in whole units of align bytes.
func sectorsFor(n, align int) int {
	unit := align / sectorSize
	s := (n + sectorData - 1) / sectorData
	return (s + unit - 1) / unit * unit
}

// put appends p to the stream.
func (b *batch) put(p []byte) {
	for len(p) > 0 {
		at, off := b.n/sectorData*sectorSize, b.n%sectorData
		if off == 0 {
			b.grow(at + sectorSize)
		}
		k := copy(b.buf[at+sectorHead+off:at+crcAt], p)
		b.n += k
		p = p[k:]
	}
}

func (b *batch) grow(n int) {
	if n > cap(b.buf) {
		b.buf = append(aligned(max(2*cap(b.buf), n, 16*sectorSize)), b.buf...)
	}
	b.buf = b.buf[:n]
}

// aligned is empty memory for n bytes that begins at a multiple of the page size, as writes past the page cache need it.
func aligned(n int) []byte {
	b := make([]byte, n+page)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (page - 1)
	return b[skip : skip : skip+n]
}

// finish pads the stream to whole units and writes the prologue. Nothing may be put afterwards.
func (b *batch) finish(align int) (sectors int) {
	sectors = sectorsFor(max(b.n, prologue), align)
	used := len(b.buf)
	b.grow(sectors * sectorSize)
	clear(b.buf[used:])
	if off := b.n % sectorData; off != 0 {
		at := b.n / sectorData * sectorSize
		clear(b.buf[at+sectorHead+off : at+crcAt])
	}
	p := b.buf[sectorHead:]
	le.PutUint64(p, uint64(b.first))
	le.PutUint32(p[8:], uint32(max(b.n, prologue)-prologue))
	le.PutUint32(p[12:], b.entries)
	return sectors
}

// stamp writes the header and the checksum of each sector of a finished batch for the place it goes to.
func stamp(buf []byte, number uint64, seed uint32, sector int) {
	first := le.Uint32(buf[sectorHead:])
	count := len(buf) / sectorSize
	for i := range count {
		p := buf[i*sectorSize : (i+1)*sectorSize]
		le.PutUint64(p, number)
		le.PutUint16(p[8:], uint16(i))
		le.PutUint16(p[10:], uint16(count))
		le.PutUint32(p[12:], first)
		le.PutUint32(p[crcAt:], sectorCRC(p, seed, sector+i))
	}
}

func sectorCRC(p []byte, seed uint32, sector int) uint32 {
	return crc32.Update(seed, castagnoli, p[:crcAt]) ^ uint32(sector)*0x9e3779b1
}

// slotSeed makes the checksums of a store's segment its own.
func slotSeed(id block.StoreID, slot int) uint32 {
	var b [20]byte
	copy(b[:], id[:])
	binary.LittleEndian.PutUint32(b[16:], uint32(slot))
	return crc32.Checksum(b[:], castagnoli)
}

// sectorKind is what a sector of the log turned out to be.
type sectorKind uint8

const (
	sectorEmpty sectorKind = iota // zeros: never written
	sectorGood
	sectorBad
)

// sectorInfo is the header of a good sector.
type sectorInfo struct {
	batch        uint64
	index, count int
	first        uint32 // low half of the first LSN
}

func readSector(p []byte, seed uint32, sector int) (sectorKind, sectorInfo) {
	if le.Uint64(p) == 0 && [sectorSize]byte(p) == [sectorSize]byte{} {
		return sectorEmpty, sectorInfo{}
	}
	in := sectorInfo{le.Uint64(p), int(le.Uint16(p[8:])), int(le.Uint16(p[10:])), le.Uint32(p[12:])}
	if le.Uint32(p[crcAt:]) != sectorCRC(p, seed, sector) || in.batch == 0 || in.index >= in.count || in.index > sector {
		return sectorBad, in
	}
	return sectorGood, in
}

// entry is one decoded log entry; its slices borrow from the stream.
type entry struct {
	lsn     LSN
	kind    uint8
	extent  block.ExtentID
	volume  block.VolumeID
	rec     []byte // inline, extern
	payload []byte // inline; drop: the signed record; meta: the value
	epoch   block.Epoch
	settles bool
	seq     uint64     // cut
	logLen  uint32     // cut
	dataLen uint32     // cut
	hash    block.Hash // cut: of the last kept record
	key     string
}

// decodeStream decodes the stream of a batch and visits its entries. The stream's sectors were all good, so an error,
// ErrCorrupt, means that no store wrote it.
func decodeStream(stream []byte, visit func(*entry) error) error {
	if len(stream) < prologue {
		return fmt.Errorf("batch of %d bytes: %w", len(stream), ErrCorrupt)
	}
	lsn, size, n := LSN(le.Uint64(stream)), le.Uint32(stream[8:]), le.Uint32(stream[12:])
	if int64(size) > int64(len(stream)-prologue) {
		return fmt.Errorf("batch with %d bytes of entries: %w", size, ErrCorrupt)
	}
	d := dec{b: stream[prologue : prologue+int(size)]}
	for i := range n {
		e := entry{lsn: lsn + LSN(i), kind: d.u8()}
		zero := d.take(3)
		body := dec{b: d.long()}
		if d.bad || zero[0]|zero[1]|zero[2] != 0 {
			break
		}
		if err := e.decode(&body); err != nil {
			return err
		}
		if err := visit(&e); err != nil {
			return err
		}
	}
	return d.done("batch")
}

func (e *entry) decode(d *dec) error {
	switch e.kind {
	case kindInline, kindExtern:
		e.extent, e.rec = d.extent(), d.long()
		if e.kind == kindInline {
			e.payload, d.b = d.b, nil
		}
	case kindPromise:
		e.volume, e.epoch, e.settles = d.id16(), d.epoch(), d.flag()
	case kindCut:
		e.extent, e.seq, e.logLen, e.dataLen, e.hash = d.extent(), d.u64(), d.u32(), d.u32(), d.hash()
	case kindFree:
		e.extent = d.extent()
	case kindDrop:
		e.volume = d.id16()
		e.payload, d.b = d.b, nil
	case kindMeta:
		e.key = d.short()
		e.payload, d.b = d.b, nil
	default:
		return fmt.Errorf("entry kind %d: %w", e.kind, ErrCorrupt)
	}
	return d.done("entry")
}

// unwrap gathers the stream of a complete batch from its sectors.
func unwrap(sectors []byte) []byte {
	out := make([]byte, 0, len(sectors)/sectorSize*sectorData)
	for ; len(sectors) > 0; sectors = sectors[sectorSize:] {
		out = append(out, sectors[sectorHead:crcAt]...)
	}
	return out
}
