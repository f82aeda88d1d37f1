package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"mynetwork.io/mynetwork/cmd/internal/settings"
	"mynetwork.io/mynetwork/cmd/internal/show"
)

// app is one run of a command.
type app struct {
	version string
	reader  *settings.Reader
	values  *settings.Values
	out     io.Writer
	errOut  io.Writer
	print   show.Printer
}

// say writes a remark for people.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.errOut, format+"\n", args...) }

// Mynetwork is the whole program: servers, the network of this machine, and the client.
func Mynetwork(version string) *cobra.Command {
	a := newApp(version)
	root := a.root("mynetwork", "Replicated, verified block volumes",
		"mynetwork serves replicated, verified block volumes. \"mynetwork dev up\" starts a network on this machine.")
	root.AddCommand(a.agentCommand(), a.holderCommand(), a.operatorCommand(), a.csiCommand(), a.devCommand())
	a.client(root)
	return root
}

// Kubectl is the client as kubectl's plug-in: what looks at a cluster, and the client of agents on this machine.
func Kubectl(version string) *cobra.Command {
	a := newApp(version)
	root := a.root("kubectl-mynetwork", "Replicated, verified block volumes", "Look at MyNetwork in a cluster: status, explain, placement, events, support-bundle. volume, node, fsck and report talk to agents of this machine.")
	root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl mynetwork"}
	root.AddCommand(a.volumeCommand(), a.nodeCommand(), a.fsckCommand(), a.reportCommand(), a.versionCommand(),
		a.kubeStatus(), a.kubeExplain(), a.kubePlacement(), a.kubeEvents(), a.kubeBundle())
	return root
}

func newApp(version string) *app {
	return &app{version: version, reader: settings.New(), out: os.Stdout, errOut: os.Stderr}
}

func (a *app) root(name, short, long string) *cobra.Command {
	root := &cobra.Command{Use: name, Short: short, Long: long, SilenceUsage: true, SilenceErrors: true, Args: cobra.NoArgs, Version: a.version,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	root.SetVersionTemplate("mynetwork {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	a.reader.ConfigFlag(root.PersistentFlags())
	root.AddCommand(
		&cobra.Command{Use: "configuration", Short: "All settings: keys, variables, flags and defaults", Long: configurationHelp()},
		&cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: exitHelp},
	)
	return root
}

func (a *app) client(root *cobra.Command) {
	root.AddCommand(a.volumeCommand(), a.nodeCommand(), a.fsckCommand(), a.reportCommand(), a.placementCommand(), a.metricsCommand(), a.versionCommand())
}

// command makes a command whose settings are read before run. group is whose keys its flags are.
func (a *app) command(c *cobra.Command, group string, run func(ctx context.Context, args []string) error) *cobra.Command {
	args := c.Args
	c.Args = func(cmd *cobra.Command, given []string) error {
		if args == nil {
			args = cobra.NoArgs
		}
		if err := args(cmd, given); err != nil {
			return usage("%w; usage: %s", err, cmd.UseLine())
		}
		return nil
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.read(cmd, group); err != nil {
			return err
		}
		return run(cmd.Context(), args)
	}
	return c
}

func (a *app) read(cmd *cobra.Command, group string) error {
	v, err := a.reader.Read(cmd.Flags(), group)
	if err != nil {
		return usageError{err}
	}
	a.values = v
	a.print = show.Printer{Out: a.out}
	return a.print.Format.Set(v.Output)
}

// family is a command that only has others below it.
func family(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs}
	c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	c.AddCommand(subs...)
	return c
}

// configurationHelp lists all settings.
func configurationHelp() string {
	var b strings.Builder
	b.WriteString("Settings come from a YAML file (--config, MYNETWORK_CONFIG, else " + settings.DefaultFile + "), from the environment and\n" +
		"from flags; the later win. In the file a key's dots are levels. Keys without a group are for client commands.\n")
	group := "-"
	for _, k := range settings.Keys() {
		if k.Group() != group {
			group = k.Group()
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "  %-22s %s\n  %-22s %s, --%s, default %q\n", k.Name, k.Usage, "", k.Variable(), k.Flag(), fmt.Sprint(k.Default))
	}
	fmt.Fprintf(&b, "\nAn encryption key is no setting: it comes from --key-file or %s (64 hexadecimal digits).", settings.KeyVariable)
	return b.String()
}

// Run runs a command with the process's arguments and gives its exit code.
func Run(root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := root.ExecuteContext(ctx)
	if err != nil && !(errors.Is(err, context.Canceled) && ctx.Err() != nil) {
		if strings.HasPrefix(err.Error(), "unknown command") {
			err = usageError{err}
		}
		fmt.Fprintf(os.Stderr, "%s: %v\n", root.Name(), err)
	}
	return Exit(err)
}
