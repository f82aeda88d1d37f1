package warrant

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// ErrDeletion is returned for a deletion that is malformed, for another volume, or not signed by the control key.
var ErrDeletion = errors.New("deletion record is not accepted")

// DeletionSize is the encoded size of a deletion in bytes.
const DeletionSize = deletionBody + ed25519.SignatureSize

const (
	deletionBody  = 36
	deletionMagic = 'M' | 'N'<<8 | 'D'<<16 | 1<<24
	deletionText  = "mynetwork deletion"
)

// Deletion is the word on which a volume dies.
type Deletion struct {
	Volume block.VolumeID
	Epoch  uint64 // the number that the deletion took, so it fences every writer before it
	At     int64  // unix seconds, for people
}

// Encode signs a deletion for a network and gives its encoding.
func (d Deletion) Encode(network string, key ed25519.PrivateKey) []byte {
	b := make([]byte, deletionBody, DeletionSize)
	binary.LittleEndian.PutUint32(b, deletionMagic)
	copy(b[4:], d.Volume[:])
	binary.LittleEndian.PutUint64(b[20:], d.Epoch)
	binary.LittleEndian.PutUint64(b[28:], uint64(d.At))
	return append(b, ed25519.Sign(key, signed(deletionText, network, b))...)
}

// VerifyDeletion decodes the deletion of a volume and requires the signature of one of the control keys: ErrDeletion.
func VerifyDeletion(b []byte, v block.VolumeID, network string, keys []ed25519.PublicKey) (Deletion, error) {
	if len(b) != DeletionSize || binary.LittleEndian.Uint32(b) != deletionMagic {
		return Deletion{}, fmt.Errorf("volume %s: %d bytes, malformed: %w", v, len(b), ErrDeletion)
	}
	d := Deletion{Volume: block.VolumeID(b[4:20]), Epoch: binary.LittleEndian.Uint64(b[20:]), At: int64(binary.LittleEndian.Uint64(b[28:]))}
	if d.Volume != v {
		return Deletion{}, fmt.Errorf("volume %s: it is for volume %s: %w", v, d.Volume, ErrDeletion)
	}
	if !bySome(keys, signed(deletionText, network, b[:deletionBody]), b[deletionBody:]) {
		return Deletion{}, fmt.Errorf("volume %s: not signed by the control key of network %s: %w", v, network, ErrDeletion)
	}
	return d, nil
}
