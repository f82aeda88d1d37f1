package driver

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/container-storage-interface/spec/lib/go/csi"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/mount"
)

// Parameters of a StorageClass. Those of Change may also be in a VolumeAttributesClass, if that is supported.
const (
	ParamNetwork    = "network"    // id of the network; required
	ParamEncrypted  = "encrypted"  // "true": the secret's key encrypts the volume
	ParamExtentSize = "extentSize" // bytes
)

// Parameters that may change while a volume lives.
const (
	ParamCopies      = "copies"       // 1 and more
	ParamWrite       = "write"        // "strong": a flush waits for a majority of the copies; "weak": for one
	ParamCompression = "compression"  // "none" or "zstd"
	ParamIOPS        = "maxIOPS"      // requests per second; 0: no limit
	ParamBandwidth   = "maxBandwidth" // bytes per second; 0: no limit
)

// SecretKey is the entry of a Secret that holds a volume's key: 32 bytes as they are, in hex or in base64.
const SecretKey = "encryptionKey"

const (
	keySize   = 32
	maxString = 128 // bytes of a name, by the specification
	maxFlags  = 4096
	// kubernetesPrefix is of parameters that the provisioner adds.
	kubernetesPrefix = "csi.storage.k8s.io/"
)

// Change is what may change of a volume. nil: stays as it is.
type Change struct {
	Copies      *int32
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
			return true, invalid("parameter %s=%q: want a whole number from 1", name, value)
		}
		c.Copies = new(int32(n))
	case ParamWrite:
		if value != "strong" && value != "weak" {
			return true, invalid("parameter %s=%q: want strong or weak", name, value)
		}
		c.Weak = new(value == "weak")
	case ParamCompression:
		kinds := map[string]agentv1.Compression{"none": agentv1.Compression_COMPRESSION_NONE, "zstd": agentv1.Compression_COMPRESSION_ZSTD}
		kind, known := kinds[value]
		if !known {
			return true, invalid("parameter %s=%q: want none or zstd", name, value)
		}
		c.Compression = &kind
	case ParamIOPS, ParamBandwidth:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 {
			return true, invalid("parameter %s=%q: want a whole number from 0", name, value)
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

// parameters are those of a StorageClass, read.
type parameters struct {
	network   string
	encrypted bool
	extent    uint32
	Change
}

func readParameters(params map[string]string) (parameters, error) {
	var p parameters
	for name, value := range params {
		if strings.HasPrefix(name, kubernetesPrefix) {
			continue
		}
		switch name {
		case ParamNetwork:
			if !handle.ValidNetwork(value) {
				return p, invalid("parameter %s=%q is no id of a network", name, value)
			}
			p.network = value
		case ParamEncrypted:
			b, err := strconv.ParseBool(value)
			if err != nil {
				return p, invalid("parameter %s=%q: want true or false", name, value)
			}
			p.encrypted = b
		case ParamExtentSize:
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return p, invalid("parameter %s=%q: want a number of bytes below 4 GiB", name, value)
			}
			p.extent = uint32(n)
		default:
			ok, err := p.set(name, value)
			if err != nil {
				return p, err
			}
			if !ok {
				return p, invalid("there is no parameter %q", name)
			}
		}
	}
	return p, nil
}

// readMutable reads parameters of a VolumeAttributesClass.
func readMutable(params map[string]string) (c Change, err error) {
	for name, value := range params {
		ok, err := c.set(name, value)
		if err != nil {
			return c, err
		}
		if !ok {
			return c, invalid("there is no parameter %q that can be changed", name)
		}
	}
	return c, nil
}

// over gives c with what d sets taken from d.
func (c Change) over(d Change) Change {
	pick := func(a, b *int64) *int64 {
		if b != nil {
			return b
		}
		return a
	}
	if d.Copies != nil {
		c.Copies = d.Copies
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

// limits tells whether the change is of something that no volume has from its creation.
func (c Change) limits() bool { return c.IOPS != nil || c.Bandwidth != nil }

// readKey gives the key of a Secret, nil if it has none. No error says anything of its content.
func readKey(secrets map[string]string) ([]byte, error) {
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
	return nil, invalid("the secret's entry %s is no key of %d bytes, as they are, in hex or in base64", SecretKey, keySize)
}

// checkName reports errInvalid unless the specification allows a name.
func checkName(what, name string) error {
	switch {
	case name == "":
		return invalid("no name for the %s", what)
	case len(name) > maxString:
		return invalid("name of the %s: %d bytes, at most %d", what, len(name), maxString)
	case !utf8.ValidString(name):
		return invalid("name of the %s is not UTF-8", what)
	}
	for _, r := range name {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r >= 0x7f && r <= 0x9f {
			return invalid("name of the %s has the control character %U", what, r)
		}
	}
	return nil
}

// access is how a volume is to be used.
type access struct {
	block    bool
	fs       string
	options  []string
	readOnly bool // no writer anywhere
	single   bool // one workload at a time
}

// readCapability reads a capability, or says why it cannot be had.
func readCapability(c *csi.VolumeCapability) (access, error) {
	var a access
	switch mode := c.GetAccessMode().GetMode(); mode {
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER:
		a.single = true
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:
		a.readOnly = true
	case csi.VolumeCapability_AccessMode_UNKNOWN:
		return a, invalid("the volume capability has no access mode")
	default:
		return a, invalid("access mode %s: a volume is used by one node at a time", mode)
	}
	switch t := c.GetAccessType().(type) {
	case *csi.VolumeCapability_Block:
		a.block = true
	case *csi.VolumeCapability_Mount:
		a.fs = t.Mount.GetFsType()
		if a.fs == "" {
			a.fs = mount.Ext4
		}
		if a.fs != mount.Ext4 && a.fs != mount.XFS {
			return a, invalid("file system %q: want %s or %s", a.fs, mount.Ext4, mount.XFS)
		}
		if t.Mount.GetVolumeMountGroup() != "" {
			return a, invalid("a mount group is not supported: the kubelet applies fsGroup")
		}
		n := 0
		for _, f := range t.Mount.GetMountFlags() {
			n += len(f)
		}
		if n > maxFlags {
			return a, invalid("mount options of %d bytes, at most %d", n, maxFlags)
		}
		a.options = slices.Clone(t.Mount.GetMountFlags())
		if err := mount.CheckOptions(a.options); err != nil {
			return a, err
		}
	default:
		return a, invalid("the volume capability says neither mount nor block")
	}
	return a, nil
}

// readCapabilities reads all, at least one.
func readCapabilities(list []*csi.VolumeCapability) ([]access, error) {
	if len(list) == 0 {
		return nil, invalid("no volume capability")
	}
	var out []access
	for _, c := range list {
		a, err := readCapability(c)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}
