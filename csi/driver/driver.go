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
	"google.golang.org/grpc/credentials/insecure"

	"mynetwork.io/mynetwork/csi/mount"
)

// Name is the driver's name.
const Name = "csi.mynetwork.io"

// Defaults of Config.
const (
	DefaultWait  = 100 * time.Second // below the kubelet's 120 s, so that it reads the answer
	DefaultRetry = 500 * time.Millisecond
)

// Mounter mounts below the kubelet's directory; *mount.Mounter is one. Its methods are described there.
type Mounter interface {
	CheckPath(path string) error
	Mount(device, dir, fs string, options []string) error
	Bind(source, target string, readOnly bool) error
	Unmount(path string, remove bool) error
	List() ([]mount.Mounted, error)
}

// Filesystems makes and looks at file systems; *mount.Mounter is one.
type Filesystems interface {
	Device(path string) (mount.Device, error)
	Prepare(ctx context.Context, device, fs string, readOnly bool) error
	Grow(ctx context.Context, device, dir, fs string) error
	Usage(path string) (mount.Usage, error)
}

var (
	_ Mounter     = (*mount.Mounter)(nil)
	_ Filesystems = (*mount.Mounter)(nil)
)

// Notice is something that the user of a volume should see now, not when a call has ended.
type Notice struct {
	Volume  string // handle
	Reason  string // one CamelCase word
	Message string
}

// Config is what a Driver works with.
type Config struct {
	Agents  Agents // required
	Version string

	// Controller serves Controller and, with a Barrier, GroupController.
	Controller bool
	Barrier    Barrier  // nil: no group snapshots
	Modifier   Modifier // nil: no VolumeAttributesClass

	// Node is the Kubernetes node that this process is on: it serves Node. Empty: it does not.
	Node        string
	Mounter     Mounter     // required with Node
	Filesystems Filesystems // required with Node
	MaxVolumes  int64       // per node; 0: no limit

	// Topology has the nodes tell by a key per network whether its agent is ready, and gives volumes that key if asked for.
	Topology bool

	Wait   time.Duration // of NodeStageVolume, for a volume that is held elsewhere; 0: DefaultWait
	Retry  time.Duration // between two attempts; 0: DefaultRetry
	Notify func(Notice)  // nil: notices are logged only. Must not block.
	Log    *slog.Logger  // nil: slog.Default()
}

// Driver implements the services of the specification. Make one with New.
type Driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedGroupControllerServer
	csi.UnimplementedNodeServer
	cfg    Config
	flight flight
}

var (
	_ csi.IdentityServer        = (*Driver)(nil)
	_ csi.ControllerServer      = (*Driver)(nil)
	_ csi.GroupControllerServer = (*Driver)(nil)
	_ csi.NodeServer            = (*Driver)(nil)
)

// New makes a driver, or says what the configuration lacks.
func New(c Config) (*Driver, error) {
	switch {
	case c.Agents == nil:
		return nil, invalid("no way to the agents")
	case !c.Controller && c.Node == "":
		return nil, invalid("neither controller nor node")
	case c.Node != "" && (c.Mounter == nil || c.Filesystems == nil):
		return nil, invalid("a node needs a mounter")
	case c.Wait < 0 || c.Retry < 0 || c.MaxVolumes < 0:
		return nil, invalid("negative limits")
	}
	if c.Wait == 0 {
		c.Wait = DefaultWait
	}
	if c.Retry == 0 {
		c.Retry = DefaultRetry
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return &Driver{cfg: c}, nil
}

// Register adds the services to a server that was made with the options of ServerOptions.
func (d *Driver) Register(s grpc.ServiceRegistrar) {
	csi.RegisterIdentityServer(s, d)
	if d.cfg.Controller {
		csi.RegisterControllerServer(s, d)
		if d.cfg.Barrier != nil {
			csi.RegisterGroupControllerServer(s, d)
		}
	}
	if d.cfg.Node != "" {
		csi.RegisterNodeServer(s, d)
	}
}

// ServerOptions turn errors into codes and note failed calls.
func (d *Driver) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(d.unary)}
}

// unary notes calls that fail. Requests are not logged: they may hold keys.
func (d *Driver) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	start := time.Now()
	resp, err := next(ctx, req)
	if err == nil {
		return resp, nil
	}
	err = toStatus(err)
	var volume string
	if v, ok := req.(interface{ GetVolumeId() string }); ok {
		volume = v.GetVolumeId()
	}
	d.cfg.Log.Warn("call failed", "method", path.Base(info.FullMethod), "volume", volume, "err", err, "after", time.Since(start))
	return nil, err
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
		return fmt.Errorf("probe %s: not ready: %w", socket, errPrecondition)
	}
	return nil
}
