package members

import (
	"encoding/binary"
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// TypeStores is the type of the request that asks a node for its stores; its body is empty.
const TypeStores = 0x80

// ErrAnswer is returned for an answer to TypeStores that no agent made.
var ErrAnswer = errors.New("malformed list of stores")

const (
	version   = 1
	headSize  = 3
	entrySize = 16 + 8 + 8 + 4 + 1
	maxStores = 256
)

// Store is what a node says of one of its stores.
type Store struct {
	ID          block.StoreID
	Capacity    int64 // bytes
	Used        int64
	Extents     uint32
	Quarantined bool
}

// Encode gives the answer to TypeStores.
func Encode(stores []Store) []byte {
	b := make([]byte, headSize, headSize+len(stores)*entrySize)
	b[0] = version
	binary.LittleEndian.PutUint16(b[1:], uint16(len(stores)))
	for _, s := range stores {
		b = append(b, s.ID[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(s.Capacity))
		b = binary.LittleEndian.AppendUint64(b, uint64(s.Used))
		b = binary.LittleEndian.AppendUint32(b, s.Extents)
		flags := byte(0)
		if s.Quarantined {
			flags = 1
		}
		b = append(b, flags)
	}
	return b
}

// Decode reads what Encode wrote: ErrAnswer.
func Decode(b []byte) ([]Store, error) {
	if len(b) < headSize || b[0] != version {
		return nil, fmt.Errorf("%w: %d bytes", ErrAnswer, len(b))
	}
	n := int(binary.LittleEndian.Uint16(b[1:]))
	if b = b[headSize:]; n > maxStores || len(b) != n*entrySize {
		return nil, fmt.Errorf("%w: %d stores in %d bytes", ErrAnswer, n, len(b))
	}
	out := make([]Store, n)
	seen := map[block.StoreID]bool{}
	for i := range out {
		e := b[i*entrySize:]
		out[i] = Store{ID: block.StoreID(e[:16]), Capacity: int64(binary.LittleEndian.Uint64(e[16:])),
			Used: int64(binary.LittleEndian.Uint64(e[24:])), Extents: binary.LittleEndian.Uint32(e[32:]), Quarantined: e[36] == 1}
		s := &out[i]
		if s.ID.IsZero() || seen[s.ID] || s.Capacity < 0 || s.Used < 0 || e[36] > 1 {
			return nil, fmt.Errorf("%w: store %s", ErrAnswer, s.ID)
		}
		seen[s.ID] = true
	}
	return out, nil
}
