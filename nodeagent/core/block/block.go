package block

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zeebo/blake3"
)

// Sizes in bytes, and the most pages of a block: header, rows and pages stay below 1 MiB.
const (
	HeaderSize = 64
	RowSize    = 88
	MaxPages   = 240
	Version    = 1
)

const _ = uint(1<<20 - (HeaderSize + MaxPages*(RowSize+PageSize))) // does not compile if a block could exceed 1 MiB

// Type says what a block's pages are.
type Type uint8

// The block types. Record, contacts and message blocks belong to file groups.
const (
	TypeIndex Type = 1 + iota
	TypeData
	TypeRecord
	TypeContacts
	TypeMessage
)

// Encryption names how pages are encrypted before they are hashed.
type Encryption uint8

// The encryption methods.
const (
	EncryptionNone Encryption = iota
	EncryptionAES256GCM
)

// Compression names how pages are compressed before they are encrypted. A page that does not shrink is stored as is.
type Compression uint8

// The compression methods.
const (
	CompressionNone Compression = iota
	CompressionZstd
)

// Errors of decoding and checking. They are wrapped with what was looked at.
var (
	ErrFormat   = errors.New("malformed block")
	ErrMismatch = errors.New("content does not match its hash")
)

var magic = [4]byte{'M', 'N', 'B', 'K'}

// Row is one line of a leaf table: it identifies and pins one stored page.
type Row struct {
	Leaf  Hash
	Tag   [16]byte
	Addr  uint64
	Epoch uint64
	Token uint64
	Seq   uint64
	Idx   uint16
	Len   uint16
	Key   uint32
}

// Put encodes r into the first RowSize bytes of b.
func (r *Row) Put(b []byte) {
	_ = b[RowSize-1]
	copy(b[0:32], r.Leaf[:])
	copy(b[32:48], r.Tag[:])
	binary.LittleEndian.PutUint64(b[48:], r.Addr)
	binary.LittleEndian.PutUint64(b[56:], r.Epoch)
	binary.LittleEndian.PutUint64(b[64:], r.Token)
	binary.LittleEndian.PutUint64(b[72:], r.Seq)
	binary.LittleEndian.PutUint16(b[80:], r.Idx)
	binary.LittleEndian.PutUint16(b[82:], r.Len)
	binary.LittleEndian.PutUint32(b[84:], r.Key)
}

// GetRow decodes what Put wrote.
func GetRow(b []byte) (r Row) {
	_ = b[RowSize-1]
	copy(r.Leaf[:], b[0:32])
	copy(r.Tag[:], b[32:48])
	r.Addr = binary.LittleEndian.Uint64(b[48:])
	r.Epoch = binary.LittleEndian.Uint64(b[56:])
	r.Token = binary.LittleEndian.Uint64(b[64:])
	r.Seq = binary.LittleEndian.Uint64(b[72:])
	r.Idx = binary.LittleEndian.Uint16(b[80:])
	r.Len = binary.LittleEndian.Uint16(b[82:])
	r.Key = binary.LittleEndian.Uint32(b[84:])
	return r
}

// Check reports ErrMismatch unless stored is exactly the page that r pins.
func (r *Row) Check(stored []byte) error {
	if len(stored) != int(r.Len) || Sum(stored) != r.Leaf {
		return fmt.Errorf("page %d (seq %d): %w", r.Addr, r.Seq, ErrMismatch)
	}
	return nil
}

// Header is a block's header.
type Header struct {
	Type        Type
	Encryption  Encryption
	Compression Compression
	Rows        uint16
	Payload     uint32 // bytes of all pages as stored
	Volume      VolumeID
	Number      uint64
}

// Put encodes h into the first HeaderSize bytes of b.
func (h *Header) Put(b []byte) {
	clear(b[:HeaderSize])
	copy(b, magic[:])
	b[4], b[5], b[6], b[7] = Version, byte(h.Type), byte(h.Encryption), byte(h.Compression)
	binary.LittleEndian.PutUint16(b[8:], h.Rows)
	binary.LittleEndian.PutUint32(b[12:], h.Payload)
	copy(b[16:32], h.Volume[:])
	binary.LittleEndian.PutUint64(b[32:], h.Number)
}

// GetHeader decodes and checks a header. It returns ErrFormat for anything that Put cannot have written.
func GetHeader(b []byte) (h Header, err error) {
	if len(b) < HeaderSize {
		return h, fmt.Errorf("header of %d bytes: %w", len(b), ErrFormat)
	}
	if [4]byte(b[:4]) != magic || b[4] != Version {
		return h, fmt.Errorf("magic %x version %d: %w", b[:4], b[4], ErrFormat)
	}
	h.Type, h.Encryption, h.Compression = Type(b[5]), Encryption(b[6]), Compression(b[7])
	h.Rows = binary.LittleEndian.Uint16(b[8:])
	h.Payload = binary.LittleEndian.Uint32(b[12:])
	copy(h.Volume[:], b[16:32])
	h.Number = binary.LittleEndian.Uint64(b[32:])
	var again [HeaderSize]byte
	h.Put(again[:])
	switch {
	case again != [HeaderSize]byte(b[:HeaderSize]):
		return h, fmt.Errorf("reserved bytes in use: %w", ErrFormat)
	case h.Type < TypeIndex || h.Type > TypeMessage, h.Encryption > EncryptionAES256GCM, h.Compression > CompressionZstd:
		return h, fmt.Errorf("type %d encryption %d compression %d: %w", h.Type, h.Encryption, h.Compression, ErrFormat)
	case h.Rows == 0 || h.Rows > MaxPages, h.Payload > MaxPages*PageSize, h.Number == 0:
		return h, fmt.Errorf("%d rows, %d payload bytes, number %d: %w", h.Rows, h.Payload, h.Number, ErrFormat)
	}
	return h, nil
}

// ID is the block id: BLAKE3-256 over the header and the encoded rows.
func ID(h *Header, rows []byte) Hash {
	var head [HeaderSize]byte
	h.Put(head[:])
	w := blake3.New()
	_, _ = w.Write(head[:]) // a hash never fails
	_, _ = w.Write(rows)
	var id Hash
	w.Sum(id[:0])
	return id
}

// Table is a verified leaf table with the place of each page, relative to the first.
type Table struct {
	Header Header
	Rows   []Row
	Offs   []uint32 // byte offset of page i in the pages; len(Rows)+1 entries
}

// NewTable decodes rows and checks them against the block id. It returns ErrMismatch or ErrFormat.
func NewTable(h Header, rows []byte, id Hash) (*Table, error) {
	if len(rows) != int(h.Rows)*RowSize {
		return nil, fmt.Errorf("block %d: %d bytes of rows for %d: %w", h.Number, len(rows), h.Rows, ErrFormat)
	}
	if ID(&h, rows) != id {
		return nil, fmt.Errorf("leaf table of block %d: %w", h.Number, ErrMismatch)
	}
	t := &Table{Header: h, Rows: make([]Row, h.Rows), Offs: make([]uint32, h.Rows+1)}
	for i := range t.Rows {
		t.Rows[i] = GetRow(rows[i*RowSize:])
		if t.Rows[i].Len > PageSize {
			return nil, fmt.Errorf("block %d row %d: stored length %d: %w", h.Number, i, t.Rows[i].Len, ErrFormat)
		}
		t.Offs[i+1] = t.Offs[i] + uint32(t.Rows[i].Len)
	}
	if t.Offs[h.Rows] != h.Payload {
		return nil, fmt.Errorf("block %d: rows cover %d of %d bytes: %w", h.Number, t.Offs[h.Rows], h.Payload, ErrFormat)
	}
	return t, nil
}
