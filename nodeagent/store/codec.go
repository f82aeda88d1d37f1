package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var le = binary.LittleEndian

const (
	envelopeSize  = 16
	formatVersion = 1
	magicSuper    = "MNSB"
	magicState    = "MNST"
	magicFooter   = "MNFT"
	maxBody       = 1 << 30
)

// seal wraps a body into an envelope.
func seal(magic string, body []byte) []byte {
	b := make([]byte, envelopeSize, envelopeSize+len(body))
	copy(b, magic)
	le.PutUint32(b[4:], formatVersion)
	le.PutUint32(b[8:], uint32(len(body)))
	b = append(b, body...)
	le.PutUint32(b[12:], envelopeCRC(b))
	return b
}

func envelopeCRC(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[envelopeSize:])
}

// unseal gives the body of the envelope at the start of b. ErrNewer tells that a later version of this program wrote it, ErrCorrupt that
// none did. The envelope is the same in all versions: so a version that is not what was written is told from one that is newer.
func unseal(magic string, b []byte) ([]byte, error) {
	if len(b) < envelopeSize || string(b[:4]) != magic {
		return nil, fmt.Errorf("no %s envelope: %w", magic, ErrCorrupt)
	}
	n := le.Uint32(b[8:])
	if n > maxBody || int(n) > len(b)-envelopeSize {
		return nil, fmt.Errorf("%s of %d bytes: %w", magic, n, ErrCorrupt)
	}
	b = b[:envelopeSize+int(n)]
	if envelopeCRC(b) != le.Uint32(b[12:]) {
		return nil, fmt.Errorf("%s checksum: %w", magic, ErrCorrupt)
	}
	switch v := le.Uint32(b[4:]); {
	case v > formatVersion:
		return nil, fmt.Errorf("%s has format %d, this program knows up to %d; nothing was changed, start the version that wrote it: %w", magic, v, formatVersion, ErrNewer)
	case v != formatVersion:
		return nil, fmt.Errorf("%s version %d: %w", magic, v, ErrCorrupt)
	}
	return b[envelopeSize:], nil
}

// twice makes a file of two copies of an envelope, each padded to whole pages.
func twice(env []byte) []byte {
	half := (len(env) + page - 1) / page * page
	b := make([]byte, 2*half)
	copy(b, env)
	copy(b[half:], env)
	return b
}

// unsealTwice gives the body of the first good copy.
func unsealTwice(magic string, b []byte) ([]byte, error) {
	body, err := unseal(magic, b)
	if err == nil || errors.Is(err, ErrNewer) {
		return body, err
	}
	// The second copy starts on a page; where exactly is known only from the file's size, which may be damaged too.
	for at := page; at < len(b); at += page {
		if body, err2 := unseal(magic, b[at:]); err2 == nil || errors.Is(err2, ErrNewer) {
			return body, err2
		}
	}
	return nil, err
}

// enc and dec are the little-endian field codecs of this package. dec gives zeros after the first shortage.
type enc struct{ b []byte }

func (e *enc) u8(v uint8)              { e.b = append(e.b, v) }
func (e *enc) u16(v uint16)            { e.b = le.AppendUint16(e.b, v) }
func (e *enc) u32(v uint32)            { e.b = le.AppendUint32(e.b, v) }
func (e *enc) u64(v uint64)            { e.b = le.AppendUint64(e.b, v) }
func (e *enc) raw(v []byte)            { e.b = append(e.b, v...) }
func (e *enc) long(v []byte)           { e.u32(uint32(len(v))); e.raw(v) }
func (e *enc) short(v string)          { e.u16(uint16(len(v))); e.b = append(e.b, v...) }
func (e *enc) extent(x block.ExtentID) { var t [block.ExtentIDSize]byte; x.Put(t[:]); e.raw(t[:]) }
func (e *enc) epoch(p block.Epoch)     { var t [block.EpochSize]byte; p.Put(t[:]); e.raw(t[:]) }
func (e *enc) flag(v bool) {
	if v {
		e.u8(1)
	} else {
		e.u8(0)
	}
}

type dec struct {
	b   []byte
	bad bool
}

func (d *dec) take(n int) []byte {
	if d.bad || n < 0 || len(d.b) < n {
		d.bad = true
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *dec) u8() uint8 {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *dec) u16() uint16 {
	if v := d.take(2); v != nil {
		return le.Uint16(v)
	}
	return 0
}

func (d *dec) u32() uint32 {
	if v := d.take(4); v != nil {
		return le.Uint32(v)
	}
	return 0
}

func (d *dec) u64() uint64 {
	if v := d.take(8); v != nil {
		return le.Uint64(v)
	}
	return 0
}

func (d *dec) id16() (id [16]byte) { copy(id[:], d.take(16)); return id }
func (d *dec) hash() (h block.Hash) {
	copy(h[:], d.take(len(h)))
	return h
}
func (d *dec) long() []byte  { return d.take(int(d.u32())) }
func (d *dec) short() string { return string(d.take(int(d.u16()))) }
func (d *dec) flag() bool {
	v := d.u8()
	d.bad = d.bad || v > 1
	return v == 1
}

func (d *dec) extent() block.ExtentID {
	if v := d.take(block.ExtentIDSize); v != nil {
		return block.GetExtentID(v)
	}
	return block.ExtentID{}
}

func (d *dec) epoch() block.Epoch {
	if v := d.take(block.EpochSize); v != nil {
		return block.GetEpoch(v)
	}
	return block.Epoch{}
}

// count reads a list's length, which can not exceed what the rest can hold at size bytes each.
func (d *dec) count(size int) int {
	n := int(d.u32())
	if n > len(d.b)/size {
		d.bad = true
		return 0
	}
	return n
}

func (d *dec) done(what string) error {
	if d.bad || len(d.b) != 0 {
		return fmt.Errorf("%s does not decode: %w", what, ErrCorrupt)
	}
	return nil
}
