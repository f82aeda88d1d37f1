package driver

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/mount"
)

// Sizes of volumes in bytes.
const (
	unit        = 1 << 20 // sizes are rounded up to it where the limit lets them
	page        = 4096    // else to this
	defaultSize = 1 << 30
	maxSize     = 1 << 50
)

// plan is a CreateVolume request that was checked.
type plan struct {
	parameters
	name  string // for the agents
	size  int64  // bytes; 0 with a source: its size
	least int64  // required, rounded up
	limit int64  // 0: none
	key   []byte
	from  *csi.VolumeContentSource
}

// CreateVolume implements csi.ControllerServer.
func (d *Driver) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	p, err := d.planCreate(ctx, r)
	if err != nil {
		return nil, err
	}
	release, err := d.flight.take("name/" + p.network + "/" + p.name)
	if err != nil {
		return nil, err
	}
	defer release()
	var v *agentv1.Volume
	if p.from == nil {
		v, err = d.createNew(ctx, &p)
	} else {
		v, err = d.createFrom(ctx, &p)
	}
	if err != nil {
		return nil, err
	}
	h := handle.Volume{Network: p.network, ID: v.Id}
	if p.limits() {
		if err := d.cfg.Modifier.Modify(ctx, h, Change{IOPS: p.IOPS, Bandwidth: p.Bandwidth}); err != nil {
			return nil, fmt.Errorf("limits of volume %s: %w", h, err)
		}
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{VolumeId: h.String(), CapacityBytes: v.Size, ContentSource: p.from,
		AccessibleTopology: d.accessible(p.network, r.AccessibilityRequirements)}}, nil
}

func (d *Driver) planCreate(ctx context.Context, r *csi.CreateVolumeRequest) (p plan, err error) {
	if err := checkName("volume", r.Name); err != nil {
		return p, err
	}
	uses, err := readCapabilities(r.VolumeCapabilities)
	if err != nil {
		return p, err
	}
	if p.parameters, err = readParameters(r.Parameters); err != nil {
		return p, err
	}
	if err := d.mutable(&p.parameters, r.MutableParameters); err != nil {
		return p, err
	}
	if err := d.checkNetwork(ctx, p.network); err != nil {
		return p, err
	}
	if p.key, err = readKey(r.Secrets); err != nil {
		return p, err
	}
	if p.encrypted != (len(p.key) > 0) {
		return p, invalid("parameter %s=%t, and the secret has a key: %t; either both or none", ParamEncrypted, p.encrypted, len(p.key) > 0)
	}
	least := int64(0)
	for _, u := range uses {
		switch u.fs {
		case mount.Ext4:
			least = max(least, mount.MinExt4)
		case mount.XFS:
			least = max(least, mount.MinXFS)
		}
	}
	if p.least, err = readRange(r.CapacityRange, least); err != nil {
		return p, err
	}
	p.limit = r.CapacityRange.GetLimitBytes()
	p.name, p.from = handle.Name(r.Name), r.VolumeContentSource
	if p.size = p.least; p.size == 0 {
		p.size = defaultSize
		if p.limit != 0 {
			p.size = min(p.size, p.limit/page*page)
		}
	}
	return p, d.checkTopology(p.network, r.AccessibilityRequirements)
}

// mutable lays parameters of a VolumeAttributesClass over those of the StorageClass.
func (d *Driver) mutable(p *parameters, params map[string]string) error {
	c, err := readMutable(params)
	if err != nil {
		return err
	}
	if len(params) > 0 && d.cfg.Modifier == nil {
		return invalid("VolumeAttributesClass is not supported by the agents")
	}
	if p.Change = p.over(c); p.limits() && d.cfg.Modifier == nil {
		return invalid("parameters %s and %s are not supported by the agents", ParamIOPS, ParamBandwidth)
	}
	return nil
}

func (d *Driver) checkNetwork(ctx context.Context, network string) error {
	all, err := d.cfg.Agents.Networks(ctx)
	if err != nil {
		return fmt.Errorf("list networks: %w", err)
	}
	if network == "" {
		return invalid("the StorageClass names no network: set parameter %s to one of %q", ParamNetwork, all)
	}
	if !slices.Contains(all, network) {
		return invalid("there is no network %q: set parameter %s to one of %q", network, ParamNetwork, all)
	}
	return nil
}

// readRange gives the smallest size that a range asks for, at least least, rounded up; 0 if it asks for nothing.
func readRange(r *csi.CapacityRange, least int64) (int64, error) {
	required, limit := r.GetRequiredBytes(), r.GetLimitBytes()
	switch {
	case required < 0 || limit < 0:
		return 0, invalid("negative capacity")
	case limit != 0 && limit < required:
		return 0, invalid("at least %d, but at most %d bytes", required, limit)
	case required > maxSize:
		return 0, fmt.Errorf("%d bytes, at most %d are possible: %w", required, int64(maxSize), errRange)
	}
	required = max(required, least)
	size := (required + unit - 1) / unit * unit
	if limit != 0 && size > limit {
		size = (required + page - 1) / page * page
	}
	if limit != 0 && size > limit {
		return 0, fmt.Errorf("at least %d bytes in units of %d, but at most %d: %w", required, page, limit, errRange)
	}
	return size, nil
}

// fits tells whether a volume of that size is what was asked for.
func (p *plan) fits(size int64) bool {
	return size >= p.least && (p.limit == 0 || size <= p.limit)
}

// settle runs make for the size wanted. If there is such a volume with another size that fits as well, it runs make for
// that, so that the agent is the one who judges whether everything else is equal.
func (p *plan) settle(ctx context.Context, a agentv1.AgentClient, size int64, make func(size int64) (*agentv1.Volume, error)) (*agentv1.Volume, error) {
	v, err := make(size)
	if isCode(err, codes.AlreadyExists) {
		have, ierr := inspect(ctx, a, p.name)
		if ierr == nil && have.Size != size && p.fits(have.Size) {
			v, err = make(have.Size)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create volume %q: %w", p.name, err)
	}
	return v, nil
}

func (d *Driver) createNew(ctx context.Context, p *plan) (*agentv1.Volume, error) {
	a, err := d.any(ctx, p.network)
	if err != nil {
		return nil, err
	}
	return p.settle(ctx, a, p.size, func(size int64) (*agentv1.Volume, error) {
		req := &agentv1.CreateVolumeRequest{Name: p.name, Size: size, ExtentSize: p.extent, EncryptionKey: p.key}
		if p.Copies != nil {
			req.Replicas = *p.Copies
		}
		if p.Weak != nil {
			req.Weak = *p.Weak
		}
		if p.Compression != nil {
			req.Compression = *p.Compression
		}
		return a.CreateVolume(ctx, req)
	})
}

// createFrom makes a volume from a snapshot, or from a volume by a snapshot that is made for it.
func (d *Driver) createFrom(ctx context.Context, p *plan) (*agentv1.Volume, error) {
	var source handle.Volume
	var snapshot string
	switch from := p.from.Type.(type) {
	case *csi.VolumeContentSource_Snapshot:
		s, err := handle.ParseSnapshot(from.Snapshot.GetSnapshotId())
		if err != nil {
			return nil, err
		}
		source, snapshot = s.Volume, s.Snapshot
	case *csi.VolumeContentSource_Volume:
		v, err := handle.ParseVolume(from.Volume.GetVolumeId())
		if err != nil {
			return nil, err
		}
		source = v
	default:
		return nil, invalid("the content source is neither a snapshot nor a volume")
	}
	if source.Network != p.network {
		return nil, invalid("the content source is in network %q, the volume is to be in %q", source.Network, p.network)
	}
	a, v, err := d.find(ctx, source)
	if err != nil {
		return nil, err
	}
	size := v.Size
	if snapshot != "" {
		s := snapshotOf(v, snapshot)
		if s == nil {
			return nil, fmt.Errorf("snapshot %s of volume %s: %w", snapshot, source, errNotFound)
		}
		size = s.Size
	}
	if size, err = p.sizeFrom(size); err != nil {
		return nil, err
	}
	if err := p.inherits(v); err != nil {
		return nil, err
	}
	if snapshot == "" {
		release, err := d.flight.take("volume/" + source.String())
		if err != nil {
			return nil, err
		}
		defer release()
		s, err := a.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: v.Id, Name: handle.CloneName(p.name), EncryptionKey: p.key})
		if err != nil {
			return nil, fmt.Errorf("snapshot of volume %s for its clone: %w", source, err)
		}
		snapshot = s.Id
	}
	return p.settle(ctx, a, size, func(size int64) (*agentv1.Volume, error) {
		return a.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: v.Id, Snapshot: snapshot, Name: p.name, Size: size, EncryptionKey: p.key})
	})
}

// sizeFrom is the size of a volume made from a source of that size.
func (p *plan) sizeFrom(source int64) (int64, error) {
	size := max(source, p.least)
	if p.limit != 0 && size > p.limit {
		return 0, fmt.Errorf("the content source has %d bytes, the volume may have at most %d: %w", source, p.limit, errRange)
	}
	return size, nil
}

// inherits reports errInvalid if a volume is to differ from its source in what it gets from it.
func (p *plan) inherits(v *agentv1.Volume) error {
	var differs []string
	note := func(name string, is bool) {
		if is {
			differs = append(differs, name)
		}
	}
	note(ParamEncrypted, p.encrypted != v.Encrypted)
	note(ParamExtentSize, p.extent != 0 && p.extent != v.ExtentSize)
	note(ParamCopies, p.Copies != nil && *p.Copies != v.Replicas)
	note(ParamWrite, p.Weak != nil && *p.Weak != v.Weak)
	note(ParamCompression, p.Compression != nil && *p.Compression != v.Compression)
	if len(differs) > 0 {
		return invalid("a volume gets %s from its source, which differ from the parameters: use a class that does not set them or sets them alike",
			strings.Join(differs, ", "))
	}
	return nil
}

// snapshotOf finds a snapshot of v by id.
func snapshotOf(v *agentv1.Volume, id string) *agentv1.Snapshot {
	for _, s := range v.Snapshots {
		if s.Id == id {
			return s
		}
	}
	return nil
}
