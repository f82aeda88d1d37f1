// Package handle makes and reads the ids by which Kubernetes knows volumes, snapshots and groups of snapshots, and the
// names under which agents know what Kubernetes named.
//
// # Format
//
//	volume           NETWORK "." VOLUME
//	snapshot         NETWORK "." VOLUME "." SNAPSHOT
//	group snapshot   NETWORK ".g." GROUP
//
// NETWORK is the id of the network: 1 to 60 of a-z, 0-9 and '-', beginning and ending with a letter or digit (a UID fits).
// The others are 32 lower-case hex digits. So every handle is a valid name of a cluster-scoped Kubernetes object and has at
// most 126 bytes; one that is malformed can never have been given out.
//
// # Names
//
// Agents take names of 1 to 200 letters, digits, '.', '_' and '-'. Name keeps a name that fits and turns any other into
// "csi-name-" and 40 hex digits of its SHA-256. Names beginning with "csi-", and those that look like an id, are always turned,
// so what this package names itself is never taken for what Kubernetes named.
//
// All is pure and safe for concurrent use.
package handle

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrMalformed is of a string that is no handle.
var ErrMalformed = errors.New("not an id of this driver")

const (
	idLength   = 32
	maxNetwork = 60
	reserved   = "csi-"
	clone      = reserved + "clone-"
	group      = reserved + "group-"
)

// Volume names a volume.
type Volume struct{ Network, ID string }

// Snapshot names a snapshot.
type Snapshot struct {
	Volume
	Snapshot string
}

// Group names a group of snapshots that were taken together.
type Group struct{ Network, ID string }

func (v Volume) String() string   { return v.Network + "." + v.ID }
func (s Snapshot) String() string { return s.Volume.String() + "." + s.Snapshot }
func (g Group) String() string    { return g.Network + ".g." + g.ID }

// ParseVolume reads a volume's handle, or reports ErrMalformed.
func ParseVolume(s string) (Volume, error) {
	e := strings.Split(s, ".")
	if len(e) != 2 || !ValidNetwork(e[0]) || !isID(e[1]) {
		return Volume{}, fmt.Errorf("volume %q: %w", s, ErrMalformed)
	}
	return Volume{e[0], e[1]}, nil
}

// ParseSnapshot reads a snapshot's handle, or reports ErrMalformed.
func ParseSnapshot(s string) (Snapshot, error) {
	e := strings.Split(s, ".")
	if len(e) != 3 || !ValidNetwork(e[0]) || !isID(e[1]) || !isID(e[2]) {
		return Snapshot{}, fmt.Errorf("snapshot %q: %w", s, ErrMalformed)
	}
	return Snapshot{Volume{e[0], e[1]}, e[2]}, nil
}

// ParseGroup reads the handle of a group snapshot, or reports ErrMalformed.
func ParseGroup(s string) (Group, error) {
	e := strings.Split(s, ".")
	if len(e) != 3 || !ValidNetwork(e[0]) || e[1] != "g" || !isID(e[2]) {
		return Group{}, fmt.Errorf("group snapshot %q: %w", s, ErrMalformed)
	}
	return Group{e[0], e[2]}, nil
}

// ValidNetwork tells whether s can be the id of a network.
func ValidNetwork(s string) bool {
	if len(s) == 0 || len(s) > maxNetwork || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

func isID(s string) bool {
	if len(s) != idLength {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'f') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// Name is the name under which agents know what Kubernetes named so.
func Name(s string) string {
	ok := len(s) > 0 && len(s) <= 200 && !strings.HasPrefix(s, reserved) && !isID(s)
	for i, c := range []byte(s) {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = ok && (alnum || i > 0 && strings.IndexByte("._-", c) >= 0)
	}
	if ok {
		return s
	}
	return reserved + "name-" + digest(40, s)
}

// CloneName is the name of the snapshot that the clone named so starts from, when Kubernetes asked for a copy of a volume.
func CloneName(of string) string { return clone + digest(idLength, of) }

// IsClone tells whether a snapshot has such a name.
func IsClone(name string) bool { return strings.HasPrefix(name, clone) }

// GroupOf is the group named so of these volumes. Groups of one name but other volumes differ.
func GroupOf(network, name string, volumes []string) Group {
	sorted := slices.Sorted(slices.Values(volumes))
	return Group{network, digest(idLength/2, name) + digest(idLength/2, sorted...)}
}

// SnapshotName is the name of each snapshot of the group.
func (g Group) SnapshotName() string { return group + g.ID }

// SameName tells whether two groups were made under one name.
func (g Group) SameName(h Group) bool { return g.ID[:idLength/2] == h.ID[:idLength/2] }

// GroupNamed gives the group that a snapshot of that name belongs to.
func GroupNamed(network, snapshot string) (Group, bool) {
	id, ok := strings.CutPrefix(snapshot, group)
	return Group{network, id}, ok && isID(id)
}

// digest is n hex digits of a SHA-256 over strings, each with its length before it.
func digest(n int, of ...string) string {
	h := sha256.New()
	for _, s := range of {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return hex.EncodeToString(h.Sum(nil))[:n]
}
