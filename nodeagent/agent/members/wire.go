package members

import (
	"encoding/binary"
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/clearing"
)

// TypeStores is the type of the request that asks a node for its stores. Its body is the newest version of the answer that is understood, a byte;
// empty: 1.
const TypeStores = 0x80

// ErrAnswer is returned for an answer to TypeStores that no agent made.
var ErrAnswer = errors.New("malformed list of stores")

const (
	version       = 2
	oldestVersion = 1
	headSize      = 3
	entrySize     = 16 + 8 + 8 + 4 + 1 // version 2 has one byte more
	maxStores     = 256
)

// Store is what a node says of one of its stores.
type Store struct {
	ID          block.StoreID
	Capacity    int64 // bytes
	Used        int64
	Extents     uint32
	Quarantined bool
	Clearing    clearing.Stage // what it gets back at the moment, because it is short of space
}

// Question gives the body of TypeStores.
func Question() []byte { return []byte{version} }

// Encode gives the answer to TypeStores with that body.
func Encode(stores []Store, asked []byte) []byte {
	v := byte(oldestVersion)
	if len(asked) > 0 {
		v = min(max(asked[0], oldestVersion), version)
	}
	b := make([]byte, headSize, headSize+len(stores)*(entrySize+1))
	b[0] = v
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
		if v > oldestVersion {
			b = append(b, byte(s.Clearing))
		}
	}
	return b
}

// Decode reads what Encode wrote: ErrAnswer.
func Decode(b []byte) ([]Store, error) {
	if len(b) < headSize || b[0] < oldestVersion || b[0] > version {
		return nil, fmt.Errorf("%w: %d bytes", ErrAnswer, len(b))
	}
	n := int(binary.LittleEndian.Uint16(b[1:]))
	size := entrySize
	if b[0] > oldestVersion {
		size++
	}
	if b = b[headSize:]; n > maxStores || len(b) != n*size {
		return nil, fmt.Errorf("%w: %d stores in %d bytes", ErrAnswer, n, len(b))
	}
	out := make([]Store, n)
	seen := map[block.StoreID]bool{}
	for i := range out {
		e := b[i*size:][:size]
		out[i] = Store{ID: block.StoreID(e[:16]), Capacity: int64(binary.LittleEndian.Uint64(e[16:])),
			Used: int64(binary.LittleEndian.Uint64(e[24:])), Extents: binary.LittleEndian.Uint32(e[32:]), Quarantined: e[36] == 1}
		s := &out[i]
		if size > entrySize {
			s.Clearing = clearing.Stage(e[entrySize])
		}
		if s.Clearing > clearing.Exhausted {
			return nil, fmt.Errorf("%w: store %s clears in stage %d", ErrAnswer, s.ID, s.Clearing)
		}
		if s.ID.IsZero() || seen[s.ID] || s.Capacity < 0 || s.Used < 0 || e[36] > 1 {
			return nil, fmt.Errorf("%w: store %s", ErrAnswer, s.ID)
		}
		seen[s.ID] = true
	}
	return out, nil
}
