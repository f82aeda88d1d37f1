package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/cmd/internal/control"
	"mynetwork.io/mynetwork/cmd/internal/devnet"
	"mynetwork.io/mynetwork/cmd/internal/settings"
	"mynetwork.io/mynetwork/nodeagent/agent"
)

// errRunning tells that a network's agents are up.
var errRunning = errors.New("its agents are running")

// offline checks a network's disks without its agents: agents of this very process, without devices and on addresses of
// their own, open the stores and check them.
func (a *app) offline(ctx context.Context, req *agentv1.FsckRequest, o fsckOptions) error {
	n, err := devnet.Load(a.values.Dir)
	if err != nil {
		return err
	}
	unlock, err := n.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	if up := n.Running(); len(up) > 0 {
		return fmt.Errorf("%s: %w (%v): leave out --offline, or \"mynetwork dev down\" first", n.Dir(), errRunning, up)
	}
	run, err := os.MkdirTemp("", "mynetwork-fsck-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(run)
	configs, err := a.offlineConfigs(n, run)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{}, len(configs))
	for _, c := range configs {
		go func() {
			defer func() { ended <- struct{}{} }()
			if err := serve(ctx, c); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("open the disks of %s: %w", c.Node, err))
			}
		}()
	}
	defer func() {
		cancel(nil)
		for range configs {
			<-ended
		}
	}()
	first, err := awaitAll(ctx, configs)
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	defer first.Close()
	return a.fsck(ctx, first, req, o)
}

// offlineConfigs are the agents' own configurations, with other sockets and addresses.
func (a *app) offlineConfigs(n *devnet.Network, run string) (out []agent.Config, err error) {
	for _, m := range n.Nodes {
		r := settings.New()
		v, err := r.ReadFile(n.AgentFile(m.Name))
		if err != nil {
			return nil, err
		}
		c, err := v.Agent.Config(a.version, slog.New(slog.DiscardHandler))
		if err != nil {
			return nil, err
		}
		c.Dir, c.Control, c.Holder, c.Format = filepath.Join(run, m.Name), filepath.Join(run, m.Name, "agent.sock"), "", false
		if err := os.Mkdir(c.Dir, 0o700); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	members, err := freeMembers(out[0].Members)
	for i := range out {
		out[i].Members, out[i].Listen = members, ""
	}
	return out, err
}

// freeMembers gives every member a free address on loopback.
func freeMembers(members []agent.Member) ([]agent.Member, error) {
	out := append([]agent.Member(nil), members...)
	for i := range out {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out[i].Address = l.Addr().String()
	}
	return out, nil
}

// awaitAll waits until every agent answers, and gives the first.
func awaitAll(ctx context.Context, configs []agent.Config) (*control.Agent, error) {
	var first *control.Agent
	for i, c := range configs {
		a, err := control.Dial(c.Control)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			first = a
		} else {
			defer a.Close()
		}
		for {
			if _, err = a.Answers(ctx); err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return nil, fmt.Errorf("agent of %s: %w", c.Node, err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return first, nil
}
