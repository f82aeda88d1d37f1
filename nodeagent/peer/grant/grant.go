package grant

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// Verbs is a set of what a grant allows.
type Verbs uint16

// The verbs.
const (
	Read   Verbs = 1 << iota // read blocks and journal records
	Write                    // append to the journal, seal
	Attach                   // ask for promises, take over the volume
	Repair                   // fetch and place copies
	Delete                   // delete what belongs to the volume
	Admin                    // everything that an operator does

	allVerbs = Read | Write | Attach | Repair | Delete | Admin
)

// String lists the verbs, as in "read|write".
func (v Verbs) String() string {
	var out []string
	for i, name := range [...]string{"read", "write", "attach", "repair", "delete", "admin"} {
		if v&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	if rest := v &^ allVerbs; rest != 0 {
		out = append(out, fmt.Sprintf("%#x", uint16(rest)))
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, "|")
}

// Grant allows one node to act on one volume. The network's control key signs it.
type Grant struct {
	Volume      block.VolumeID
	Node        string // the node that may act
	EpochNumber uint64 // the number of the epoch that it acts in; 0 is any
	Verbs       Verbs
	NotAfter    int64 // unix time in seconds; 0 is without end
}

const (
	maxNodeName  = 253
	grantMagic   = 'M' | 'N'<<8 | 'G'<<16 | 1<<24 // the last byte is the version
	grantFixed   = 40                             // bytes before the node's name
	maxGrantSize = grantFixed + maxNodeName + ed25519.SignatureSize
)

// ErrGrant is returned when a grant is malformed, not signed by the control key, or not for this use.
var ErrGrant = errors.New("grant is not accepted")

// encode is the part of the encoding that is signed.
func (g Grant) encode() ([]byte, error) {
	if g.Node == "" || len(g.Node) > maxNodeName || g.Verbs == 0 || g.Verbs&^allVerbs != 0 || g.NotAfter < 0 || g.Volume.IsZero() {
		return nil, fmt.Errorf("%w: volume %v, node %q, verbs %v", ErrGrant, g.Volume, g.Node, g.Verbs)
	}
	b := make([]byte, grantFixed, maxGrantSize)
	binary.LittleEndian.PutUint32(b[0:], grantMagic)
	binary.LittleEndian.PutUint16(b[4:], uint16(g.Verbs))
	binary.LittleEndian.PutUint16(b[6:], uint16(len(g.Node)))
	binary.LittleEndian.PutUint64(b[8:], g.EpochNumber)
	binary.LittleEndian.PutUint64(b[16:], uint64(g.NotAfter))
	copy(b[24:], g.Volume[:])
	return append(b, g.Node...), nil
}

// signed is what the signature covers: the network too, so that no grant of one network serves in another.
func signed(network string, body []byte) []byte {
	return append(append([]byte("mynetwork grant\x00"+network), 0), body...)
}

// Encode signs a grant for a network and gives its encoding.
func (g Grant) Encode(network string, key ed25519.PrivateKey) ([]byte, error) {
	b, err := g.encode()
	if err != nil {
		return nil, err
	}
	return append(b, ed25519.Sign(key, signed(network, b))...), nil
}

// Decode reads an encoding without judging its signature.
func Decode(b []byte) (g Grant, err error) {
	bad := fmt.Errorf("%w: malformed", ErrGrant)
	if len(b) < grantFixed+1+ed25519.SignatureSize || len(b) > maxGrantSize || binary.LittleEndian.Uint32(b) != grantMagic {
		return g, bad
	}
	if n := int(binary.LittleEndian.Uint16(b[6:])); grantFixed+n+ed25519.SignatureSize != len(b) {
		return g, bad
	}
	g = Grant{
		Volume:      block.VolumeID(b[24:40]),
		Node:        string(b[grantFixed : len(b)-ed25519.SignatureSize]),
		EpochNumber: binary.LittleEndian.Uint64(b[8:]),
		Verbs:       Verbs(binary.LittleEndian.Uint16(b[4:])),
		NotAfter:    int64(binary.LittleEndian.Uint64(b[16:])),
	}
	if _, err := g.encode(); err != nil {
		return Grant{}, err
	}
	return g, nil
}

// Verify decodes a grant and requires the signature of one of the control keys.
func Verify(b []byte, network string, keys []ed25519.PublicKey) (Grant, error) {
	g, err := Decode(b)
	if err != nil {
		return Grant{}, err
	}
	body, sig := b[:len(b)-ed25519.SignatureSize], b[len(b)-ed25519.SignatureSize:]
	for _, k := range keys {
		if ed25519.Verify(k, signed(network, body), sig) {
			return g, nil
		}
	}
	return Grant{}, fmt.Errorf("%w: volume %v, node %s: not signed by the control key of network %s", ErrGrant, g.Volume, g.Node, network)
}

// expired reports whether the grant has ended.
func (g Grant) expired(now time.Time) bool { return g.NotAfter != 0 && now.Unix() > g.NotAfter }
