package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/mount"
	"mynetwork.io/mynetwork/csi/request"
)

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
	Claim   request.Claim
	Reason  string // one CamelCase word
	Message string
}

// Config is what a Node works with.
type Config struct {
	Name        string // of the Kubernetes node; required
	Agents      request.Agents
	Mounter     Mounter
	Filesystems Filesystems
	MaxVolumes  int64 // per node; 0: no limit
	Topology    bool  // the node tells by a key per network whether its agent is ready

	Wait   time.Duration // of NodeStageVolume, for a volume that is held elsewhere; 0: DefaultWait
	Retry  time.Duration // before the second attempt, up to four times it between later ones; 0: DefaultRetry
	Notify func(Notice)  // nil: notices are logged only. Must not block.
	Log    *slog.Logger  // required
}

// Node implements the service. Make one with New.
type Node struct {
	csi.UnimplementedNodeServer
	cfg    Config
	flight request.Flight
	told   atomic.Pointer[[]string] // networks that the kubelet was told of; nil: it has not asked
}

var _ csi.NodeServer = (*Node)(nil)

// New makes a Node.
func New(c Config) *Node {
	if c.Wait == 0 {
		c.Wait = DefaultWait
	}
	if c.Retry == 0 {
		c.Retry = DefaultRetry
	}
	return &Node{cfg: c}
}

// local gives the agent of a network on this node.
func (d *Node) local(ctx context.Context, network string) (agentv1.AgentClient, error) {
	a, err := d.cfg.Agents.Agent(ctx, network, d.cfg.Name)
	if err != nil {
		return nil, fmt.Errorf("network %q on node %q: %w", network, d.cfg.Name, err)
	}
	return a, nil
}
