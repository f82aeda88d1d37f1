package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"mynetwork.io/mynetwork/cmd/internal/settings"
	"mynetwork.io/mynetwork/cmd/internal/show"
	"mynetwork.io/mynetwork/nodeagent/agent"
	"mynetwork.io/mynetwork/nodeagent/export/device"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
)

func (a *app) agentCommand() *cobra.Command {
	c := &cobra.Command{Use: "agent", Short: "Serve a node: its stores, its peers and its volumes", ValidArgsFunction: cobra.NoFileCompletions,
		Long: "Serve a node until SIGTERM or SIGINT. Its devices are left to the holder, if there is one: the next agent goes on with them.\n\nAll flags are settings: see \"mynetwork help configuration\"."}
	a.reader.Flags(c.Flags(), settings.Agent)
	return a.command(c, settings.Agent, func(ctx context.Context, _ []string) error {
		log, err := a.values.Agent.Logger()
		if err != nil {
			return err
		}
		config, err := a.values.Agent.Config(a.version, log)
		if err != nil {
			return err
		}
		if err := agent.CoarseTimers(); err != nil {
			log.Warn("timers stay fine, which costs CPU", "error", err)
		}
		agent.SetMemory(config)
		go agent.GiveBack(ctx)
		return serve(ctx, config)
	})
}

func serve(ctx context.Context, c agent.Config) error {
	n, err := agent.New(c)
	if err != nil {
		return err
	}
	if err := n.Run(ctx); err != nil && !(errors.Is(err, context.Canceled) && ctx.Err() != nil) {
		return err
	}
	return nil
}

func (a *app) holderCommand() *cobra.Command {
	c := &cobra.Command{Use: "holder", Short: "Keep a node's devices while its agent is away", ValidArgsFunction: cobra.NoFileCompletions,
		Long: "Keep the kernel's descriptors and the write rings of a node's volumes, so that its agent can be killed and started again\nunder live I/O. When it ends, the devices without an agent end."}
	a.reader.Flags(c.Flags(), settings.Holder)
	return a.command(c, settings.Holder, func(ctx context.Context, _ []string) error {
		v := a.values.Holder
		if v.Socket == "" {
			return usage("--socket is missing: the path of the socket to serve")
		}
		err := holder.Run(ctx, holder.Options{Socket: v.Socket, Patience: v.Patience, End: device.End, Ended: func(name string, err error) {
			fmt.Fprintf(os.Stderr, "device %s ended: no agent served it for %s (%v)\n", name, v.Patience, err)
		}})
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return nil
		}
		return err
	})
}

func (a *app) versionCommand() *cobra.Command {
	type version struct {
		Version  string `json:"version"`
		Go       string `json:"go"`
		Platform string `json:"platform"`
	}
	return a.clientCommand(&cobra.Command{Use: "version", Short: "Show the version"}, -1, func(context.Context, []string) error {
		v := version{a.version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
		return a.print.Print(v, func(r *show.Rows) { r.Add("mynetwork "+v.Version, v.Go, v.Platform) })
	})
}
