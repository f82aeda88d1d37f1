package controller

import (
	"context"
	"fmt"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/request"
)

// defaultSize is that of a volume without a required size, in bytes.
const defaultSize = 1 << 30

// plan is a CreateVolume request that was checked.
type plan struct {
	request.Parameters
	network request.Network
	name    string // for the agents
	size    int64  // bytes, without a source
	least   int64  // what is required, rounded up
	limit   int64  // 0: none
	asked   int64  // what is required, as it was said; 0: nothing, or nobody says for which claim
	key     []byte
	from    *csi.VolumeContentSource
	many    bool // it is to be read on many nodes
}

// CreateVolume implements csi.ControllerServer.
func (d *Controller) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	p, err := d.planCreate(ctx, r)
	if err != nil {
		return nil, err
	}
	release, err := d.flight.Take("name/" + p.network.ID + "/" + p.name)
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
	h := handle.Volume{Network: p.network.ID, ID: v.Id}
	if p.Limits() {
		if err := d.cfg.Modifier.Modify(ctx, h, request.Change{IOPS: p.IOPS, Bandwidth: p.Bandwidth, Least: p.Least, Most: p.Most}); err != nil {
			return nil, fmt.Errorf("limits and bounds of volume %s: %w", h, err)
		}
	}
	about := p.Claim.Context()
	if p.many {
		about = request.Readers(about)
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{VolumeId: h.String(), CapacityBytes: v.Size, ContentSource: p.from, VolumeContext: about,
		AccessibleTopology: d.accessible(p.network, r.AccessibilityRequirements)}}, nil
}

func (d *Controller) planCreate(ctx context.Context, r *csi.CreateVolumeRequest) (p plan, err error) {
	if err := request.CheckName("volume", r.Name); err != nil {
		return p, err
	}
	uses, err := request.ReadCapabilities(r.VolumeCapabilities)
	if err != nil {
		return p, err
	}
	if p.many, err = request.Many(uses); err != nil {
		return p, err
	}
	if p.many && r.VolumeContentSource == nil {
		return p, request.Invalid("a volume that many nodes read and none writes would be empty for ever: name a snapshot or a claim as dataSource")
	}
	if p.Parameters, err = request.ReadParameters(r.Parameters); err != nil {
		return p, err
	}
	if err := d.mutable(&p.Parameters, r.MutableParameters); err != nil {
		return p, err
	}
	networks, err := d.cfg.Agents.Networks(ctx)
	if err != nil {
		return p, fmt.Errorf("list networks: %w", err)
	}
	if p.network, err = p.Choose(networks); err != nil {
		return p, err
	}
	if p.key, err = request.ReadKey(r.Secrets); err != nil {
		return p, err
	}
	if p.Encrypted != (len(p.key) > 0) {
		return p, request.Invalid("parameter %s=%t, and the secret has a key: %t; either both or none", request.ParamEncrypted, p.Encrypted, len(p.key) > 0)
	}
	if p.least, err = request.ReadRange(r.CapacityRange, request.Least(uses)); err != nil {
		return p, err
	}
	p.limit = r.CapacityRange.GetLimitBytes()
	if p.Claim.Name != "" {
		p.asked = r.CapacityRange.GetRequiredBytes()
	}
	p.name, p.from = handle.Name(r.Name), r.VolumeContentSource
	p.size = p.least
	if r.CapacityRange.GetRequiredBytes() == 0 {
		p.size = max(p.size, defaultSize)
		if p.limit != 0 {
			p.size = max(p.least, min(p.size, p.limit/request.Page*request.Page))
		}
	}
	return p, d.checkTopology(p.network, r.AccessibilityRequirements)
}

// mutable lays parameters of a VolumeAttributesClass over those of the StorageClass.
func (d *Controller) mutable(p *request.Parameters, params map[string]string) error {
	c, err := request.ReadMutable(params)
	if err != nil {
		return err
	}
	if len(params) > 0 && d.cfg.Modifier == nil {
		return request.Invalid("VolumeAttributesClass is not supported by the agents")
	}
	if p.Change = p.Over(c); p.Limits() && d.cfg.Modifier == nil {
		return request.Invalid("parameters %s and %s are not supported by the agents", request.ParamIOPS, request.ParamBandwidth)
	}
	return nil
}

// fits tells whether a volume of that size is what was asked for.
func (p *plan) fits(size int64) bool {
	return size >= p.least && (p.limit == 0 || size <= p.limit)
}

// fewer is what agents are told that a claim asks for: nothing, where its volume is not larger.
func fewer(asked, size int64) int64 {
	if asked < size {
		return asked
	}
	return 0
}

// settle runs make for the size wanted. If there is such a volume with another size that fits as well, it runs make for
// that, so that the agent is the one who judges whether everything else is equal.
func (p *plan) settle(ctx context.Context, a agentv1.AgentClient, size int64, make func(size int64) (*agentv1.Volume, error)) (*agentv1.Volume, error) {
	v, err := make(size)
	if request.IsCode(err, codes.AlreadyExists) {
		have, ierr := request.Inspect(ctx, a, p.name)
		if ierr == nil && have.Size != size && p.fits(have.Size) {
			v, err = make(have.Size)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create volume %q: %w", p.name, err)
	}
	return v, nil
}

func (d *Controller) createNew(ctx context.Context, p *plan) (*agentv1.Volume, error) {
	a, err := request.Any(ctx, d.cfg.Agents, p.network.ID)
	if err != nil {
		return nil, err
	}
	return p.settle(ctx, a, p.size, func(size int64) (*agentv1.Volume, error) {
		req := &agentv1.CreateVolumeRequest{Name: p.name, Size: size, ExtentSize: p.Extent, EncryptionKey: p.key,
			ClaimNamespace: p.Claim.Namespace, ClaimName: p.Claim.Name, ClaimSize: fewer(p.asked, size)}
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
func (d *Controller) createFrom(ctx context.Context, p *plan) (*agentv1.Volume, error) {
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
		return nil, request.Invalid("the content source is neither a snapshot nor a volume")
	}
	if source.Network != p.network.ID {
		return nil, request.Invalid("the content source is in network %q, the volume is to be in %q", source.Network, p.network.ID)
	}
	a, v, err := request.Find(ctx, d.cfg.Agents, source)
	if err != nil {
		return nil, err
	}
	size := v.Size
	if snapshot != "" {
		s := snapshotOf(v, snapshot)
		if s == nil {
			return nil, fmt.Errorf("snapshot %s of volume %s: %w", snapshot, source, request.ErrNotFound)
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
		release, err := d.flight.Take("volume/" + source.String())
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
		return a.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: v.Id, Snapshot: snapshot, Name: p.name, Size: size, EncryptionKey: p.key,
			ClaimNamespace: p.Claim.Namespace, ClaimName: p.Claim.Name, ClaimSize: fewer(p.asked, size)})
	})
}

// sizeFrom is the size of a volume made from a source of that size.
func (p *plan) sizeFrom(source int64) (int64, error) {
	size := max(source, p.least)
	if p.limit != 0 && size > p.limit {
		return 0, fmt.Errorf("the content source has %d bytes, the volume may have at most %d: %w", source, p.limit, request.ErrRange)
	}
	return size, nil
}

// inherits reports request.ErrInvalid if a volume is to differ from its source in what it gets from it.
func (p *plan) inherits(v *agentv1.Volume) error {
	var differs []string
	note := func(name string, is bool) {
		if is {
			differs = append(differs, name)
		}
	}
	note(request.ParamEncrypted, p.Encrypted != v.Encrypted)
	note(request.ParamExtentSize, p.Extent != 0 && p.Extent != v.ExtentSize)
	note(request.ParamCopies, p.Copies != nil && *p.Copies != v.Replicas)
	note(request.ParamWrite, p.Weak != nil && *p.Weak != v.Weak)
	note(request.ParamCompression, p.Compression != nil && *p.Compression != v.Compression)
	if len(differs) > 0 {
		return request.Invalid("a volume gets %s from its source, which differ from the parameters: use a class that does not set them or sets them alike",
			strings.Join(differs, ", "))
	}
	return nil
}

// snapshotOf finds a snapshot of v by id, unless it is kept for its clones alone.
func snapshotOf(v *agentv1.Volume, id string) *agentv1.Snapshot {
	for _, s := range v.Snapshots {
		if s.Id == id && !s.Kept {
			return s
		}
	}
	return nil
}
