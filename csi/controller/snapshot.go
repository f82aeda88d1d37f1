package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/request"
)

// kept is a snapshot that Kubernetes may see.
type kept struct {
	handle handle.Snapshot
	*agentv1.Snapshot
	least int64 // bytes that a claim must ask for, see restore
}

func (k kept) key() string { return k.handle.String() }

func (k kept) message() *csi.Snapshot {
	out := &csi.Snapshot{SnapshotId: k.key(), SourceVolumeId: k.handle.Volume.String(), SizeBytes: k.least, ReadyToUse: true,
		CreationTime: &timestamppb.Timestamp{Seconds: k.CreatedUnix}}
	if g, ok := handle.GroupNamed(k.handle.Network, k.Name); ok {
		out.GroupSnapshotId = g.String()
	}
	return out
}

// keep is a snapshot of the volume v.
func keep(h handle.Volume, v *agentv1.Volume, s *agentv1.Snapshot) kept {
	return kept{handle.Snapshot{Volume: h, Snapshot: s.Id}, s, restore(v, s)}
}

// restore is the size in bytes that a snapshot is told to have: Kubernetes refuses a claim of less that is to be restored from it.
// A volume may be larger than its claim asked for, as sizes are rounded up, and a claim like that one must do for the restored volume
// too, which is made as large as the snapshot whatever it asks for. What the claim asks for is known for the volume's present size; a
// snapshot from before it grew has less than that, and is told as it is.
func restore(v *agentv1.Volume, s *agentv1.Snapshot) int64 {
	if v.ClaimSize > 0 && v.ClaimSize < s.Size {
		return v.ClaimSize
	}
	return s.Size
}

// visible tells whether Kubernetes may see a snapshot: not what was made for a clone, or deleted and kept for clones.
func visible(s *agentv1.Snapshot) bool { return !s.Kept && !handle.IsClone(s.Name) }

// snapshots lists those of a network, of all networks if none is given, ascending by handle.
func (d *Controller) snapshots(ctx context.Context, network string) (out []kept, err error) {
	hs, vs, err := d.volumes(ctx, network)
	if err != nil {
		return nil, err
	}
	for _, h := range hs {
		for _, s := range vs[h].Snapshots {
			if visible(s) {
				out = append(out, keep(h, vs[h], s))
			}
		}
	}
	slices.SortFunc(out, func(a, b kept) int { return strings.Compare(a.key(), b.key()) })
	return out, nil
}

// CreateSnapshot implements csi.ControllerServer.
func (d *Controller) CreateSnapshot(ctx context.Context, r *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if err := request.CheckName("snapshot", r.Name); err != nil {
		return nil, err
	}
	if r.SourceVolumeId == "" {
		return nil, request.Invalid("no source volume id")
	}
	h, err := handle.ParseVolume(r.SourceVolumeId)
	if err != nil {
		return nil, err
	}
	for p := range r.Parameters {
		if !strings.HasPrefix(p, request.KubernetesPrefix) {
			return nil, request.Invalid("there is no parameter %q of a snapshot", p)
		}
	}
	key, err := request.ReadKey(r.Secrets)
	if err != nil {
		return nil, err
	}
	name := handle.Name(r.Name)
	release, err := d.flight.Take("snapshot/"+h.Network+"/"+name, "volume/"+h.String())
	if err != nil {
		return nil, err
	}
	defer release()
	all, err := d.snapshots(ctx, h.Network)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if s.Name == name && s.handle.Volume != h {
			return nil, fmt.Errorf("snapshot %q is of volume %s: %w", r.Name, s.handle.Volume, request.ErrExists)
		}
		if s.Name == name {
			return &csi.CreateSnapshotResponse{Snapshot: s.message()}, nil
		}
	}
	a, v, err := request.Find(ctx, d.cfg.Agents, h)
	if err != nil {
		return nil, err
	}
	s, err := a.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: v.Id, Name: name, EncryptionKey: key})
	if err != nil {
		return nil, fmt.Errorf("snapshot %q of volume %s: %w", r.Name, h, err)
	}
	return &csi.CreateSnapshotResponse{Snapshot: keep(h, v, s).message()}, nil
}

// DeleteSnapshot implements csi.ControllerServer.
func (d *Controller) DeleteSnapshot(ctx context.Context, r *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	if r.SnapshotId == "" {
		return nil, request.Invalid("no snapshot id")
	}
	h, err := handle.ParseSnapshot(r.SnapshotId)
	if err != nil {
		return &csi.DeleteSnapshotResponse{}, nil // none of ours has such an id
	}
	key, err := request.ReadKey(r.Secrets)
	if err != nil {
		return nil, err
	}
	release, err := d.flight.Take("volume/" + h.Volume.String())
	if err != nil {
		return nil, err
	}
	defer release()
	return &csi.DeleteSnapshotResponse{}, d.dropSnapshot(ctx, h, key, false)
}

// dropSnapshot deletes a snapshot; one of a group only if the group is what is being deleted. It may be gone. Volumes that were restored from it do
// not hold it up: its agent keeps it for them, and the last of them takes it along, see dropOrigin.
func (d *Controller) dropSnapshot(ctx context.Context, h handle.Snapshot, key []byte, ofGroup bool) error {
	a, v, err := request.Find(ctx, d.cfg.Agents, h.Volume)
	if request.Code(err) == codes.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	s := snapshotOf(v, h.Snapshot)
	if s == nil {
		return nil
	}
	if g, is := handle.GroupNamed(h.Network, s.Name); is && !ofGroup {
		return fmt.Errorf("snapshot %s belongs to the group snapshot %s; delete that: %w", h, g, request.ErrPrecondition)
	}
	_, err = a.DeleteSnapshot(ctx, &agentv1.DeleteSnapshotRequest{Volume: v.Id, Snapshot: s.Id, Keep: true, EncryptionKey: key})
	if err != nil && !request.IsCode(err, codes.NotFound) {
		return fmt.Errorf("delete snapshot %s: %w", h, err)
	}
	return nil
}

// getSnapshot finds one snapshot.
func (d *Controller) getSnapshot(ctx context.Context, id string) (kept, error) {
	h, err := handle.ParseSnapshot(id)
	if err != nil {
		return kept{}, err
	}
	_, v, err := request.Find(ctx, d.cfg.Agents, h.Volume)
	if err != nil {
		return kept{}, err
	}
	s := snapshotOf(v, h.Snapshot)
	if s == nil {
		return kept{}, fmt.Errorf("snapshot %s: %w", h, request.ErrNotFound)
	}
	return kept{h, s, restore(v, s)}, nil
}

// GetSnapshot implements csi.ControllerServer.
func (d *Controller) GetSnapshot(ctx context.Context, r *csi.GetSnapshotRequest) (*csi.GetSnapshotResponse, error) {
	if r.SnapshotId == "" {
		return nil, request.Invalid("no snapshot id")
	}
	s, err := d.getSnapshot(ctx, r.SnapshotId)
	if err != nil {
		return nil, err
	}
	return &csi.GetSnapshotResponse{Snapshot: s.message()}, nil
}

// ListSnapshots implements csi.ControllerServer.
func (d *Controller) ListSnapshots(ctx context.Context, r *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	if r.StartingToken != "" {
		if _, err := handle.ParseSnapshot(r.StartingToken); err != nil {
			return nil, fmt.Errorf("starting token %q: %w", r.StartingToken, request.ErrToken)
		}
	}
	all, err := d.matching(ctx, r)
	if err != nil {
		return nil, err
	}
	part, next, err := paged(all, kept.key, r.MaxEntries, r.StartingToken)
	if err != nil {
		return nil, err
	}
	out := &csi.ListSnapshotsResponse{NextToken: next}
	for _, s := range part {
		out.Entries = append(out.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: s.message()})
	}
	return out, nil
}

// matching lists the snapshots that a request is about. What is not there is an empty list.
func (d *Controller) matching(ctx context.Context, r *csi.ListSnapshotsRequest) (out []kept, err error) {
	switch {
	case r.SnapshotId != "":
		var s kept
		if s, err = d.getSnapshot(ctx, r.SnapshotId); err == nil {
			out = []kept{s}
		}
	case r.SourceVolumeId != "":
		var h handle.Volume
		if h, err = handle.ParseVolume(r.SourceVolumeId); err == nil {
			out, err = d.snapshots(ctx, h.Network)
		}
	default:
		out, err = d.snapshots(ctx, "")
	}
	if request.Code(err) == codes.NotFound && err != nil {
		return nil, nil
	}
	return slices.DeleteFunc(out, func(s kept) bool {
		return r.SourceVolumeId != "" && s.handle.Volume.String() != r.SourceVolumeId
	}), err
}
