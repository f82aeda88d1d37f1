package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/csi/kube"
)

// again is how often everything is looked at without a reason: a disk may have been mounted, a node labelled.
const again = time.Minute

// serveAgain is how long a mounter that failed waits before it is served again.
const serveAgain = 2 * time.Second

// Cluster says which networks there are; *kube.Source does.
type Cluster interface {
	Networks(ctx context.Context) ([]v1alpha1.MyNetwork, error)
	Chosen(ctx context.Context, n *v1alpha1.MyNetwork, node string) (bool, error)
	Changed() <-chan struct{}
}

var _ Cluster = (*kube.Source)(nil)

// Config is what a Host works with.
type Config struct {
	Paths
	Node    string
	Cluster Cluster
	// Serve serves the mounter of a network, for the agents' user, until ctx ends.
	Serve func(ctx context.Context, socket, devices string) error
	// Used tells whether a network's mounter has devices.
	Used func(ctx context.Context, devices string) (bool, error)
	// Tell takes what a node lacks for a network. Must not block.
	Tell func(n Network, p Problem)
	Log  *slog.Logger
}

// Host prepares its node. Make one with New.
type Host struct {
	cfg    Config
	served map[string]*service // by uid
	told   map[string]string   // by uid and reason
}

// service is a mounter that is served.
type service struct {
	stop context.CancelFunc
	done chan struct{} // closed when it has ended
}

// New makes a Host.
func New(c Config) *Host {
	return &Host{cfg: c, served: map[string]*service{}, told: map[string]string{}}
}

// Run prepares the node for what was prepared before, then for what the cluster says, until ctx ends.
func (h *Host) Run(ctx context.Context) error {
	before, err := h.cfg.Prepared()
	if err != nil {
		return err
	}
	for _, n := range before {
		h.serve(ctx, n.UID)
	}
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		if err := h.Reconcile(ctx); err != nil && !errors.Is(err, kube.ErrNotYet) {
			h.cfg.Log.Warn("the node is not prepared; trying again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-h.cfg.Cluster.Changed():
		case <-tick.C:
		}
	}
}

// Reconcile prepares the node once.
func (h *Host) Reconcile(ctx context.Context) error {
	networks, err := h.cfg.Cluster.Networks(ctx)
	if err != nil {
		return err
	}
	var failed error
	for i := range networks {
		n := &networks[i]
		chosen, err := h.cfg.Cluster.Chosen(ctx, n, h.cfg.Node)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if chosen {
			h.prepare(ctx, Network{UID: string(n.UID), Name: n.Name, Path: n.Spec.Storage.Path, Reserve: int(n.Spec.Storage.ReservePercent)})
		}
	}
	h.retire(ctx, networks)
	return failed
}

func (h *Host) prepare(ctx context.Context, n Network) {
	problems := h.cfg.Lacks()
	if err := h.cfg.Sockets(n); err != nil {
		problems = append(problems, Problem{ReasonDirectory, err})
	} else {
		h.serve(ctx, n.UID)
		if err := h.cfg.Report(n, problems); err != nil {
			problems = append(problems, Problem{ReasonDirectory, err})
		}
	}
	problems = append(problems, h.cfg.Data(n)...)
	now := map[string]bool{}
	for _, p := range problems {
		key := n.UID + "/" + p.Reason
		now[key] = true
		if h.told[key] == p.Err.Error() {
			continue
		}
		h.told[key] = p.Err.Error()
		h.cfg.Log.Warn("the node lacks something for a network", "network", n.Name, "reason", p.Reason, "err", p.Err)
		h.cfg.Tell(n, p)
	}
	for _, reason := range []string{ReasonNoFuse, ReasonNoLoop, ReasonDirectory, ReasonSpace, ReasonShared} {
		if key := n.UID + "/" + reason; h.told[key] != "" && !now[key] {
			h.cfg.Log.Info("the node lacks it no more", "network", n.Name, "reason", reason)
			delete(h.told, key)
		}
	}
}

// serve has a network's mounter served, once.
func (h *Host) serve(ctx context.Context, uid string) {
	if h.served[uid] != nil {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	s := &service{stop: stop, done: make(chan struct{})}
	h.served[uid] = s
	go func() {
		defer close(s.done)
		for ctx.Err() == nil {
			err := h.cfg.Serve(ctx, h.cfg.Mounter(uid), h.cfg.Devices(uid))
			if ctx.Err() != nil {
				return
			}
			h.cfg.Log.Error("the mounter ended; serving it again", "network", uid, "err", fmt.Errorf("serve: %w", err))
			select {
			case <-ctx.Done():
			case <-time.After(serveAgain):
			}
		}
	}()
}

// retire ends the mounters of networks that are no more, and removes their directories of sockets and mounts, as soon as nobody uses them.
// Networks is what the API says there is.
func (h *Host) retire(ctx context.Context, networks []v1alpha1.MyNetwork) {
	for uid, s := range h.served {
		if slices.ContainsFunc(networks, func(n v1alpha1.MyNetwork) bool { return string(n.UID) == uid }) || h.inUse(ctx, uid) {
			continue
		}
		s.stop()
		<-s.done
		delete(h.served, uid)
		if h.inUse(ctx, uid) { // since then
			h.serve(ctx, uid)
			continue
		}
		if err := h.cfg.Forget(uid); err != nil {
			h.cfg.Log.Warn("what a deleted network had below "+h.cfg.Run+" is not gone; trying again", "network", uid, "err", err)
			h.serve(ctx, uid)
			continue
		}
		maps.DeleteFunc(h.told, func(key, _ string) bool { return strings.HasPrefix(key, uid+"/") })
		h.cfg.Log.Info("the network was deleted: its mounter has ended, and its sockets are gone; its data stay", "network", uid)
	}
}

// inUse tells whether a network's agent or holder answers on this node, or it has devices. What is not known counts as use.
func (h *Host) inUse(ctx context.Context, uid string) bool {
	if used, err := h.cfg.Used(ctx, h.cfg.Devices(uid)); used || err != nil {
		return true
	}
	for _, socket := range []string{v1alpha1.PlaceControl, v1alpha1.PlaceHolder} {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(h.cfg.Run, uid, socket))
		if err == nil {
			_ = conn.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}
