package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"mynetwork.io/mynetwork/cmd/internal/devnet"
	"mynetwork.io/mynetwork/cmd/internal/settings"
	"mynetwork.io/mynetwork/cmd/internal/show"
	"mynetwork.io/mynetwork/cmd/internal/size"
)

func (a *app) devCommand() *cobra.Command {
	return family("dev", "A network of real processes on this machine", a.devUp(), a.devDown(), a.devStatus())
}

// devFlags are those that all commands of a network of this machine have.
func (a *app) devFlags(c *cobra.Command) {
	a.reader.Flags(c.Flags(), settings.Client, "dir", "output", "timeout")
	if c.ValidArgsFunction == nil {
		c.ValidArgsFunction = cobra.NoFileCompletions
	}
}

func (a *app) devUp() *cobra.Command {
	c := &cobra.Command{Use: "up", Short: "Make a network on this machine and start it",
		Long: "Make a network of agents and holders on loopback, each node with a directory of its own, and start what does not run.\n" +
			"It can be repeated: what runs is left alone, and a network that is there keeps what it was made with."}
	a.devFlags(c)
	a.reader.Flags(c.Flags(), settings.Dev)
	return a.command(c, settings.Dev, func(ctx context.Context, _ []string) error {
		o, err := a.upOptions(c.Flags().Changed("nodes"))
		if err != nil {
			return err
		}
		n, err := devnet.Up(ctx, a.values.Dir, o)
		if err != nil {
			return err
		}
		return a.printNodes(ctx, n)
	})
}

// upOptions turns the settings into options. nodes that were not asked for leave a network that is there as it is.
func (a *app) upOptions(asked bool) (o devnet.UpOptions, err error) {
	v := a.values.Dev
	o = devnet.UpOptions{Nodes: v.Nodes, Device: v.Device, Port: v.Port, Patience: v.Patience, Say: a.say}
	if !asked && v.Nodes == 3 {
		o.Nodes = 0
	}
	if _, err := deviceKind(v.Device); err != nil || v.Device == "" {
		return o, usage("--device %q: there are fuse, nbd and none", v.Device)
	}
	if o.Capacity, err = size.Parse(v.Capacity); err != nil {
		return o, fmt.Errorf("--capacity: %w", err)
	}
	if o.Cache, err = size.Parse(v.Cache); err != nil {
		return o, fmt.Errorf("--cache: %w", err)
	}
	o.Program, err = os.Executable()
	return o, err
}

func (a *app) devDown() *cobra.Command {
	var o devnet.DownOptions
	c := &cobra.Command{Use: "down", Short: "Detach everything and end the network of this machine",
		Long: "Detach all volumes, end all agents and holders, and free all devices. Data stay, unless --wipe removes them.\nIt can be repeated. Only processes that \"dev up\" started are ended."}
	a.devFlags(c)
	var yes bool
	c.Flags().BoolVar(&o.Wipe, "wipe", false, "remove the network and its data")
	c.Flags().BoolVar(&o.Force, "force", false, "do not wait for quorums: what no flush covered may be lost")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask before --wipe")
	return a.command(c, settings.Dev, func(ctx context.Context, _ []string) error {
		if o.Wipe {
			_, err := devnet.Load(a.values.Dir)
			if err == nil && show.Terminal(os.Stdin) {
				err = a.confirm(yes, fmt.Sprintf("Remove the network in %s with all its data?", a.values.Dir))
			}
			if err != nil && !errors.Is(err, devnet.ErrNone) {
				return err
			}
		}
		o.Say = a.say
		var err error
		if o.Program, err = os.Executable(); err != nil {
			return err
		}
		return devnet.Down(ctx, a.values.Dir, o)
	})
}

func (a *app) devStatus() *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "Show the processes and nodes of this machine's network", Long: "Show the processes and nodes of this machine's network. Code 3 tells that something of it does not run."}
	a.devFlags(c)
	return a.command(c, settings.Dev, func(ctx context.Context, _ []string) error {
		n, err := devnet.Load(a.values.Dir)
		if err != nil {
			return err
		}
		return a.printNodes(ctx, n)
	})
}

// printNodes shows all nodes; ErrUnhealthy if one is not.
func (a *app) printNodes(ctx context.Context, n *devnet.Network) error {
	ctx, cancel := context.WithTimeout(ctx, a.values.Timeout)
	defer cancel()
	states := n.Status(ctx)
	err := a.print.Print(states, func(r *show.Rows) {
		r.Head = []string{"NODE", "AGENT", "HOLDER", "ADDRESS", "STATE", "COPIES", "TO COPY", "USED", "CAPACITY", "ATTACHED", "PROBLEM"}
		for _, s := range states {
			r.Add(s.Name, pid(s.Agent), pid(s.Holder), s.Address, s.State, fmt.Sprint(s.Copies), size.Format(s.ToMove), size.Format(s.Used), size.Format(s.Capacity), strings.Join(s.Attached, " "), s.Problem)
		}
	})
	if err != nil {
		return err
	}
	sick := 0
	for i := range states {
		if !states[i].Healthy() {
			sick++
		}
	}
	if sick > 0 {
		return fmt.Errorf("%d of %d nodes: %w", sick, len(states), ErrUnhealthy)
	}
	return nil
}

func pid(n int) string {
	if n == 0 {
		return "dead"
	}
	return fmt.Sprint(n)
}
