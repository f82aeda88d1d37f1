package journal

import (
	"encoding/binary"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// Limits of the lists in control bodies.
const (
	MaxMembers   = 16
	MaxName      = 128
	MaxSnapshots = 1000
	MaxLineage   = 64
)

type writer struct{ b []byte }

func (w *writer) u8(v uint8)     { w.b = append(w.b, v) }
func (w *writer) u16(v uint16)   { w.b = binary.LittleEndian.AppendUint16(w.b, v) }
func (w *writer) u32(v uint32)   { w.b = binary.LittleEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64)   { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *writer) bytes(v []byte) { w.b = append(w.b, v...) }
func (w *writer) extent(x block.ExtentID) {
	w.b = append(w.b, make([]byte, block.ExtentIDSize)...)
	x.Put(w.b[len(w.b)-block.ExtentIDSize:])
}
func (w *writer) name(s string) { w.u8(uint8(len(s))); w.b = append(w.b, s...) }
func (w *writer) members(m []block.StoreID) {
	w.u8(uint8(len(m)))
	for _, s := range m {
		w.bytes(s[:])
	}
}

// reader decodes; after the first shortage every result is zero and err is set.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || len(r.b) < n {
		if r.err == nil {
			r.err = fmt.Errorf("body needs %d more bytes: %w", n-len(r.b), ErrFormat)
		}
		return make([]byte, n) // n is small: lists and names check before they take
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() uint8              { return r.take(1)[0] }
func (r *reader) u16() uint16            { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32            { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64            { return binary.LittleEndian.Uint64(r.take(8)) }
func (r *reader) hash() block.Hash       { return block.Hash(r.take(32)) }
func (r *reader) id16() [16]byte         { return [16]byte(r.take(16)) }
func (r *reader) extent() block.ExtentID { return block.GetExtentID(r.take(block.ExtentIDSize)) }

func (r *reader) count(limit int, what string) int {
	n := int(r.u16())
	if n > limit {
		r.fail("%d %s, at most %d", n, what, limit)
		return 0
	}
	return n
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format+": %w", append(args, ErrFormat)...)
	}
}

func (r *reader) name() string {
	n := int(r.u8())
	if n > MaxName {
		r.fail("name of %d bytes", n)
	}
	if r.err != nil || len(r.b) < n {
		r.fail("name cut short")
		return ""
	}
	return string(r.take(n))
}

func (r *reader) members() []block.StoreID {
	n := int(r.u8())
	if n > MaxMembers {
		r.fail("%d members, at most %d", n, MaxMembers)
	}
	if r.err != nil || n == 0 {
		return nil
	}
	m := make([]block.StoreID, n)
	for i := range m {
		m[i] = r.id16()
	}
	return m
}

// done returns the error, if any, and refuses bytes left over.
func (r *reader) done() error {
	if r.err == nil && len(r.b) != 0 {
		r.fail("%d bytes left over", len(r.b))
	}
	return r.err
}
