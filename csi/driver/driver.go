package driver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"mynetwork.io/mynetwork/csi/controller"
	"mynetwork.io/mynetwork/csi/figures"
	"mynetwork.io/mynetwork/csi/node"
	"mynetwork.io/mynetwork/csi/request"
)

// Name is the driver's name.
const Name = "csi.mynetwork.io"

// Config is what a Driver works with.
type Config struct {
	Agents  request.Agents // required
	Version string
	Log     *slog.Logger // nil: slog.Default()

	// Controller serves Controller, SnapshotMetadata and, with a Barrier, GroupController.
	Controller bool
	Barrier    request.Barrier  // nil: no group snapshots
	Modifier   request.Modifier // nil: no VolumeAttributesClass

	// Node is the Kubernetes node that this process is on: it serves Node. Empty: it does not.
	Node        string
	Mounter     node.Mounter     // required with Node
	Filesystems node.Filesystems // required with Node
	MaxVolumes  int64            // per node; 0: no limit
	Wait        time.Duration    // see node.Config
	Retry       time.Duration
	Notify      func(node.Notice)

	// Calls counts what is called; nil: nobody does.
	Calls *figures.Calls

	// Topology has the nodes tell by a key per network whether its agent is ready, and gives volumes that key if asked for.
	Topology bool
}

// Driver implements Identity, and holds what implements the other services. Make one with New.
type Driver struct {
	csi.UnimplementedIdentityServer
	cfg        Config
	Controller *controller.Controller // nil: not served
	Node       *node.Node             // nil: not served
}

var _ csi.IdentityServer = (*Driver)(nil)

// New makes a driver, or says what the configuration lacks.
func New(c Config) (*Driver, error) {
	switch {
	case c.Agents == nil:
		return nil, request.Invalid("no way to the agents")
	case !c.Controller && c.Node == "":
		return nil, request.Invalid("neither controller nor node")
	case c.Node != "" && (c.Mounter == nil || c.Filesystems == nil):
		return nil, request.Invalid("a node needs a mounter")
	case c.Wait < 0 || c.Retry < 0 || c.MaxVolumes < 0:
		return nil, request.Invalid("negative limits")
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	d := &Driver{cfg: c}
	if c.Controller {
		d.Controller = controller.New(controller.Config{Agents: c.Agents, Barrier: c.Barrier, Modifier: c.Modifier, Topology: c.Topology, Log: c.Log})
	}
	if c.Node != "" {
		d.Node = node.New(node.Config{Name: c.Node, Agents: c.Agents, Mounter: c.Mounter, Filesystems: c.Filesystems, MaxVolumes: c.MaxVolumes,
			Topology: c.Topology, Wait: c.Wait, Retry: c.Retry, Notify: c.Notify, Log: c.Log})
	}
	return d, nil
}

// Register adds the services to a server that was made with the options of ServerOptions.
func (d *Driver) Register(s grpc.ServiceRegistrar) {
	csi.RegisterIdentityServer(s, d)
	if d.Controller != nil {
		csi.RegisterControllerServer(s, d.Controller)
		csi.RegisterSnapshotMetadataServer(s, d.Controller)
		if d.cfg.Barrier != nil {
			csi.RegisterGroupControllerServer(s, d.Controller)
		}
	}
	if d.Node != nil {
		csi.RegisterNodeServer(s, d.Node)
	}
}

// ServerOptions turn errors into codes and note failed calls.
func (d *Driver) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(d.unary), grpc.ChainStreamInterceptor(d.stream)}
}

func (d *Driver) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	start, end := time.Now(), d.begin(info.FullMethod)
	resp, err := next(ctx, req)
	if err == nil {
		end(codes.OK)
		return resp, nil
	}
	var volume string
	if v, ok := req.(interface{ GetVolumeId() string }); ok {
		volume = v.GetVolumeId()
	}
	err = d.failed(info.FullMethod, volume, start, err)
	end(status.Code(err))
	return nil, err
}

func (d *Driver) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	start, end := time.Now(), d.begin(info.FullMethod)
	err := next(srv, ss)
	if err != nil {
		err = d.failed(info.FullMethod, "", start, err)
	}
	end(status.Code(err))
	return err
}

// begin counts a call.
func (d *Driver) begin(method string) (end func(codes.Code)) {
	if d.cfg.Calls == nil {
		return func(codes.Code) {}
	}
	return d.cfg.Calls.Begin(path.Base(method))
}

// failed notes a call that failed. Requests are not logged: they may hold keys.
func (d *Driver) failed(method, volume string, start time.Time, err error) error {
	err = request.ToStatus(err)
	d.cfg.Log.Warn("call failed", "method", path.Base(method), "volume", volume, "err", err, "after", time.Since(start))
	return err
}

// Serve serves on a listener until ctx ends; calls that are under way then get a few seconds. Of a Socket it lets go last.
func (d *Driver) Serve(ctx context.Context, ln net.Listener) error {
	if s, ok := ln.(*Socket); ok {
		defer s.release()
	}
	s := grpc.NewServer(d.ServerOptions()...)
	d.Register(s)
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(5*time.Second, s.Stop)
		s.GracefulStop()
		t.Stop()
	})
	err := s.Serve(ln)
	if !stop() && (err == nil || errors.Is(err, grpc.ErrServerStopped)) {
		s.GracefulStop() // waits for the one above, so for the calls
	}
	if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve %s: %w", Name, err)
	}
	return nil
}

// Probe asks the driver at a socket whether it is well: an exec probe calls it.
func Probe(ctx context.Context, socket string) error {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		return fmt.Errorf("probe %s: %w", socket, err)
	}
	defer conn.Close()
	r, err := csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{})
	if err != nil {
		return fmt.Errorf("probe %s: %w", socket, err)
	}
	if r.GetReady() != nil && !r.GetReady().GetValue() {
		return fmt.Errorf("probe %s: not ready: %w", socket, request.ErrPrecondition)
	}
	return nil
}
