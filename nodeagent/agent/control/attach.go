package control

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/agent/readers"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
)

// read gives what is known of a volume that is read here in the place of what its record says.
func (s *Server) read(i *volumes.Info) *volumes.Info {
	if r, ok := s.parts.Readers.Info(i.ID.String()); ok {
		return &r
	}
	return i
}

// InspectVolume implements agentv1.AgentServer.
func (s *Server) InspectVolume(_ context.Context, r *agentv1.InspectVolumeRequest) (*agentv1.Volume, error) {
	i, err := s.parts.Volumes.Inspect(r.Volume)
	if err != nil {
		if here, ok := s.parts.Readers.Info(r.Volume); ok {
			return s.volume(&here), nil
		}
		return nil, err
	}
	return s.volume(s.read(&i)), nil
}

// AttachVolume implements agentv1.AgentServer.
func (s *Server) AttachVolume(ctx context.Context, r *agentv1.AttachVolumeRequest) (*agentv1.AttachVolumeResponse, error) {
	var i volumes.Info
	var err error
	if r.ReadOnly {
		i, err = s.parts.Readers.Attach(ctx, readers.AttachRequest{Volume: r.Volume, Kind: kindOf(r.Kind), Key: r.EncryptionKey})
	} else {
		i, err = s.parts.Volumes.Attach(ctx, volumes.AttachRequest{Volume: r.Volume, Kind: kindOf(r.Kind), Force: r.Force, Key: r.EncryptionKey})
	}
	if err != nil {
		return nil, err
	}
	return &agentv1.AttachVolumeResponse{Volume: s.volume(&i), Device: i.Device}, nil
}

// DetachVolume implements agentv1.AgentServer.
func (s *Server) DetachVolume(ctx context.Context, r *agentv1.DetachVolumeRequest) (*agentv1.DetachVolumeResponse, error) {
	if was, err := s.parts.Readers.Detach(ctx, r.Volume); was {
		return &agentv1.DetachVolumeResponse{}, err
	}
	return &agentv1.DetachVolumeResponse{}, s.parts.Volumes.Detach(ctx, r.Volume, r.Force)
}

// SealVolume implements agentv1.AgentServer.
func (s *Server) SealVolume(ctx context.Context, r *agentv1.SealVolumeRequest) (*agentv1.Volume, error) {
	i, err := s.parts.Volumes.Seal(ctx, r.Volume, r.EncryptionKey)
	if err != nil {
		return nil, err
	}
	return s.volume(s.read(&i)), nil
}

// DeleteVolume implements agentv1.AgentServer.
func (s *Server) DeleteVolume(ctx context.Context, r *agentv1.DeleteVolumeRequest) (*agentv1.DeleteVolumeResponse, error) {
	if _, here := s.parts.Readers.Info(r.Volume); here {
		return nil, fmt.Errorf("volume %q: detach it before it is deleted: %w", r.Volume, volumes.ErrAttached)
	}
	return &agentv1.DeleteVolumeResponse{}, s.parts.Volumes.Delete(ctx, r.Volume)
}

// Ranges in a message of SnapshotBlocks.
const (
	defaultRanges = 1024
	mostRanges    = 16384
)

// SnapshotBlocks implements agentv1.AgentServer.
func (s *Server) SnapshotBlocks(r *agentv1.SnapshotBlocksRequest, out grpc.ServerStreamingServer[agentv1.SnapshotBlocksResponse]) error {
	if r.Most < 0 || r.Snapshot == "" {
		return status.Errorf(codes.InvalidArgument, "volume %q, snapshot %q: at most %d ranges in a message", r.Volume, r.Snapshot, r.Most)
	}
	most := min(int(r.Most), mostRanges)
	if most == 0 {
		most = defaultRanges
	}
	m := &agentv1.SnapshotBlocksResponse{}
	send := func() error {
		err := out.Send(m)
		m = &agentv1.SnapshotBlocksResponse{Size: m.Size}
		return err
	}
	sent := false
	err := s.parts.Readers.Blocks(out.Context(), readers.BlocksRequest{Volume: r.Volume, Snapshot: r.Snapshot, Base: r.Base, From: r.From},
		func(size int64) error { m.Size = size; return nil },
		func(off, n int64) error {
			m.Ranges = append(m.Ranges, &agentv1.BlockRange{Offset: off, Length: n})
			if len(m.Ranges) < most {
				return nil
			}
			sent = true
			return send()
		})
	if err != nil || sent && len(m.Ranges) == 0 {
		return err
	}
	return send()
}
