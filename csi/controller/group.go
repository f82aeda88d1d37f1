package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/request"
)

// maxGroup is the most volumes of a group: all of them stand still together.
const maxGroup = 64

// GroupControllerGetCapabilities implements csi.GroupControllerServer.
func (d *Controller) GroupControllerGetCapabilities(context.Context, *csi.GroupControllerGetCapabilitiesRequest) (*csi.GroupControllerGetCapabilitiesResponse, error) {
	return &csi.GroupControllerGetCapabilitiesResponse{Capabilities: []*csi.GroupControllerServiceCapability{{
		Type: &csi.GroupControllerServiceCapability_Rpc{Rpc: &csi.GroupControllerServiceCapability_RPC{
			Type: csi.GroupControllerServiceCapability_RPC_CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT}}}}}, nil
}

// members lists the snapshots of groups for which is is true.
func (d *Controller) members(ctx context.Context, network string, is func(g handle.Group) bool) (out []kept, err error) {
	all, err := d.snapshots(ctx, network)
	for _, s := range all {
		if g, of := handle.GroupNamed(network, s.Name); of && is(g) {
			out = append(out, s)
		}
	}
	return out, err
}

func groupMessage(g handle.Group, list []kept) *csi.VolumeGroupSnapshot {
	out := &csi.VolumeGroupSnapshot{GroupSnapshotId: g.String(), ReadyToUse: true, CreationTime: &timestamppb.Timestamp{}}
	for _, s := range list {
		m := s.message()
		out.Snapshots = append(out.Snapshots, m)
		out.CreationTime.Seconds = max(out.CreationTime.Seconds, m.CreationTime.Seconds)
	}
	return out
}

// CreateVolumeGroupSnapshot implements csi.GroupControllerServer. All volumes stand still before the first snapshot is
// taken, and each snapshot is refused if its volume has moved since: so they all show the moment when the last of them
// came to a stand.
func (d *Controller) CreateVolumeGroupSnapshot(ctx context.Context, r *csi.CreateVolumeGroupSnapshotRequest) (*csi.CreateVolumeGroupSnapshotResponse, error) {
	sources, err := readGroup(r)
	if err != nil {
		return nil, err
	}
	key, err := request.ReadKey(r.Secrets)
	if err != nil {
		return nil, err
	}
	network := sources[0].Network
	g := handle.GroupOf(network, r.Name, r.SourceVolumeIds)
	keys := []string{"group/" + network + "/" + r.Name}
	for _, s := range sources {
		keys = append(keys, "volume/"+s.String())
	}
	release, err := d.flight.Take(keys...)
	if err != nil {
		return nil, err
	}
	defer release()
	have, err := d.members(ctx, network, g.SameName)
	if err != nil {
		return nil, err
	}
	for _, s := range have {
		if other, _ := handle.GroupNamed(network, s.Name); other != g {
			return nil, fmt.Errorf("group snapshot %q of other volumes: %w", r.Name, request.ErrExists)
		}
	}
	if len(have) != len(sources) {
		if have, err = d.takeGroup(ctx, g, sources, have, key); err != nil {
			return nil, err
		}
	}
	return &csi.CreateVolumeGroupSnapshotResponse{GroupSnapshot: groupMessage(g, have)}, nil
}

func readGroup(r *csi.CreateVolumeGroupSnapshotRequest) (sources []handle.Volume, err error) {
	if err := request.CheckName("group snapshot", r.Name); err != nil {
		return nil, err
	}
	if n := len(r.SourceVolumeIds); n == 0 || n > maxGroup {
		return nil, request.Invalid("%d source volumes, want 1 to %d", n, maxGroup)
	}
	for _, id := range r.SourceVolumeIds {
		h, err := handle.ParseVolume(id)
		if err != nil {
			return nil, err
		}
		if slices.Contains(sources, h) {
			return nil, request.Invalid("source volume %s is named twice", h)
		}
		if len(sources) > 0 && h.Network != sources[0].Network {
			return nil, request.Invalid("source volumes are in the networks %q and %q", sources[0].Network, h.Network)
		}
		sources = append(sources, h)
	}
	return sources, nil
}

// takeGroup takes all snapshots of a group. What an interrupted attempt left is deleted first: it shows another moment.
func (d *Controller) takeGroup(ctx context.Context, g handle.Group, sources []handle.Volume, old []kept, key []byte) (out []kept, err error) {
	for _, s := range old {
		if err := d.dropSnapshot(ctx, s.handle, key, true); err != nil {
			return nil, fmt.Errorf("remains of an attempt before: %w", err)
		}
	}
	of := make([]*agentv1.Volume, len(sources))
	for i, s := range sources {
		if _, of[i], err = request.Find(ctx, d.cfg.Agents, s); err != nil {
			return nil, err
		}
	}
	tokens := make([]string, len(sources))
	defer func() {
		if broken := d.release(ctx, sources, tokens, out, key); broken != nil {
			out, err = nil, errors.Join(err, broken)
		}
	}()
	for i, s := range sources {
		if tokens[i], err = d.cfg.Barrier.Hold(ctx, s, key); err != nil {
			return nil, fmt.Errorf("hold volume %s for the group snapshot: %w", s, err)
		}
	}
	for i, s := range sources {
		snap, err := d.cfg.Barrier.Snapshot(ctx, s, tokens[i], g.SnapshotName(), key)
		if err != nil {
			return out, fmt.Errorf("snapshot of volume %s in the group: %w", s, err)
		}
		out = append(out, keep(s, of[i], snap))
	}
	return out, nil
}

// release ends the holds of a group. If one has ended before, or nobody knows, the group was not taken at one moment: its snapshots are deleted,
// so that a repeated request does not find a whole group.
func (d *Controller) release(ctx context.Context, sources []handle.Volume, tokens []string, taken []kept, key []byte) (broken error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	for i, t := range tokens {
		if t == "" {
			continue
		}
		if err := d.cfg.Barrier.Release(ctx, sources[i], t); err != nil {
			broken = errors.Join(broken, fmt.Errorf("volume %s was not held until the last snapshot of the group, which may not show one moment: %w", sources[i], err))
		}
	}
	if broken == nil {
		return nil
	}
	for _, s := range taken {
		if err := d.dropSnapshot(ctx, s.handle, key, true); err != nil {
			broken = errors.Join(broken, err)
		}
	}
	return broken
}

// group finds the snapshots of a group and compares them with those that are named, if any are.
func (d *Controller) group(ctx context.Context, g handle.Group, named []string) ([]kept, error) {
	list, err := d.members(ctx, g.Network, func(h handle.Group) bool { return h == g })
	if err != nil {
		return nil, err
	}
	for _, n := range named {
		if h, err := handle.ParseSnapshot(n); err != nil || h.Network != g.Network {
			return nil, request.Invalid("snapshot %q is not of group snapshot %s", n, g)
		}
	}
	for _, s := range list {
		if len(named) > 0 && !slices.Contains(named, s.key()) {
			return nil, request.Invalid("group snapshot %s has the snapshot %s too", g, s.key())
		}
	}
	return list, nil
}

// GetVolumeGroupSnapshot implements csi.GroupControllerServer.
func (d *Controller) GetVolumeGroupSnapshot(ctx context.Context, r *csi.GetVolumeGroupSnapshotRequest) (*csi.GetVolumeGroupSnapshotResponse, error) {
	if r.GroupSnapshotId == "" {
		return nil, request.Invalid("no group snapshot id")
	}
	g, err := handle.ParseGroup(r.GroupSnapshotId)
	if err != nil {
		return nil, err
	}
	list, err := d.group(ctx, g, r.SnapshotIds)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 || len(list) < len(r.SnapshotIds) {
		return nil, fmt.Errorf("group snapshot %s, %d of %d snapshots: %w", g, len(list), len(r.SnapshotIds), request.ErrNotFound)
	}
	return &csi.GetVolumeGroupSnapshotResponse{GroupSnapshot: groupMessage(g, list)}, nil
}

// DeleteVolumeGroupSnapshot implements csi.GroupControllerServer.
func (d *Controller) DeleteVolumeGroupSnapshot(ctx context.Context, r *csi.DeleteVolumeGroupSnapshotRequest) (*csi.DeleteVolumeGroupSnapshotResponse, error) {
	if r.GroupSnapshotId == "" {
		return nil, request.Invalid("no group snapshot id")
	}
	g, err := handle.ParseGroup(r.GroupSnapshotId)
	if err != nil {
		return &csi.DeleteVolumeGroupSnapshotResponse{}, nil // none of ours has such an id
	}
	key, err := request.ReadKey(r.Secrets)
	if err != nil {
		return nil, err
	}
	list, err := d.group(ctx, g, r.SnapshotIds)
	if err != nil {
		return nil, err
	}
	keys := []string{"group/" + g.String()}
	for _, s := range list {
		keys = append(keys, "volume/"+s.handle.Volume.String())
	}
	release, err := d.flight.Take(keys...)
	if err != nil {
		return nil, err
	}
	defer release()
	for _, s := range list {
		err = errors.Join(err, d.dropSnapshot(ctx, s.handle, key, true))
	}
	return &csi.DeleteVolumeGroupSnapshotResponse{}, err
}
