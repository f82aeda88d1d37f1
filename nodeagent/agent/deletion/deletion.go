// Package deletion is the signed word on which a volume dies.
//
// Little endian. The last byte of the magic is the version. The signature is Ed25519, by the network's control key, over
// "mynetwork deletion\0", the network's uid, a zero byte, and all bytes before the signature.
//
//	 0        4        20      28    36          100
//	+--------+--------+-------+-----+-----------+
//	| "MND"1 | volume | epoch | at  | signature |
//	+--------+--------+-------+-----+-----------+
//	  4        16       8       8     64
//
// epoch is the number that the deletion took, so it fences every writer before it; at is in unix seconds, for people.
//
// Invariant: a store takes a deletion record only if it is signed, and for the very volume it is asked to drop.
//
// Everything here is pure and safe for concurrent use.
package deletion

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// ErrDeletion is returned for a deletion record that is malformed, for another volume, or not signed by the control key.
var ErrDeletion = errors.New("deletion record is not accepted")

// Size is the encoded size in bytes.
const Size = bodySize + ed25519.SignatureSize

const (
	bodySize = 36
	magic    = 'M' | 'N'<<8 | 'D'<<16 | 1<<24
)

// Record is the content of a deletion record.
type Record struct {
	Volume block.VolumeID
	Epoch  uint64
	At     int64 // unix seconds
}

func signed(network string, body []byte) []byte {
	return append(append([]byte("mynetwork deletion\x00"+network), 0), body...)
}

// Sign gives the encoding, signed for a network.
func (r Record) Sign(network string, key ed25519.PrivateKey) []byte {
	b := make([]byte, bodySize, Size)
	binary.LittleEndian.PutUint32(b, magic)
	copy(b[4:], r.Volume[:])
	binary.LittleEndian.PutUint64(b[20:], r.Epoch)
	binary.LittleEndian.PutUint64(b[28:], uint64(r.At))
	return append(b, ed25519.Sign(key, signed(network, b))...)
}

// Verify decodes the deletion record of a volume: ErrDeletion.
func Verify(b []byte, v block.VolumeID, network string, key ed25519.PublicKey) (Record, error) {
	if len(b) != Size || binary.LittleEndian.Uint32(b) != magic {
		return Record{}, fmt.Errorf("volume %s: %d bytes, malformed: %w", v, len(b), ErrDeletion)
	}
	r := Record{Volume: block.VolumeID(b[4:20]), Epoch: binary.LittleEndian.Uint64(b[20:]), At: int64(binary.LittleEndian.Uint64(b[28:]))}
	if r.Volume != v {
		return Record{}, fmt.Errorf("volume %s: it is for volume %s: %w", v, r.Volume, ErrDeletion)
	}
	if !ed25519.Verify(key, signed(network, b[:bodySize]), b[bodySize:]) {
		return Record{}, fmt.Errorf("volume %s: not signed by the control key of network %s: %w", v, network, ErrDeletion)
	}
	return r, nil
}
