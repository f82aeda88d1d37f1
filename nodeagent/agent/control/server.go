package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/agent/events"
	"mynetwork.io/mynetwork/nodeagent/agent/history"
	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/agent/readers"
	"mynetwork.io/mynetwork/nodeagent/agent/scrub"
	"mynetwork.io/mynetwork/nodeagent/agent/stores"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/cache"
	"mynetwork.io/mynetwork/nodeagent/core/adaptive"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/export/socket"
	"mynetwork.io/mynetwork/nodeagent/peer"
	"mynetwork.io/mynetwork/nodeagent/registry"
)

// Checker checks volumes and stores; progress is told now and then, and last with Done set.
type Checker interface {
	Scrub(ctx context.Context, volume string, progress func(*agentv1.Progress) error) error
	Fsck(ctx context.Context, req *agentv1.FsckRequest, progress func(*agentv1.Progress) error) error
	ScrubStores(ctx context.Context, ids []string, progress func(*agentv1.Progress) error) error
	Rebuild(ctx context.Context, dryRun bool) ([]*agentv1.Rebuilt, error)
}

// Layouts keeps bodies of layouts.
type Layouts interface {
	Put(body []byte) error
	Get(h block.Hash) ([]byte, error)
}

// Orphans finds volumes that the registry does not know, and gives them a name.
type Orphans interface {
	Orphans(ctx context.Context) ([]*agentv1.Orphan, error)
	Adopt(ctx context.Context, v block.VolumeID, name string, claim registry.Claim) error
}

// Parts are what the server serves.
type Parts struct {
	Node, Version, PeerAddress string
	Started                    time.Time
	Volumes                    *volumes.Manager
	Readers                    *readers.Readers
	Stores                     *stores.Set
	Members                    *members.Table
	Health                     func(node string) peer.Report
	Cache                      cache.Cache
	Events                     *events.Log
	Checker                    Checker
	Orphans                    Orphans
	Counters                   func() map[string]uint64
	Scrubbed                   func(s block.StoreID) (scrub.Status, bool)
	Demand                     func(v block.VolumeID) (adaptive.Reason, bool)
	Layouts                    Layouts // nil: the network's layout is fixed
	Figures                    func() ([]*dto.MetricFamily, error)
	History                    *history.History
	Log                        *slog.Logger
}

// Server implements the control protocol. The zero value is not usable: see New.
type Server struct {
	agentv1.UnimplementedAgentServer
	parts Parts
}

var _ agentv1.AgentServer = (*Server)(nil)

// New makes a server.
func New(p Parts) *Server { return &Server{parts: p} }

// maxMessage is the greatest message that is taken: a layout's body, 64 MiB at most, and a little around it.
const maxMessage = 64<<20 + 4096

// Listen makes the control socket, in a directory of mode 0700.
func Listen(path string) (net.Listener, error) { return socket.Listen(path) }

// Serve serves until ctx ends, then lets calls that are under way end for a little while. It may be called for several listeners: with
// a configuration for TLS for all but a unix socket.
func (s *Server) Serve(ctx context.Context, ln net.Listener, cfg *tls.Config) error {
	opts := []grpc.ServerOption{grpc.MaxRecvMsgSize(maxMessage), grpc.ChainUnaryInterceptor(s.unary), grpc.ChainStreamInterceptor(s.stream)}
	if cfg != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(cfg)))
	} else if ln.Addr().Network() != "unix" {
		return fmt.Errorf("control on %s: only a unix socket is served without TLS", ln.Addr())
	}
	g := grpc.NewServer(opts...)
	agentv1.RegisterAgentServer(g, s)
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(time.Second, g.Stop)
		g.GracefulStop()
		t.Stop()
	})
	defer stop()
	if err := g.Serve(ln); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("control on %s: %w", ln.Addr(), err)
	}
	return nil
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	resp, err := next(ctx, req)
	return resp, s.done(info.FullMethod, err)
}

func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	return s.done(info.FullMethod, next(srv, ss))
}

// done notes a call that failed. Requests are not logged: they may hold keys.
func (s *Server) done(method string, err error) error {
	if err == nil {
		return nil
	}
	err = toStatus(err)
	s.parts.Log.Info("control call failed", "method", method[strings.LastIndexByte(method, '/')+1:], "err", err)
	return err
}

// Info implements agentv1.AgentServer.
func (s *Server) Info(context.Context, *agentv1.InfoRequest) (*agentv1.InfoResponse, error) {
	p := &s.parts
	return &agentv1.InfoResponse{Node: p.Node, Version: p.Version, PeerAddress: p.PeerAddress, StartedUnix: p.Started.Unix(), Pid: int32(os.Getpid())}, nil
}

// Status implements agentv1.AgentServer.
func (s *Server) Status(context.Context, *agentv1.StatusRequest) (*agentv1.StatusResponse, error) {
	p := &s.parts
	out := &agentv1.StatusResponse{Node: p.Node, Counters: p.Counters(), LayoutVersion: p.Members.Version(), Stores: s.stores(), Peers: s.peers()}
	for _, i := range append(p.Volumes.Open(), p.Readers.Open()...) {
		out.Volumes = append(out.Volumes, s.volume(&i))
	}
	return out, nil
}

// unix gives seconds, 0 for the zero time.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// CreateVolume implements agentv1.AgentServer.
func (s *Server) CreateVolume(_ context.Context, r *agentv1.CreateVolumeRequest) (*agentv1.Volume, error) {
	if r.Replicas < 0 || r.Compression < 0 || r.Compression > agentv1.Compression(block.CompressionZstd) {
		return nil, status.Errorf(codes.InvalidArgument, "volume %q: %d replicas, compression %d", r.Name, r.Replicas, r.Compression)
	}
	i, err := s.parts.Volumes.Create(volumes.CreateRequest{Name: r.Name, Size: r.Size, Replicas: int(r.Replicas), Weak: r.Weak, Extent: r.ExtentSize,
		Compression: block.Compression(r.Compression), Key: r.EncryptionKey, Claim: registry.Claim{Namespace: r.ClaimNamespace, Name: r.ClaimName, Size: r.ClaimSize}})
	return s.reply(&i, err)
}

func (s *Server) reply(i *volumes.Info, err error) (*agentv1.Volume, error) {
	if err != nil {
		return nil, err
	}
	return s.volume(i), nil
}

// ListVolumes implements agentv1.AgentServer.
func (s *Server) ListVolumes(_ context.Context, r *agentv1.ListVolumesRequest) (*agentv1.ListVolumesResponse, error) {
	list, err := s.parts.Volumes.List(r.Deleted)
	if err != nil {
		return nil, err
	}
	out := &agentv1.ListVolumesResponse{}
	for i := range list {
		out.Volumes = append(out.Volumes, s.volume(s.read(&list[i])))
	}
	return out, nil
}

// ResizeVolume implements agentv1.AgentServer.
func (s *Server) ResizeVolume(ctx context.Context, r *agentv1.ResizeVolumeRequest) (*agentv1.Volume, error) {
	i, err := s.parts.Volumes.Resize(ctx, r.Volume, r.Size, r.ClaimSize, r.EncryptionKey)
	return s.reply(&i, err)
}

// CreateSnapshot implements agentv1.AgentServer.
func (s *Server) CreateSnapshot(ctx context.Context, r *agentv1.CreateSnapshotRequest) (*agentv1.Snapshot, error) {
	snap, v, err := s.parts.Volumes.CreateSnapshot(ctx, r.Volume, r.Name, r.Hold, r.EncryptionKey)
	if err != nil {
		return nil, err
	}
	return snapshot(&snap, v), nil
}

// DeleteSnapshot implements agentv1.AgentServer.
func (s *Server) DeleteSnapshot(ctx context.Context, r *agentv1.DeleteSnapshotRequest) (*agentv1.DeleteSnapshotResponse, error) {
	return &agentv1.DeleteSnapshotResponse{}, s.parts.Volumes.DeleteSnapshot(ctx, r.Volume, r.Snapshot, r.Keep, r.EncryptionKey)
}

// RollbackVolume implements agentv1.AgentServer.
func (s *Server) RollbackVolume(ctx context.Context, r *agentv1.RollbackVolumeRequest) (*agentv1.Volume, error) {
	i, err := s.parts.Volumes.Rollback(ctx, r.Volume, r.Snapshot, r.EncryptionKey)
	return s.reply(&i, err)
}

// CloneVolume implements agentv1.AgentServer.
func (s *Server) CloneVolume(_ context.Context, r *agentv1.CloneVolumeRequest) (*agentv1.Volume, error) {
	i, err := s.parts.Volumes.Clone(volumes.CloneRequest{Parent: r.Volume, Snapshot: r.Snapshot, Name: r.Name, Size: r.Size, Key: r.EncryptionKey,
		Claim: registry.Claim{Namespace: r.ClaimNamespace, Name: r.ClaimName, Size: r.ClaimSize}})
	return s.reply(&i, err)
}

// ScrubVolume implements agentv1.AgentServer.
func (s *Server) ScrubVolume(r *agentv1.ScrubVolumeRequest, out grpc.ServerStreamingServer[agentv1.Progress]) error {
	return s.parts.Checker.Scrub(out.Context(), r.Volume, out.Send)
}

// Fsck implements agentv1.AgentServer.
func (s *Server) Fsck(r *agentv1.FsckRequest, out grpc.ServerStreamingServer[agentv1.Progress]) error {
	return s.parts.Checker.Fsck(out.Context(), r, out.Send)
}

// ScrubStore implements agentv1.AgentServer.
func (s *Server) ScrubStore(r *agentv1.ScrubStoreRequest, out grpc.ServerStreamingServer[agentv1.Progress]) error {
	return s.parts.Checker.ScrubStores(out.Context(), r.Stores, out.Send)
}

// RebuildRegistry implements agentv1.AgentServer.
func (s *Server) RebuildRegistry(ctx context.Context, r *agentv1.RebuildRegistryRequest) (*agentv1.RebuildRegistryResponse, error) {
	list, err := s.parts.Checker.Rebuild(ctx, r.DryRun)
	return &agentv1.RebuildRegistryResponse{Volumes: list}, err
}

// PutLayout implements agentv1.AgentServer.
func (s *Server) PutLayout(_ context.Context, r *agentv1.PutLayoutRequest) (*agentv1.PutLayoutResponse, error) {
	if s.parts.Layouts == nil {
		return nil, status.Error(codes.Unimplemented, "the layout of this network is fixed")
	}
	return &agentv1.PutLayoutResponse{}, s.parts.Layouts.Put(r.Body)
}

// GetLayout implements agentv1.AgentServer.
func (s *Server) GetLayout(_ context.Context, r *agentv1.GetLayoutRequest) (*agentv1.GetLayoutResponse, error) {
	switch {
	case s.parts.Layouts == nil:
		return nil, status.Error(codes.Unimplemented, "the layout of this network is fixed")
	case len(r.Hash) != len(block.Hash{}):
		return nil, status.Errorf(codes.InvalidArgument, "a hash of %d bytes, want %d", len(r.Hash), len(block.Hash{}))
	}
	b, err := s.parts.Layouts.Get(block.Hash(r.Hash))
	return &agentv1.GetLayoutResponse{Body: b}, err
}

// Events implements agentv1.AgentServer.
func (s *Server) Events(r *agentv1.EventsRequest, out grpc.ServerStreamingServer[agentv1.Event]) error {
	past, _ := s.parts.Events.Since(0)
	from := uint64(1)
	if n := len(past); n > 0 {
		from = past[0].Number
		if r.Tail > 0 && int(r.Tail) < n {
			from = past[n-int(r.Tail)].Number
		}
	}
	send := func(e events.Event) error {
		if r.Volume != "" && e.Volume != r.Volume {
			return nil
		}
		return out.Send(event(&e))
	}
	if !r.Follow {
		for _, e := range past {
			if e.Number < from {
				continue
			}
			if err := send(e); err != nil {
				return err
			}
		}
		return nil
	}
	return s.parts.Events.Follow(out.Context(), from, send)
}
