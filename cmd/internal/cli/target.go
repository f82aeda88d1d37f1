package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/cmd/internal/control"
	"mynetwork.io/mynetwork/cmd/internal/devnet"
	"mynetwork.io/mynetwork/cmd/internal/settings"
)

// probe bounds how long an agent may take to say that it is there.
const probe = 3 * time.Second

func (a *app) clientFlags(flags *pflag.FlagSet) {
	a.reader.Flags(flags, settings.Client)
}

// sockets lists the control sockets to try, in order.
func (a *app) sockets() ([]string, error) {
	if a.values.Socket != "" {
		return []string{a.values.Socket}, nil
	}
	n, err := devnet.Load(a.values.Dir)
	if err != nil {
		return nil, err
	}
	if a.values.Node != "" {
		m, err := n.Node(a.values.Node)
		if err != nil {
			return nil, err
		}
		return []string{n.AgentSocket(m.Name)}, nil
	}
	var out []string
	for _, m := range n.Nodes {
		out = append(out, n.AgentSocket(m.Name))
	}
	return out, nil
}

// agents connects to the agents that answer. There is at least one, or an error.
func (a *app) agents(ctx context.Context) (_ []*control.Agent, done func(), err error) {
	sockets, err := a.sockets()
	if err != nil {
		return nil, nil, err
	}
	var out []*control.Agent
	var errs []error
	for _, s := range sockets {
		c, err := control.Dial(s)
		if err != nil {
			return nil, nil, err
		}
		pctx, cancel := context.WithTimeout(ctx, probe)
		_, err = c.Answers(pctx)
		cancel()
		if err != nil {
			errs = append(errs, err)
			_ = c.Close()
			continue
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, nil, fmt.Errorf("%w; \"mynetwork dev status\" shows what runs", errors.Join(errs...))
	}
	return out, func() {
		for _, c := range out {
			_ = c.Close()
		}
	}, nil
}

// withAny calls f with the first agent that answers.
func (a *app) withAny(ctx context.Context, f func(context.Context, *control.Agent) error) error {
	all, done, err := a.agents(ctx)
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, a.values.Timeout)
	defer cancel()
	return control.Say(f(ctx, all[0]))
}

// withHolder calls f with the agent that has the volume open, else with the first that answers.
func (a *app) withHolder(ctx context.Context, volume string, f func(context.Context, *control.Agent) error) error {
	all, done, err := a.agents(ctx)
	if err != nil {
		return err
	}
	defer done()
	tctx, cancel := context.WithTimeout(ctx, a.values.Timeout)
	defer cancel()
	c, err := holderOf(tctx, all, volume)
	if err != nil {
		return control.Say(err)
	}
	return control.Say(f(tctx, c))
}

// holderOf picks the agent that has the volume open: one whose engine serves before one whose engine has ended.
func holderOf(ctx context.Context, all []*control.Agent, volume string) (*control.Agent, error) {
	if len(all) == 1 {
		return all[0], nil
	}
	best, rank := all[0], 0
	var first error
	for _, c := range all {
		v, err := c.InspectVolume(ctx, &agentv1.InspectVolumeRequest{Volume: volume})
		if err != nil {
			first = errors.Join(first, err)
			continue
		}
		r := 1
		switch v.GetState() {
		case agentv1.VolumeState_VOLUME_STATE_ATTACHED:
			r = 3
		case agentv1.VolumeState_VOLUME_STATE_FAILED:
			r = 2
		}
		if r > rank {
			best, rank = c, r
		}
	}
	if rank == 0 { // let one agent say what is wrong
		_, err := all[0].InspectVolume(ctx, &agentv1.InspectVolumeRequest{Volume: volume})
		return all[0], err
	}
	return best, nil
}

// volumeNames completes the n-th argument with names of volumes.
func (a *app) volumeNames(n int) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) != n || a.read(cmd, settings.Client) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		ctx, cancel := context.WithTimeout(context.Background(), probe)
		defer cancel()
		_ = a.withAny(ctx, func(ctx context.Context, c *control.Agent) error {
			r, err := c.ListVolumes(ctx, &agentv1.ListVolumesRequest{})
			for _, v := range r.GetVolumes() {
				names = append(names, v.GetName())
			}
			return err
		})
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// nodeNames completes the first argument with names of nodes.
func (a *app) nodeNames(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || a.read(cmd, settings.Client) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	n, err := devnet.Load(a.values.Dir)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, m := range n.Nodes {
		names = append(names, m.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
