package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes and marks of the wire, in bytes.
const (
	headerSize  = 28
	frameMagic  = 'm' | 'y'<<8
	helloSize   = 18
	maxHello    = 1 << 10
	maxSoftware = 64
)

// Frame types. Types below TypeReserved belong to the package that uses peer.
const (
	TypeReserved = 0xF0 // first type that peer keeps for itself

	typeHello = 0xF0
	typePing  = 0xF1
	typeGrant = 0xF2
)

const flagResponse = 1 << 0

// Status values of replies. Those below StatusReserved, other than StatusOK, belong to the package that uses peer.
const (
	StatusOK       uint16 = 0
	StatusReserved uint16 = 0xFF00 // first status that peer keeps for itself
	// StatusBadGrant answers a grant that was not accepted; the body is the reason.
	StatusBadGrant uint16 = 0xFF01
	// StatusUnknownType answers a control frame that this version does not know.
	StatusUnknownType uint16 = 0xFF02
	// StatusTooLarge replaces a reply that is larger than the asking side takes.
	StatusTooLarge uint16 = 0xFF03
)

// Versions of the protocol that this build speaks: N and N-1.
const (
	newestVersion = 1
	oldestVersion = 1
)

// Errors of the framing.
var (
	// ErrFrame is returned when bytes are not a frame of this protocol, or break its rules. The connection ends.
	ErrFrame = errors.New("peer: malformed frame")
	// ErrTooLarge is returned for a body above the limit of either side.
	ErrTooLarge = errors.New("peer: body above the limit")
	// ErrVersion is returned when two nodes have no protocol version in common.
	ErrVersion = errors.New("peer: no protocol version in common")
)

// header is the fixed beginning of a frame; see the package comment for its drawing.
type header struct {
	typ    uint8
	flags  uint8
	status uint16
	id     uint64
	body   uint32 // bytes that follow the header, meta included
	meta   uint32 // bytes of the body that are meta
	expect uint32 // requests: about how many bytes the reply's body will have
}

func (h *header) put(b []byte) {
	_ = b[headerSize-1]
	binary.LittleEndian.PutUint16(b[0:], frameMagic)
	b[2], b[3] = h.typ, h.flags
	binary.LittleEndian.PutUint16(b[4:], h.status)
	binary.LittleEndian.PutUint16(b[6:], 0)
	binary.LittleEndian.PutUint64(b[8:], h.id)
	binary.LittleEndian.PutUint32(b[16:], h.body)
	binary.LittleEndian.PutUint32(b[20:], h.meta)
	binary.LittleEndian.PutUint32(b[24:], h.expect)
}

// parse reads a header and checks all that can be checked before memory is taken for the body.
func (h *header) parse(b []byte, maxBody uint32) error {
	if len(b) < headerSize || binary.LittleEndian.Uint16(b) != frameMagic {
		return fmt.Errorf("%w: no magic", ErrFrame)
	}
	h.typ, h.flags = b[2], b[3]
	h.status = binary.LittleEndian.Uint16(b[4:])
	h.id = binary.LittleEndian.Uint64(b[8:])
	h.body = binary.LittleEndian.Uint32(b[16:])
	h.meta = binary.LittleEndian.Uint32(b[20:])
	h.expect = binary.LittleEndian.Uint32(b[24:])
	switch {
	case h.flags&^flagResponse != 0:
		return fmt.Errorf("%w: flags %#x", ErrFrame, h.flags)
	case binary.LittleEndian.Uint16(b[6:]) != 0:
		return fmt.Errorf("%w: reserved bytes are set", ErrFrame)
	case h.body > maxBody:
		return fmt.Errorf("%w: body of %d bytes, limit %d: %w", ErrFrame, h.body, maxBody, ErrTooLarge)
	case h.meta > h.body:
		return fmt.Errorf("%w: meta of %d bytes in a body of %d", ErrFrame, h.meta, h.body)
	case h.flags&flagResponse == 0 && h.status != 0:
		return fmt.Errorf("%w: a request with a status", ErrFrame)
	}
	return nil
}

// hello is the first frame of each side.
type hello struct {
	newest, oldest uint16
	maxBody        uint32
	caps           uint64
	software       string
}

func (h hello) encode() []byte {
	b := make([]byte, helloSize, helloSize+len(h.software))
	binary.LittleEndian.PutUint16(b[0:], h.newest)
	binary.LittleEndian.PutUint16(b[2:], h.oldest)
	binary.LittleEndian.PutUint32(b[4:], h.maxBody)
	binary.LittleEndian.PutUint64(b[8:], h.caps)
	binary.LittleEndian.PutUint16(b[16:], uint16(len(h.software)))
	return append(b, h.software...)
}

// decodeHello reads a hello. Bytes beyond what this version knows are ignored.
func decodeHello(b []byte) (h hello, err error) {
	if len(b) < helloSize || len(b) > maxHello {
		return h, fmt.Errorf("%w: hello of %d bytes", ErrFrame, len(b))
	}
	h.newest = binary.LittleEndian.Uint16(b[0:])
	h.oldest = binary.LittleEndian.Uint16(b[2:])
	h.maxBody = binary.LittleEndian.Uint32(b[4:])
	h.caps = binary.LittleEndian.Uint64(b[8:])
	n := int(binary.LittleEndian.Uint16(b[16:]))
	if n > maxSoftware || helloSize+n > len(b) || h.oldest > h.newest || h.oldest == 0 {
		return hello{}, fmt.Errorf("%w: hello", ErrFrame)
	}
	h.software = string(b[helloSize : helloSize+n])
	return h, nil
}

// negotiate gives the highest version that both sides speak.
func negotiate(a, b hello) (uint16, error) {
	v := min(a.newest, b.newest)
	if v < max(a.oldest, b.oldest) {
		return 0, fmt.Errorf("%w: %d to %d here, %d to %d there", ErrVersion, a.oldest, a.newest, b.oldest, b.newest)
	}
	return v, nil
}
