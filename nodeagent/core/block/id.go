package block

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/zeebo/blake3"

	"mynetwork.io/mynetwork/nodeagent/core/block/leaf"
)

// PageSize is the unit of addressing and of verification, in bytes.
const PageSize = leaf.Size

// Hash is a BLAKE3-256 digest: a leaf (of one stored page), a block id, or the chain hash of a journal record.
type Hash [32]byte

// String is the digest in lower-case hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Sum is BLAKE3-256 of b.
func Sum(b []byte) Hash {
	if len(b) == PageSize {
		return leaf.Sum((*[PageSize]byte)(b))
	}
	if len(b) <= leaf.Short {
		return leaf.SumShort(b)
	}
	return blake3.Sum256(b)
}

// SumPair is Sum of two whole pages, in little more than the time of one.
func SumPair(a, b []byte) (Hash, Hash) {
	sums := leaf.Sum2((*[PageSize]byte)(a), (*[PageSize]byte)(b))
	return sums[0], sums[1]
}

// Sums puts the hash of each page, as stored, into sums, which is as long as pages.
func Sums(pages [][]byte, sums []Hash) {
	for i := 0; i < len(pages); i++ {
		if i+1 < len(pages) && len(pages[i]) == PageSize && len(pages[i+1]) == PageSize {
			sums[i], sums[i+1] = SumPair(pages[i], pages[i+1])
			i++
			continue
		}
		sums[i] = Sum(pages[i])
	}
}

// VolumeID names a volume. It is random and never reused.
type VolumeID [16]byte

// String is the id in lower-case hex.
func (v VolumeID) String() string { return hex.EncodeToString(v[:]) }

// IsZero reports whether v names no volume.
func (v VolumeID) IsZero() bool { return v == VolumeID{} }

// StoreID names one incarnation of one disk's store; formatting a disk again makes a new one. Random, never reused.
type StoreID [16]byte

// String is the id in lower-case hex.
func (s StoreID) String() string { return hex.EncodeToString(s[:]) }

// IsZero reports whether s names no store.
func (s StoreID) IsZero() bool { return s == StoreID{} }

// ErrBadID is returned when a text is not the hex form of an id.
var ErrBadID = errors.New("not an id of 32 hex digits")

func parse16(text string) (id [16]byte, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%q: %w", text, ErrBadID)
	}
	copy(id[:], b)
	return id, nil
}

// ParseVolumeID reads the hex form of a volume id.
func ParseVolumeID(text string) (VolumeID, error) {
	id, err := parse16(text)
	return VolumeID(id), err
}

// ParseStoreID reads the hex form of a store id.
func ParseStoreID(text string) (StoreID, error) {
	id, err := parse16(text)
	return StoreID(id), err
}

// Epoch is the generation of a volume's single writer. Number rises by compare-and-set in the registry; Token is the
// random mark of the writer that took the number; Session rises each time that same writer's process starts again.
type Epoch struct {
	Number  uint64
	Session uint32
	Token   uint64
}

// EpochSize is the encoded size of an Epoch in bytes.
const EpochSize = 20

// Compare orders epochs by number, then session. Tokens do not order: two tokens under one number never both exist
// at a quorum, because a replica accepts one token per number.
func (e Epoch) Compare(o Epoch) int {
	switch {
	case e.Number < o.Number:
		return -1
	case e.Number > o.Number:
		return 1
	case e.Session < o.Session:
		return -1
	case e.Session > o.Session:
		return 1
	}
	return 0
}

// Caretaker tells that the epoch was taken by an agent that looks after the volume while nobody uses it: whoever wants the volume takes
// it over at once. Tokens of writers are odd, those of caretakers even.
func (e Epoch) Caretaker() bool { return e.Token != 0 && e.Token&1 == 0 }

// Less reports whether e comes before o.
func (e Epoch) Less(o Epoch) bool { return e.Compare(o) < 0 }

// String is "number.session/token".
func (e Epoch) String() string { return fmt.Sprintf("%d.%d/%016x", e.Number, e.Session, e.Token) }

// Put writes e into the first EpochSize bytes of b, little endian: number, token, session.
func (e Epoch) Put(b []byte) {
	binary.LittleEndian.PutUint64(b[0:], e.Number)
	binary.LittleEndian.PutUint64(b[8:], e.Token)
	binary.LittleEndian.PutUint32(b[16:], e.Session)
}

// GetEpoch reads what Put wrote.
func GetEpoch(b []byte) Epoch {
	return Epoch{
		Number:  binary.LittleEndian.Uint64(b[0:]),
		Token:   binary.LittleEndian.Uint64(b[8:]),
		Session: binary.LittleEndian.Uint32(b[16:]),
	}
}

// ExtentID names an extent: the volume it was born in, the number of the epoch that opened it, and a counter within
// that epoch. One writer holds an epoch number, so ids are unique without coordination.
type ExtentID struct {
	Volume VolumeID
	Epoch  uint64
	N      uint32
}

// ExtentIDSize is the encoded size of an ExtentID in bytes.
const ExtentIDSize = 28

// IsZero reports whether x names no extent.
func (x ExtentID) IsZero() bool { return x == ExtentID{} }

// asideN marks the name under which a store keeps what an order would have destroyed: counters never get that far.
const asideN = 1 << 31

// Aside is the name under which a store sets a copy of x aside, so that it is kept for a person and is no part of the journal.
func (x ExtentID) Aside() ExtentID {
	x.N |= asideN
	return x
}

// Origin is the extent that was set aside under the name x; x itself if that is no such name.
func (x ExtentID) Origin() ExtentID {
	x.N &^= asideN
	return x
}

// IsAside reports whether x names a copy that was set aside.
func (x ExtentID) IsAside() bool { return x.N&asideN != 0 }

// String is "volume-epoch-n", each in hex, fixed width: it sorts in the order of opening and serves as a file name.
func (x ExtentID) String() string { return fmt.Sprintf("%x-%012x-%08x", x.Volume[:], x.Epoch, x.N) }

// ParseExtentID reads the form that String writes.
func ParseExtentID(text string) (x ExtentID, err error) {
	var vol string
	if len(text) != 54 || text[32] != '-' || text[45] != '-' {
		return x, fmt.Errorf("%q: %w", text, ErrBadID)
	}
	vol = text[:32]
	if x.Volume, err = ParseVolumeID(vol); err != nil {
		return x, err
	}
	if _, err = fmt.Sscanf(text[33:], "%012x-%08x", &x.Epoch, &x.N); err != nil || x.String() != text {
		return ExtentID{}, fmt.Errorf("%q: %w", text, ErrBadID)
	}
	return x, nil
}

// Put writes x into the first ExtentIDSize bytes of b.
func (x ExtentID) Put(b []byte) {
	copy(b, x.Volume[:])
	binary.LittleEndian.PutUint64(b[16:], x.Epoch)
	binary.LittleEndian.PutUint32(b[24:], x.N)
}

// GetExtentID reads what Put wrote.
func GetExtentID(b []byte) (x ExtentID) {
	copy(x.Volume[:], b)
	x.Epoch = binary.LittleEndian.Uint64(b[16:])
	x.N = binary.LittleEndian.Uint32(b[24:])
	return x
}

// Key is the extent's place in the 256-bit key space; its leading bits name the shard.
func (x ExtentID) Key() Hash {
	var b [ExtentIDSize]byte
	x.Put(b[:])
	return Sum(b[:])
}
