package request

import (
	"encoding/base64"
	"encoding/hex"
	"maps"
	"strconv"
	"strings"
	"unicode/utf8"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
)

// Parameters of a StorageClass. Those of Change may also be in a VolumeAttributesClass, if that is supported.
const (
	ParamNetwork    = "network"    // name or id of the network
	ParamNetworkUID = "networkUID" // id of the network: which one of that name is meant. One of both is required
	ParamEncrypted  = "encrypted"  // "true": the secret's key encrypts the volume
	ParamExtentSize = "extentSize" // bytes
)

// Parameters that may change while a volume lives.
const (
	ParamCopies      = "copies"    // 1 and more
	ParamMinCopies   = "minCopies" // with maxCopies: bounds within which copies follow how much is read; both 0: none
	ParamMaxCopies   = "maxCopies"
	ParamWrite       = "write"        // "strong": a flush waits for a majority of the copies; "weak": for one
	ParamCompression = "compression"  // "none" or "zstd"
	ParamIOPS        = "maxIOPS"      // requests per second; 0: no limit
	ParamBandwidth   = "maxBandwidth" // bytes per second; 0: no limit
)

// What the provisioner adds with --extra-create-metadata.
const (
	paramClaimName      = KubernetesPrefix + "pvc/name"
	paramClaimNamespace = KubernetesPrefix + "pvc/namespace"
	paramVolumeName     = KubernetesPrefix + "pv/name"
)

// SecretKey is the entry of a Secret that holds a volume's key: 32 bytes as they are, in hex or in base64.
const SecretKey = "encryptionKey"

const (
	keySize   = 32
	maxString = 128 // bytes of a name, by the specification
	maxFlags  = 4096
	// KubernetesPrefix begins the names of parameters that the provisioner adds.
	KubernetesPrefix = "csi.storage.k8s.io/"
)

// Change is what may change of a volume. nil: stays as it is.
type Change struct {
	Copies      *int32
	Least, Most *int32 // of copies
	Weak        *bool
	Compression *agentv1.Compression
	IOPS        *int64
	Bandwidth   *int64
}

// set takes one parameter. ok is false if there is none of that name.
func (c *Change) set(name, value string) (ok bool, err error) {
	switch name {
	case ParamCopies:
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 1 {
			return true, Invalid("parameter %s=%q: want a whole number from 1", name, value)
		}
		c.Copies = new(int32(n))
	case ParamMinCopies, ParamMaxCopies:
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 0 {
			return true, Invalid("parameter %s=%q: want a whole number from 0", name, value)
		}
		if name == ParamMinCopies {
			c.Least = new(int32(n))
		} else {
			c.Most = new(int32(n))
		}
	case ParamWrite:
		if value != "strong" && value != "weak" {
			return true, Invalid("parameter %s=%q: want strong or weak", name, value)
		}
		c.Weak = new(value == "weak")
	case ParamCompression:
		kinds := map[string]agentv1.Compression{"none": agentv1.Compression_COMPRESSION_NONE, "zstd": agentv1.Compression_COMPRESSION_ZSTD}
		kind, known := kinds[value]
		if !known {
			return true, Invalid("parameter %s=%q: want none or zstd", name, value)
		}
		c.Compression = &kind
	case ParamIOPS, ParamBandwidth:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 {
			return true, Invalid("parameter %s=%q: want a whole number from 0", name, value)
		}
		if name == ParamIOPS {
			c.IOPS = &n
		} else {
			c.Bandwidth = &n
		}
	default:
		return false, nil
	}
	return true, nil
}

// Parameters are those of a StorageClass, read.
type Parameters struct {
	Network    string // name or id; empty: none is named
	NetworkUID string // empty: any of that name
	Encrypted  bool
	Extent     uint32 // bytes; 0: the default
	Claim      Claim
	Change
}

// contextReaders marks, in a volume's context, one that was made to be read on many nodes: it is sealed before its first reader sees it. What was
// made to be written is never sealed because somebody asks to read it.
const contextReaders = "mynetwork.io/readers"

// Readers adds that mark to a volume's context.
func Readers(context map[string]string) map[string]string {
	out := map[string]string{contextReaders: "many"}
	maps.Copy(out, context)
	return out
}

// ForReaders tells whether a volume's context has that mark.
func ForReaders(context map[string]string) bool { return context[contextReaders] == "many" }

// Claim is the PersistentVolumeClaim that a volume is made for. It is empty where nobody says.
type Claim struct{ Namespace, Name, Volume string }

// Context keeps the claim in the volume's context, which each call on a node gets. nil if there is none.
func (c Claim) Context() map[string]string {
	if c.Name == "" || c.Namespace == "" {
		return nil
	}
	return map[string]string{paramClaimNamespace: c.Namespace, paramClaimName: c.Name, paramVolumeName: c.Volume}
}

// ReadContext reads what Context wrote.
func ReadContext(context map[string]string) Claim {
	return Claim{Namespace: context[paramClaimNamespace], Name: context[paramClaimName], Volume: context[paramVolumeName]}
}

// Choose finds the network that the parameters name.
func (p *Parameters) Choose(all []Network) (Network, error) {
	if p.Network == "" && p.NetworkUID == "" {
		return Network{}, Invalid("the StorageClass names no network: set parameter %s to one of %q", ParamNetwork, Names(all))
	}
	for _, n := range all {
		named := p.Network == "" || p.Network == n.Name || p.Network == n.ID
		if named && (p.NetworkUID == "" || p.NetworkUID == n.ID) {
			return n, nil
		}
		if named && p.Network != "" {
			return Network{}, Invalid("network %q has the uid %s, the StorageClass means %s, which was deleted: delete the StorageClass, the operator makes it anew",
				p.Network, n.ID, p.NetworkUID)
		}
	}
	return Network{}, Invalid("there is no network %q (uid %q): set parameter %s to one of %q", p.Network, p.NetworkUID, ParamNetwork, Names(all))
}

// ReadParameters reads those of a StorageClass.
func ReadParameters(params map[string]string) (Parameters, error) {
	p := Parameters{Claim: ReadContext(params)}
	for name, value := range params {
		if strings.HasPrefix(name, KubernetesPrefix) {
			continue // read by ReadContext
		}
		switch name {
		case ParamNetwork:
			if !handle.ValidNetwork(value) {
				return p, Invalid("parameter %s=%q is neither name nor id of a network", name, value)
			}
			p.Network = value
		case ParamNetworkUID:
			if !handle.ValidNetwork(value) {
				return p, Invalid("parameter %s=%q is no id of a network", name, value)
			}
			p.NetworkUID = value
		case ParamEncrypted:
			b, err := strconv.ParseBool(value)
			if err != nil {
				return p, Invalid("parameter %s=%q: want true or false", name, value)
			}
			p.Encrypted = b
		case ParamExtentSize:
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return p, Invalid("parameter %s=%q: want a number of bytes below 4 GiB", name, value)
			}
			p.Extent = uint32(n)
		default:
			ok, err := p.set(name, value)
			if err != nil {
				return p, err
			}
			if !ok {
				return p, Invalid("there is no parameter %q", name)
			}
		}
	}
	return p, nil
}

// ReadMutable reads parameters of a VolumeAttributesClass.
func ReadMutable(params map[string]string) (c Change, err error) {
	for name, value := range params {
		ok, err := c.set(name, value)
		if err != nil {
			return c, err
		}
		if !ok {
			return c, Invalid("there is no parameter %q that can be changed", name)
		}
	}
	return c, nil
}

// Over gives c with what d sets taken from d.
func (c Change) Over(d Change) Change {
	pick := func(a, b *int64) *int64 {
		if b != nil {
			return b
		}
		return a
	}
	if d.Copies != nil {
		c.Copies = d.Copies
	}
	if d.Least != nil {
		c.Least = d.Least
	}
	if d.Most != nil {
		c.Most = d.Most
	}
	if d.Weak != nil {
		c.Weak = d.Weak
	}
	if d.Compression != nil {
		c.Compression = d.Compression
	}
	c.IOPS, c.Bandwidth = pick(c.IOPS, d.IOPS), pick(c.Bandwidth, d.Bandwidth)
	return c
}

// Limits tells whether the change is of something that no volume has from its creation.
func (c Change) Limits() bool {
	return c.IOPS != nil || c.Bandwidth != nil || c.Least != nil || c.Most != nil
}

// ReadKey gives the key of a Secret, nil if it has none. No error says anything of its content.
func ReadKey(secrets map[string]string) ([]byte, error) {
	s, ok := secrets[SecretKey]
	if !ok {
		return nil, nil
	}
	if len(s) == keySize {
		return []byte(s), nil
	}
	s = strings.TrimSpace(s)
	for _, decode := range []func(string) ([]byte, error){hex.DecodeString, base64.StdEncoding.DecodeString} {
		if b, err := decode(s); err == nil && len(b) == keySize {
			return b, nil
		}
	}
	return nil, Invalid("the secret's entry %s is no key of %d bytes, as they are, in hex or in base64", SecretKey, keySize)
}

// CheckName reports ErrInvalid unless the specification allows a name.
func CheckName(what, name string) error {
	switch {
	case name == "":
		return Invalid("no name for the %s", what)
	case len(name) > maxString:
		return Invalid("name of the %s: %d bytes, at most %d", what, len(name), maxString)
	case !utf8.ValidString(name):
		return Invalid("name of the %s is not UTF-8", what)
	}
	for _, r := range name {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r >= 0x7f && r <= 0x9f {
			return Invalid("name of the %s has the control character %U", what, r)
		}
	}
	return nil
}
