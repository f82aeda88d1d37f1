package warrant

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

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

const (
	// Writer is what the node that attaches a volume needs.
	Writer = Read | Write | Attach | Repair
	// EveryVolume is what a grant for the zero volume may allow: what keeps copies alive, and frees what was deleted.
	EveryVolume = Read | Repair | Delete
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

// Grant allows one node to act on one volume, or on every volume.
type Grant struct {
	Volume      block.VolumeID // zero: every volume of the network
	Node        string         // the node that may act, 1 to 253 bytes
	EpochNumber uint64         // the number of the epoch that it acts in; 0 is any
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

// check tells whether there can be such a grant.
func (g Grant) check() error {
	switch {
	case g.Node == "" || len(g.Node) > maxNodeName || g.Verbs == 0 || g.Verbs&^allVerbs != 0 || g.NotAfter < 0:
		return fmt.Errorf("%w: volume %v, node %q, verbs %v", ErrGrant, g.Volume, g.Node, g.Verbs)
	case g.Volume.IsZero() && g.Verbs&^EveryVolume != 0:
		return fmt.Errorf("%w: node %q, to %v every volume: only %v can be granted without naming the volume", ErrGrant, g.Node, g.Verbs, EveryVolume)
	}
	return nil
}

// encode is the part of the encoding that is signed.
func (g Grant) encode() ([]byte, error) {
	if err := g.check(); err != nil {
		return nil, err
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

// signed is what a signature covers: what is signed and the network too, so that nothing of one network serves in another.
func signed(text, network string, body []byte) []byte {
	return append(append([]byte(text+"\x00"+network), 0), body...)
}

const grantText = "mynetwork grant"

// Encode signs a grant for a network and gives its encoding. It fails with ErrGrant if there can be no such grant.
func (g Grant) Encode(network string, key ed25519.PrivateKey) ([]byte, error) {
	b, err := g.encode()
	if err != nil {
		return nil, err
	}
	return append(b, ed25519.Sign(key, signed(grantText, network, b))...), nil
}

// DecodeGrant reads an encoding without judging its signature: ErrGrant.
func DecodeGrant(b []byte) (g Grant, err error) {
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
	if err := g.check(); err != nil {
		return Grant{}, err
	}
	return g, nil
}

// VerifyGrant decodes a grant and requires the signature of one of the control keys: ErrGrant. Whether it has ended is for
// the caller to judge, who has a clock.
func VerifyGrant(b []byte, network string, keys []ed25519.PublicKey) (Grant, error) {
	g, err := DecodeGrant(b)
	if err != nil {
		return Grant{}, err
	}
	if !bySome(keys, signed(grantText, network, b[:len(b)-ed25519.SignatureSize]), b[len(b)-ed25519.SignatureSize:]) {
		return Grant{}, fmt.Errorf("%w: volume %v, node %s: not signed by the control key of network %s", ErrGrant, g.Volume, g.Node, network)
	}
	return g, nil
}

func bySome(keys []ed25519.PublicKey, message, sig []byte) bool {
	for _, k := range keys {
		if len(k) == ed25519.PublicKeySize && ed25519.Verify(k, message, sig) {
			return true
		}
	}
	return false
}

// Ended reports whether the grant has ended at a time in unix seconds.
func (g Grant) Ended(unix int64) bool { return g.NotAfter != 0 && unix > g.NotAfter }
