package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"k8s.io/client-go/rest"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/csi/agents"
	"mynetwork.io/mynetwork/csi/driver"
	"mynetwork.io/mynetwork/csi/figures"
	"mynetwork.io/mynetwork/csi/host"
	"mynetwork.io/mynetwork/csi/kube"
	"mynetwork.io/mynetwork/csi/mount"
	"mynetwork.io/mynetwork/csi/registration"
	"mynetwork.io/mynetwork/nodeagent/export/mounter"
	"mynetwork.io/mynetwork/nodeagent/export/socket"
)

// NodeConfig is what the node's part works with.
type NodeConfig struct {
	Node      string // of Kubernetes
	Namespace string // where agents run
	Kubelet   string // its directory, the same path here as on the node
	Run       string // sockets and mounts: v1alpha1.PlaceRun, shared with the node in both directions
	Root      string // the node's root directory
	Volumes   int64  // at most so many per node; 0: no limit
	Version   string
	Cluster   *rest.Config
	Log       *slog.Logger
}

// Socket is where the kubelet finds the driver.
func (c *NodeConfig) Socket() string {
	return filepath.Join(c.Kubelet, "plugins", v1alpha1.DriverName, "csi.sock")
}

// Node serves the kubelet and the mounters of this node.
func Node(ctx context.Context, c NodeConfig) error {
	source, err := kube.New(c.Cluster, kube.Options{Namespace: c.Namespace})
	if err != nil {
		return err
	}
	events, err := kube.NewEvents(ctx, c.Cluster, c.Node)
	if err != nil {
		return err
	}
	mounts, err := mount.New(c.Kubelet, nil)
	if err != nil {
		return err
	}
	sockets := agents.New(c.Run, c.Node, nil)
	defer sockets.Close()
	calls := &figures.Calls{}
	d, err := driver.New(driver.Config{Calls: calls, Agents: sockets, Version: c.Version, Log: c.Log, Node: c.Node, Mounter: mounts, Filesystems: mounts,
		MaxVolumes: c.Volumes, Notify: events.Volume, Topology: true})
	if err != nil {
		return err
	}
	h := host.New(host.Config{
		Paths: host.Paths{Run: c.Run, Root: c.Root, Kubelet: c.Kubelet, Dev: "/dev", SELinux: "/sys/fs/selinux"},
		Node:  c.Node, Cluster: source, Log: c.Log, Used: hasDevices, Serve: func(ctx context.Context, path, devices string) error {
			return all(ctx, func(ctx context.Context) error { return ServeMounter(ctx, path, devices) },
				func(ctx context.Context) error { return showCalls(ctx, path, calls) })
		},
		Tell: func(n host.Network, p host.Problem) { events.Network(n.Name, n.UID, p.Reason, p.Err.Error()) },
	})
	ln, err := driver.Listen(ctx, c.Socket())
	if err != nil {
		return err
	}
	again := make(chan struct{})
	return all(ctx,
		source.Run,
		h.Run,
		func(ctx context.Context) error { return d.Serve(ctx, ln) },
		func(ctx context.Context) error { return watchReady(ctx, d.Node, again, readyPoll, c.Log) },
		func(ctx context.Context) error {
			return registration.Run(ctx, registration.Config{Dir: filepath.Join(c.Kubelet, "plugins_registry"), Name: v1alpha1.DriverName,
				Endpoint: c.Socket(), Again: again, Log: c.Log})
		})
}

// ServeMounter serves a network's mounter for the agents' user, until ctx ends.
func ServeMounter(ctx context.Context, path, devices string) error {
	ln, err := socket.ListenFor(path, v1alpha1.AgentUser)
	if err != nil {
		return err
	}
	s, err := mounter.NewServer(mounter.ServerOptions{Mounter: mounter.New(devices), Listener: ln, User: v1alpha1.AgentUser})
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	return s.Serve(ctx)
}

// hasDevices tells whether a mounter has devices in a directory.
func hasDevices(ctx context.Context, devices string) (bool, error) {
	list, err := mounter.New(devices).List(ctx)
	return len(list) > 0, err
}

// errEnded is of a part that ended although nobody told it to.
var errEnded = errors.New("a part ended by itself")

// all runs parts until ctx ends or one of them does, and gives their errors.
func all(ctx context.Context, parts ...func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error)
	for _, part := range parts {
		go func() {
			err := part(ctx)
			if err == nil && ctx.Err() == nil {
				err = errEnded
			}
			cancel()
			ended <- err
		}()
	}
	var err error
	for range parts {
		if e := <-ended; e != nil && !errors.Is(e, context.Canceled) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return fmt.Errorf("CSI driver: %w", err)
	}
	return nil
}
