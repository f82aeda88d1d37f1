package node

import (
	"context"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/mount"
	"mynetwork.io/mynetwork/csi/request"
)

// NodePublishVolume implements csi.NodeServer.
func (d *Node) NodePublishVolume(ctx context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	h, use, err := d.readNodeRequest(r.VolumeId, r.VolumeCapability)
	if err != nil {
		return nil, err
	}
	if err := d.checkPath("target path", r.TargetPath); err != nil {
		return nil, err
	}
	if err := d.checkPath("staging target path", r.StagingTargetPath); err != nil {
		return nil, err
	}
	release, err := d.flight.Take("volume/"+h.String(), "path/"+r.TargetPath)
	if err != nil {
		return nil, err
	}
	defer release()
	v, dev, err := d.attached(ctx, h)
	if err != nil {
		return nil, err
	}
	table, err := d.cfg.Mounter.List()
	if err != nil {
		return nil, err
	}
	source := v.Device
	if !use.Block {
		source = r.StagingTargetPath
		if on, ok := at(table, source); !ok || on.Device != dev.Number {
			return nil, fmt.Errorf("volume %s is not staged at %s: %w", h, source, request.ErrPrecondition)
		}
	}
	if use.Single {
		for _, m := range table {
			if m.Device == dev.Number && m.Path != r.StagingTargetPath && m.Path != r.TargetPath {
				return nil, fmt.Errorf("volume %s is for one workload, and is published at %s already: %w", h, m.Path, request.ErrPrecondition)
			}
		}
	}
	readOnly := r.Readonly || use.ReadOnly
	if on, ok := at(table, r.TargetPath); ok {
		return &csi.NodePublishVolumeResponse{}, isPublished(h, on, dev, readOnly)
	}
	return &csi.NodePublishVolumeResponse{}, d.cfg.Mounter.Bind(source, r.TargetPath, readOnly)
}

// isPublished reports an error unless what is mounted is what is asked for.
func isPublished(h handle.Volume, on mount.Mounted, dev mount.Device, readOnly bool) error {
	switch {
	case on.Device != dev.Number:
		return fmt.Errorf("another device is mounted on %s; unpublish it first: %w", on.Path, request.ErrPrecondition)
	case on.ReadOnly != readOnly && !(on.FS == "" && on.ReadOnly):
		return fmt.Errorf("volume %s is published at %s, read-only %t: %w", h, on.Path, on.ReadOnly, request.ErrExists)
	}
	return nil
}

// attached gives a volume that must be attached here, and its device.
func (d *Node) attached(ctx context.Context, h handle.Volume) (*agentv1.Volume, mount.Device, error) {
	a, err := d.local(ctx, h.Network)
	if err != nil {
		return nil, mount.Device{}, err
	}
	v, err := request.Inspect(ctx, a, h.ID)
	if err != nil {
		return nil, mount.Device{}, err
	}
	if v.State != agentv1.VolumeState_VOLUME_STATE_ATTACHED || v.Device == "" {
		return nil, mount.Device{}, fmt.Errorf("volume %s is not attached to node %s: %w", h, d.cfg.Name, request.ErrPrecondition)
	}
	dev, err := d.cfg.Filesystems.Device(v.Device)
	return v, dev, err
}

// NodeUnpublishVolume implements csi.NodeServer. It needs no agent.
func (d *Node) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if r.VolumeId == "" {
		return nil, request.Invalid("no volume id")
	}
	if err := d.checkPath("target path", r.TargetPath); err != nil {
		return nil, err
	}
	release, err := d.flight.Take("path/" + r.TargetPath)
	if err != nil {
		return nil, err
	}
	defer release()
	return &csi.NodeUnpublishVolumeResponse{}, d.cfg.Mounter.Unmount(r.TargetPath, true)
}

// shown gives a volume of this node that is shown at a path, and how. request.ErrNotFound if it is not.
func (d *Node) shown(ctx context.Context, id, path string) (*agentv1.Volume, mount.Mounted, error) {
	if id == "" {
		return nil, mount.Mounted{}, request.Invalid("no volume id")
	}
	if path == "" {
		return nil, mount.Mounted{}, request.Invalid("no volume path")
	}
	h, err := handle.ParseVolume(id)
	if err != nil {
		return nil, mount.Mounted{}, err
	}
	a, err := d.local(ctx, h.Network)
	if err != nil {
		return nil, mount.Mounted{}, err
	}
	v, err := request.Inspect(ctx, a, h.ID)
	if err != nil {
		return nil, mount.Mounted{}, err
	}
	table, err := d.cfg.Mounter.List()
	if err != nil {
		return nil, mount.Mounted{}, err
	}
	on, ok := at(table, path)
	if ok && v.Device != "" {
		dev, err := d.cfg.Filesystems.Device(v.Device)
		if err != nil {
			return nil, mount.Mounted{}, err
		}
		ok = dev.Number == on.Device
	}
	if !ok || v.Device == "" {
		return nil, mount.Mounted{}, fmt.Errorf("volume %s at %q: %w", h, path, request.ErrNotFound)
	}
	return v, on, nil
}

// NodeGetVolumeStats implements csi.NodeServer.
func (d *Node) NodeGetVolumeStats(ctx context.Context, r *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	v, on, err := d.shown(ctx, r.VolumeId, r.VolumePath)
	if err != nil {
		return nil, err
	}
	if on.FS == "" {
		return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES, Total: v.Size}}}, nil
	}
	u, err := d.cfg.Filesystems.Usage(r.VolumePath)
	if err != nil {
		return nil, err
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: u.Bytes, Used: u.Bytes - u.BytesFree, Available: u.BytesAvailable},
		{Unit: csi.VolumeUsage_INODES, Total: u.Inodes, Used: u.Inodes - u.InodesFree, Available: u.InodesFree},
	}}, nil
}

// NodeExpandVolume implements csi.NodeServer. The controller has made the volume larger; the file system follows.
func (d *Node) NodeExpandVolume(ctx context.Context, r *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	v, on, err := d.shown(ctx, r.VolumeId, r.VolumePath)
	if err != nil {
		return nil, err
	}
	size, err := request.ReadRange(r.CapacityRange, 0)
	if err != nil {
		return nil, err
	}
	release, err := d.flight.Take("volume/" + r.VolumeId)
	if err != nil {
		return nil, err
	}
	defer release()
	dev, err := d.cfg.Filesystems.Device(v.Device)
	if err != nil {
		return nil, err
	}
	if dev.Size < size {
		return nil, fmt.Errorf("the device of volume %s has %d bytes, want %d; the controller has to expand it first: %w", r.VolumeId, dev.Size, size, request.ErrPrecondition)
	}
	if on.FS != "" && !on.ReadOnly {
		if err := d.cfg.Filesystems.Grow(ctx, v.Device, r.VolumePath, on.FS); err != nil {
			return nil, err
		}
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: dev.Size}, nil
}

// NodeGetCapabilities implements csi.NodeServer.
func (d *Node) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	out := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
		csi.NodeServiceCapability_RPC_GET_VOLUME_HEALTH,
		csi.NodeServiceCapability_RPC_GET_STORAGE_HEALTH,
	} {
		out.Capabilities = append(out.Capabilities, &csi.NodeServiceCapability{Type: &csi.NodeServiceCapability_Rpc{
			Rpc: &csi.NodeServiceCapability_RPC{Type: t}}})
	}
	return out, nil
}

// NodeGetInfo implements csi.NodeServer.
func (d *Node) NodeGetInfo(ctx context.Context, _ *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	out := &csi.NodeGetInfoResponse{NodeId: d.cfg.Name, MaxVolumesPerNode: d.cfg.MaxVolumes}
	if d.cfg.Topology {
		ready, err := d.Ready(ctx)
		if err != nil {
			return nil, err
		}
		out.AccessibleTopology = &csi.Topology{Segments: map[string]string{}}
		for _, n := range ready {
			out.AccessibleTopology.Segments[request.TopologyPrefix+n] = request.TopologyValue
		}
		d.told.Store(&ready)
	}
	return out, nil
}

// Told lists the networks of the last answer to NodeGetInfo, ascending; false: there was none. The kubelet keeps it until it asks again.
func (d *Node) Told() (networks []string, ok bool) {
	p := d.told.Load()
	if p == nil {
		return nil, false
	}
	return *p, true
}

// Ready lists the names of the networks whose agent answers on this node, ascending. When that changes, the kubelet has to be told
// by registering again.
func (d *Node) Ready(ctx context.Context) (networks []string, err error) {
	all, err := d.cfg.Agents.Networks(ctx)
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	for _, n := range all {
		a, err := d.local(ctx, n.ID)
		if err == nil {
			_, err = a.Info(ctx, &agentv1.InfoRequest{})
		}
		if err == nil {
			networks = append(networks, n.Name)
		}
	}
	slices.Sort(networks)
	return networks, nil
}
