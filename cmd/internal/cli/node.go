package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/cmd/internal/control"
	"mynetwork.io/mynetwork/cmd/internal/devnet"
	"mynetwork.io/mynetwork/cmd/internal/settings"
	"mynetwork.io/mynetwork/cmd/internal/show"
	"mynetwork.io/mynetwork/cmd/internal/size"
)

func (a *app) nodeCommand() *cobra.Command {
	return family("node", "See nodes, and end or start those of this machine's network", a.nodeList(), a.nodeInspect(), a.nodeKill(), a.nodeStart(), a.nodeAdd(), a.nodeDrain(false), a.nodeDrain(true), a.nodeRemove())
}

func (a *app) nodeList() *cobra.Command {
	return a.clientCommand(&cobra.Command{Use: "list", Short: "List nodes", Aliases: []string{"ls"}}, -1, func(ctx context.Context, _ []string) error {
		if a.values.Socket == "" {
			n, err := devnet.Load(a.values.Dir)
			if err != nil {
				return err
			}
			if err := a.printNodes(ctx, n); Exit(err) != ExitUnhealthy {
				return err
			}
			return nil
		}
		return a.withAny(ctx, a.peers)
	})
}

func (a *app) nodeInspect() *cobra.Command {
	c := &cobra.Command{Use: "inspect NODE", Short: "Show a node of this machine's network and its disks", Args: cobra.ExactArgs(1), ValidArgsFunction: a.nodeNames}
	return a.clientCommand(c, 1, func(ctx context.Context, args []string) error {
		n, err := devnet.Load(a.values.Dir)
		if err != nil {
			return err
		}
		m, err := n.Node(args[0])
		if err != nil {
			return err
		}
		s := n.Look(ctx, m)
		return a.print.Print(s, func(r *show.Rows) {
			r.Head = []string{"STORE", "PATH", "USED", "CAPACITY", "SCRUBBED", "ERRORS", "REPAIRED", "PROBLEM"}
			for _, d := range s.Stores {
				at := "not yet"
				if !d.LastScrubbed.IsZero() {
					at = d.LastScrubbed.Format(time.RFC3339)
				}
				r.Add(d.ID, d.Path, size.Format(d.Used), size.Format(d.Capacity), at, fmt.Sprint(d.ErrorsFound), fmt.Sprint(d.ErrorsRepaired), cmp.Or(d.Problem, d.Clearing))
			}
		})
	})
}

// peerView is a node as another one sees it.
type peerView struct {
	Name     string  `json:"name"`
	Address  string  `json:"address"`
	Alive    bool    `json:"alive"`
	Score    float64 `json:"score"`
	RTT      int64   `json:"rttMicros"`
	Rate     float64 `json:"bytesPerSecond"`
	Failures uint64  `json:"failures"`
}

// peers lists the network as one agent sees it.
func (a *app) peers(ctx context.Context, c *control.Agent) error {
	st, err := c.Status(ctx, &agentv1.StatusRequest{})
	if err != nil {
		return err
	}
	list := []peerView{}
	for _, p := range st.GetPeers() {
		list = append(list, peerView{p.GetNode(), p.GetAddress(), p.GetAlive(), p.GetScore(), p.GetRttMicros(), p.GetBandwidth(), p.GetFailures()})
	}
	return a.print.Print(list, func(r *show.Rows) {
		r.Head = []string{"NODE", "ADDRESS", "ALIVE", "SCORE", "ROUND TRIP", "BANDWIDTH", "FAILURES"}
		for _, p := range list {
			r.Add(p.Name, p.Address, fmt.Sprint(p.Alive), fmt.Sprintf("%.2f", p.Score), fmt.Sprintf("%d us", p.RTT), size.Format(int64(p.Rate))+"/s", fmt.Sprint(p.Failures))
		}
	})
}

func (a *app) nodeKill() *cobra.Command {
	var o devnet.KillOptions
	c := &cobra.Command{Use: "kill NODE", Short: "Kill a node's agent, to see what happens", Args: cobra.ExactArgs(1), ValidArgsFunction: a.nodeNames,
		Long: "Kill the agent of a node of this machine's network with SIGKILL. Its devices wait in the holder until \"node start\", or\nuntil the holder's patience ends. --holder kills the holder too, as the loss of the whole node does: its devices end."}
	a.devFlags(c)
	c.Flags().BoolVar(&o.Term, "term", false, "SIGTERM, and wait for the end, instead of SIGKILL")
	c.Flags().BoolVar(&o.Holder, "holder", false, "also the holder")
	return a.command(c, settings.Dev, func(_ context.Context, args []string) error {
		n, err := devnet.Load(a.values.Dir)
		if err != nil {
			return err
		}
		ended, err := n.Kill(args[0], o)
		if err != nil {
			return err
		}
		if len(ended) == 0 {
			a.print.Say("%s was dead already", args[0])
			return nil
		}
		a.print.Say("%s: ended %s", args[0], strings.Join(ended, " and "))
		return nil
	})
}

func (a *app) nodeStart() *cobra.Command {
	c := &cobra.Command{Use: "start NODE", Short: "Start what does not run of a node", Args: cobra.ExactArgs(1), ValidArgsFunction: a.nodeNames}
	a.devFlags(c)
	return a.command(c, settings.Dev, func(ctx context.Context, args []string) error {
		n, err := devnet.Load(a.values.Dir)
		if err != nil {
			return err
		}
		program, err := os.Executable()
		if err != nil {
			return err
		}
		if err := n.Start(ctx, args[0], program, a.say); err != nil {
			return err
		}
		a.print.Say("%s answers", args[0])
		return nil
	})
}

func (a *app) nodeAdd() *cobra.Command {
	c := &cobra.Command{Use: "add", Short: "Make a further node of this machine's network", Args: cobra.NoArgs,
		Long: "Make a further node of this machine's network and start it: it gets its share of the data. The other agents are ended and started\nagain one by one, so that they know it; devices wait meanwhile."}
	a.devFlags(c)
	return a.command(c, settings.Dev, func(ctx context.Context, _ []string) error {
		n, err := devnet.Load(a.values.Dir)
		if err != nil {
			return err
		}
		program, err := os.Executable()
		if err != nil {
			return err
		}
		node, v, err := n.Add(ctx, program, a.say)
		if err != nil {
			return err
		}
		a.print.Say("layout %d: %s is active", v, node)
		return nil
	})
}

func (a *app) nodeDrain(undo bool) *cobra.Command {
	c := &cobra.Command{Use: "drain NODE", Short: "Have all data of a node of this machine's network go to the others", Args: cobra.ExactArgs(1), ValidArgsFunction: a.nodeNames,
		Long: "Have all copies that a node of this machine's network holds go to the others, while it goes on serving. \"node list\" tells how many\nare left; at 0 the node may be removed. Volumes that nobody has open are looked after too, encrypted ones only while they are attached."}
	if undo {
		c.Use, c.Short, c.Long = "undrain NODE", "Take a drain back", "Take a drain back: the node gets its share of the data again."
	}
	a.devFlags(c)
	return a.command(c, settings.Dev, func(_ context.Context, args []string) error {
		n, err := devnet.Load(a.values.Dir)
		if err != nil {
			return err
		}
		v, err := n.Drain(args[0], undo)
		if err != nil {
			return err
		}
		a.print.Say("layout %d: %s", v, map[bool]string{false: args[0] + " is being drained", true: args[0] + " is active"}[undo])
		return nil
	})
}

func (a *app) nodeRemove() *cobra.Command {
	c := &cobra.Command{Use: "remove NODE", Short: "Take a drained node out of this machine's network", Args: cobra.ExactArgs(1), ValidArgsFunction: a.nodeNames,
		Long: "Take a node out of this machine's network, end its processes and remove its directory. It has to be drained and to hold nothing, and\nopen volumes must have been in place without it."}
	a.devFlags(c)
	return a.command(c, settings.Dev, func(ctx context.Context, args []string) error {
		n, err := devnet.Load(a.values.Dir)
		if err != nil {
			return err
		}
		return n.Remove(ctx, args[0], a.say)
	})
}
