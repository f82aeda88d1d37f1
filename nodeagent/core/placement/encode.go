package placement

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// Format is the version of the encodings in the package comment.
const Format = 1

const (
	headerSize  = 24
	deltaSize   = headerSize + 64
	kindFull    = 0
	kindDelta   = 1
	smallest    = 1 + 1 + 1 + 8 + 1 // bytes of a member
	byteMembers = 256               // up to here a member index takes one byte
)

// Errors of the decoders.
var (
	ErrFormat = errors.New("malformed layout")
	ErrBase   = errors.New("delta is for another layout")
)

var magic = [4]byte{'M', 'N', 'L', 'Y'}

// AppendBinary appends the full encoding to b. It never fails.
func (l *Layout) AppendBinary(b []byte) ([]byte, error) { return l.encode(b), nil }

func (l *Layout) encode(b []byte) []byte {
	b = slices.Grow(b, headerSize+len(l.members)*64+2*len(l.table))
	b = l.appendHeader(b, kindFull)
	for _, n := range l.members {
		b = appendMember(b, n)
	}
	return l.appendEntries(b, l.table)
}

func (l *Layout) appendHeader(b []byte, kind byte) []byte {
	b = append(b, magic[:]...)
	b = append(b, Format, kind, byte(l.zones), byte(l.replicas), byte(l.bits), 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(l.members)))
	return binary.LittleEndian.AppendUint64(b, l.version)
}

func appendMember(b []byte, n Node) []byte {
	b = append(append(b, byte(len(n.ID))), n.ID...)
	b = append(append(b, byte(len(n.Zone))), n.Zone...)
	b = binary.LittleEndian.AppendUint64(b, n.Weight)
	return append(b, byte(n.State))
}

func (l *Layout) appendEntries(b []byte, entries []uint16) []byte {
	for _, m := range entries {
		if b = append(b, byte(m)); len(l.members) > byteMembers {
			b = append(b, byte(m>>8))
		}
	}
	return b
}

// Decode reads a full encoding. It returns ErrFormat, wrapping what was wrong, for anything that a layout cannot be;
// the zone rule and the shares are not checked. What it allocates is bounded by a small multiple of len(b).
func Decode(b []byte) (*Layout, error) {
	r := reader{b: b}
	l, count := r.header(kindFull)
	if r.err == nil && count*smallest > len(r.b) {
		r.fail("%d members in %d bytes", count, len(r.b))
	}
	for i := 0; i < count && r.err == nil; i++ {
		l.members = append(l.members, r.member())
	}
	if r.err != nil {
		return nil, r.err
	}
	if err := l.shape(); err != nil {
		return nil, err
	}
	if want := l.Shards() * l.width * l.entrySize(); len(r.b) != want {
		return nil, fmt.Errorf("table of %d bytes instead of %d: %w", len(r.b), want, ErrFormat)
	}
	l.table = make([]uint16, l.Shards()*l.width)
	r.entries(l, l.table)
	if err := l.checkTable(); err != nil {
		return nil, err
	}
	return l.finish(), nil
}

// shape checks the members and derives the width.
func (l *Layout) shape() error {
	if err := checkSorted(l.members); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	active := 0
	for _, n := range l.members {
		if n.State == Active {
			active++
		}
	}
	l.width = min(l.replicas, active)
	return nil
}

func (l *Layout) entrySize() int {
	if len(l.members) > byteMembers {
		return 2
	}
	return 1
}

// checkTable refuses rows that name a node twice, or one that is not an active member.
func (l *Layout) checkTable() error {
	for shard := range l.Shards() {
		row := l.row(uint32(shard))
		for at, m := range row {
			if int(m) >= len(l.members) || l.members[m].State != Active || slices.Contains(row[:at], m) {
				return fmt.Errorf("shard %d place %d names member %d: %w", shard, at, m, ErrFormat)
			}
		}
	}
	return nil
}

// reader consumes b and keeps the first error.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrFormat)
	}
}

// next takes n bytes. Without them it fails and returns none.
func (r *reader) next(n int) []byte {
	if r.err != nil || n > len(r.b) {
		r.fail("%d bytes where %d are needed", len(r.b), n)
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// header reads the header of the given kind and returns the number of members.
func (r *reader) header(kind byte) (*Layout, int) {
	b := r.next(headerSize)
	if r.err != nil {
		return nil, 0
	}
	l := &Layout{zones: ZonePolicy(b[6]), replicas: int(b[7]), bits: int(b[8])}
	count := binary.LittleEndian.Uint32(b[12:])
	l.version = binary.LittleEndian.Uint64(b[16:])
	switch {
	case [4]byte(b[:4]) == magic && b[4] > Format:
		r.fail("format %d is of a newer version of this program, which knows up to %d", b[4], Format)
	case [4]byte(b[:4]) != magic || b[4] != Format || b[5] != kind || b[9]|b[10]|b[11] != 0:
		r.fail("header %x", b[:12])
	case l.version == 0 || count == 0 || count > MaxMembers || l.bits > bits.Len(MaxShards)-1:
		r.fail("version %d, %d members, 2^%d shards", l.version, count, l.bits)
	default:
		if err := l.Params().check(); err != nil {
			r.fail("%v", err)
		}
	}
	return l, int(count)
}

func (r *reader) name() string {
	if n := r.next(1); n != nil {
		return string(r.next(int(n[0])))
	}
	return ""
}

func (r *reader) member() Node {
	n := Node{ID: r.name(), Zone: r.name()}
	if b := r.next(9); b != nil {
		n.Weight, n.State = binary.LittleEndian.Uint64(b), State(b[8])
	}
	return n
}

func (r *reader) entries(l *Layout, to []uint16) {
	size := l.entrySize()
	b := r.next(len(to) * size)
	if b == nil {
		return
	}
	for i := range to {
		if to[i] = uint16(b[i*size]); size == 2 {
			to[i] |= uint16(b[i*size+1]) << 8
		}
	}
}

// uvarint reads a number of at most limit, in its shortest form.
func (r *reader) uvarint(limit int) int {
	v, n := binary.Uvarint(r.b)
	if r.err != nil || n <= 0 || v > uint64(limit) || n > 1 && r.b[n-1] == 0 {
		r.fail("number above %d or not in its shortest form", limit)
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

func (r *reader) hash() (h block.Hash) {
	copy(h[:], r.next(len(h)))
	return h
}
