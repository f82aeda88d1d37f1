package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mynetwork.io/mynetwork/hack/cluster/build"
	"mynetwork.io/mynetwork/hack/cluster/machine"
	"mynetwork.io/mynetwork/hack/cluster/plane"
	"mynetwork.io/mynetwork/hack/cluster/record"
)

// progress prints what is done, with the time since it began.
type progress struct {
	out   io.Writer
	start time.Time
}

func (p progress) say(format string, args ...any) {
	fmt.Fprintf(p.out, "%7.1f s  %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}

func (a *app) up() *cobra.Command {
	var nodes int
	var quick bool
	var own int64
	cmd := &cobra.Command{
		Use: "up", Short: "build what is needed, start the control plane and the nodes, and print the KUBECONFIG", Args: cobra.NoArgs,
		Long: "Builds what is not built yet, starts what does not run, and waits until every node is Ready.\nRunning it again changes nothing.",
	}
	cmd.Flags().IntVar(&nodes, "nodes", 3, "how many nodes a new cluster has")
	cmd.Flags().BoolVar(&quick, "quick", false, "a new cluster notices a dead node after 12 s and evicts its pods 5 s later, instead of Kubernetes' 50 s and 300 s")
	cmd.Flags().Int64Var(&own, "disk", 0, "MiB of a disk of its own that each node of a new cluster has at "+machine.DataDir+", so that it can be filled and slow; 0: the machine's disk is shared")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if own != 0 && own < 256 {
			return fmt.Errorf("--disk %d: 256 MiB at least", own)
		}
		if nodes < 1 || nodes > 9 {
			return fmt.Errorf("--nodes %d: from 1 to 9", nodes)
		}
		return a.change(func(r *record.Record) error {
			if len(r.Settings.Nodes) == 0 {
				r.Settings.Quick, r.Settings.Disk = quick, own
				for i := range nodes {
					r.Settings.Nodes = append(r.Settings.Nodes, fmt.Sprintf("n%d", i+1))
				}
			}
			is := r.Settings
			changed := cmd.Flags().Changed
			if changed("nodes") && nodes != len(is.Nodes) || changed("quick") && quick != is.Quick || changed("disk") && own != is.Disk {
				return fmt.Errorf("the cluster in %s was begun with other settings (%d nodes, quick %t, disks of %d MiB): cluster down first", r.Dir(), len(is.Nodes), is.Quick, is.Disk)
			}
			return bringUp(cmd.Context(), r, progress{cmd.OutOrStdout(), time.Now()})
		})
	}
	return cmd
}

func bringUp(ctx context.Context, r *record.Record, p progress) error {
	if err := r.Save(); err != nil {
		return err
	}
	source, err := build.Source()
	if err != nil {
		return err
	}
	if err := buildAll(ctx, build.Builder{Source: source, Dir: r.Dir(), Out: p.out}); err != nil {
		return err
	}
	p.say("programs and images are built")
	if err := machine.CheckInotify(r); err != nil {
		return err
	}
	if err := plane.Certificates(r); err != nil {
		return err
	}
	if err := plane.Start(r); err != nil {
		return err
	}
	p.say("control plane is ready, run %s", r.Run)
	if err := addons(ctx, r); err != nil {
		return err
	}
	if err := plane.StartSnapshots(r); err != nil {
		return err
	}
	for _, node := range r.Settings.Nodes {
		if err := startNode(r, node); err != nil {
			return err
		}
	}
	p.say("%s are on", strings.Join(r.Settings.Nodes, ", "))
	if err := plane.WaitNodes(r, r.Settings.Nodes, time.Time{}, 4*time.Minute); err != nil {
		return err
	}
	p.say("%d nodes are Ready", len(r.Settings.Nodes))
	// Nodes import when they start; those that ran already lack what has been built since.
	archives, err := filepath.Glob(filepath.Join(r.Dir().Images(), "*.tar"))
	if err != nil {
		return err
	}
	for _, archive := range archives {
		if err := load(io.Discard, r, archive); err != nil {
			return err
		}
	}
	fmt.Fprintf(p.out, "\nexport KUBECONFIG=%s\nexport PATH=$PATH:%s   # kubectl\n", r.Dir().Kubeconfig(), filepath.Dir(r.Dir().Bin("kubectl")))
	return nil
}

// buildAll builds what a cluster needs and is not built yet. This program is copied too: nodes run it, and so can whoever
// has only the cluster's directory.
func buildAll(ctx context.Context, b build.Builder) error {
	for _, f := range []func(context.Context) error{b.Packages, b.World, b.Sidecars, b.Images, b.Helm} {
		if err := f(ctx); err != nil {
			return err
		}
	}
	return copyFile(b.Dir.Bin("cluster"), machine.Self)
}

func startNode(r *record.Record, node string) error {
	c, err := plane.NodeConfig(r, node)
	if err != nil {
		return err
	}
	return machine.Start(r, c)
}

// addons applies the manifests that every cluster has: the definitions of snapshots.
func addons(ctx context.Context, r *record.Record) error {
	cmd := kubectlCommand(ctx, r, "apply", "--server-side", "-f", r.Dir().Addons())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apply %s: %w: %s", r.Dir().Addons(), err, out)
	}
	return nil
}

func kubectlCommand(ctx context.Context, r *record.Record, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, r.Dir().Bin("kubectl"), append([]string{"--kubeconfig", r.Dir().Kubeconfig()}, args...)...)
}

func (a *app) down() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use: "down", Short: "stop everything and remove the cluster's state; built programs and images stay", Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "keep etcd's data and the nodes' disks: the next up goes on with them")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.change(func(r *record.Record) error {
			return tearDown(r, keep, progress{cmd.OutOrStdout(), time.Now()})
		})
	}
	return cmd
}

func tearDown(r *record.Record, keep bool, p progress) error {
	var errs error
	for _, node := range r.Settings.Nodes {
		errs = errors.Join(errs, machine.PowerOff(r, node))
	}
	p.say("nodes are off")
	if err := errors.Join(errs, plane.Stop(r)); err != nil {
		return err
	}
	p.say("control plane has stopped")
	if err := machine.RemoveCgroups(r); err != nil {
		return err
	}
	if keep {
		return nil
	}
	for _, dir := range []string{r.Dir().Nodes(), r.Dir().Etcd(), r.Dir().PKI(), r.Dir().Logs(), r.Dir().Kubeconfig()} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	p.say("state is removed; programs and images stay in %s", r.Dir())
	return r.Remove()
}

func (a *app) build() *cobra.Command {
	return &cobra.Command{
		Use: "build", Short: "build Kubernetes, the sidecars and the images, and start nothing", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.change(func(r *record.Record) error {
				source, err := build.Source()
				if err != nil {
					return err
				}
				return buildAll(cmd.Context(), build.Builder{Source: source, Dir: r.Dir(), Out: cmd.OutOrStdout()})
			})
		},
	}
}

func (a *app) kubectl() *cobra.Command {
	return &cobra.Command{
		Use: "kubectl ARGUMENTS", Short: "run kubectl as the cluster's administrator", DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.look(func(r *record.Record) error {
				return forCaller(kubectlCommand(cmd.Context(), r, args...))
			})
		},
	}
}

func (a *app) kubeconfig() *cobra.Command {
	return &cobra.Command{
		Use: "kubeconfig", Short: "print the path of the administrator's kubeconfig", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.look(func(r *record.Record) error {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), r.Dir().Kubeconfig())
				return err
			})
		},
	}
}

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "what runs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.look(func(r *record.Record) error { return printStatus(cmd.OutOrStdout(), r) })
		},
	}
}

func printStatus(out io.Writer, r *record.Record) error {
	fmt.Fprintf(out, "run %s in %s, KUBECONFIG=%s\n\n%-24s %-8s %-8s %s\n", r.Run, r.Dir(), r.Dir().Kubeconfig(), "PROCESS", "PID", "STATE", "")
	states, err := plane.Nodes(r)
	for _, role := range append(slices.Concat([]string{"hub"}, plane.Components()), r.Settings.Nodes...) {
		state := "stopped"
		if r.Alive(role) {
			state = "runs"
		}
		note := ""
		if n, ok := states[role]; ok {
			note = "Ready " + n.Ready + " (" + n.Reason + ")"
		}
		fmt.Fprintf(out, "%-24s %-8d %-8s %s\n", role, r.Processes[role].PID, state, note)
	}
	if err != nil {
		fmt.Fprintln(out, "\nthe API server does not answer:", err)
	}
	fmt.Fprintf(out, "\nlogs: %s\n", r.Dir().Logs())
	return nil
}
