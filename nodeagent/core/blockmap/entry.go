package blockmap

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// Encoded sizes in bytes; see the package comment for the layouts.
const (
	BlockEntrySize  = 64
	ExtentEntrySize = 128
)

// Kind says where the pages of a block are.
type Kind uint8

// The kinds. Of a moved block the surviving pages lie in another block.
const (
	KindNone Kind = iota
	KindPhysical
	KindMoved
	kindEnd
)

// BlockEntry says where a block lies. Fields of the other kind are zero.
type BlockEntry struct {
	Kind        Kind
	Type        block.Type
	Encryption  block.Encryption
	Compression block.Compression
	Rows        uint16
	Live        uint16 // pages believed live: may overstate, never understate

	Extent  uint32 // physical: ordinal in the extent directory, from 1
	DataOff uint32 // of its first page, in the extent's data stream
	LogOff  uint32 // of the records that carry its rows
	LogLen  uint32
	Payload uint32 // bytes
	ID      block.Hash

	Target    uint64 // moved: block number
	Base      uint8  // target page of the first survivor
	Survivors Survivors
}

// Survivors is a set of page numbers within a block, bit p of byte p/8.
type Survivors [block.MaxPages / 8]byte

// Set adds page p, which is below block.MaxPages.
func (s *Survivors) Set(p uint8) { s[p/8] |= 1 << (p % 8) }

// Has reports whether page p is in the set.
func (s *Survivors) Has(p uint8) bool { return p < block.MaxPages && s[p/8]>>(p%8)&1 != 0 }

// RunAt is how many pages from p on are in the set, up to the first that is not.
func (s *Survivors) RunAt(p uint8) (n int) {
	for ; s.Has(p); p++ {
		n++
	}
	return n
}

// Count is the size of the set.
func (s *Survivors) Count() int { return s.Below(block.MaxPages) }

// Below is the number of pages below p in the set.
func (s *Survivors) Below(p uint8) (n int) {
	for _, v := range s[:p/8] {
		n += bits.OnesCount8(v)
	}
	if p%8 != 0 {
		n += bits.OnesCount8(s[p/8] & (1<<(p%8) - 1))
	}
	return n
}

// Resolve is where page lives on in a moved block's target; ok is false if it did not survive, or the block has not
// moved. The target may have moved too: see Through.
func (e *BlockEntry) Resolve(page uint8) (number uint64, target uint8, ok bool) {
	if e.Kind != KindMoved || !e.Survivors.Has(page) {
		return 0, 0, false
	}
	return e.Target, e.Base + uint8(e.Survivors.Below(page)), true
}

// Through is the moved entry e after its target moved as next says: it names next's target, and the survivors of both
// moves. If none is left the result is the zero entry. Moves therefore never chain.
func (e *BlockEntry) Through(next *BlockEntry) BlockEntry {
	out := *e
	out.Target, out.Survivors, out.Base = next.Target, Survivors{}, 0
	none := true
	for p := range uint8(block.MaxPages) {
		_, mid, ok := e.Resolve(p)
		if !ok {
			continue
		}
		if _, to, ok := next.Resolve(mid); ok {
			if none {
				out.Base, none = to, false
			}
			out.Survivors.Set(p)
		}
	}
	if none {
		return BlockEntry{}
	}
	out.Live = min(e.Live, uint16(out.Survivors.Count()))
	return out
}

// Put encodes e into the first BlockEntrySize bytes of b.
func (e *BlockEntry) Put(b []byte) {
	b = b[:BlockEntrySize]
	clear(b)
	le := binary.LittleEndian
	b[0], b[1], b[2], b[3] = byte(e.Kind), byte(e.Type), byte(e.Encryption), byte(e.Compression)
	le.PutUint16(b[4:], e.Rows)
	le.PutUint16(b[6:], e.Live)
	if e.Kind == KindMoved {
		le.PutUint64(b[8:], e.Target)
		b[16] = e.Base
		copy(b[32:], e.Survivors[:])
		return
	}
	le.PutUint32(b[8:], e.Extent)
	le.PutUint32(b[12:], e.DataOff)
	le.PutUint32(b[16:], e.LogOff)
	le.PutUint32(b[20:], e.LogLen)
	le.PutUint32(b[24:], e.Payload)
	copy(b[32:], e.ID[:])
}

// GetBlockEntry decodes and checks an entry. It returns ErrFormat for anything that no valid entry encodes to.
func GetBlockEntry(b []byte) (e BlockEntry, err error) {
	b = b[:BlockEntrySize]
	le := binary.LittleEndian
	e = BlockEntry{Kind: Kind(b[0]), Type: block.Type(b[1]), Encryption: block.Encryption(b[2]), Compression: block.Compression(b[3]),
		Rows: le.Uint16(b[4:]), Live: le.Uint16(b[6:])}
	if e.Kind == KindMoved {
		e.Target, e.Base, e.Survivors = le.Uint64(b[8:]), b[16], Survivors(b[32:])
	} else {
		e.Extent, e.DataOff, e.LogOff, e.LogLen, e.Payload = le.Uint32(b[8:]), le.Uint32(b[12:]), le.Uint32(b[16:]), le.Uint32(b[20:]), le.Uint32(b[24:])
		e.ID = block.Hash(b[32:])
	}
	var again [BlockEntrySize]byte
	e.Put(again[:])
	if again != [BlockEntrySize]byte(b) {
		return BlockEntry{}, fmt.Errorf("block entry: reserved bytes in use: %w", ErrFormat)
	}
	if err := e.check(); err != nil {
		return BlockEntry{}, err
	}
	return e, nil
}

func (e *BlockEntry) check() error {
	switch {
	case e.Kind == KindNone && *e == BlockEntry{}:
		return nil
	case e.Kind == KindNone || e.Kind >= kindEnd,
		e.Type < block.TypeIndex || e.Type > block.TypeMessage,
		e.Encryption > block.EncryptionAES256GCM || e.Compression > block.CompressionZstd,
		e.Rows == 0 || e.Rows > block.MaxPages || e.Live > e.Rows:
		return fmt.Errorf("block entry of kind %d, type %d, %d live of %d rows: %w", e.Kind, e.Type, e.Live, e.Rows, ErrFormat)
	case e.Kind == KindPhysical && (e.Extent == 0 || e.Payload > uint32(e.Rows)*block.PageSize):
		return fmt.Errorf("block entry in extent %d, %d bytes in %d rows: %w", e.Extent, e.Payload, e.Rows, ErrFormat)
	case e.Kind == KindMoved:
		n := e.Survivors.Count()
		if e.Target == 0 || e.Target > MaxBlock || n == 0 || n != e.Survivors.Below(uint8(e.Rows)) || int(e.Base)+n > block.MaxPages {
			return fmt.Errorf("block entry moved to %d.%d, %d survivors of %d rows: %w", e.Target, e.Base, n, e.Rows, ErrFormat)
		}
	}
	return nil
}

// ExtentState is where an extent is in its life.
type ExtentState uint8

// The states of an extent, in order.
const (
	ExtentNone ExtentState = iota
	ExtentOpen
	ExtentClosed
	ExtentCondemned // nothing is to be added that names it; freed when nothing does
	ExtentFreed
	extentEnd
)

// InlineMembers is the number of members that an ExtentEntry holds.
const InlineMembers = 3

// ExtentEntry is one extent of the volume at hand.
type ExtentEntry struct {
	Epoch     uint64 // with N and the volume: the extent id
	N         uint32
	State     ExtentState
	Flags     uint8 // the engine's
	Replicas  uint8 // R
	Quorum    uint8 // W
	DataBytes uint32
	LogBytes  uint32
	LiveBytes uint32
	LastSeq   uint64     // of its last record
	LastHash  block.Hash // that record's chain hash
	Count     uint8      // members in all
	Members   [InlineMembers]block.StoreID
}

// Put encodes e into the first ExtentEntrySize bytes of b.
func (e *ExtentEntry) Put(b []byte) {
	b = b[:ExtentEntrySize]
	clear(b)
	le := binary.LittleEndian
	le.PutUint64(b[0:], e.Epoch)
	le.PutUint32(b[8:], e.N)
	b[12], b[13], b[14], b[15] = byte(e.State), e.Flags, e.Replicas, e.Quorum
	le.PutUint32(b[16:], e.DataBytes)
	le.PutUint32(b[20:], e.LogBytes)
	le.PutUint32(b[24:], e.LiveBytes)
	b[28] = e.Count
	le.PutUint64(b[32:], e.LastSeq)
	copy(b[40:], e.LastHash[:])
	for i := range e.Members {
		copy(b[72+16*i:], e.Members[i][:])
	}
}

// GetExtentEntry decodes and checks an entry. It returns ErrFormat for anything that no valid entry encodes to.
func GetExtentEntry(b []byte) (e ExtentEntry, err error) {
	b = b[:ExtentEntrySize]
	le := binary.LittleEndian
	e = ExtentEntry{Epoch: le.Uint64(b), N: le.Uint32(b[8:]), State: ExtentState(b[12]), Flags: b[13], Replicas: b[14], Quorum: b[15],
		DataBytes: le.Uint32(b[16:]), LogBytes: le.Uint32(b[20:]), LiveBytes: le.Uint32(b[24:]), Count: b[28],
		LastSeq: le.Uint64(b[32:]), LastHash: block.Hash(b[40:])}
	for i := range e.Members {
		e.Members[i] = block.StoreID(b[72+16*i:])
	}
	var again [ExtentEntrySize]byte
	e.Put(again[:])
	bad := again != [ExtentEntrySize]byte(b) || e.State >= extentEnd
	if e.State == ExtentNone {
		bad = bad || e != ExtentEntry{}
	} else {
		bad = bad || e.Quorum == 0 || e.Quorum > e.Replicas
	}
	for i, m := range e.Members {
		bad = bad || m.IsZero() != (i >= int(e.Count))
	}
	if bad {
		return ExtentEntry{}, fmt.Errorf("extent entry %d.%d, state %d: %w", e.Epoch, e.N, e.State, ErrFormat)
	}
	return e, nil
}
