package journal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zeebo/blake3"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// Sizes and limits in bytes and pages.
const (
	HeaderSize     = 128
	Version        = 1
	MaxRecordPages = 64
	MaxPayload     = MaxRecordPages * block.PageSize
	MaxBody        = 256 << 10
	MaxRecord      = HeaderSize + MaxBody

	magic  = 0x4a4d
	macOff = 112

	smallRecord = 1 << 10 // up to it, gathering a record is cheaper than a hasher, whose state has 11 KiB
)

// Type says what a record does.
type Type uint8

// Record types. Write, Index and Relocate carry pages; the rest are control records with the bodies of bodies.go.
const (
	TypeOpen       Type = 1 + iota // first record of an extent
	TypeClosed                     // last record of an extent; names the next
	TypeWrite                      // pages of a WRITE
	TypeIndex                      // pages of the map, of the block table or of the extent directory
	TypeRelocate                   // pages copied by cleaning, with the rows they were born with
	TypeDiscard                    // a range that reads as zeros from here on
	TypeSeal                       // names a block and its id
	TypeCheckpoint                 // a durable root and the position it covers
	TypeSnapshot                   // a point in time
	TypeNoop                       // nothing; keeps write sequences whole
	typeEnd
)

var typeNames = [typeEnd]string{"?", "open", "closed", "write", "index", "relocate", "discard", "seal", "checkpoint", "snapshot", "noop"}

// String is the type's name.
func (t Type) String() string {
	if t < typeEnd {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// HasPages reports whether records of this type carry rows and a payload.
func (t Type) HasPages() bool { return t == TypeWrite || t == TypeIndex || t == TypeRelocate }

// Errors of decoding; wrapped with the position.
var (
	ErrFormat = errors.New("malformed journal record")
	ErrShort  = errors.New("journal record is cut short")
	ErrChain  = errors.New("journal chain is broken")
)

// Record is one journal record. Body is borrowed from the buffer it was parsed from, or from the caller.
type Record struct {
	Type    Type
	Rows    uint16
	Payload uint32
	Seq     uint64
	Epoch   block.Epoch
	DataOff uint32
	LogOff  uint32
	Page    uint16
	Block   uint64
	Prev    block.Hash
	WSeq    uint64
	MAC     [16]byte
	Body    []byte
}

// Size is the encoded size of header and body in bytes.
func (r *Record) Size() int { return HeaderSize + len(r.Body) }

// Row decodes row i of a page record.
func (r *Record) Row(i int) block.Row { return block.GetRow(r.Body[i*block.RowSize:]) }

// PutHeader encodes the header into the first HeaderSize bytes of b.
func (r *Record) PutHeader(b []byte) {
	_ = b[HeaderSize-1]
	le := binary.LittleEndian
	le.PutUint16(b[0:], magic)
	b[2], b[3] = Version, byte(r.Type)
	le.PutUint16(b[4:], 0)
	le.PutUint16(b[6:], r.Rows)
	le.PutUint32(b[8:], uint32(HeaderSize+len(r.Body)))
	le.PutUint32(b[12:], r.Payload)
	le.PutUint64(b[16:], r.Seq)
	r.Epoch.Put(b[24:])
	le.PutUint32(b[44:], r.DataOff)
	le.PutUint32(b[48:], r.LogOff)
	le.PutUint16(b[52:], r.Page)
	le.PutUint16(b[54:], 0)
	le.PutUint64(b[56:], r.Block)
	copy(b[64:96], r.Prev[:])
	le.PutUint64(b[96:], r.WSeq)
	le.PutUint64(b[104:], 0)
	copy(b[macOff:HeaderSize], r.MAC[:])
}

// Append encodes the record to dst and returns it with the record's chain hash.
func (r *Record) Append(dst []byte) ([]byte, block.Hash) {
	n := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	dst = append(dst, r.Body...)
	r.PutHeader(dst[n:])
	return dst, HashOf(dst[n:])
}

// SetMAC enters the keyed hash of an encoded record, which its chain hash leaves out.
func SetMAC(rec []byte, mac [16]byte) { copy(rec[macOff:HeaderSize], mac[:]) }

// HashOf is the chain hash of one encoded record (header and body).
func HashOf(rec []byte) block.Hash {
	if len(rec) <= smallRecord {
		var buf [smallRecord]byte
		n := copy(buf[:], rec[:macOff])
		n += copy(buf[n:], rec[HeaderSize:])
		return block.Sum(buf[:n])
	}
	w := blake3.New()
	_, _ = w.Write(rec[:macOff]) // a hash never fails
	_, _ = w.Write(rec[HeaderSize:])
	var h block.Hash
	w.Sum(h[:0])
	return h
}

// Parse decodes the record at the start of b and returns it with its encoded size. ErrShort means that b ends inside
// the record; ErrFormat that no writer made it. The chain is not checked: see Chain.
func Parse(b []byte) (r Record, n int, err error) {
	if len(b) < HeaderSize {
		return r, 0, fmt.Errorf("header of %d bytes: %w", len(b), ErrShort)
	}
	le := binary.LittleEndian
	if le.Uint16(b) == magic && b[2] > Version {
		return r, 0, fmt.Errorf("version %d is of a newer version of this program, which knows up to %d: %w", b[2], Version, ErrFormat)
	}
	if le.Uint16(b) != magic || b[2] != Version {
		return r, 0, fmt.Errorf("magic %04x version %d: %w", le.Uint16(b), b[2], ErrFormat)
	}
	n = int(le.Uint32(b[8:]))
	if n < HeaderSize || n > MaxRecord {
		return r, 0, fmt.Errorf("length %d: %w", n, ErrFormat)
	}
	r = Record{
		Type: Type(b[3]), Rows: le.Uint16(b[6:]), Payload: le.Uint32(b[12:]), Seq: le.Uint64(b[16:]), Epoch: block.GetEpoch(b[24:]),
		DataOff: le.Uint32(b[44:]), LogOff: le.Uint32(b[48:]), Page: le.Uint16(b[52:]), Block: le.Uint64(b[56:]),
		Prev: block.Hash(b[64:96]), WSeq: le.Uint64(b[96:]), MAC: [16]byte(b[macOff:HeaderSize]),
	}
	if le.Uint16(b[4:]) != 0 || le.Uint16(b[54:]) != 0 || le.Uint64(b[104:]) != 0 {
		return r, 0, fmt.Errorf("seq %d: reserved bytes in use: %w", r.Seq, ErrFormat)
	}
	if len(b) < n {
		return r, 0, fmt.Errorf("seq %d: %d of %d bytes: %w", r.Seq, len(b), n, ErrShort)
	}
	r.Body = b[HeaderSize:n:n]
	return r, n, r.check()
}

func (r *Record) check() error {
	bad := func(what string) error { return fmt.Errorf("seq %d (%s): %s: %w", r.Seq, r.Type, what, ErrFormat) }
	if r.Type == 0 || r.Type >= typeEnd || r.Seq == 0 {
		return bad("unknown type or sequence 0")
	}
	if !r.Type.HasPages() {
		if r.Rows != 0 || r.Payload != 0 || r.Block != 0 || r.Page != 0 {
			return bad("control record with pages")
		}
		return nil
	}
	if r.Rows == 0 || r.Rows > MaxRecordPages || len(r.Body) != int(r.Rows)*block.RowSize || r.Block == 0 || int(r.Page)+int(r.Rows) > block.MaxPages {
		return bad("rows out of range")
	}
	var sum uint32
	for i := range int(r.Rows) {
		n := r.stored(i)
		if n > block.PageSize {
			return bad("stored length of a row")
		}
		sum += uint32(n)
	}
	if sum != r.Payload {
		return bad("payload size")
	}
	return nil
}

// CheckPayload verifies every page of a page record against its leaf. It returns block.ErrMismatch.
func (r *Record) CheckPayload(payload []byte) error {
	if len(payload) != int(r.Payload) {
		return fmt.Errorf("seq %d: payload of %d bytes, want %d: %w", r.Seq, len(payload), r.Payload, block.ErrMismatch)
	}
	if r.Rows == 1 {
		return r.checkLeaf(0, block.Sum(payload))
	}
	var pages [MaxRecordPages][]byte
	var sums [MaxRecordPages]block.Hash
	for i := range int(r.Rows) {
		n := r.stored(i)
		pages[i], payload = payload[:n], payload[n:]
	}
	block.Sums(pages[:r.Rows], sums[:r.Rows])
	for i := range int(r.Rows) {
		if err := r.checkLeaf(i, sums[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *Record) checkLeaf(i int, sum block.Hash) error {
	if sum != block.Hash(r.Body[i*block.RowSize:][:32]) {
		return fmt.Errorf("seq %d page %d: %w", r.Seq, i, block.ErrMismatch)
	}
	return nil
}

// CheckSum is CheckPayload of a record of one page that is stored whole, by the sum of its payload.
func (r *Record) CheckSum(sum block.Hash) error {
	if r.Rows != 1 || r.Payload != block.PageSize {
		return fmt.Errorf("seq %d: one sum for %d pages of %d bytes: %w", r.Seq, r.Rows, r.Payload, block.ErrMismatch)
	}
	return r.checkLeaf(0, sum)
}

// stored is the length of page i as stored.
func (r *Record) stored(i int) uint16 { return binary.LittleEndian.Uint16(r.Body[i*block.RowSize+82:]) }
