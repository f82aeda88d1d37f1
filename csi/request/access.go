package request

import (
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"mynetwork.io/mynetwork/csi/mount"
)

// Access is how a volume is to be used.
type Access struct {
	Block    bool
	FS       string   // kind of file system
	Options  []string // of the mount
	ReadOnly bool     // no writer anywhere
	Many     bool     // on many nodes at once, which only readers can be
	Single   bool     // one workload at a time
}

// ReadCapability reads a capability, or says why it cannot be had.
func ReadCapability(c *csi.VolumeCapability) (Access, error) {
	var a Access
	switch mode := c.GetAccessMode().GetMode(); mode {
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER:
		a.Single = true
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:
		a.ReadOnly = true
	case csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:
		a.ReadOnly, a.Many = true, true
	case csi.VolumeCapability_AccessMode_UNKNOWN:
		return a, Invalid("the volume capability has no access mode")
	default:
		return a, Invalid("access mode %s: a volume is written by one node at a time, and read by many only if none writes it", mode)
	}
	switch t := c.GetAccessType().(type) {
	case *csi.VolumeCapability_Block:
		a.Block = true
	case *csi.VolumeCapability_Mount:
		a.FS = t.Mount.GetFsType()
		if a.FS == "" {
			a.FS = mount.Ext4
		}
		if a.FS != mount.Ext4 && a.FS != mount.XFS {
			return a, Invalid("file system %q: want %s or %s", a.FS, mount.Ext4, mount.XFS)
		}
		if t.Mount.GetVolumeMountGroup() != "" {
			return a, Invalid("a mount group is not supported: the kubelet applies fsGroup")
		}
		n := 0
		for _, f := range t.Mount.GetMountFlags() {
			n += len(f)
		}
		if n > maxFlags {
			return a, Invalid("mount options of %d bytes, at most %d", n, maxFlags)
		}
		a.Options = slices.Clone(t.Mount.GetMountFlags())
		if err := mount.CheckOptions(a.Options); err != nil {
			return a, err
		}
	default:
		return a, Invalid("the volume capability says neither mount nor block")
	}
	return a, nil
}

// ReadCapabilities reads all, at least one.
func ReadCapabilities(list []*csi.VolumeCapability) ([]Access, error) {
	if len(list) == 0 {
		return nil, Invalid("no volume capability")
	}
	var out []Access
	for _, c := range list {
		a, err := ReadCapability(c)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// Many tells whether a volume for these uses is one that many nodes read: then none may write it.
func Many(uses []Access) (bool, error) {
	n := 0
	for _, a := range uses {
		if a.Many {
			n++
		}
	}
	for _, a := range uses {
		if n > 0 && !a.ReadOnly {
			return false, Invalid("a volume that many nodes read has no writer: ask for ReadOnlyMany alone, or for it not at all")
		}
	}
	return n > 0, nil
}

// MountOptions are those asked for and those that its use needs: a volume and its clone carry the same XFS UUID.
func (a *Access) MountOptions() []string {
	out := slices.Clone(a.Options)
	if a.FS == mount.XFS {
		out = append(out, "nouuid")
	}
	if a.ReadOnly {
		out = append(out, "ro")
	}
	return out
}

// Least is the smallest volume, in bytes, that can be used in all these ways.
func Least(uses []Access) int64 {
	least := int64(Page)
	for _, a := range uses {
		switch a.FS {
		case mount.Ext4:
			least = max(least, mount.MinExt4)
		case mount.XFS:
			least = max(least, mount.MinXFS)
		}
	}
	return least
}

// Sizes of volumes in bytes.
const (
	Page    = 4096
	unit    = 1 << 20 // sizes are rounded up to it where the limit lets them, else to Page
	maxSize = 1 << 50
)

// ReadRange gives the smallest size that a range asks for, at least least, rounded up; 0 if it asks for nothing.
func ReadRange(r *csi.CapacityRange, least int64) (int64, error) {
	required, limit := r.GetRequiredBytes(), r.GetLimitBytes()
	switch {
	case required < 0 || limit < 0:
		return 0, Invalid("negative capacity")
	case limit != 0 && limit < required:
		return 0, Invalid("at least %d, but at most %d bytes", required, limit)
	case required > maxSize:
		return 0, fmt.Errorf("%d bytes, at most %d are possible: %w", required, int64(maxSize), ErrRange)
	}
	required = max(required, least)
	size := (required + unit - 1) / unit * unit
	if limit != 0 && size > limit {
		size = (required + Page - 1) / Page * Page
	}
	if limit != 0 && size > limit {
		return 0, fmt.Errorf("at least %d bytes in units of %d, but at most %d: %w", required, Page, limit, ErrRange)
	}
	return size, nil
}
