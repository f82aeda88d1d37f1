package controller

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/container-storage-interface/spec/lib/go/csi"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/request"
)

// GetMetadataAllocated implements csi.SnapshotMetadataServer: the ranges that a snapshot holds. All others read as zeros.
func (d *Controller) GetMetadataAllocated(r *csi.GetMetadataAllocatedRequest, out csi.SnapshotMetadata_GetMetadataAllocatedServer) error {
	if r.SnapshotId == "" {
		return request.Invalid("no snapshot id")
	}
	h, err := handle.ParseSnapshot(r.SnapshotId)
	if err != nil {
		return err
	}
	q := blocks{of: h, from: r.StartingOffset, most: r.MaxResults}
	return d.blocks(out.Context(), &q, func(size int64, list []*csi.BlockMetadata) error {
		return out.Send(&csi.GetMetadataAllocatedResponse{BlockMetadataType: csi.BlockMetadataType_VARIABLE_LENGTH, VolumeCapacityBytes: size, BlockMetadata: list})
	})
}

// GetMetadataDelta implements csi.SnapshotMetadataServer: the ranges that were written or discarded between two snapshots of a volume.
func (d *Controller) GetMetadataDelta(r *csi.GetMetadataDeltaRequest, out csi.SnapshotMetadata_GetMetadataDeltaServer) error {
	if r.BaseSnapshotId == "" || r.TargetSnapshotId == "" {
		return request.Invalid("a delta is between two snapshots: base %q, target %q", r.BaseSnapshotId, r.TargetSnapshotId)
	}
	base, err := handle.ParseSnapshot(r.BaseSnapshotId)
	if err != nil {
		return err
	}
	target, err := handle.ParseSnapshot(r.TargetSnapshotId)
	if err != nil {
		return err
	}
	if base.Volume != target.Volume {
		return request.Invalid("snapshot %s is of another volume than %s", base, target)
	}
	q := blocks{of: target, base: base.Snapshot, from: r.StartingOffset, most: r.MaxResults}
	return d.blocks(out.Context(), &q, func(size int64, list []*csi.BlockMetadata) error {
		return out.Send(&csi.GetMetadataDeltaResponse{BlockMetadataType: csi.BlockMetadataType_VARIABLE_LENGTH, VolumeCapacityBytes: size, BlockMetadata: list})
	})
}

// blocks is what is asked about a snapshot.
type blocks struct {
	of   handle.Snapshot
	base string // id of the snapshot to compare with; empty: none
	from int64  // bytes
	most int32  // ranges of one message; 0: the agent's choice
}

// blocks has an agent tell, and passes on what it tells. The first message is sent although it be empty: it has the size.
func (d *Controller) blocks(ctx context.Context, q *blocks, send func(size int64, list []*csi.BlockMetadata) error) error {
	if q.most < 0 {
		return request.Invalid("at most %d results", q.most)
	}
	a, v, err := request.Find(ctx, d.cfg.Agents, q.of.Volume)
	if err != nil {
		return err
	}
	s := snapshotOf(v, q.of.Snapshot)
	switch {
	case s == nil:
		return fmt.Errorf("snapshot %s: %w", q.of, request.ErrNotFound)
	case q.base != "" && snapshotOf(v, q.base) == nil:
		return fmt.Errorf("snapshot %s of volume %s: %w", q.base, q.of.Volume, request.ErrNotFound)
	case q.from < 0 || q.from > s.Size:
		return fmt.Errorf("results from byte %d of a snapshot of %d: %w", q.from, s.Size, request.ErrRange)
	}
	stream, err := a.SnapshotBlocks(ctx, &agentv1.SnapshotBlocksRequest{Volume: v.Id, Snapshot: q.of.Snapshot, Base: q.base, From: q.from, Most: q.most})
	if err != nil {
		return fmt.Errorf("ranges of snapshot %s: %w", q.of, err)
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ranges of snapshot %s: %w", q.of, err)
		}
		var list []*csi.BlockMetadata
		for _, b := range r.Ranges {
			list = append(list, &csi.BlockMetadata{ByteOffset: b.Offset, SizeBytes: b.Length})
		}
		if err := send(r.Size, list); err != nil {
			return err
		}
	}
}
