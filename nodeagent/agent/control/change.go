package control

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/registry"
)

// FenceVolume implements agentv1.AgentServer.
func (s *Server) FenceVolume(ctx context.Context, r *agentv1.FenceVolumeRequest) (*agentv1.FenceVolumeResponse, error) {
	now, fenced, err := s.parts.Volumes.Fence(ctx, r.Volume, r.Node, r.EpochNumber)
	if err != nil {
		return nil, err
	}
	return &agentv1.FenceVolumeResponse{EpochNumber: now, Fenced: fenced}, nil
}

// HoldVolume implements agentv1.AgentServer.
func (s *Server) HoldVolume(ctx context.Context, r *agentv1.HoldVolumeRequest) (*agentv1.HoldVolumeResponse, error) {
	if r.TimeoutMs < 0 || r.TimeoutMs > volumes.MaxHold.Milliseconds() {
		return nil, status.Errorf(codes.InvalidArgument, "volume %q: a hold of %d ms, 0 (the default) to %d are possible", r.Volume, r.TimeoutMs, volumes.MaxHold.Milliseconds())
	}
	token, err := s.parts.Volumes.Hold(ctx, r.Volume, time.Duration(r.TimeoutMs)*time.Millisecond)
	if err != nil {
		return nil, err
	}
	return &agentv1.HoldVolumeResponse{Token: token}, nil
}

// ReleaseVolume implements agentv1.AgentServer.
func (s *Server) ReleaseVolume(_ context.Context, r *agentv1.ReleaseVolumeRequest) (*agentv1.ReleaseVolumeResponse, error) {
	return &agentv1.ReleaseVolumeResponse{}, s.parts.Volumes.Release(r.Volume, r.Token)
}

// Tails implements agentv1.AgentServer.
func (s *Server) Tails(_ context.Context, r *agentv1.TailsRequest) (*agentv1.TailsResponse, error) {
	list, err := s.parts.Volumes.Tails(r.Volume, r.Remove)
	if err != nil {
		return nil, err
	}
	out := &agentv1.TailsResponse{}
	for _, t := range list {
		node, _ := s.parts.Members.Owner(t.Store)
		out.Tails = append(out.Tails, &agentv1.Tail{Node: node, Store: t.Store.String(), Extent: t.Extent.String(), Seq: t.Seq})
	}
	return out, nil
}

// ListOrphans implements agentv1.AgentServer.
func (s *Server) ListOrphans(ctx context.Context, _ *agentv1.ListOrphansRequest) (*agentv1.ListOrphansResponse, error) {
	list, err := s.parts.Orphans.Orphans(ctx)
	if err != nil {
		return nil, err
	}
	return &agentv1.ListOrphansResponse{Orphans: list}, nil
}

// AdoptVolume implements agentv1.AgentServer.
func (s *Server) AdoptVolume(ctx context.Context, r *agentv1.AdoptVolumeRequest) (*agentv1.Volume, error) {
	v, err := block.ParseVolumeID(r.Volume)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "volume %q: an orphan is named by its id of 32 hexadecimal digits: %v", r.Volume, err)
	}
	if err := s.parts.Orphans.Adopt(ctx, v, r.Name, registry.Claim{Namespace: r.ClaimNamespace, Name: r.ClaimName}); err != nil {
		return nil, err
	}
	i, err := s.parts.Volumes.Inspect(r.Volume)
	return s.reply(&i, err)
}

// ModifyVolume implements agentv1.AgentServer.
func (s *Server) ModifyVolume(ctx context.Context, r *agentv1.ModifyVolumeRequest) (*agentv1.Volume, error) {
	q := volumes.ModifyRequest{Volume: r.Volume, Weak: r.Weak, IOPS: r.MaxIops, BytesPerSecond: r.MaxBytesPerSecond}
	if r.Replicas != nil {
		n := int(*r.Replicas)
		q.Replicas = &n
	}
	if r.MinReplicas != nil {
		n := int(*r.MinReplicas)
		q.Least = &n
	}
	if r.MaxReplicas != nil {
		n := int(*r.MaxReplicas)
		q.Most = &n
	}
	if r.Compression != nil {
		if *r.Compression < 0 || *r.Compression > agentv1.Compression(block.CompressionZstd) {
			return nil, status.Errorf(codes.InvalidArgument, "volume %q: compression %d", r.Volume, *r.Compression)
		}
		c := block.Compression(*r.Compression)
		q.Compression = &c
	}
	i, err := s.parts.Volumes.Modify(ctx, q)
	return s.reply(&i, err)
}
