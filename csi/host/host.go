package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	// Tell takes what a node lacks for a network. Must not block.
	Tell func(n Network, p Problem)
	Log  *slog.Logger
}

// Host prepares its node. Make one with New.
type Host struct {
	cfg    Config
	served map[string]bool   // by uid
	told   map[string]string // by uid and reason
}

// New makes a Host.
func New(c Config) *Host {
	return &Host{cfg: c, served: map[string]bool{}, told: map[string]string{}}
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
	return failed
}

func (h *Host) prepare(ctx context.Context, n Network) {
	problems := h.cfg.Lacks()
	if err := h.cfg.Sockets(n); err != nil {
		problems = append(problems, Problem{ReasonDirectory, err})
	} else {
		h.serve(ctx, n.UID)
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
	if h.served[uid] {
		return
	}
	h.served[uid] = true
	go func() {
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
