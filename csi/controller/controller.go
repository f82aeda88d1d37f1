package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/request"
)

// ControllerGetCapabilities implements csi.ControllerServer.
func (d *Controller) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	types := []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
		csi.ControllerServiceCapability_RPC_GET_VOLUME,
		csi.ControllerServiceCapability_RPC_GET_CAPACITY,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
		csi.ControllerServiceCapability_RPC_GET_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
		csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
		csi.ControllerServiceCapability_RPC_GET_VOLUME_HEALTH,
		csi.ControllerServiceCapability_RPC_LIST_VOLUME_HEALTH,
	}
	if d.cfg.Modifier != nil {
		types = append(types, csi.ControllerServiceCapability_RPC_MODIFY_VOLUME)
	}
	out := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range types {
		out.Capabilities = append(out.Capabilities, &csi.ControllerServiceCapability{Type: &csi.ControllerServiceCapability_Rpc{
			Rpc: &csi.ControllerServiceCapability_RPC{Type: t}}})
	}
	return out, nil
}

// DeleteVolume implements csi.ControllerServer. A volume with snapshots is not deleted: they would go with it.
func (d *Controller) DeleteVolume(ctx context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if r.VolumeId == "" {
		return nil, request.Invalid("no volume id")
	}
	h, err := handle.ParseVolume(r.VolumeId)
	if err != nil {
		return &csi.DeleteVolumeResponse{}, nil // none of ours has such an id
	}
	key, err := request.ReadKey(r.Secrets)
	if err != nil {
		return nil, err
	}
	release, err := d.flight.Take("volume/" + h.String())
	if err != nil {
		return nil, err
	}
	defer release()
	a, err := request.Any(ctx, d.cfg.Agents, h.Network)
	if err != nil {
		return nil, err
	}
	v, err := a.InspectVolume(ctx, &agentv1.InspectVolumeRequest{Volume: h.ID})
	if request.IsCode(err, codes.NotFound) {
		return &csi.DeleteVolumeResponse{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("inspect volume %s: %w", h, err)
	}
	if n := slices.IndexFunc(v.Snapshots, visible); n >= 0 && v.State != agentv1.VolumeState_VOLUME_STATE_DELETED {
		return nil, fmt.Errorf("volume %s has the snapshot %q, which would be lost with it; delete that first: %w", h, v.Snapshots[n].Name, request.ErrPrecondition)
	}
	_, err = a.DeleteVolume(ctx, &agentv1.DeleteVolumeRequest{Volume: h.ID})
	if err != nil && !request.IsCode(err, codes.NotFound) {
		if v.State != agentv1.VolumeState_VOLUME_STATE_DELETED {
			return nil, fmt.Errorf("delete volume %s: %w", h, err)
		}
		// The deletion is final. Agents bring it to stores that are away; nobody need wait for that.
		d.cfg.Log.Info("a deleted volume's space is not free everywhere yet", "volume", h.String(), "err", err)
	}
	d.dropOrigin(ctx, h, v, key)
	return &csi.DeleteVolumeResponse{}, nil
}

// dropOrigin deletes the snapshot that a clone was made from, if it was made for it alone or is kept for clones alone. If that fails it stays
// until its volume is deleted, which it does not hinder.
func (d *Controller) dropOrigin(ctx context.Context, h handle.Volume, v *agentv1.Volume, key []byte) {
	if v.Parent == "" {
		return
	}
	parent := handle.Volume{Network: h.Network, ID: v.Parent}
	a, p, err := request.Find(ctx, d.cfg.Agents, parent)
	if err == nil {
		n := slices.IndexFunc(p.Snapshots, func(s *agentv1.Snapshot) bool { return s.Id == v.ParentSnapshot })
		if n < 0 || !p.Snapshots[n].Kept && p.Snapshots[n].Name != handle.CloneName(v.Name) {
			return
		}
		_, err = a.DeleteSnapshot(ctx, &agentv1.DeleteSnapshotRequest{Volume: p.Id, Snapshot: v.ParentSnapshot, Keep: true, EncryptionKey: key})
	}
	if err != nil && !errors.Is(err, request.ErrNotFound) {
		d.cfg.Log.Info("the snapshot that a deleted clone was made from stays until its volume is deleted", "volume", parent.String(), "err", err)
	}
}

// ValidateVolumeCapabilities implements csi.ControllerServer.
func (d *Controller) ValidateVolumeCapabilities(ctx context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if r.VolumeId == "" {
		return nil, request.Invalid("no volume id")
	}
	if len(r.VolumeCapabilities) == 0 {
		return nil, request.Invalid("no volume capability")
	}
	h, err := handle.ParseVolume(r.VolumeId)
	if err != nil {
		return nil, err
	}
	a, err := request.Any(ctx, d.cfg.Agents, h.Network)
	if err != nil {
		return nil, err
	}
	v, err := request.Inspect(ctx, a, h.ID)
	if err != nil {
		return nil, err
	}
	uses, err := request.ReadCapabilities(r.VolumeCapabilities)
	if err == nil {
		err = fitting(v, uses, r.VolumeContext)
	}
	if err == nil {
		_, err = request.ReadParameters(r.Parameters)
	}
	if err == nil {
		_, err = request.ReadMutable(r.MutableParameters)
	}
	if err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeContext: r.VolumeContext,
		VolumeCapabilities: r.VolumeCapabilities, Parameters: r.Parameters, MutableParameters: r.MutableParameters}}, nil
}

// fitting says why a volume cannot be used in all these ways.
func fitting(v *agentv1.Volume, uses []request.Access, about map[string]string) error {
	many, err := request.Many(uses)
	if err != nil {
		return err
	}
	for _, use := range uses {
		if v.Sealed && !use.ReadOnly {
			return request.Invalid("the volume is sealed: nobody writes it")
		}
	}
	if many && !v.Sealed && !request.ForReaders(about) {
		return request.Invalid("the volume was made to be written: it is not read on many nodes")
	}
	return nil
}

// ControllerGetVolume implements csi.ControllerServer.
func (d *Controller) ControllerGetVolume(ctx context.Context, r *csi.ControllerGetVolumeRequest) (*csi.ControllerGetVolumeResponse, error) {
	if r.VolumeId == "" {
		return nil, request.Invalid("no volume id")
	}
	h, err := handle.ParseVolume(r.VolumeId)
	if err != nil {
		return nil, err
	}
	_, v, err := request.Find(ctx, d.cfg.Agents, h)
	if err != nil {
		return nil, err
	}
	return &csi.ControllerGetVolumeResponse{Volume: volumeOf(h, v), Status: &csi.ControllerGetVolumeResponse_VolumeStatus{}}, nil
}

func volumeOf(h handle.Volume, v *agentv1.Volume) *csi.Volume {
	out := &csi.Volume{VolumeId: h.String(), CapacityBytes: v.Size}
	if v.Parent != "" {
		s := handle.Snapshot{Volume: handle.Volume{Network: h.Network, ID: v.Parent}, Snapshot: v.ParentSnapshot}
		out.ContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: s.String()}}}
	}
	return out
}

// volumes lists the volumes of a network, of all networks if none is given, ascending by handle.
func (d *Controller) volumes(ctx context.Context, network string) (hs []handle.Volume, vs map[handle.Volume]*agentv1.Volume, err error) {
	networks := []request.Network{{ID: network, Name: network}}
	if network == "" {
		if networks, err = d.cfg.Agents.Networks(ctx); err != nil {
			return nil, nil, fmt.Errorf("list networks: %w", err)
		}
	}
	vs = map[handle.Volume]*agentv1.Volume{}
	for _, n := range networks {
		a, err := request.Any(ctx, d.cfg.Agents, n.ID)
		if err != nil {
			return nil, nil, err
		}
		r, err := a.ListVolumes(ctx, &agentv1.ListVolumesRequest{})
		if err != nil {
			return nil, nil, fmt.Errorf("list volumes of network %q: %w", n.Name, err)
		}
		for _, v := range r.Volumes {
			h := handle.Volume{Network: n.ID, ID: v.Id}
			hs, vs[h] = append(hs, h), v
		}
	}
	slices.SortFunc(hs, func(a, b handle.Volume) int { return strings.Compare(a.String(), b.String()) })
	return hs, vs, nil
}

// ListVolumes implements csi.ControllerServer.
func (d *Controller) ListVolumes(ctx context.Context, r *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	if r.StartingToken != "" {
		if _, err := handle.ParseVolume(r.StartingToken); err != nil {
			return nil, fmt.Errorf("starting token %q: %w", r.StartingToken, request.ErrToken)
		}
	}
	hs, vs, err := d.volumes(ctx, "")
	if err != nil {
		return nil, err
	}
	hs, next, err := paged(hs, handle.Volume.String, r.MaxEntries, r.StartingToken)
	if err != nil {
		return nil, err
	}
	out := &csi.ListVolumesResponse{NextToken: next}
	for _, h := range hs {
		out.Entries = append(out.Entries, &csi.ListVolumesResponse_Entry{Volume: volumeOf(h, vs[h])})
	}
	return out, nil
}

// paged gives the part of a list, ascending by key, that follows token, and the token to go on with. A token is the key
// of the last item before, so neither new nor deleted items upset it.
func paged[T any](items []T, key func(T) string, most int32, token string) (part []T, next string, err error) {
	if most < 0 {
		return nil, "", request.Invalid("at most %d entries", most)
	}
	from := slices.IndexFunc(items, func(t T) bool { return key(t) > token })
	if from < 0 {
		return nil, "", nil
	}
	items = items[from:]
	if most > 0 && int(most) < len(items) {
		return items[:most], key(items[most-1]), nil
	}
	return items, "", nil
}

// ControllerExpandVolume implements csi.ControllerServer.
func (d *Controller) ControllerExpandVolume(ctx context.Context, r *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	if r.VolumeId == "" {
		return nil, request.Invalid("no volume id")
	}
	if r.CapacityRange == nil {
		return nil, request.Invalid("no capacity range")
	}
	h, err := handle.ParseVolume(r.VolumeId)
	if err != nil {
		return nil, err
	}
	size, err := request.ReadRange(r.CapacityRange, 0)
	if err != nil {
		return nil, err
	}
	block := false
	if r.VolumeCapability != nil {
		use, err := request.ReadCapability(r.VolumeCapability)
		if err != nil {
			return nil, err
		}
		block = use.Block
	}
	key, err := request.ReadKey(r.Secrets)
	if err != nil {
		return nil, err
	}
	release, err := d.flight.Take("volume/" + h.String())
	if err != nil {
		return nil, err
	}
	defer release()
	a, v, err := request.Find(ctx, d.cfg.Agents, h)
	if err != nil {
		return nil, err
	}
	if limit := r.CapacityRange.GetLimitBytes(); limit != 0 && v.Size > limit {
		return nil, fmt.Errorf("volume %s has %d bytes already, asked for at most %d: %w", h, v.Size, limit, request.ErrRange)
	}
	if v.Size < size {
		if v, err = a.ResizeVolume(ctx, &agentv1.ResizeVolumeRequest{Volume: h.ID, Size: size, EncryptionKey: key,
			ClaimSize: fewer(r.CapacityRange.RequiredBytes, size)}); err != nil {
			return nil, fmt.Errorf("expand volume %s: %w", h, err)
		}
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: v.Size, NodeExpansionRequired: !block}, nil
}

// ControllerModifyVolume implements csi.ControllerServer.
func (d *Controller) ControllerModifyVolume(ctx context.Context, r *csi.ControllerModifyVolumeRequest) (*csi.ControllerModifyVolumeResponse, error) {
	if d.cfg.Modifier == nil {
		return nil, fmt.Errorf("modify a volume: %w", request.ErrUnsupported)
	}
	if r.VolumeId == "" {
		return nil, request.Invalid("no volume id")
	}
	h, err := handle.ParseVolume(r.VolumeId)
	if err != nil {
		return nil, err
	}
	c, err := request.ReadMutable(r.MutableParameters)
	if err != nil {
		return nil, err
	}
	release, err := d.flight.Take("volume/" + h.String())
	if err != nil {
		return nil, err
	}
	defer release()
	if _, _, err := request.Find(ctx, d.cfg.Agents, h); err != nil {
		return nil, err
	}
	if err := d.cfg.Modifier.Modify(ctx, h, c); err != nil {
		return nil, fmt.Errorf("modify volume %s: %w", h, err)
	}
	return &csi.ControllerModifyVolumeResponse{}, nil
}
